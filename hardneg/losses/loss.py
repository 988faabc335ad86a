"""``Loss``: what all losses have in common. One is its choices (the constructor) and its equation (``terms``)."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from hardneg.checks import check_choice
from hardneg.losses.at_once import at_once
from hardneg.losses.call import Call
from hardneg.losses.guide import GuideChoice
from hardneg.losses.keywords import keywords_of, refuse_choice
from hardneg.losses.mined import MinedByLoss
from hardneg.losses.scalars import WithScalars, shown
from hardneg.losses.term_pairs import pairs_of_terms
from hardneg.losses.terms.reduction import DIRECTIONS, REDUCTIONS, Both, Output, reduce_terms
from hardneg.negatives import Negatives, resolve_negatives
from hardneg.ops.backends import bind, check_backend
from hardneg.ops.comparison import Comparison
from hardneg.ops.guided import GuidedScores
from hardneg.ops.own import OwnNegatives
from hardneg.ops.own_negatives import WithOwnNegatives
from hardneg.ops.scores import Backend, Scores
from hardneg.similarities import Similarity, is_spherical, resolve_similarity

__all__ = ["BackendName", "Directions", "HingeReduction", "Loss", "Reduction"]

Reduction = Literal["mean", "sum", "mean_active", "none"]
HingeReduction = Reduction | Literal["mean_triplets"]
Directions = Literal["both", "queries", "candidates"]
BackendName = Literal["auto", "dense", "tiled", "triton"]


class Loss(WithScalars, ABC):
    """Base of all losses: a constructor with the choices, and ``terms``, the equation.

    Subclass ``PairLoss`` or ``LabelLoss``. Class attributes say which negatives the equation can take.

    Attributes:
        average: whether the two directions are averaged rather than added.
        takes_all: whether all negatives of an anchor may count at once.
        takes_joint: whether it takes ``directions="joint"``.
        takes_triplets: whether its terms are sums over triplets, so that it takes ``reduction="mean_triplets"``.
        lists_positives: whether every positive of an anchor is a term of its own.
        takes_mean: whether it takes ``SelectiveHardest``, which mixes in the mean over all negatives.
        keywords: those of the constructor; none where it takes any.
    """

    average: ClassVar[bool] = False
    takes_all: ClassVar[bool] = True
    takes_joint: ClassVar[bool] = False
    takes_triplets: ClassVar[bool] = False
    takes_mean: ClassVar[bool] = False
    keywords: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **options: Any) -> None:
        """Note the constructor's keywords."""
        super().__init_subclass__(**options)
        cls.keywords = keywords_of(cls)

    def __new__(cls, *choices: Any, **named: Any) -> Self:
        """Refuse keywords that the constructor does not have."""
        for name in named:
            if cls.keywords and name not in cls.keywords:
                refuse_choice(cls, name, named[name], cls.keywords)
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
        joint = ("joint",) if self.takes_joint else ()
        check_choice("directions", directions, (*DIRECTIONS, *joint))
        self.check_reduction(reduction)
        self.similarity = resolve_similarity(similarity)
        self.directions, self.reduction, self.backend = directions, reduction, backend
        self.negatives = self.check_negatives(negatives)
        check_backend(backend, self.similarity)

    @property
    def lists_positives(self) -> bool:
        """Not, but for losses that say so."""
        return False

    @abstractmethod
    def terms(self, call: Call) -> Both:
        """The equation: terms of the queries and of the candidates, None for a direction not asked for."""

    def check_reduction(self, reduction: str) -> None:
        """A reduction of terms that the equation has."""
        if reduction == "mean_triplets" and not self.takes_triplets:
            raise ValueError(
                f'{type(self).__name__} does not take reduction="mean_triplets": its terms are not sums over (anchor, '
                f"positive, negative) triplets; choose one of {', '.join(REDUCTIONS)}"
            )
        if reduction != "mean_triplets":
            more = ("mean_triplets",) if self.takes_triplets else ()
            check_choice("reduction", reduction, (*REDUCTIONS, *more))

    @abstractmethod
    def choices(self, call: Call) -> MinedByLoss:
        """The negatives that the equation selects for the queries and for the candidates."""

    def check_negatives(self, negatives: Negatives | str) -> Negatives:
        """A strategy from its name or object, checked against what the equation can take."""
        strategy, name = resolve_negatives(negatives), type(self).__name__
        reason = None
        if strategy.complete and not self.takes_all:
            reason = "it needs a selection of negatives, such as TopK(k)"
        elif strategy.mean_if_closer is not None and not self.takes_mean:
            reason = "only hinge losses with one positive an anchor take a mean of all negatives"
        elif strategy.mean_if_closer is not None and self.reduction == "mean_triplets":
            reason = 'a mean of all negatives is no sum over triplets, as reduction="mean_triplets" needs'
        elif strategy.needs_distance and not is_spherical(self.similarity):
            known = f"with similarity {self.similarity!r}: it needs distances between unit vectors"
            reason = f"{known}; use cosine, or euclidean on normalised embeddings"
        if reason is not None:
            raise ValueError(f"{name} does not take negatives {strategy!r}: {reason}")
        return strategy

    def reduced(
        self,
        comparison: Comparison,
        negatives: Negatives | str | None,
        return_stats: bool,
        own: OwnNegatives | None = None,
        guide: GuideChoice | None = None,
        weights: Tensor | None = None,
    ) -> Output:
        """The loss of a comparison, whose queries may have negatives of their own, a guide and weights."""
        strategy = self.negatives if negatives is None else self.check_negatives(negatives)
        if guide is None and weights is None:
            found = at_once(self, comparison, strategy, return_stats, own)
            if found is not None:
                return found
        scores = self.scores_of(comparison, own, guide)
        call = Call(scores, strategy, self.reduction, self.directions, return_stats)
        if weights is None:
            return reduce_terms(call, self.terms(call), self.average)
        held = weights.detach().to(scores.dtype)
        by_anchor = "" if self.reduction == "none" else self.reduction
        both = self.terms(replace(call, reduction="none", by_anchor=by_anchor))
        queries, candidates = (x and x.weighted(held, self.reduction) for x in both)
        return reduce_terms(call, (queries, candidates), self.average)

    def scores_of(
        self, comparison: Comparison, own: OwnNegatives | None, guide: GuideChoice | None
    ) -> Scores:
        """The scores of a comparison, with what its queries have beside it."""
        if guide is None:
            scores = bind(self.backend, comparison)
        else:
            scores = GuidedScores.of(self.backend, comparison, *guide, self.directions)
        return scores if own is None else WithOwnNegatives(scores, own)

    @torch.no_grad()
    def chosen(
        self,
        comparison: Comparison,
        negatives: Negatives | str | None,
        own: OwnNegatives | None = None,
        guide: GuideChoice | None = None,
    ) -> MinedByLoss:
        """The negatives that the loss of a comparison chooses.

        Raises:
            ValueError: for a strategy that chooses none, or not always.
        """
        strategy = self.negatives if negatives is None else self.check_negatives(negatives)
        scores = self.scores_of(comparison, own, guide)
        call = Call(scores, strategy, self.reduction, self.directions, statistics=False)
        if call.selection is None or strategy.mean_if_closer is not None:
            raise ValueError(
                f"mined does not take negatives {strategy!r}: all negatives of an anchor count there; pass a "
                "selection, such as negatives=TopK(8)"
            )
        return self.choices(call)

    def reduced_scores(
        self,
        comparison: Comparison,
        negatives: Negatives | str | None,
        return_stats: bool,
        weights: Tensor | None = None,
    ) -> Output:
        """The loss of given scores.

        Raises:
            ValueError: for a strategy that looks at the embeddings themselves.
        """
        strategy = self.negatives if negatives is None else self.check_negatives(negatives)
        if self.directions == "joint":
            raise ValueError(
                'from_scores with directions="joint": scores of queries with queries are not among these; use another '
                "direction"
            )
        if strategy.needs_distance:
            raise ValueError(
                f"from_scores does not take negatives {strategy!r}: their weights depend on the width of the "
                "embeddings; call the loss itself, or choose another strategy"
            )
        return self.reduced(comparison, strategy, return_stats, weights=weights)

    def pairs_of(self, comparison: Comparison) -> tuple[Tensor, Tensor]:
        """The (anchor, positive) pairs of a comparison's terms.

        Raises:
            ValueError: where an anchor with several positives has one term.
        """
        if not self.lists_positives:
            raise ValueError(
                f"{self!r} has one term an anchor, in the order of the rows: term_pairs is for losses whose terms are "
                '(anchor, positive) pairs, such as those with positives="all"'
            )
        return pairs_of_terms(comparison, self.directions, self.backend)

    def extra_repr(self) -> str:
        """The choices by the constructor's names; those that are modules follow by themselves."""
        names = [name for name in inspect.signature(type(self)).parameters if name != "backend"]
        held = {**vars(self), **self._parameters}
        chosen = [(n, held[n]) for n in names if n in held]
        numbers = (*self.fixed, *(name for name, x in chosen if isinstance(x, Tensor)))
        return ", ".join(f"{n}={shown(x) if n in numbers else repr(x)}" for n, x in chosen)
