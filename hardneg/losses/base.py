"""``Loss`` and its two kinds: ``PairLoss`` on paired rows, ``LabelLoss`` on labelled ones.

A loss is its choices (the constructor) and its equation (``terms``). What all of them have in common stands here.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, overload

from torch import Tensor, nn

from hardneg.checks import check_choice, refuse_renamed
from hardneg.losses.at_once import at_once
from hardneg.losses.call import Call
from hardneg.losses.inputs import check_directions, compare_labelled, compare_pairs
from hardneg.losses.mining_statistics import MiningStatistics
from hardneg.losses.scalars import WithScalars, shown
from hardneg.losses.terms.reduction import DIRECTIONS, REDUCTIONS, Both, Output, reduce_terms
from hardneg.negatives import Negatives, resolve_negatives
from hardneg.ops.backends import bind, check_backend
from hardneg.ops.comparison import Comparison
from hardneg.ops.scores import Backend
from hardneg.positives import Paired, Positives
from hardneg.similarities import Similarity, is_spherical, resolve_similarity

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

__all__ = ["BackendName", "Directions", "LabelLoss", "Loss", "PairLoss", "Reduction"]

Reduction = Literal["mean", "sum", "mean_active", "none"]
Directions = Literal["both", "queries", "candidates"]
BackendName = Literal["auto", "dense", "tiled", "triton"]


class Loss(WithScalars, ABC):
    """Base of all losses: a constructor with the choices, and ``terms``, the equation.

    Subclass ``PairLoss`` or ``LabelLoss``. Class attributes say which negatives the equation can take.

    Attributes:
        average: whether the two directions are averaged rather than added.
        takes_all: whether all negatives of an anchor may count at once.
        takes_mean: whether it takes ``SelectiveHardest``, which mixes in the mean over all negatives.
    """

    average: ClassVar[bool] = False
    takes_all: ClassVar[bool] = True
    takes_mean: ClassVar[bool] = False

    def __new__(cls, *choices: Any, **named: Any) -> Self:
        """Refuse the names of older versions."""
        refuse_renamed(cls.__name__, named)
        return super().__new__(cls)

    def __init__(
        self,
        negatives: Negatives | str,
        similarity: Similarity | str,
        directions: str,
        reduction: str,
        backend: str | Backend,
    ) -> None:
        super().__init__()
        check_choice("directions", directions, DIRECTIONS)
        check_choice("reduction", reduction, REDUCTIONS)
        self.similarity = resolve_similarity(similarity)
        self.negatives = self.check_negatives(negatives)
        self.directions, self.reduction, self.backend = directions, reduction, backend
        check_backend(backend, self.similarity)

    @abstractmethod
    def terms(self, call: Call) -> Both:
        """The equation: terms of the queries and of the candidates, None for a direction not asked for."""

    def check_negatives(self, negatives: Negatives | str) -> Negatives:
        """A strategy from its name or object, checked against what the equation can take."""
        strategy, name = resolve_negatives(negatives), type(self).__name__
        reason = None
        if strategy.complete and not self.takes_all:
            reason = "it needs a selection of negatives, such as TopK(k)"
        elif strategy.mean_if_closer is not None and not self.takes_mean:
            reason = "only hinge losses with one positive an anchor take a mean of all negatives"
        elif strategy.needs_distance and not is_spherical(self.similarity):
            known = f"with similarity {self.similarity!r}: it needs distances between unit vectors"
            reason = f"{known}; use cosine, or euclidean on normalised embeddings"
        if reason is not None:
            raise ValueError(f"{name} does not take negatives {strategy!r}: {reason}")
        return strategy

    def reduced(
        self, comparison: Comparison, negatives: Negatives | str | None, return_stats: bool
    ) -> Output:
        """The loss of a comparison."""
        strategy = self.negatives if negatives is None else self.check_negatives(negatives)
        if (found := at_once(self, comparison, strategy, return_stats)) is not None:
            return found
        scores = bind(self.backend, comparison)
        call = Call(scores, strategy, self.reduction, self.directions, return_stats)
        return reduce_terms(call, self.terms(call), self.average)

    def extra_repr(self) -> str:
        """The choices by the constructor's names; those that are modules follow by themselves."""
        names = [name for name in inspect.signature(type(self)).parameters if name != "backend"]
        chosen = [(n, x) for n in names if not isinstance(x := getattr(self, n), nn.Module)]
        numbers = (*self.fixed, *(name for name, x in chosen if isinstance(x, Tensor)))
        return ", ".join(f"{n}={shown(x) if n in numbers else repr(x)}" for n, x in chosen)


