"""One tile of scores in registers: a product on the tensor cores, an order violation, or scores already there."""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["finished", "raw_tile", "score_tile"]


@triton.jit
def product_tile(
    queries,
    query_stride,
    candidates,
    candidate_stride,
    rows,
    columns,
    WIDTH: tl.constexpr,
    PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
    BLOCK_DEPTH: tl.constexpr,
):
    """Inner products of the rows with the columns, accumulated in float32."""
    depth = tl.arange(0, BLOCK_DEPTH)
    left = queries + rows.to(tl.int64)[:, None] * query_stride + depth[None]
    right = candidates + columns.to(tl.int64)[None] * candidate_stride + depth[:, None]
    total = tl.zeros((BLOCK_ROWS, BLOCK_COLUMNS), tl.float32)
    for start in range(0, WIDTH, BLOCK_DEPTH):
        if WIDTH % BLOCK_DEPTH == 0:
            a, b = tl.load(left), tl.load(right)
        else:
            a = tl.load(left, mask=depth[None] < WIDTH - start, other=0.0)
            b = tl.load(right, mask=depth[:, None] < WIDTH - start, other=0.0)
        if UPCAST:  # the interpreter multiplies the bits of bfloat16
            a, b = a.to(tl.float32), b.to(tl.float32)
        total = tl.dot(a, b, total, input_precision=PRECISION)
        left += BLOCK_DEPTH
        right += BLOCK_DEPTH
    return total


@triton.jit
def violation_tile(
    queries,
    query_stride,
    candidates,
    candidate_stride,
    rows,
    columns,
    GENERAL_QUERIES: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
):
    """Squared order violations, from transposed embeddings: coordinate k of all rows stands together."""
    left = queries + rows
    right = candidates + columns
    total = tl.zeros((BLOCK_ROWS, BLOCK_COLUMNS), tl.float32)
    for _ in range(WIDTH):
        excess = tl.load(right).to(tl.float32)[None] - tl.load(left).to(tl.float32)[:, None]
        if GENERAL_QUERIES:
            excess = -excess
        excess = tl.maximum(excess, 0.0)
        total += excess * excess
        left += query_stride
        right += candidate_stride
    return total


@triton.jit
def finished(
    product,
    row_terms,
    column_terms,
    rows,
    columns,
    row_stop,
    column_stop,
    SIMILARITY: tl.constexpr,
):
    """Scores from inner products, or from squared violations for an order."""
    rows, columns = tl.minimum(rows, row_stop - 1), tl.minimum(columns, column_stop - 1)
    if SIMILARITY == "cosine":
        product = product * tl.load(row_terms + rows)[:, None]
        product = product * tl.load(column_terms + columns)[None]
    elif SIMILARITY == "euclidean" or SIMILARITY == "squared_euclidean":
        if row_terms is None:  # torch has added the squared lengths
            squares = -product
        else:
            squares = tl.load(row_terms + rows)[:, None] - 2.0 * product
            squares += tl.load(column_terms + columns)[None]
        squares = tl.maximum(squares, 0.0)
        product = -squares
        if SIMILARITY == "euclidean":
            product = -tl.sqrt_rn(squares)
    elif SIMILARITY != "dot":
        product = -tl.sqrt_rn(product)
    return product


@triton.jit
def raw_tile(
    queries,
    query_stride,
    candidates,
    candidate_stride,
    panel,
    panel_stride,
    row_start,
    row_stop,
    column_start,
    column_stop,
    rows,
    columns,
    SOURCE: tl.constexpr,
    SIMILARITY: tl.constexpr,
    WIDTH: tl.constexpr,
    PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
    BLOCK_DEPTH: tl.constexpr,
):
    """Inner products of ``rows`` with ``columns``, or squared violations, before ``finished`` makes them scores."""
    rows = tl.minimum(rows, row_stop - 1)
    columns = tl.minimum(columns, column_stop - 1)
    if SOURCE == "given":
        # a panel has fewer than 2**31 entries, and 32-bit places take half the registers
        place = (rows - row_start)[:, None] * panel_stride + (columns - column_start)[None]
        product = tl.load(panel + place)
    elif SOURCE == "order":
        product = violation_tile(
            queries,
            query_stride,
            candidates,
            candidate_stride,
            rows,
            columns,
            SIMILARITY == "order_of_general_queries",
            WIDTH,
            BLOCK_ROWS,
            BLOCK_COLUMNS,
        )
    else:
        product = product_tile(
            queries,
            query_stride,
            candidates,
            candidate_stride,
            rows,
            columns,
            WIDTH,
            PRECISION,
            UPCAST,
            BLOCK_ROWS,
            BLOCK_COLUMNS,
            BLOCK_DEPTH,
        )
    return product


@triton.jit
def score_tile(
    queries,
    query_stride,
    candidates,
    candidate_stride,
    row_terms,
    column_terms,
    panel,
    panel_stride,
    row_start,
    row_stop,
    column_start,
    column_stop,
    rows,
    columns,
    SOURCE: tl.constexpr,
    SIMILARITY: tl.constexpr,
    WIDTH: tl.constexpr,
    PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
    BLOCK_DEPTH: tl.constexpr,
):
    """Scores of ``rows`` against ``columns``, float32; those outside the panel repeat its last row or column."""
    # fmt: off
    product = raw_tile(
        queries, query_stride, candidates, candidate_stride,
        panel, panel_stride, row_start, row_stop, column_start, column_stop, rows, columns,
        SOURCE, SIMILARITY, WIDTH, PRECISION, UPCAST, BLOCK_ROWS, BLOCK_COLUMNS, BLOCK_DEPTH,
    )
    # fmt: on
    return finished(
        product, row_terms, column_terms, rows, columns, row_stop, column_stop, SIMILARITY
    )
