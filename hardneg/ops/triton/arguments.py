"""What kernels take: named tuples of tensors, numbers and constants, with None for what is not there.

A field is compiled as an argument of its own. None, and an integer that is 1, become constants. Text, flags and sizes
are wrapped as constants (``constant``); functions are passed as they are, since Triton's cache knows a wrapped one by
its name alone, not by its source. Triton 3.6 cannot compare a tuple that holds constants with None, so a tuple that
may be absent is one whose first field is None (``NO_KEYS`` ...), and kernels ask for that field.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import triton.language as tl
from torch import Tensor


@functools.lru_cache(maxsize=None, typed=True)
def constant(value: bool | int | str) -> tl.constexpr:
    """Text, a flag or a size as what a kernel is compiled for; made once."""
    return tl.constexpr(value)


BEYOND = 256
"""How far buffers go on behind the last anchor: a tile reads and writes there without asking where its sides end."""


TOGETHER = 4
"""How many coordinates of an embedding stand together in the copies for an order, then those of its neighbour."""


class Tile(NamedTuple):
    """Sizes of what one program takes: a ``tuning.Configuration``."""

    ROWS: Any
    COLUMNS: Any
    DEPTH: Any


class Side(NamedTuple):
    """Embeddings of one side, ``stride`` apart, and a number of each: 1 / length, or the squared length."""

    x: Tensor
    stride: int
    terms: Tensor | None = None


class Matrix(NamedTuple):
    """A mask or a panel of weights, in any layout; or none."""

    x: Tensor | None
    row_stride: int
    column_stride: int

    @classmethod
    def of(cls, x: Tensor | None) -> Matrix:
        """A tensor and its strides."""
        return cls(None, 0, 0) if x is None else cls(x, x.stride(0), x.stride(1))


class Panel(NamedTuple):
    """How the scores that one launch covers are computed.

    Attributes:
        queries, candidates: rows as they are multiplied; for an order ``TOGETHER`` coordinates of all embeddings a row.
        scores, stride: products that torch has computed, where ``SOURCE`` is ``"given"``.
        similarity: functions of ``forms``.
        SOURCE: ``"product"``, ``"order"`` or ``"given"``.
        PRECISION: of float32 products: ``"tf32"`` (``"ieee"`` elsewhere).
        UPCAST: multiply in float32, since the interpreter multiplies the bits of bfloat16.
    """

    queries: Side
    candidates: Side
    scores: Tensor | None
    stride: int
    similarity: Any
    SOURCE: Any
    WIDTH: Any
    PRECISION: Any
    UPCAST: Any


class Extent(NamedTuple):
    """Which rows and columns one launch covers, and the global numbers of the first row and column of all.

    Kernels take these as parameters of their own: a number in a tuple is compiled for whether it is 1 or a multiple
    of 16, so that a ragged last batch would be compiled anew.
    """

    row_start: int
    row_stop: int
    column_start: int
    column_stop: int
    row_offset: int
    column_offset: int

    @property
    def rows(self) -> slice:
        """Which rows."""
        return slice(self.row_start, self.row_stop)

    @property
    def columns(self) -> slice:
        """Which columns."""
        return slice(self.column_start, self.column_stop)

    @property
    def shape(self) -> tuple[int, int]:
        """How many rows and columns."""
        return self.row_stop - self.row_start, self.column_stop - self.column_start


EXTENT = list(Extent._fields)
"""Names of the parameters that a kernel is not compiled for."""


class Relation(NamedTuple):
    """Who is related to whom, and who takes part: ``comparison.Relation`` and ``Among``."""

    row_ids: Tensor | None
    column_ids: Tensor | None
    positives: Matrix
    ignore: Matrix
    AMONG: Any
    PAIRED: Any
    SAME_SET: Any


class Bounds(NamedTuple):
    """One float32 an anchor of one side; None where nothing is bounded."""

    floors: Tensor | None
    ceilings: Tensor | None


OPEN = Bounds(None, None)
"""Nothing is bounded."""


class Ranking(NamedTuple):
    """What candidates are ranked by: ``value``, a function of ``ranking``, and what it reads."""

    value: Any
    distance: Any
    seed: Tensor | None
    DENSITY: Any
    CUTOFF: Any
    FARTHEST: Any


class Keys(NamedTuple):
    """Packed keys of one side, and what belongs to its anchors.

    Attributes:
        keys: of the selection.
        easiest, hardest: of those, where they are asked for.
        SALT: of the draws of this side.
    """

    keys: Tensor | None
    easiest: Tensor | None
    hardest: Tensor | None
    bounds: Bounds
    SALT: Any


NO_KEYS = Keys(None, None, None, OPEN, constant(0))
"""A side that does not search."""


class Anchors(NamedTuple):
    """One side of a dense reduction.

    Attributes:
        thresholds: what is subtracted: thresholds of a penalty, or finished log-sum-exps.
        bounds: on the scores.
        weights: d(total) / d(result) of each anchor; None where no gradient is wanted.
        partials, width: where tiles report.
    """

    thresholds: Tensor | None
    bounds: Bounds
    weights: Tensor | None
    partials: Tensor | None
    width: int


NO_ANCHORS = Anchors(None, OPEN, None, None, 0)
"""A side without terms."""


class Terms(NamedTuple):
    """What a dense reduction adds up.

    Attributes:
        part: ``penalty_part`` or ``exponential_part``.
        report: what reports a whole tile: ``report_penalties`` or ``report_scale``.
        form: value and slope, functions of ``forms``.
        numbers: the sign, or those of the energy.
        rows, columns: sides that have terms.
        scale: of the scores or exponents.
        shares: room for the gradient of the scale, one number a tile.
        MAXIMA: whether the largest arguments of a penalty are wanted.
        TOGETHER: whether parts of a tile are reduced together.
    """

    part: Callable[..., Any]
    report: Callable[..., Any]
    form: Any
    numbers: tuple[float, float]
    rows: Anchors
    columns: Anchors
    scale: Tensor | None
    shares: Tensor | None = None
    MAXIMA: Any = constant(False)
    TOGETHER: Any = constant(False)


class Weights(NamedTuple):
    """The panel of weights that a kernel writes, times ``gain``, and for distances the sums of its rows and columns."""

    x: Tensor | None
    stride: int
    gain: Tensor | None
    row_pulls: Tensor | None
    row_width: int
    column_pulls: Tensor | None
    column_width: int


NO_WEIGHTS = Weights(None, 0, None, None, 0, None, 0)
"""No gradient is wanted."""


class Reported(NamedTuple):
    """What the tiles of a panel reported to the anchors of one side: [planes, blocks, width]."""

    partials: Tensor
    width: int


class Block(NamedTuple):
    """Inside a kernel: the anchors of a tile on one side, block number ``block`` of ``blocks`` of a panel's side."""

    anchors: Any
    start: Any
    stop: Any
    block: Any
    blocks: Any
