"""Both sides of every block in docs/migrating.md, in float64: equal values, equal gradients of the embeddings.

Names are those that the page makes: its set-up, then the blocks of a section in their order.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from warning_filters import ROOT

PAGE = (ROOT / "docs" / "migrating.md").read_text(encoding="utf-8")
PARTS = re.split(r"^## (.*)\n", PAGE, flags=re.MULTILINE)


def blocks_of(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


SECTIONS = {name: blocks_of(text) for name, text in zip(PARTS[1::2], PARTS[2::2], strict=True)}


def missing(blocks: list[str]) -> str | None:
    """A package that they import and that is not installed."""
    named = re.findall(r"^from (\w+)", "".join(blocks), re.MULTILINE)
    return next((name for name in named if importlib.util.find_spec(name) is None), None)


@pytest.fixture
def _float64() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.mark.usefixtures("_float64")
@pytest.mark.parametrize("name", SECTIONS)
def test_both_sides_are_equal(name: str) -> None:
    blocks = SECTIONS[name]
    if package := missing(blocks):
        pytest.skip(f"{package} is not installed")
    torch.manual_seed(0)
    names: dict[str, Any] = {}
    (set_up,) = blocks_of(PARTS[0])
    exec(compile(set_up, "set-up", "exec"), names)
    assert blocks
    for block in blocks:
        assert "theirs = " in block
        assert "ours = " in block
        exec(compile(block, name, "exec"), names)
        compare(names, block)


def compare(names: dict[str, Any], block: str) -> None:
    """Value and gradients of one block."""
    theirs, ours = names["theirs"], names["ours"]
    assert theirs > 0
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6), block
    leaves = [
        x for x in names.values() if isinstance(x, torch.Tensor) and x.is_leaf and x.requires_grad
    ]
    told = {"allow_unused": True, "retain_graph": True}
    for x, y in zip(
        torch.autograd.grad(ours, leaves, **told),
        torch.autograd.grad(theirs, leaves, **told),
        strict=True,
    ):
        assert (x is None) == (y is None), block
        if x is not None:
            torch.testing.assert_close(x, y, rtol=1e-5, atol=1e-7, msg=lambda m: f"{m}\n{block}")