class PairLoss(Loss):
    """Losses on pairs: row i of the queries and row i of the candidates belong together.

    Attributes:
        positives: ``Paired()``, or ``AllPositives()`` where every candidate of an anchor's id is a positive.
    """

    positives: Positives = Paired()

    @overload
    def forward(
        self,
        queries: Tensor,
        candidates: Tensor,
        *,
        query_ids: Tensor | None = None,
        candidate_ids: Tensor | None = None,
        positive_mask: Tensor | None = None,
        ignore_mask: Tensor | None = None,
        negatives: Negatives | str | None = None,
        return_stats: Literal[False] = False,
    ) -> Tensor: ...

    @overload
    def forward(
        self,
        queries: Tensor,
        candidates: Tensor,
        *,
        query_ids: Tensor | None = None,
        candidate_ids: Tensor | None = None,
        positive_mask: Tensor | None = None,
        ignore_mask: Tensor | None = None,
        negatives: Negatives | str | None = None,
        return_stats: Literal[True],
    ) -> tuple[Tensor, MiningStatistics]: ...

    def forward(
        self,
        queries: Float[Tensor, "n d"],
        candidates: Float[Tensor, "m d"],
        *,
        query_ids: Int[Tensor, "n"] | None = None,
        candidate_ids: Int[Tensor, "m"] | None = None,
        positive_mask: Bool[Tensor, "n m"] | None = None,
        ignore_mask: Bool[Tensor, "n m"] | None = None,
        negatives: Negatives | str | None = None,
        return_stats: bool = False,
        **renamed: Any,
    ) -> Any:
        """Compute the loss of a batch.

        Args:
            queries: n x d, row i belongs to candidate i.
            candidates: m x d, m >= n; those from n on are extra negatives of the queries.
            query_ids, candidate_ids: n and m integers; rows of equal ids are never negatives of each other.
            positive_mask: n x m mask of related pairs, instead of ids.
            ignore_mask: n x m mask of pairs left out.
            negatives: a strategy for this call alone, for schedules.
            return_stats: also return ``MiningStatistics``.

        Returns:
            A float32 (float64 for float64 inputs) scalar, or with ``reduction="none"`` the terms of the
            queries and those of the candidates; with ``return_stats`` a tuple of that and the statistics.

        Raises:
            ValueError, TypeError: naming the argument, what was expected, and what came.
        """
        refuse_renamed(type(self).__name__, renamed, unknown=True)
        relation = query_ids, candidate_ids, positive_mask, ignore_mask
        one_to_one = isinstance(self.positives, Paired)
        given = queries, candidates, self.similarity, *relation
        comparison = compare_pairs(*given, one_to_one=one_to_one)
        return self.reduced(comparison, negatives, return_stats)

    if TYPE_CHECKING:
        __call__ = forward


class LabelLoss(Loss):
    """Losses on labels: one set, or a set against a reference; equal labels are positives."""

    @overload
    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor | None = None,
        reference: Tensor | None = None,
        reference_labels: Tensor | None = None,
        *,
        positive_mask: Tensor | None = None,
        ignore_mask: Tensor | None = None,
        same_set: bool = False,
        negatives: Negatives | str | None = None,
        return_stats: Literal[False] = False,
    ) -> Tensor: ...

    @overload
    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor | None = None,
        reference: Tensor | None = None,
        reference_labels: Tensor | None = None,
        *,
        positive_mask: Tensor | None = None,
        ignore_mask: Tensor | None = None,
        same_set: bool = False,
        negatives: Negatives | str | None = None,
        return_stats: Literal[True],
    ) -> tuple[Tensor, MiningStatistics]: ...

    def forward(
        self,
        embeddings: Float[Tensor, "n d"],
        labels: Int[Tensor, "n"] | None = None,
        reference: Float[Tensor, "m d"] | None = None,
        reference_labels: Int[Tensor, "m"] | None = None,
        *,
        positive_mask: Bool[Tensor, "n m"] | None = None,
        ignore_mask: Bool[Tensor, "n m"] | None = None,
        same_set: bool = False,
        negatives: Negatives | str | None = None,
        return_stats: bool = False,
        **renamed: Any,
    ) -> Any:
        """Compute the loss of a batch.

        Args:
            embeddings: n x d, the anchors.
            labels: n integers; equal labels are positives.
            reference: m x d, the candidates; None: the embeddings themselves, a row never its own positive.
            reference_labels: m integers.
            positive_mask: n x m mask of the pairs that belong together, instead of labels.
            ignore_mask: n x m mask of pairs left out.
            same_set: row i of the reference is the same sample as embedding i; it may have further rows.
            negatives: a strategy for this call alone, for schedules.
            return_stats: also return ``MiningStatistics``.

        Returns:
            A float32 (float64 for float64 inputs) scalar, or with ``reduction="none"`` the terms of the
            queries and those of the candidates; with ``return_stats`` a tuple of that and the statistics.

        Raises:
            ValueError, TypeError: naming the argument, what was expected, and what came.
        """
        refuse_renamed(type(self).__name__, renamed, unknown=True)
        check_directions(self.directions, reference)
        sides = embeddings, labels, reference, reference_labels
        comparison = compare_labelled(*sides, self.similarity, positive_mask, ignore_mask, same_set)
        return self.reduced(comparison, negatives, return_stats)

    if TYPE_CHECKING:
        __call__ = forward
