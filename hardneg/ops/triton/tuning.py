"""Sizes of tiles, warps and stages: a fixed table by kernel, source of the scores and architecture."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["NARROW", "SHORT", "TABLE", "Configuration", "Limited", "configuration", "using"]


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


@dataclass(frozen=True)
class Limited(Configuration):
    """One that limits the registers of a thread, so that more programs share a multiprocessor."""

    registers: int


# Small, so that small inputs have several tiles: the interpreter's time goes by operations, not by size.
INTERPRETER = Configuration(32, 32, 32, 1, 1)

Key = tuple[str, str, str]
"""Kernel; source of its scores (``"product16"``, ``"product32"``, ``"order"``, ``"given"``, or ``"rows"`` for
kernels without a tile of scores); architecture (``"sm_80"``, ``"sm_90"``). Of products of 16 bits ``"narrow16"``
(embeddings), ``"light16"`` (terms) and ``"short16"`` (lists) have entries of their own."""

SHORT = 8
"""Up to how many places lists are short: two programs share a multiprocessor."""

NARROW = 384
"""Up to which width products of 16 bits are narrow: what follows a product then takes longer than the product, so that
two programs on a multiprocessor, of which one multiplies, are worth more than a large tile."""

SIZES = {
    # select with k = 1: plain, and with windows, draws, fallbacks or statistics beside it
    ("best", "product16"): ((128, 128, 64, 8, 3), (128, 256, 64, 8, 4)),
    ("best", "narrow16"): ((128, 128, 64, 8, 3), (128, 128, 64, 4, 3)),
    ("best", "product32"): ((128, 64, 32, 8, 3), (128, 128, 32, 8, 3)),
    ("best", "order"): ((64, 64, 1, 8, 2), (64, 64, 1, 8, 2)),
    ("best", "given"): ((64, 128, 1, 8, 1), (64, 128, 1, 8, 1)),
    ("ranked", "product16"): ((128, 64, 64, 8, 3), (128, 128, 64, 8, 3)),
    ("ranked", "product32"): ((128, 64, 32, 8, 3), (128, 128, 32, 8, 3)),
    ("ranked", "order"): ((64, 64, 1, 8, 2), (64, 64, 1, 8, 2)),
    ("ranked", "given"): ((32, 128, 1, 4, 1), (64, 128, 1, 8, 1)),
    # select with k > 1
    ("top", "product16"): ((64, 64, 64, 8, 3), (64, 64, 64, 8, 3)),
    ("top", "short16"): ((64, 64, 64, 8, 3), (64, 64, 64, 8, 3, 128)),
    ("top", "product32"): ((64, 64, 32, 8, 3), (64, 64, 32, 8, 3)),
    ("top", "order"): ((32, 64, 1, 8, 2), (32, 64, 1, 8, 2)),
    # of 64 rows and 8 warps Triton 3.6 makes a kernel that spills on sm_90; 16 rows hold shorter lists a thread
    ("top", "given"): ((64, 64, 1, 8, 1), (16, 128, 1, 4, 1)),
    # penalty_sum and logsumexp
    ("dense", "product16"): ((64, 128, 64, 8, 3), (128, 128, 64, 8, 3)),
    ("dense", "light16"): ((64, 128, 64, 8, 3), (128, 128, 64, 8, 3, 128)),
    ("dense", "product32"): ((64, 64, 32, 8, 3), (128, 64, 32, 8, 3)),
    ("dense", "order"): ((64, 64, 1, 8, 2), (64, 64, 1, 8, 2)),
    ("dense", "given"): ((32, 64, 1, 4, 1), (64, 64, 1, 8, 1)),
    # the same with panels of weights for the gradients
    ("weigh", "product16"): ((32, 64, 64, 4, 3), (128, 64, 64, 8, 4)),
    ("weigh", "light16"): ((32, 64, 64, 4, 3), (128, 64, 64, 8, 4, 128)),
    ("weigh", "product32"): ((64, 64, 32, 8, 3), (128, 64, 32, 8, 3)),
    ("weigh", "order"): ((64, 64, 1, 8, 2), (64, 64, 1, 8, 2)),
    ("weigh", "given"): ((32, 64, 1, 4, 1), (64, 64, 1, 8, 1)),
    # whole losses of small batches
    ("terms", "given"): ((16, 128, 1, 8, 1, 128), (16, 128, 1, 8, 1, 128)),
    ("weights", "given"): ((16, 128, 1, 4, 1), (16, 128, 1, 4, 1)),
    ("gather", "rows"): ((8, 1024, 512, 4, 1, 128), (8, 1024, 512, 4, 1, 128)),
    ("fold", "rows"): ((16, 128, 1, 4, 1), (16, 128, 1, 4, 1)),
    ("violations", "rows"): ((32, 1, 128, 4, 1), (32, 1, 128, 4, 1)),
    ("rows", "rows"): ((4, 1, 512, 4, 1), (4, 1, 512, 4, 1)),
    ("segments", "rows"): ((16, 1, 256, 4, 1), (16, 1, 256, 4, 1)),
}
"""Rows, columns, depth, warps, stages and, where they are limited, registers for sm_80 and for sm_90."""

TABLE: dict[Key, Configuration] = {
    (*key, architecture): (Configuration if len(sizes) == 5 else Limited)(*sizes)
    for key, both in SIZES.items()
    for architecture, sizes in zip(("sm_80", "sm_90"), both, strict=True)
}
# in the interpreter few tiles, since one is taken in four parts
for name, origin in SIZES:
    if name in ("dense", "weigh"):
        depth = 1 if origin in ("order", "given") else 16
        TABLE[name, origin, "interpreter"] = Configuration(32, 64, depth, 1, 1)
TABLE["gather", "rows", "interpreter"] = Configuration(4, 64, 64, 1, 1)
TABLE["violations", "rows", "interpreter"] = Configuration(64, 1, 32, 1, 1)

OVERRIDES: ContextVar[Mapping[Key, Configuration]] = ContextVar(
    "overrides", default=MappingProxyType({})
)


def configuration(
    kernel: str, source: str, architecture: str, variant: str | None = None
) -> Configuration:
    """The entry for a kernel, or that of its variant where there is one; in the interpreter, one small tile for all."""
    keys = [(kernel, one, architecture) for one in (variant, source) if one is not None]
    overrides = OVERRIDES.get()
    for entries in (overrides, TABLE):
        for key in keys:
            if key in entries:
                return entries[key]
    if architecture == "interpreter":
        return INTERPRETER
    raise KeyError(keys[-1])


@contextlib.contextmanager
def using(entries: Mapping[Key, Configuration]) -> Iterator[None]:
    """Other entries for a while: to measure them, or to compile the whole table."""
    token = OVERRIDES.set({**OVERRIDES.get(), **entries})
    try:
        yield
    finally:
        OVERRIDES.reset(token)
