"""Random comparisons, and how a backend is held to the definitions."""

from __future__ import annotations

from every_loss import squashed

from hardneg.ops.comparison import Comparison
from hardneg.ops.scores import Backend
from hardneg.ops.small.backend import Small
from hardneg.ops.tiled_backend import Tiled
from hardneg.similarities import Cosine, Dot, Euclidean, Order, SquaredEuclidean, is_builtin


def name_of(value: object) -> str:
    """A test's name that is the same in every process."""
    return getattr(value, "__name__", None) or str(value)


SIMILARITIES = [
    Cosine(),
    Dot(),
    Euclidean(),
    SquaredEuclidean(),
    Order(),
    Order("queries"),
    squashed,
]


TILES = [None, (1, 1), (3, 4), (7, 100), (64, 64), (200, 33), "all"]


def tiled(comparison: Comparison, tile: tuple[int, int] | str | None) -> Backend:
    if tile == "all" and is_builtin(comparison.similarity):
        return Small()
    return Tiled(None if tile == "all" else tile)
