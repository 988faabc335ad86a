"""Sizes of tiles, warps and stages: a fixed table by kernel, source of the scores and architecture."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["TABLE", "Configuration", "configuration", "using"]


@dataclass(frozen=True)
class Configuration:
    """How a kernel is cut up.

    Attributes:
        rows, columns: of the tile of scores of one program.
        depth: coordinates of the embeddings at a time.
        warps: of 32 threads, a program.
        stages: blocks of the embeddings on their way to shared memory.
    """

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int

    @property
    def blocks(self) -> dict[str, int]:
        """The compile-time sizes by the names that kernels give them."""
        return {"BLOCK_ROWS": self.rows, "BLOCK_COLUMNS": self.columns, "BLOCK_DEPTH": self.depth}


# Small, so that small inputs have several tiles: the interpreter's time goes by operations, not by size.
INTERPRETER = Configuration(32, 32, 32, 1, 1)

Key = tuple[str, str, str]
"""Kernel; source of its scores (``"product16"``, ``"product32"``, ``"order"``, ``"given"``, or ``"rows"`` for
kernels without a tile of scores); architecture (``"sm_80"``, ``"sm_90"``)."""

TABLE: dict[Key, Configuration] = {
    # select with k = 1: plain, and with windows, draws, fallbacks or statistics beside it
    ("best", "product16", "sm_80"): Configuration(128, 128, 64, 8, 3),
    ("best", "product16", "sm_90"): Configuration(128, 256, 64, 8, 4),
    ("best", "product32", "sm_80"): Configuration(128, 64, 32, 8, 3),
    ("best", "product32", "sm_90"): Configuration(128, 128, 32, 8, 3),
    ("best", "order", "sm_80"): Configuration(64, 64, 1, 8, 2),
    ("best", "order", "sm_90"): Configuration(64, 64, 1, 8, 2),
    ("best", "given", "sm_80"): Configuration(64, 128, 1, 8, 1),
    ("best", "given", "sm_90"): Configuration(64, 128, 1, 8, 1),
    ("ranked", "product16", "sm_80"): Configuration(128, 64, 64, 8, 3),
    ("ranked", "product16", "sm_90"): Configuration(128, 128, 64, 8, 3),
    ("ranked", "product32", "sm_80"): Configuration(128, 64, 32, 8, 3),
    ("ranked", "product32", "sm_90"): Configuration(128, 128, 32, 8, 3),
    ("ranked", "order", "sm_80"): Configuration(64, 64, 1, 8, 2),
    ("ranked", "order", "sm_90"): Configuration(64, 64, 1, 8, 2),
    ("ranked", "given", "sm_80"): Configuration(32, 128, 1, 4, 1),
    ("ranked", "given", "sm_90"): Configuration(64, 128, 1, 8, 1),
    # select with k > 1
    ("top", "product16", "sm_80"): Configuration(64, 64, 64, 8, 3),
    ("top", "product16", "sm_90"): Configuration(64, 64, 64, 8, 3),
    ("top", "product32", "sm_80"): Configuration(64, 64, 32, 8, 3),
    ("top", "product32", "sm_90"): Configuration(64, 64, 32, 8, 3),
    ("top", "order", "sm_80"): Configuration(64, 64, 1, 8, 2),
    ("top", "order", "sm_90"): Configuration(64, 64, 1, 8, 2),
    ("top", "given", "sm_80"): Configuration(64, 64, 1, 8, 1),
    ("top", "given", "sm_90"): Configuration(64, 64, 1, 8, 1),
    # penalty_sum and logsumexp
    ("dense", "product16", "sm_80"): Configuration(64, 128, 64, 8, 3),
    ("dense", "product16", "sm_90"): Configuration(128, 128, 64, 8, 4),
    ("dense", "product32", "sm_80"): Configuration(64, 64, 32, 8, 3),
    ("dense", "product32", "sm_90"): Configuration(128, 64, 32, 8, 3),
    ("dense", "order", "sm_80"): Configuration(32, 64, 1, 4, 2),
    ("dense", "order", "sm_90"): Configuration(32, 64, 1, 4, 2),
    ("dense", "given", "sm_80"): Configuration(32, 64, 1, 4, 1),
    ("dense", "given", "sm_90"): Configuration(64, 64, 1, 8, 1),
    # the same with panels of weights for the gradients
    ("weigh", "product16", "sm_80"): Configuration(32, 64, 64, 4, 3),
    ("weigh", "product16", "sm_90"): Configuration(128, 64, 64, 8, 4),
    ("weigh", "product32", "sm_80"): Configuration(64, 64, 32, 8, 3),
    ("weigh", "product32", "sm_90"): Configuration(128, 64, 32, 8, 3),
    ("weigh", "order", "sm_80"): Configuration(32, 64, 1, 4, 2),
    ("weigh", "order", "sm_90"): Configuration(32, 64, 1, 4, 2),
    ("weigh", "given", "sm_80"): Configuration(32, 64, 1, 4, 1),
    ("weigh", "given", "sm_90"): Configuration(64, 64, 1, 8, 1),
    # and in the interpreter few tiles, since one is taken in four parts
    ("dense", "product16", "interpreter"): Configuration(32, 64, 16, 1, 1),
    ("weigh", "product16", "interpreter"): Configuration(32, 64, 16, 1, 1),
    ("dense", "product32", "interpreter"): Configuration(32, 64, 16, 1, 1),
    ("weigh", "product32", "interpreter"): Configuration(32, 64, 16, 1, 1),
    ("dense", "order", "interpreter"): Configuration(32, 64, 1, 1, 1),
    ("weigh", "order", "interpreter"): Configuration(32, 64, 1, 1, 1),
    ("dense", "given", "interpreter"): Configuration(32, 64, 1, 1, 1),
    ("weigh", "given", "interpreter"): Configuration(32, 64, 1, 1, 1),
    ("fold", "rows", "sm_80"): Configuration(16, 128, 1, 4, 1),
    ("fold", "rows", "sm_90"): Configuration(16, 128, 1, 4, 1),
    ("violations", "rows", "sm_80"): Configuration(32, 1, 128, 4, 1),
    ("violations", "rows", "sm_90"): Configuration(32, 1, 128, 4, 1),
    ("violations", "rows", "interpreter"): Configuration(64, 1, 32, 1, 1),
    ("rows", "rows", "sm_80"): Configuration(4, 1, 512, 4, 1),
    ("rows", "rows", "sm_90"): Configuration(4, 1, 512, 4, 1),
    ("segments", "rows", "sm_80"): Configuration(16, 1, 256, 4, 1),
    ("segments", "rows", "sm_90"): Configuration(16, 1, 256, 4, 1),
}

OVERRIDES: ContextVar[Mapping[Key, Configuration]] = ContextVar(
    "overrides", default=MappingProxyType({})
)


def configuration(kernel: str, source: str, architecture: str) -> Configuration:
    """The entry for a kernel; in the interpreter, one small tile for all."""
    key = (kernel, source, architecture)
    if architecture == "interpreter":
        return OVERRIDES.get().get(key, TABLE.get(key, INTERPRETER))
    return OVERRIDES.get().get(key, TABLE[key])


@contextlib.contextmanager
def using(entries: Mapping[Key, Configuration]) -> Iterator[None]:
    """Other entries for a while: to measure them, or to compile the whole table."""
    token = OVERRIDES.set({**OVERRIDES.get(), **entries})
    try:
        yield
    finally:
        OVERRIDES.reset(token)
