"""Counting and listing related pairs without visiting every pair, where ids alone decide."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.ops.comparison import Among, Relation, admitted_mask
from hardneg.ops.grid import chunks

if TYPE_CHECKING:
    from jaxtyping import Int

__all__ = ["admitted_counts", "positive_pairs"]

MASK_ELEMENTS = 1 << 22


def admitted_counts(
    relation: Relation, among: Among, n: int, m: int, device: torch.device
) -> tuple[Int[Tensor, "n"], Int[Tensor, "m"]]:
    """See ``reference.admitted_counts``."""
    guided = relation.guide.rows is not None and among == "negatives"
    if relation.positives is None and relation.ignore is None and not guided:
        of_rows = counts_by_ids(relation, among, n, m, device)
        return of_rows, counts_by_ids(relation.swapped(), among, m, n, device)
    of_rows = torch.zeros(n, dtype=torch.long, device=device)
    of_columns = torch.zeros(m, dtype=torch.long, device=device)
    held = MASK_ELEMENTS // 8 if guided else MASK_ELEMENTS  # a guide has scores, in floats
    for rows in chunks(n, max(1, held // m)):
        taken = admitted_mask(relation, among, rows, slice(0, m), device)
        of_rows[rows] = taken.sum(1)
        of_columns += taken.sum(0)
    return of_rows, of_columns


def counts_by_ids(
    relation: Relation, among: Among, n: int, m: int, device: torch.device
) -> Int[Tensor, "n"]:
    """How many of m candidates each of n queries admits: a search among the sorted ids."""
    own = torch.arange(n, device=device) + relation.row_offset - relation.column_offset
    has_own = (own >= 0) & (own < m)
    if relation.row_ids is None or relation.column_ids is None:
        related, own_related = has_own.long(), has_own
    else:
        ordered = relation.column_ids.sort().values
        ids = relation.row_ids.to(ordered.dtype)
        first = torch.searchsorted(ordered, ids)
        related = torch.searchsorted(ordered, ids, right=True) - first
        own_related = has_own & (relation.column_ids[own.clamp(0, m - 1)] == ids)
    if relation.paired:
        related = related + (has_own & ~own_related)
        own_related = has_own
    if among == "positives":
        return related - own_related.long() if relation.same_set else related
    unrelated = m - related
    return unrelated - (has_own & ~own_related).long() if relation.same_set else unrelated


def positive_pairs(
    relation: Relation, n: int, m: int, device: torch.device
) -> tuple[Int[Tensor, "t"], Int[Tensor, "t"]]:
    """See ``reference.positive_pairs``. Their number is read from the device."""
    by_ids = relation.positives is None and relation.ignore is None and not relation.paired
    if not by_ids or relation.row_ids is None or relation.column_ids is None:
        found = []
        for rows in chunks(n, max(1, MASK_ELEMENTS // m)):
            taken = admitted_mask(relation, "positives", rows, slice(0, m), device)
            found.append(taken.nonzero() + torch.tensor([rows.start, 0], device=device))
        both = torch.cat(found)
        return both[:, 0].contiguous(), both[:, 1].contiguous()
    ordered, order = relation.column_ids.sort(stable=True)
    ids = relation.row_ids.to(ordered.dtype)
    first = torch.searchsorted(ordered, ids)
    counts = torch.searchsorted(ordered, ids, right=True) - first
    anchors = torch.repeat_interleave(torch.arange(n, device=device), counts)
    start = (counts.cumsum(0) - counts)[anchors]
    place = first[anchors] + torch.arange(len(anchors), device=device) - start
    columns = order[place]
    if relation.same_set:
        kept = anchors + relation.row_offset != columns + relation.column_offset
        anchors, columns = anchors[kept], columns[kept]
    return anchors, columns
