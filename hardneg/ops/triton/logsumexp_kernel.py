"""One tile of ``logsumexp``: its share of the sums of exponentials, or in the backward its tile of weights."""

from __future__ import annotations

import triton
import triton.language as tl

from hardneg.ops.triton.admission import admitted
from hardneg.ops.triton.best import block_of
from hardneg.ops.triton.phi import energy_slope, energy_value
from hardneg.ops.triton.ranking import within
from hardneg.ops.triton.scores import score_tile
from hardneg.ops.triton.weigh import store_weights

__all__ = ["logsumexp_kernel"]

MINUS_INFINITY = tl.constexpr(float("-inf"))


@triton.jit
def report(side, scores, logits, taken, anchors, start, inside, block, blocks, AXIS: tl.constexpr):
    """Report a tile's largest exponents and sums relative to them to the anchors of one side."""
    floors, ceilings, _, _, partials, width = side
    taken = within(scores, taken, floors, ceilings, anchors, inside, AXIS)
    z = tl.where(taken, logits, MINUS_INFINITY)
    largest = tl.max(z, AXIS)
    finite = tl.where(largest > MINUS_INFINITY, largest, 0.0)  # -inf less -inf would be NaN
    place = partials + block.to(tl.int64) * width + (anchors - start)
    tl.store(place, largest, mask=inside)
    total = tl.sum(tl.exp(z - tl.expand_dims(finite, AXIS)), AXIS)
    tl.store(place + blocks.to(tl.int64) * width, total, mask=inside)


@triton.jit
def softmax_weights(side, scores, logits, taken, anchors, inside, AXIS: tl.constexpr):
    """Upstream gradient times softmax, from the log-sum-exps of one side."""
    floors, ceilings, results, gradient, _, _ = side
    taken = within(scores, taken, floors, ceilings, anchors, inside, AXIS)
    result = tl.load(results + anchors, mask=inside, other=0.0)
    upstream = tl.load(gradient + anchors, mask=inside, other=0.0)
    z = tl.where(taken, logits - tl.expand_dims(result, AXIS), MINUS_INFINITY)
    return tl.exp(z) * tl.expand_dims(upstream, AXIS)


@triton.jit
def logsumexp_kernel(
    queries, query_stride, candidates, candidate_stride, row_terms, column_terms,
    panel, panel_stride, row_start, row_stop, column_start, column_stop,
    row_ids, column_ids, positives, positives_row_stride, positives_column_stride,
    ignore, ignore_row_stride, ignore_column_stride, row_offset, column_offset,
    row_side, column_side, scale, first, second, scale_shares,
    weights, weights_stride, gain, row_pulls, row_width, column_pulls, column_width,
    SOURCE: tl.constexpr, SIMILARITY: tl.constexpr, WIDTH: tl.constexpr, PRECISION: tl.constexpr,
    UPCAST: tl.constexpr, AMONG: tl.constexpr, PAIRED: tl.constexpr, SAME_SET: tl.constexpr,
    ENERGY: tl.constexpr,
    BLOCK_ROWS: tl.constexpr, BLOCK_COLUMNS: tl.constexpr, BLOCK_DEPTH: tl.constexpr,
):  # fmt: skip
    """Scores once; the exponents ``scale * energy(score)`` summed along both axes, or weighed by their softmax."""
    row_blocks = tl.cdiv(row_stop - row_start, BLOCK_ROWS)
    column_blocks = tl.cdiv(column_stop - column_start, BLOCK_COLUMNS)
    row_block, column_block = block_of(tl.program_id(0), row_blocks, column_blocks)
    rows = row_start + row_block * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    columns = column_start + column_block * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
    # fmt: off
    scores = score_tile(
        queries, query_stride, candidates, candidate_stride, row_terms, column_terms,
        panel, panel_stride, row_start, row_stop, column_start, column_stop, rows, columns,
        SOURCE, SIMILARITY, WIDTH, PRECISION, UPCAST, BLOCK_ROWS, BLOCK_COLUMNS, BLOCK_DEPTH,
    )
    taken = admitted(
        rows, columns, row_stop, column_stop, row_ids, column_ids,
        positives, positives_row_stride, positives_column_stride,
        ignore, ignore_row_stride, ignore_column_stride,
        row_offset, column_offset, AMONG, PAIRED, SAME_SET,
    )
    energies = energy_value(scores, first, second, ENERGY)
    logits = energies if scale is None else energies * tl.load(scale)
    if weights is None:
        if row_side is not None:
            report(
                row_side, scores, logits, taken, rows, row_start, rows < row_stop,
                column_block, column_blocks, 1,
            )
        if column_side is not None:
            report(
                column_side, scores, logits, taken, columns, column_start, columns < column_stop,
                row_block, row_blocks, 0,
            )
    else:
        w = tl.zeros_like(scores)
        if row_side is not None:
            w += softmax_weights(row_side, scores, logits, taken, rows, rows < row_stop, 1)
        if column_side is not None:
            w += softmax_weights(
                column_side, scores, logits, taken, columns, columns < column_stop, 0
            )
        if scale is not None:
            tl.store(scale_shares + tl.program_id(0), tl.sum(w * energies))
            w *= tl.load(scale)
        w *= energy_slope(scores, first, second, ENERGY)
        store_weights(
            w, scores, row_terms, column_terms, rows, columns,
            row_start, row_stop, column_start, column_stop, row_block, column_block,
            weights, weights_stride, gain, row_pulls, row_width, column_pulls, column_width,
            SIMILARITY,
        )
    # fmt: on
