"""Which pairs of a tile take part: the rule of ``description.admitted``, on the GPU."""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from hardneg.ops.comparison import Among, Relation

__all__ = ["admission_arguments", "admitted"]


def admission_arguments(relation: Relation, among: Among) -> dict[str, Any]:
    """What ``admitted`` is told, by the names that kernels give it."""
    by_mask = relation.positives is not None
    positives, ignore = relation.positives, relation.ignore
    return {
        "row_ids": None if by_mask else contiguous(relation.row_ids),
        "column_ids": None if by_mask else contiguous(relation.column_ids),
        "positives": positives,
        "positives_row_stride": 0 if positives is None else positives.stride(0),
        "positives_column_stride": 0 if positives is None else positives.stride(1),
        "ignore": ignore,
        "ignore_row_stride": 0 if ignore is None else ignore.stride(0),
        "ignore_column_stride": 0 if ignore is None else ignore.stride(1),
        "row_offset": relation.row_offset,
        "column_offset": relation.column_offset,
        "AMONG": among,
        "PAIRED": relation.paired,
        "SAME_SET": relation.same_set,
    }


def contiguous(ids: Tensor | None) -> Tensor | None:
    """Ids one after another."""
    return None if ids is None else ids.contiguous()


@triton.jit
def marked(mask, row_stride, column_stride, rows, columns, inside):
    """The tile of an explicit mask."""
    place = rows.to(tl.int64)[:, None] * row_stride + columns.to(tl.int64)[None] * column_stride
    return tl.load(mask + place, mask=inside, other=0) != 0


@triton.jit
def admitted(
    rows,
    columns,
    row_stop,
    column_stop,
    row_ids,
    column_ids,
    positives,
    positives_row_stride,
    positives_column_stride,
    ignore,
    ignore_row_stride,
    ignore_column_stride,
    row_offset,
    column_offset,
    AMONG: tl.constexpr,
    PAIRED: tl.constexpr,
    SAME_SET: tl.constexpr,
):
    """Which pairs of ``rows`` and ``columns`` take part; those outside the panel never do."""
    inside = (rows < row_stop)[:, None] & (columns < column_stop)[None]
    # every row's own column in 32 bits, -1 where it has none, so that each pair costs one comparison
    own_column = rows.to(tl.int64) + row_offset - column_offset
    has_own = (own_column >= 0) & (own_column < column_stop)
    own = tl.where(has_own, own_column, -1).to(tl.int32)[:, None] == columns[None]
    taken = inside
    if AMONG != "others":
        if positives is not None:
            kin = marked(
                positives, positives_row_stride, positives_column_stride, rows, columns, inside
            )
        elif row_ids is not None:
            of_rows = tl.load(row_ids + rows, mask=rows < row_stop, other=0)
            of_columns = tl.load(column_ids + columns, mask=columns < column_stop, other=0)
            kin = of_rows[:, None] == of_columns[None]
        else:
            kin = own
        if PAIRED:
            kin = kin | own
        taken = inside & kin if AMONG == "positives" else inside & (kin ^ True)
    if SAME_SET:
        taken = taken & (own ^ True)
    if ignore is not None:
        out = marked(ignore, ignore_row_stride, ignore_column_stride, rows, columns, inside)
        taken = taken & (out ^ True)
    return taken
