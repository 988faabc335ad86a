"""Both sides of every block in docs/migrating.md, in float64: equal values, equal gradients of the embeddings."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from warning_filters import ROOT

import hardneg

PAGE = (ROOT / "docs" / "migrating.md").read_text(encoding="utf-8")
N, D = 128, 16


def sections() -> dict[str, list[str]]:
    """The blocks below each heading."""
    parts = re.split(r"^## (.*)\n", PAGE, flags=re.MULTILINE)
    found = dict(zip(parts[1::2], parts[2::2], strict=True))
    return {
        name: re.findall(r"```python\n(.*?)```", text, re.DOTALL) for name, text in found.items()
    }


def missing(blocks: list[str]) -> str | None:
    """A package that they import and that is not installed."""
    named = re.findall(r"^from (\w+)", "".join(blocks), re.MULTILINE)
    return next((name for name in named if importlib.util.find_spec(name) is None), None)


def given() -> dict[str, Any]:
    """What a reader has: embeddings of several kinds, near their partners, and labels."""
    g = torch.Generator().manual_seed(0)

    def rows(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g)

    labels = torch.arange(N) % 21
    images, queries = rows(N, D), rows(N, D)
    return {
        "labels": labels,
        "embeddings": (rows(21, D)[labels] + rows(N, D)).requires_grad_(),
        "images": images.requires_grad_(),
        "captions": images.detach() + rows(N, D),
        "queries": queries.requires_grad_(),
        "documents": queries.detach() + rows(N, D),
        "negatives": rows(N, D),
        "mined": rows(N, 2, D),
        "teacher_margins": rows(N, 2),
        "model": nn.Identity(),
        "unit": lambda x: F.normalize(x, dim=1),
    }


@pytest.fixture
def _float64() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.mark.usefixtures("_float64")
@pytest.mark.parametrize("name", list(sections()))
def test_both_sides_are_equal(name: str) -> None:
    blocks = sections()[name]
    if package := missing(blocks):
        pytest.skip(f"{package} is not installed")
    of_hardneg = {one: getattr(hardneg, one) for one in hardneg.__all__}
    names: dict[str, Any] = {**of_hardneg, "torch": torch, **given()}
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
