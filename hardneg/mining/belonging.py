"""Which rows of the corpus belong to which query: positives, exclusions, repeated texts."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hardneg.mining.index_lists import check_lists

if TYPE_CHECKING:
    from jaxtyping import Int

__all__ = ["Belonging", "Kin", "belonging_of", "first_of_each", "rows_of"]


class Kin(NamedTuple):
    """Of a block of queries.

    Attributes:
        queries, rows: (query, positive row) pairs, by query, then by row.
        listed: rows of the corpus to leave out, -1 for none.
        ids: of the queries, where there are any.
    """

    queries: Int[Tensor, "t"]
    rows: Int[Tensor, "t"]
    listed: Int[Tensor, "n e"]
    ids: Int[Tensor, "n"] | None


@dataclass(frozen=True, eq=False)
class Belonging:
    """Of all queries.

    Attributes:
        positives, exclude: listed rows of the corpus for each query, -1 for none.
        query_ids, candidate_ids: rows of equal ids are positives.
        first: the first row of the corpus with the text of each row; None where texts are not told apart.
        same_set: row i of both is one sample.
        by_id: values and order of the candidates' ids, sorted.
    """

    positives: Int[Tensor, "n p"]
    exclude: Int[Tensor, "n e"]
    query_ids: Int[Tensor, "n"] | None = None
    candidate_ids: Int[Tensor, "m"] | None = None
    first: Int[Tensor, "m"] | None = None
    same_set: bool = False
    by_id: tuple[Tensor, Tensor] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        if self.candidate_ids is not None:
            object.__setattr__(self, "by_id", tuple(self.candidate_ids.sort(stable=True)))

    @property
    def knows_positives(self) -> bool:
        """Whether anything says which rows are positives."""
        return self.query_ids is not None or self.positives.shape[1] > 0

    @property
    def knows_nothing(self) -> bool:
        """Whether nothing at all is said."""
        return not (self.knows_positives or self.exclude.shape[1] or self.same_set)

    def fingerprint(self) -> str:
        """A hash of all of it."""
        digest = hashlib.blake2b(str(self.same_set).encode(), digest_size=16)
        for x in (self.positives, self.exclude, self.query_ids, self.candidate_ids, self.first):
            digest.update(str(None if x is None else tuple(x.shape)).encode())
            if x is not None:
                digest.update(x.contiguous().numpy().data)
        return digest.hexdigest()

    def of(self, rows: slice) -> Kin:
        """Of consecutive queries."""
        ids = None if self.query_ids is None else self.query_ids[rows]
        related = self.related(ids)
        queries, columns = self.pairs(self.positives[rows], related, rows)
        listed = [self.firsts(self.positives[rows]), self.firsts(self.exclude[rows])]
        if self.same_set:
            own = torch.arange(rows.start, rows.start + len(listed[0]))
            listed.append(self.firsts(own[:, None]))
        if self.first is not None and ids is not None:
            # the first row of a text stands for rows whose ids it may not have
            listed.append(padded_lists(related[0], self.firsts(related[1]), len(ids)))
        return Kin(queries, columns, torch.cat(listed, 1), ids)

    def pairs(
        self, listed: Int[Tensor, "n p"], related: tuple[Tensor, Tensor], rows: slice
    ) -> tuple[Int[Tensor, "t"], Int[Tensor, "t"]]:
        """(query, positive) pairs, each once; a query is no positive of itself."""
        n, p = listed.shape
        queries = torch.cat([torch.arange(n).repeat_interleave(p), related[0]])
        columns = torch.cat([self.firsts(listed).reshape(-1), self.firsts(related[1])])
        there = columns >= 0
        if self.same_set:
            there &= columns != self.firsts(queries + rows.start)
        queries, columns = queries[there], columns[there]
        if not len(queries):
            return queries, columns
        found = torch.stack([queries, columns]).unique(dim=1)
        return found[0].contiguous(), found[1].contiguous()

    def related(self, ids: Int[Tensor, "n"] | None) -> tuple[Int[Tensor, "t"], Int[Tensor, "t"]]:
        """(query, row) pairs of equal ids."""
        none = torch.empty(0, dtype=torch.long)
        if ids is None or self.by_id is None:
            return none, none
        values, order = self.by_id
        low, high = (torch.searchsorted(values, ids, right=right) for right in (False, True))
        counts = high - low
        queries = torch.arange(len(ids)).repeat_interleave(counts)
        within = torch.arange(len(queries)) - (counts.cumsum(0) - counts).repeat_interleave(counts)
        return queries, order[low.repeat_interleave(counts) + within]

    def firsts(self, rows: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
        """The rows that stand for listed ones; -1 stays."""
        if self.first is None:
            return rows
        return torch.where(rows >= 0, self.first[rows.clamp(min=0)], -1)


def padded_lists(queries: Int[Tensor, "t"], rows: Int[Tensor, "t"], n: int) -> Int[Tensor, "n p"]:
    """Pairs, by query, as a list for each query, -1 behind the last."""
    counts = torch.bincount(queries, minlength=n)
    found = torch.full((n, int(counts.amax()) if n else 0), -1, dtype=torch.long)
    place = torch.arange(len(queries)) - (counts.cumsum(0) - counts)[queries]
    found[queries, place] = rows
    return found


def belonging_of(
    shape: tuple[int, int],
    positives: Any,
    exclude: Any,
    ids: tuple[Any, Any],
    texts: Sequence[str] | None,
    same_set: bool,
) -> Belonging:
    """Checked, on the CPU.

    Raises:
        TypeError, ValueError: naming the argument, what was expected, and what came.
    """
    n, m = shape
    cpu = torch.device("cpu")
    lists = [
        check_lists(name, as_lists(name, x), n, m, cpu)
        for name, x in (("positives", positives), ("exclude", exclude))
    ]
    if (ids[0] is None) != (ids[1] is None):
        raise ValueError("ids are given for one side: pass query_ids and candidate_ids, or neither")
    whole = [
        as_ids(name, x, rows)
        for name, x, rows in (("query_ids", ids[0], n), ("candidate_ids", ids[1], m))
    ]
    if texts is not None and len(texts) != m:
        raise ValueError(f"texts are {len(texts)}: expected {m}, one a row of the corpus")
    if same_set and n > m:
        raise ValueError(f"same_set=True but there are {n} queries and {m} rows of the corpus")
    first = None if texts is None else first_of_each(texts)
    return Belonging(lists[0], lists[1], whole[0], whole[1], first, same_set)


def as_lists(argument: str, lists: Any) -> Tensor | None:
    """Lists of rows as a tensor; ragged ones are filled up with -1."""
    if lists is None or isinstance(lists, Tensor):
        return None if lists is None else lists.cpu()
    if isinstance(lists, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(lists))
    try:
        if all(isinstance(row, int | np.integer) for row in lists):
            return torch.tensor(list(lists), dtype=torch.long)
        rows = [torch.as_tensor(list(row), dtype=torch.long) for row in lists]
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{argument} holds what is no list of rows of the corpus: {error}"
        ) from error
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1)


def as_ids(argument: str, ids: Any, rows: int) -> Int[Tensor, "n"] | None:
    """One whole number a row."""
    if ids is None:
        return None
    found = torch.as_tensor(ids).cpu()
    if found.shape != (rows,) or found.dtype.is_floating_point or found.dtype == torch.bool:
        raise ValueError(
            f"{argument} are {tuple(found.shape)} of {found.dtype}: expected ({rows},) integers, one a row"
        )
    return found.long().contiguous()


def first_of_each(texts: Sequence[str]) -> Int[Tensor, "m"]:
    """The first row with the text of each row, by a hash of 8 bytes."""
    hashes = np.empty(len(texts), np.int64)
    for i, text in enumerate(texts):
        digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        hashes[i] = int.from_bytes(digest, "little", signed=True)
    _, first, back = np.unique(hashes, return_index=True, return_inverse=True)
    return torch.from_numpy(first[back.reshape(-1)].astype(np.int64))


def rows_of(names: Sequence[Hashable], lists: Sequence[Sequence[Hashable]]) -> Int[Tensor, "n p"]:
    """Rows of the corpus from their names: ``positives`` and ``exclude`` from lists of document ids.

    Raises:
        ValueError: for a name that the corpus lacks, or has twice.
    """
    rows = {name: row for row, name in enumerate(names)}
    if len(rows) != len(names):
        raise ValueError(f"{len(names) - len(rows)} names of the corpus are not unique")
    missing = next((name for one in lists for name in one if name not in rows), None)
    if missing is not None:
        raise ValueError(f"the corpus has no row named {missing!r}")
    found = as_lists("lists", [[rows[name] for name in one] for one in lists])
    assert found is not None
    return found.reshape(len(lists), -1)
