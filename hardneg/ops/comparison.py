"""What is compared: who is related to whom and which scores are admitted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from hardneg.ops.guide import UNGUIDED, Guide
from hardneg.similarities import Given, is_builtin, upcast

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

__all__ = [
    "OPEN",
    "Among",
    "Comparison",
    "Embeddings",
    "Relation",
    "Window",
    "finite_or_nan",
    "zero_or_nan",
]

Among = str
"""``"negatives"`` (unrelated) or ``"positives"`` (related, not the row itself)."""


@dataclass(frozen=True, eq=False, repr=False)
class Relation:
    """Who is related to whom. Equal ids are related; no id value is reserved.

    Attributes:
        row_ids, column_ids: one integer a query and a candidate; both None: nobody shares an id.
        positives: explicit n x m mask of related pairs, in place of ids.
        ignore: n x m mask of pairs that are neither positives nor negatives.
        paired: query i and candidate i are related, whatever the ids say.
        same_set: query i and candidate i are the same sample, so never compared.
        row_offset, column_offset: global numbers of the first query and candidate.
        guide: which of the unrelated pairs are no negatives of the query; it knows nothing of candidates as anchors.
    """

    row_ids: Int[Tensor, "n"] | None = None
    column_ids: Int[Tensor, "m"] | None = None
    positives: Bool[Tensor, "n m"] | None = None
    ignore: Bool[Tensor, "n m"] | None = None
    paired: bool = False
    same_set: bool = False
    row_offset: int = 0
    column_offset: int = 0
    guide: Guide = UNGUIDED

    def swapped(self) -> Relation:
        """The relation of candidates to queries, without the guide, which is that of the queries."""
        return Relation(
            self.column_ids,
            self.row_ids,
            None if self.positives is None else self.positives.T,
            None if self.ignore is None else self.ignore.T,
            self.paired,
            self.same_set,
            self.column_offset,
            self.row_offset,
        )


def of_rows(relation: Relation, rows: slice) -> Relation:
    """The relation of some consecutive queries to all candidates, by their global numbers."""
    ids, positives, ignore = (
        None if x is None else x[rows]
        for x in (relation.row_ids, relation.positives, relation.ignore)
    )
    offset, guide = relation.row_offset + rows.start, relation.guide.of_rows(rows)
    return replace(
        relation, row_ids=ids, positives=positives, ignore=ignore, row_offset=offset, guide=guide
    )


class Window(NamedTuple):
    """Bounds on the score, one an anchor: ``floor < score < ceiling``, both strict.

    Backends compute scores in several ways, which differ by rounding. So the code that makes a bound from a
    score narrows the window by that much (``rounding.Rounding``): what equals the bound is outside.
    """

    row_floor: Float[Tensor, "n"] | None = None
    row_ceiling: Float[Tensor, "n"] | None = None
    column_floor: Float[Tensor, "m"] | None = None
    column_ceiling: Float[Tensor, "m"] | None = None

    @property
    def open(self) -> bool:
        """Whether nothing is bounded."""
        return all(bound is None for bound in self)

    def swapped(self) -> Window:
        """The bounds of columns as those of rows."""
        return Window(self.column_floor, self.column_ceiling, self.row_floor, self.row_ceiling)


OPEN = Window()
"""Nothing is bounded."""


class Embeddings(NamedTuple):
    """What scores are made of; the fields as those of ``Comparison``."""

    queries: Float[Tensor, "n d"]
    candidates: Float[Tensor, "m d"]
    similarity: Any
    to_queries: Float[Tensor, "n d"] | None = None
    to_candidates: Float[Tensor, "m d"] | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """Queries against candidates under a similarity: the matrix that is never built."""

    queries: Float[Tensor, "n d"]
    candidates: Float[Tensor, "m d"]
    similarity: Any
    relation: Relation
    to_queries: Float[Tensor, "n d"] | None = None
    """Where the gradients of 16-bit queries go in float32, in place of the queries; see ``half_precision``."""
    to_candidates: Float[Tensor, "m d"] | None = None
    """The same of the candidates."""

    @property
    def embeddings(self) -> Embeddings:
        """The comparison without its relation."""
        sides = self.queries, self.candidates, self.similarity
        return Embeddings(*sides, self.to_queries, self.to_candidates)

    @property
    def learned(self) -> tuple[bool, bool]:
        """Whether queries and candidates want a gradient."""
        return (
            self.to_queries is not None or self.queries.requires_grad,
            self.to_candidates is not None or self.candidates.requires_grad,
        )

    def swapped(self) -> Comparison:
        """Candidates against queries: columns become rows."""
        similarity = self.similarity
        if type(similarity) is Given:
            return self.transposed()
        if is_builtin(similarity) or isinstance(similarity, Transposed):
            other = similarity.swapped()
        else:
            other = Transposed(similarity)
        sides = self.candidates, self.queries
        return Comparison(
            *sides, other, self.relation.swapped(), self.to_candidates, self.to_queries
        )

    def transposed(self) -> Comparison:
        """Given scores of candidates and queries: the matrix stays where its gradient goes."""
        matrix = self.queries.T
        to_matrix = None if self.to_queries is None else self.to_queries.T
        relation = self.relation.swapped()
        return Comparison(matrix, matrix.detach().T, self.similarity, relation, to_matrix)

    def among(self, **changes: Any) -> Comparison:
        """The same embeddings under a changed relation."""
        return replace(self, relation=replace(self.relation, **changes))


@dataclass(frozen=True)
class Transposed:
    """A callable similarity with queries and candidates exchanged."""

    similarity: Any

    def __call__(self, queries: Tensor, candidates: Tensor) -> Tensor:
        """``similarity(candidates, queries).T``."""
        found: Tensor = self.similarity(candidates, queries).T
        return found

    def swapped(self) -> Any:
        """The similarity itself."""
        return self.similarity


def related_mask(relation: Relation, rows: slice, columns: slice) -> Tensor | None:
    """Which pairs of a block share an id or are marked; None where that is nobody but the pairs."""
    if relation.positives is not None:
        return relation.positives[rows, columns]
    if relation.row_ids is not None and relation.column_ids is not None:
        return relation.row_ids[rows, None] == relation.column_ids[None, columns]
    return None


def diagonal(relation: Relation, rows: slice, columns: slice, device: torch.device) -> Tensor:
    """Which pairs of a block have equal global numbers."""
    row = torch.arange(rows.start, rows.stop, device=device) + relation.row_offset
    column = torch.arange(columns.start, columns.stop, device=device) + relation.column_offset
    return row[:, None] == column[None]


def admitted_mask(
    relation: Relation, among: Among, rows: slice, columns: slice, device: torch.device
) -> Bool[Tensor, "r c"]:
    """Which pairs of a block take part: the rule that every implementation follows."""
    kin = related_mask(relation, rows, columns)
    same = diagonal(relation, rows, columns, device)
    ignored = None if relation.ignore is None else relation.ignore[rows, columns]
    taken = taking_part(relation, among, kin, same, ignored)
    guided = relation.guide.rows is not None and among == "negatives"
    return taken & relation.guide.below(rows, columns) if guided else taken


def admitted_pairs(
    relation: Relation, among: Among, rows: Int[Tensor, "t"], columns: Int[Tensor, "t"]
) -> Bool[Tensor, "t"]:
    """The same of listed pairs."""
    kin = None
    if relation.positives is not None:
        kin = relation.positives[rows, columns]
    elif relation.row_ids is not None and relation.column_ids is not None:
        kin = relation.row_ids[rows] == relation.column_ids[columns]
    same = rows + relation.row_offset == columns + relation.column_offset
    ignored = None if relation.ignore is None else relation.ignore[rows, columns]
    taken = taking_part(relation, among, kin, same, ignored)
    guided = relation.guide.rows is not None and among == "negatives"
    return taken & relation.guide.below_listed(rows, columns) if guided else taken


def taking_part(
    relation: Relation, among: Among, kin: Tensor | None, same: Tensor, ignored: Tensor | None
) -> Bool[Tensor, "..."]:
    """Which pairs take part, by whether they are kin (None: nobody is), have equal numbers, and are ignored."""
    if kin is None:
        kin = same
    if relation.paired:
        kin = kin | same
    taken = kin if among == "positives" else ~kin
    if relation.same_set:
        taken = taken & ~same
    return taken if ignored is None else taken & ~ignored


def finite_or_nan(*embeddings: Tensor) -> Float[Tensor, ""]:
    """1, or NaN where any embedding is NaN or infinite, whatever a max or a comparison would hide.

    A factor rather than a term, so that the gradient is NaN too and a loss scaler notices.
    """
    return zero_or_nan(*embeddings) + 1


def zero_or_nan(*embeddings: Tensor) -> Float[Tensor, ""]:
    """0, or NaN where any embedding is NaN or infinite."""
    extremes = torch.stack([edge for x in embeddings for edge in torch.aminmax(x.detach())])
    return (upcast(extremes) * 0).sum()
