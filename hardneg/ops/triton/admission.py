"""Which pairs of a tile take part: the rule of ``comparison.admitted_mask``, on the GPU."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from hardneg.ops import comparison
from hardneg.ops.triton.arguments import Matrix, Relation, constant

__all__ = ["admitted", "has_relation", "relation_argument"]


def relation_argument(relation: comparison.Relation, among: comparison.Among) -> Relation:
    """What ``admitted_mask`` takes."""
    by_mask = relation.positives is not None
    return Relation(
        None if by_mask else contiguous(relation.row_ids),
        None if by_mask else contiguous(relation.column_ids),
        Matrix.of(relation.positives),
        Matrix.of(relation.ignore),
        constant(among),
        constant(relation.paired),
        constant(relation.same_set),
    )


def has_relation(relation: comparison.Relation) -> bool:
    """Whether kernels read ids or masks."""
    given = relation.row_ids, relation.positives, relation.ignore
    return any(x is not None for x in given)


def contiguous(ids: Tensor | None) -> Tensor | None:
    """Ids one after another."""
    return None if ids is None else ids.contiguous()


@triton.jit
def marked(mask, rows, columns, inside):
    """The tile of an explicit mask."""
    place = rows.to(tl.int64)[:, None] * mask.row_stride
    place += columns.to(tl.int64)[None] * mask.column_stride
    return tl.load(mask.x + place, mask=inside, other=0) != 0


@triton.jit
def admitted(extent, relation, rows, columns):
    """Which pairs of ``rows`` and ``columns`` take part; those outside the extent never do."""
    inside = (rows < extent.row_stop)[:, None] & (columns < extent.column_stop)[None]
    # every row's own column in 32 bits, -1 where it has none, so that each pair costs one comparison
    own_column = rows.to(tl.int64) + extent.row_offset - extent.column_offset
    has_own = (own_column >= 0) & (own_column < extent.column_stop)
    own = tl.where(has_own, own_column, -1).to(tl.int32)[:, None] == columns[None]
    if relation.positives.x is not None:
        kin = marked(relation.positives, rows, columns, inside)
    elif relation.row_ids is not None:
        of_rows = tl.load(relation.row_ids + rows, mask=rows < extent.row_stop, other=0)
        there = columns < extent.column_stop
        of_columns = tl.load(relation.column_ids + columns, mask=there, other=0)
        kin = of_rows[:, None] == of_columns[None]
    else:
        kin = own
    if relation.PAIRED:
        kin = kin | own
    if relation.AMONG == "positives":
        taken = inside & kin
    else:
        tl.static_assert(relation.AMONG == "negatives")
        taken = inside & (kin ^ True)
    if relation.SAME_SET:
        taken = taken & (own ^ True)
    if relation.ignore.x is not None:
        taken = taken & (marked(relation.ignore, rows, columns, inside) ^ True)
    return taken
