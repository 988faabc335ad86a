"""Which candidates are relevant to each query, as stretches of one list."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hardneg.checks import check_alike, check_embeddings, check_ids, check_two_sets
from hardneg.distributed.sharded_rows import ShardedRows
from hardneg.ops.precision import has_float64

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

__all__ = ["Relevant", "by_gains", "by_ids", "relevant_to"]

MOST_CANDIDATES = 10
"""Up to how many candidates a query may have; more rows are a corpus, whose size is often a round number."""


@dataclass(frozen=True, eq=False)
class Relevant:
    """The relevant candidates of query i are ``columns[starts[i] : starts[i] + lengths[i]]``.

    Attributes:
        starts, lengths: where each query's stretch lies.
        columns: candidate numbers; queries with equal ids share a stretch.
        counts: relevant candidates of each query, itself left out in one set.
        gains: graded relevance beside ``columns``; None where all count alike.
        same_set: query i and candidate i are the same item, which never retrieves itself.
    """

    starts: Int[Tensor, "n"]
    lengths: Int[Tensor, "n"]
    columns: Int[Tensor, "t"]
    counts: Int[Tensor, "n"]
    gains: Float[Tensor, "t"] | None = None
    same_set: bool = False

    def to(self, device: torch.device) -> Relevant:
        """The same on another device."""
        names = ("starts", "lengths", "columns", "counts")
        lists: dict[str, Any] = {name: getattr(self, name).to(device) for name in names}
        gains = self.gains
        if gains is not None:
            gains = gains.to(gains.dtype if has_float64(device) else torch.float32).to(device)
        return replace(self, gains=gains, **lists)

    def listed(
        self, rows: slice
    ) -> tuple[Int[Tensor, "r l"], Bool[Tensor, "r l"], Float[Tensor, "r l"] | None]:
        """Candidate numbers of a block of queries, which of them are meant, and their gains.

        Rows shorter than the longest are filled with their first candidate, empty ones with any.
        """
        starts, lengths = self.starts[rows, None], self.lengths[rows, None]
        device = starts.device
        place = torch.arange(int(lengths.max()), device=device).expand(len(starts), -1)
        valid = place < lengths
        place = starts + torch.where(valid, place, 0)
        if len(self.columns) == 0 or place.shape[1] == 0:
            return place[:, :0], valid[:, :0], None
        place = place.clamp(max=len(self.columns) - 1)
        columns = self.columns[place]
        if self.same_set:
            own = torch.arange(rows.start, rows.stop, device=device)[:, None]
            valid = valid & (columns != own)
        return columns, valid, None if self.gains is None else self.gains[place]


def check_sets(queries: Tensor, candidates: Tensor, same_set: bool) -> None:
    """Two sets of embeddings that can be compared; for one set, equally many."""
    check_embeddings("queries", queries)
    if isinstance(candidates, Tensor) and candidates.dim() == 1:
        raise ValueError(
            f"candidates has shape {tuple(candidates.shape)}: expected (rows, width); a set with labels is "
            "passed twice: metric(embeddings, embeddings, labels, labels, same_set=True)"
        )
    check_embeddings("candidates", candidates)
    if not are_given_scores(queries, candidates):
        check_alike("queries", queries, "candidates", candidates)
    if same_set and len(queries) != len(candidates):
        raise ValueError(
            f"same_set=True, but there are {len(queries)} queries and "
            f"{len(candidates)} candidates: query i and candidate i are "
            "the same item, so pass the same embeddings twice"
        )


def are_given_scores(queries: Tensor, candidates: Tensor) -> bool:
    """A matrix of scores and its transpose; across ranks of which each holds some rows."""
    if queries.shape != candidates.shape[::-1]:
        return False
    if isinstance(queries, ShardedRows) and isinstance(candidates, ShardedRows):
        return candidates.local is queries.local
    turned = queries.stride() == candidates.stride()[::-1]
    return turned and queries.data_ptr() == candidates.data_ptr()


def check_distinct(queries: Tensor, candidates: Tensor, same_set: bool) -> None:
    """One set is only compared with itself where that is said."""
    if not same_set and not are_given_scores(queries, candidates):
        instead = "pass same_set=True, and an item does not retrieve itself"
        check_two_sets("queries", queries, "candidates", candidates, instead)


def check_not_several(n: int, m: int) -> None:
    """Refuse what may be several candidates a query, each of them relevant, where nothing says so."""
    if n > 1 and m % n == 0 and 1 < m // n <= MOST_CANDIDATES:
        raise ValueError(
            f"{n} queries and {m} = {m // n} x {n} candidates without ids: query i belongs to candidate i alone, the "
            f"others to none. For {m // n} candidates a query (five captions an image) pass "
            f"query_ids=torch.arange({n}), candidate_ids=torch.arange({n}).repeat_interleave({m // n}) or "
            f"retrieval_metrics; if the others belong to none, query_ids=torch.arange({n}), "
            f"candidate_ids=torch.arange({m})"
        )


def resolve_ids(
    queries: Tensor,
    candidates: Tensor,
    query_ids: Tensor | None,
    candidate_ids: Tensor | None,
    same_set: bool,
) -> tuple[Int[Tensor, "n"], Int[Tensor, "m"]]:
    """The ids of both sides: given ones, or row i of the one with row i of the other."""
    n, m, device = len(queries), len(candidates), queries.device
    if query_ids is None and candidate_ids is None and not same_set:
        if m < n:
            raise ValueError(
                f"{n} queries but {m} candidates: without ids query i belongs to candidate i; pass "
                "query_ids and candidate_ids"
            )
        check_not_several(n, m)
        return torch.arange(n, device=device), torch.arange(m, device=device)
    if same_set and candidate_ids is None:
        candidate_ids = query_ids
    if query_ids is None or candidate_ids is None:
        missing = "query_ids" if query_ids is None else "candidate_ids"
        rule = "one set needs query_ids (labels)" if same_set else "pass both or neither"
        raise ValueError(f"{missing} is missing: {rule}, since equal ids say what is relevant")
    check_ids("query_ids", query_ids, n, device)
    check_ids("candidate_ids", candidate_ids, m, device)
    query_ids, candidate_ids = query_ids.long(), candidate_ids.long()
    if same_set and not torch.equal(query_ids, candidate_ids):
        raise ValueError(
            "same_set=True, but query_ids and candidate_ids differ: an item has one id, so pass "
            "query_ids only"
        )
    return query_ids, candidate_ids


def by_ids(
    queries: Tensor,
    candidates: Tensor,
    query_ids: Tensor | None,
    candidate_ids: Tensor | None,
    same_set: bool,
) -> Relevant:
    """Candidates with the query's id, found by sorting the candidates by id once."""
    check_sets(queries, candidates, same_set)
    wanted, offered = resolve_ids(queries, candidates, query_ids, candidate_ids, same_set)
    check_distinct(queries, candidates, same_set)
    return same_ids(wanted, offered, same_set)


