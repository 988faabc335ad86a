"""Dense gradients: kernels write panels of weights, torch multiplies them with the embeddings.

A gradient of queries is the weights times the candidates, one of candidates the transposed weights times the
queries. 16-bit weights times 16-bit embeddings go to the tensor cores and add up in float32; only the
sum over all reductions of a loss is rounded (``half_precision.py``).
"""

from __future__ import annotations

import torch
from torch import Tensor

from hardneg.ops.comparison import Comparison
from hardneg.ops.geometry import NearRows
from hardneg.ops.requests import EVERYTHING, Wanted
from hardneg.ops.triton.arguments import Extent, Panel, Side, Weights
from hardneg.ops.triton.dense_kernel import PARTS
from hardneg.ops.triton.finish import finish
from hardneg.ops.triton.operands import with_rows
from hardneg.ops.triton.order_gradient import add_violations
from hardneg.ops.triton.sweep import Sweep
from hardneg.similarities import Order

__all__ = ["Gradients"]


def add_product(out: Tensor, weights: Tensor, x: Tensor, earlier: bool) -> None:
    """``out += weights @ x`` in float32, or ``out = weights @ x`` where it is the first."""
    if x.dtype == torch.float32 or not x.is_cuda:
        # off a GPU torch has no 16-bit product with a float32 result
        weights, x = weights.float(), x.float()
        torch.addmm(out, weights, x, out=out) if earlier else torch.mm(weights, x, out=out)
    elif earlier:
        torch.ops.aten.addmm.dtype_out(out, weights, x, torch.float32, out=out)
    else:
        torch.ops.aten.mm.dtype_out(weights, x, torch.float32, out=out)


class NearPulls:
    """Sums of the weights of every anchor over the others of either origin, for distances of near rows."""

    def __init__(self, near: tuple[NearRows, NearRows], wanted: Wanted) -> None:
        self.near, self.wanted = near, wanted
        self.origins = near[0].origins(), near[1].origins()
        self.sums = torch.zeros_like(self.origins[0]), torch.zeros_like(self.origins[1])

    def add(self, weights: Tensor, rows: slice, columns: slice) -> None:
        """A panel's share."""
        if self.wanted.queries:
            self.sums[0][rows].addmm_(weights, self.origins[1][columns])
        if self.wanted.candidates:
            self.sums[1][columns].addmm_(weights.T, self.origins[0][rows])

    def finish(self, side: int, products: Tensor) -> None:
        """Turn summed products into the gradient of a side, in place."""
        self.near[side].pulled(products, self.sums[side])


class Gradients:
    """Gradients of both sides, panel by panel: rows outermost, so a slab of rows is finished after its last panel."""

    def __init__(
        self, comparison: Comparison, sweep: Sweep, gain: Tensor | None, wanted: Wanted = EVERYTHING
    ) -> None:
        self.wanted = wanted
        self.comparison, self.sweep, self.ready, self.gain = comparison, sweep, sweep.ready, gain
        q, c = comparison.queries, comparison.candidates
        self.dq = q.new_empty(q.shape if wanted.queries else 0, dtype=torch.float32)
        self.dc = c.new_empty(c.shape if wanted.candidates else 0, dtype=torch.float32)
        kind = q.dtype if self.ready.source == "product16" else torch.float32
        given = self.ready.source == "given"
        self.panel = None if given else torch.empty(sweep.room, dtype=kind, device=q.device)
        self.pulls: tuple[Tensor, Tensor] | None = None
        self.near = NearPulls(self.ready.near, wanted) if self.ready.near is not None else None
        if self.ready.pulled:
            n, m, _ = self.ready.shape
            self.pulls = self.dc.new_zeros(n), self.dc.new_zeros(m)
            self.row_pulls, self.column_pulls = sweep.partials(1, 0, PARTS), sweep.partials(1, 1)

    def weights(self, panel: Panel, extent: Extent) -> Tensor:
        """Where a panel's weights go: in place of its scores where torch computed them."""
        if panel.scores is not None:
            return panel.scores
        assert self.panel is not None
        height, width = extent.shape
        return self.panel[:height, :width]

    def argument(self, panel: Panel, extent: Extent) -> Weights:
        """What ``store_weights`` takes."""
        weights = self.weights(panel, extent)
        given = weights, weights.stride(0), self.gain
        if self.pulls is None:
            return Weights(*given, None, 0, None, 0)
        rows, columns = self.row_pulls, self.column_pulls
        return Weights(*given, rows.buffer, rows.anchors, columns.buffer, columns.anchors)

    def add(self, panel: Panel, extent: Extent) -> None:
        """A product with the weights that a kernel has just written, for each side that is not frozen."""
        weights, rows, columns = self.weights(panel, extent), extent.rows, extent.columns
        self.add_pulls(extent)
        if self.near is not None:
            self.near.add(weights, rows, columns)
        if self.wanted.candidates:
            out = self.dc[columns]
            self.add_side(out, weights.T, columns, rows, rows.start > 0, False)
        if self.wanted.queries:
            self.add_side(self.dq[rows], weights, rows, columns, columns.start > 0, True)

    def add_side(
        self, out: Tensor, share: Tensor, own: slice, other: slice, earlier: bool, of_rows: bool
    ) -> None:
        """A panel's share of the gradient of one side."""
        if self.ready.source == "order":
            q, c = with_rows(self.comparison.queries), with_rows(self.comparison.candidates)
            mine, theirs = (q, c) if of_rows else (c, q)
            sign = 1.0 if of_rows == (self.ready.similarity == Order()) else -1.0
            of_own, of_other = (Side(x, x.stride(0)) for x in (mine[own], theirs[other]))
            add_violations(out, share, of_own, of_other, sign, earlier)
        else:
            theirs = self.ready.factors[1 if of_rows else 0]
            add_product(out, share, theirs[other, : out.shape[1]], earlier)

    def add_pulls(self, extent: Extent) -> None:
        """The sums of the weights of every anchor, for distances."""
        if self.pulls is None:
            return
        height, width = extent.shape
        sides = (
            (self.pulls[0][extent.rows], self.row_pulls, width),
            (self.pulls[1][extent.columns], self.column_pulls, height),
        )
        for pulls, partials, others in sides:
            pulls += partials.buffer[0, : partials.blocks(others), : len(pulls)].sum(0)

    def results(self) -> tuple[Tensor, Tensor]:
        """Both gradients, float32; that of a frozen side is empty."""
        self.panel = None  # given back first
        for side, (gradient, wanted) in enumerate(
            ((self.dq, self.wanted.queries), (self.dc, self.wanted.candidates))
        ):
            if wanted:
                self.close(side, gradient)
        return self.dq, self.dc

    def close(self, side: int, gradient: Tensor) -> None:
        """From summed products to the gradient of the embeddings, in place."""
        ready = self.ready
        if self.near is not None:
            self.near.finish(side, gradient)
            return
        inverse = None if ready.inverse is None else ready.inverse[side]
        pulls = None if self.pulls is None else self.pulls[side]
        x = ready.factors[side]
        if (
            inverse is not None
        ):  # what was multiplied may be unit rows, rounded to what tensor cores take
            x = with_rows(self.comparison.candidates if side else self.comparison.queries)
        own = Side(x, x.stride(0), inverse)
        finish(ready, gradient, own, pulls, self.gain, gradient)
