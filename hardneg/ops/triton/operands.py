"""What the kernels read: the embeddings as they are multiplied, terms of every row, and panels of scores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from hardneg.ops.comparison import Comparison, Window
from hardneg.ops.geometry import NearRows, central_row, near_rows
from hardneg.ops.grid import grid
from hardneg.ops.triton.arguments import BEYOND, TOGETHER, Bounds, Extent, Panel, Side, constant
from hardneg.ops.triton.forms import SIMILARITIES
from hardneg.ops.triton.launch import INTERPRETED
from hardneg.ops.triton.lengths import inverse_lengths, squared_lengths, unit_rows
from hardneg.ops.triton.rounding import as_tf32, in_parts
from hardneg.similarities import Cosine, Dot, Order, is_distance

__all__ = ["Operands", "bounds_of", "operands", "padded", "vector", "with_rows"]

# 128 MiB of float32 at most; in the interpreter small, so that small inputs have several panels
PANEL = (40, 72) if INTERPRETED else (4096, 8192)

ALIGNED = 16
"""Triton compiles for numbers that are multiples of this one, and for pointers to multiples of as many bytes."""

# 2**31 - 1 programs are a grid, and one scores 64 x 64 pairs at the least
LAUNCH = PANEL if INTERPRETED else (1 << 21, 1 << 21)


@dataclass(frozen=True, eq=False)
class Operands:
    """Both sides ready for the kernels.

    Attributes:
        queries, candidates: rows as they are multiplied, or their parts; for an order float32, ``TOGETHER`` coordinates
            of all embeddings a row.
        row_terms, column_terms: 1 / length for ``"cosine"``, squared lengths for the distances, where the
            product is not the negated squared distance already.
        inverse: 1 / length of both sides for cosine, whichever way it is multiplied.
        similarity: what turns a product into a score; ``Dot`` for the cosine of rows that are divided by their lengths.
        source: ``"product16"`` and ``"product32"``: tensor cores; ``"given"``: a panel that torch multiplies;
            ``"order"``.
        precision: of float32 products in a kernel: ``"bf16x3"``, ``"tf32"`` (``"ieee"`` elsewhere).
        shape: queries, candidates, width.
        near: both sides as they are measured, for distances of panels that torch multiplies.
        offsets: global numbers of the first query and candidate.
        whole: the float32 rows whose parts are multiplied, which gradients take; None: rows are multiplied whole.
    """

    queries: Tensor
    candidates: Tensor
    row_terms: Tensor | None
    column_terms: Tensor | None
    inverse: tuple[Tensor, Tensor] | None
    similarity: Any
    source: str
    precision: str
    shape: tuple[int, int, int]
    near: tuple[NearRows, NearRows] | None = None
    offsets: tuple[int, int] = (0, 0)
    whole: tuple[Tensor, Tensor] | None = None

    @property
    def factors(self) -> tuple[Tensor, Tensor]:
        """Both sides as weights are multiplied by them."""
        return self.whole or (self.queries, self.candidates)

    @property
    def tiles(self) -> str:
        """Which tiles scores are computed in: parts of float32 numbers are products of 16 bits."""
        return self.source if self.whole is None else "product16"

    @property
    def width(self) -> int:
        """How many coordinates kernels multiply: those of the shape, and zeros that align rows."""
        return self.shape[2] if self.source == "order" else self.queries.shape[1]

    @property
    def pulled(self) -> bool:
        """Whether gradients take the sums of the weights too: of distances whose products a kernel forms."""
        return self.source.startswith("product") and is_distance(self.similarity)

    def panels(
        self,
        size: tuple[int, int] | None = None,
        room: tuple[int, int] | None = None,
        upper: bool = False,
    ) -> Iterator[tuple[Panel, Extent]]:
        """All rows and columns, rows outermost, in panels of ``size``; by default as many as one launch takes.

        Products that torch computes are in one buffer of the size of ``room``, which may be overwritten; with ``upper``
        none are computed below the diagonal.
        """
        n, m, _ = self.shape
        given = self.source == "given"
        if size is None:
            limits = PANEL if given else LAUNCH
            size = min(limits[0], n), min(limits[1], m)
        # rows a multiple of 16 apart, whatever m: kernels are compiled for that
        room = room or (size[0], padded(size[1]))
        buffer = self.queries.new_empty(room) if given else None
        terms = None
        if self.near is not None:
            terms = self.near[0].terms(), self.near[1].terms().roll(2, 1)
        for tile in grid(n, m, size):
            height, width = tile.shape
            scores = None if buffer is None else buffer[:height, :width]
            left_out = upper and tile.columns.stop <= tile.rows.start
            if scores is not None and not left_out:
                torch.mm(self.queries[tile.rows], self.candidates[tile.columns].T, out=scores)
            if scores is not None and terms is not None and not left_out:
                scores.addmm_(terms[0][tile.rows], terms[1][tile.columns].T, beta=2)
            places = tile.rows.start, tile.rows.stop, tile.columns.start, tile.columns.stop
            yield self.panel(scores), Extent(*places, *self.offsets)

    def swapped(self) -> Operands:
        """Candidates against queries."""
        n, m, width = self.shape
        return replace(
            self,
            queries=self.candidates,
            candidates=self.queries,
            row_terms=self.column_terms,
            column_terms=self.row_terms,
            inverse=None if self.inverse is None else self.inverse[::-1],
            near=None if self.near is None else self.near[::-1],
            similarity=self.similarity.swapped(),
            shape=(m, n, width),
            offsets=self.offsets[::-1],
            whole=None if self.whole is None else self.whole[::-1],
        )

    def panel(self, scores: Tensor | None) -> Panel:
        """What ``score_tile`` takes; with the products of a panel where torch has computed them."""
        return Panel(
            Side(self.queries, self.queries.stride(0), self.row_terms),
            Side(self.candidates, self.candidates.stride(0), self.column_terms),
            scores,
            0 if scores is None else scores.stride(0),
            SIMILARITIES[self.similarity],
            constant("product" if self.source.startswith("product") else self.source),
            constant(self.width),
            constant("ieee" if self.whole else self.precision),
            constant(INTERPRETED and self.queries.dtype == torch.bfloat16),
        )


def operands(comparison: Comparison) -> Operands:
    """Make both sides ready."""
    q, c = with_rows(comparison.queries), with_rows(comparison.candidates)
    offsets = comparison.relation.row_offset, comparison.relation.column_offset
    return replace(of_rows(q, c, comparison.similarity), offsets=offsets)


def of_rows(q: Tensor, c: Tensor, similarity: Any) -> Operands:
    """Both sides as kernels read them. 16-bit embeddings are multiplied as they are, aligned ones without a copy.

    float32 follows torch's own setting: exact products are left to torch, panel by panel; ``"high"`` is multiplied
    as parts of 16 bits, tf32 in one pass from rows that are rounded to it: tensor cores would cut them.
    """
    shape = (q.shape[0], c.shape[0], q.shape[1])
    if type(similarity) is Order:
        q, c = transposed(q), transposed(c)
        return Operands(q, c, None, None, None, similarity, "order", "ieee", shape)
    terms: tuple[Tensor | None, Tensor | None] = (None, None)
    inverse, source, precision = None, "product16", "ieee"
    cosine, distance = type(similarity) is Cosine, is_distance(similarity)
    if q.dtype == torch.float32:
        precision = float32_products()
        source = "given" if precision == "ieee" else "product32"
        nearest = precision == "tf32"
        if cosine:
            similarity = Dot()
            (q, of_q), (c, of_c) = unit_rows(q, nearest), unit_rows(c, nearest)
            inverse = of_q, of_c
        elif distance and source == "given":
            return from_near_origins(q, c, similarity, shape)
        elif distance:
            # tf32 would round the terms of two origins; one must do
            centre = central_row(c)
            q, c = q - centre, c - centre
    elif cosine:
        terms = inverse = inverse_lengths(q), inverse_lengths(c)
    if distance:
        terms = squared_lengths(q), squared_lengths(c)
    if precision == "tf32" and not cosine:
        q, c = as_tf32(q), as_tf32(c)
    if source != "given":
        q, c = aligned(q), aligned(c)
    whole = (q, c) if precision == "bf16x3" else None
    if whole is not None:  # h and l: q c is h h + h l + l h, without l l
        q, c = in_parts(q, (0, 0, 1)), in_parts(c, (0, 1, 0))
    return Operands(q, c, *terms, inverse, similarity, source, precision, shape, whole=whole)


def from_near_origins(
    q: Tensor, c: Tensor, similarity: Any, shape: tuple[int, int, int]
) -> Operands:
    """Distances whose panels torch multiplies."""
    centre = central_row(c)
    near = near_rows(q, centre), near_rows(c, centre)
    rows = near[0].rows, near[1].rows
    return Operands(*rows, None, None, None, similarity, "given", "ieee", shape, near)


def float32_products() -> str:
    """``"ieee"``, ``"tf32"``, or ``"bf16x3"`` where ``torch.set_float32_matmul_precision("high")`` asked for it."""
    if torch.backends.cuda.matmul.fp32_precision != "tf32":
        return "ieee"
    try:
        asked = torch.get_float32_matmul_precision()
    except RuntimeError:  # tf32 was set by ``fp32_precision``, and the older name refuses to answer
        return "tf32"
    return "bf16x3" if asked == "high" else "tf32"


def aligned(x: Tensor) -> Tensor:
    """Rows that start at multiples of 16 coordinates: a copy with zeros behind each row where they do not.

    Kernels then read 16 bytes at a time, and copy while they multiply; zeros add nothing to a product.
    """
    width = padded(x.shape[1])
    if width == x.shape[1] and x.stride(0) % ALIGNED == 0 and x.data_ptr() % ALIGNED == 0:
        return x
    copy = x.new_empty(x.shape[0], width)
    copy[:, : x.shape[1]] = x
    copy[:, x.shape[1] :] = 0
    return copy


def transposed(x: Tensor) -> Tensor:
    """Some coordinates of all embeddings a row, in float32, with zeros behind: tiles go beyond the last embedding."""
    n, width = x.shape
    blocks = -(-width // TOGETHER)
    out = x.new_zeros(blocks, padded(n + BEYOND), TOGETHER, dtype=torch.float32)
    whole = width // TOGETHER
    out[:whole, :n] = x[:, : whole * TOGETHER].unflatten(1, (whole, TOGETHER)).transpose(0, 1)
    if whole < blocks:
        out[whole, :n, : width - whole * TOGETHER] = x[:, whole * TOGETHER :]
    return out


def padded(length: int) -> int:
    """The next multiple of what rows start at."""
    return -(-length // ALIGNED) * ALIGNED


def with_rows(x: Tensor) -> Tensor:
    """Embeddings whose coordinates stand next to each other; rows may be apart."""
    return x if x.stride(1) == 1 or x.shape[1] == 1 else x.contiguous()


def bounds_of(window: Window, one_set: bool = False) -> tuple[Bounds, Bounds]:
    """The bounds of rows and of columns; of one set those of rows twice."""
    rows = Bounds(vector(window.row_floor), vector(window.row_ceiling))
    return rows, rows if one_set else Bounds(*map(vector, window[2:]))


def vector(x: Tensor | None) -> Tensor | None:
    """One float32 an anchor, next to each other."""
    return None if x is None else x.float().contiguous()