def same_ids(wanted: Int[Tensor, "n"], offered: Int[Tensor, "m"], same_set: bool) -> Relevant:
    """Candidates of equal ids."""
    ordered, columns = offered.sort(stable=True)
    starts = torch.searchsorted(ordered, wanted)
    lengths = torch.searchsorted(ordered, wanted, right=True) - starts
    return Relevant(starts, lengths, columns, lengths - int(same_set), None, same_set)


def by_gains(queries: Tensor, candidates: Tensor, relevance: Tensor, same_set: bool) -> Relevant:
    """Candidates with positive graded relevance, from a dense or sparse n x m matrix.

    Raises:
        TypeError: if ``relevance`` is not a tensor of numbers.
        ValueError: for another shape or device, or negative or non-finite entries.
    """
    check_sets(queries, candidates, same_set)
    n, m = len(queries), len(candidates)
    if not isinstance(relevance, Tensor) or relevance.is_complex():
        kind = relevance.dtype if isinstance(relevance, Tensor) else type(relevance).__name__
        raise TypeError(f"relevance is {kind}: expected a dense or sparse matrix of numbers")
    if tuple(relevance.shape) != (n, m):
        raise ValueError(
            f"relevance has shape {tuple(relevance.shape)}: expected {(n, m)}, queries by "
            "candidates"
        )
    if relevance.device != queries.device:
        raise ValueError(
            f"relevance is on {relevance.device}: expected {queries.device}, where the embeddings "
            "are"
        )
    row, column, gain = entries(relevance)
    if not bool((gain.isfinite() & (gain >= 0)).all()):
        raise ValueError(
            "relevance has negative or non-finite entries: expected gains of at least 0"
        )
    check_distinct(queries, candidates, same_set)
    kept = gain > 0
    if same_set:
        kept &= row != column
    row, column, gain = row[kept], column[kept], gain[kept]
    counts = torch.bincount(row, minlength=n)
    return Relevant(counts.cumsum(0) - counts, counts, column, counts, gain, same_set)


def relevant_to(
    queries: Tensor,
    candidates: Tensor,
    query_ids: Tensor | None,
    candidate_ids: Tensor | None,
    relevance: Tensor | None,
    same_set: bool,
) -> Relevant:
    """By ids, or by a matrix whose entries above 0 are relevant, all alike.

    Raises:
        ValueError: for both.
    """
    if relevance is None:
        return by_ids(queries, candidates, query_ids, candidate_ids, same_set)
    if query_ids is not None or candidate_ids is not None:
        raise ValueError("ids and relevance are both given: pass one of them")
    return replace(by_gains(queries, candidates, relevance, same_set), gains=None)


def entries(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows (rising), columns and float64 values of the entries; duplicates are added."""
    if not has_float64(matrix.device):
        matrix = matrix.cpu()
    if matrix.layout == torch.strided:
        row, column = matrix.nonzero(as_tuple=True)
        return row, column, matrix[row, column].to(torch.float64)
    with torch.sparse.check_sparse_tensor_invariants():
        coalesced = matrix.to(torch.float64).to_sparse_coo().coalesce()
    row, column = coalesced.indices()
    return row, column, coalesced.values()
