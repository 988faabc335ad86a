"""How far an embedding walks from a loss to a tile, and how much functions are told."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch

import hardneg
from hardneg import ContrastiveLoss, InfoNCELoss
from hardneg.ops.tiled.scores import tile_scores

HARDNEG = Path(hardneg.__file__).parent
MOST_FUNCTIONS, MOST_CLIMBS, MOST_PARAMETERS, MOST_LINES = 14, 3, 9, 265


def holds(x: Any, wanted: torch.Tensor, depth: int = 4) -> bool:
    """Whether an object is, or has somewhere inside, the tensor or a part of it."""
    if isinstance(x, torch.Tensor):
        return x.untyped_storage().data_ptr() == wanted.untyped_storage().data_ptr()
    if depth == 0:
        return False
    if isinstance(x, tuple | list):
        return any(holds(part, wanted, depth - 1) for part in x)
    if type(x).__module__.startswith("hardneg") and hasattr(x, "__dict__"):
        return any(holds(part, wanted, depth - 1) for part in vars(x).values())
    return False


def folder(frame: FrameType) -> str:
    """The folder of the package that a function is in: a layer, as the imports between them point one way."""
    return str(Path(frame.f_code.co_filename).parent)


class Walk:
    """Records the functions of hardneg on the way to the first tile, and what comes back up before it.

    A climb is a return of the embedding, in whatever form, from a function of one folder to one of another that
    is still on the way when the tile is reached.
    """

    def __init__(self, x: torch.Tensor) -> None:
        self.x, self.way, self.returns, self.done = x, [], [], False

    def __call__(self, frame: FrameType, event: str, value: Any) -> None:
        if self.done or not frame.f_code.co_filename.startswith(str(HARDNEG)):
            return
        if event == "return" and frame.f_back is not None and holds(value, self.x):
            self.returns.append((frame.f_code.co_qualname, folder(frame), frame.f_back))
        if event == "call" and frame.f_code.co_qualname == tile_scores.__qualname__:
            self.done, at = True, frame
            while at is not None:
                if at.f_code.co_filename.startswith(str(HARDNEG)):
                    self.way.append(at)
                at = at.f_back

    @property
    def climbs(self) -> list[str]:
        """The names of the functions whose return was a climb."""
        return [name for name, of, back in self.returns if back in self.way and of != folder(back)]


@pytest.mark.parametrize(
    "loss",
    [
        ContrastiveLoss(),
        ContrastiveLoss(negatives="all"),
        ContrastiveLoss(negatives="semihard"),
        InfoNCELoss(),
    ],
    ids=["hardest", "all", "semihard", "softmax"],
)
def test_an_embedding_goes_straight_to_the_tiles(loss: Any) -> None:
    x, y = torch.randn(8, 4), torch.randn(8, 4)
    loss.backend = "tiled"
    loss(x, y)  # what is made once is made
    walk = Walk(x)
    sys.setprofile(walk)
    try:
        loss(x, y)
    finally:
        sys.setprofile(None)
    names = [frame.f_code.co_qualname for frame in walk.way]
    assert names[-1] == "PairLoss.forward"
    assert len(names) <= MOST_FUNCTIONS, names[::-1]
    assert len(walk.climbs) <= MOST_CLIMBS, walk.climbs


def functions() -> Iterator[tuple[str, ast.FunctionDef]]:
    """Every function of the package with the file it is in."""
    for path in sorted(HARDNEG.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                yield str(path.relative_to(HARDNEG)), node


def test_no_function_is_told_more_than_nine_things() -> None:
    """But kernels, constructors, the call of a loss, and ``mine``."""
    for path, node in functions():
        kernel = any("jit" in ast.unparse(one) for one in node.decorator_list)
        if kernel or node.name in ("__init__", "forward", "mine"):
            continue
        told = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        count = len([one for one in told if one.arg not in ("self", "cls", "ctx")])
        assert count <= MOST_PARAMETERS, f"{path}: {node.name} has {count} parameters"


def test_no_file_is_long() -> None:
    for path in HARDNEG.rglob("*.py"):
        lines = len(path.read_text().splitlines())
        assert lines <= MOST_LINES, f"{path.relative_to(HARDNEG)} has {lines} lines"
