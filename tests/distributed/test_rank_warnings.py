"""Processes of a group treat warnings as pytest's own process does."""

from __future__ import annotations

import warnings

import pytest
from process_groups import ProcessGroups


def warned(rank: int, size: int, module: str) -> str:
    """A deprecation at a line of ``module``."""
    warnings.warn_explicit("old name", FutureWarning, "file.py", rank + 1, module)
    return module


def test_ours_is_an_error_on_a_rank(groups: ProcessGroups) -> None:
    for fine, text in groups(2).tell(warned, "hardneg.distributed.collectives"):
        assert not fine
        assert "FutureWarning: old name" in text


def test_a_dependency_s_deprecation_is_not(groups: ProcessGroups) -> None:
    assert (
        groups(2)(warned, "torch.distributed.distributed_c10d")
        == ["torch.distributed.distributed_c10d"] * 2
    )
    with pytest.raises(AssertionError, match="FutureWarning: old name"):
        groups(2)(warned, "process_groups")
