"""What ``mined`` of a loss returns, and what it is asked with."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, NamedTuple, TypedDict

from torch import Tensor

from hardneg.ops.mined import Mined

if TYPE_CHECKING:
    from jaxtyping import Int

    from hardneg.negatives import Ceiling

__all__ = [
    "MinedByLoss",
    "MinedTerms",
    "PairArguments",
    "Related",
    "own_negatives_in",
    "relation_in",
]

Related = tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]
"""Ids of both sides, the mask of related pairs, the mask of ignored ones."""


@dataclass(frozen=True, eq=False, repr=False)
class MinedTerms(Mined):
    """The negatives that a loss chooses, with its anchors in one direction; a ``Mined`` with a row for each anchor.

    A row for each (anchor, positive) pair, by anchor, then by positive, where a ceiling bounds the negatives of each
    positive apart (``positives="all"`` with ``SemiHard()``).

    Attributes:
        indices: of the other side, in the order of the strategy; -1 behind the last, and for an anchor without a
            term. From the number of candidates on they are the query's own negatives.
        anchors: whose negatives they are, rising.
        positives: the one that the loss compares them with; -1 for none. None where it takes all of an anchor's.
    """

    anchors: Int[Tensor, "n"]
    positives: Int[Tensor, "n"] | None = None

    def __repr__(self) -> str:
        n, k = self.indices.shape
        return f"MinedTerms({k} negatives of {n}, {int((self.counts < k).sum())} with fewer)"


class MinedByLoss(NamedTuple):
    """The choices of both directions; None for one that is not among the loss's.

    Attributes:
        queries: candidates for the queries (or embeddings) as anchors.
        candidates: queries for the candidates (or the reference) as anchors. In a loss on pairs those are the first n,
            one for each query.
    """

    queries: MinedTerms | None
    candidates: MinedTerms | None


def name_sides(found: MinedByLoss, name: str) -> object:
    """Raise for an attribute that is not there, saying where those of a ``MinedTerms`` are.

    Raises:
        AttributeError: as Python does.
    """
    of_terms = name in (field.name for field in fields(MinedTerms))
    where = f": write .queries.{name} or .candidates.{name}" if of_terms else ""
    raise AttributeError(f"{type(found).__name__!r} object has no attribute {name!r}{where}")


if not TYPE_CHECKING:  # to a type checker the attribute stays unknown
    MinedByLoss.__getattr__ = name_sides


class PairArguments(TypedDict, total=False):
    """What ``mined`` of a loss on pairs takes beside the embeddings, as the call itself."""

    query_ids: Tensor | None
    candidate_ids: Tensor | None
    positive_mask: Tensor | None
    ignore_mask: Tensor | None
    own_negatives: Tensor | None
    own_negative_ids: Tensor | None
    own_ignore_mask: Tensor | None
    share_negatives: bool
    exempt_own_negatives: bool
    guide: tuple[Tensor, Tensor] | None
    guide_ceiling: Ceiling | None


def relation_in(given: PairArguments) -> Related:
    """What the arguments say of who is related."""
    return (
        given.get("query_ids"),
        given.get("candidate_ids"),
        given.get("positive_mask"),
        given.get("ignore_mask"),
    )


def own_negatives_in(
    given: PairArguments,
) -> tuple[Tensor | None, Tensor | None, Tensor | None, bool, bool]:
    """What they say of a query's own negatives."""
    return (
        given.get("own_negatives"),
        given.get("own_negative_ids"),
        given.get("own_ignore_mask"),
        given.get("share_negatives", True),
        given.get("exempt_own_negatives", False),
    )
