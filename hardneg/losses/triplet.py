"""Triplet losses over labels: batch-all, batch-hard, semi-hard, soft margin."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from hardneg.checks import check_number
from hardneg.losses.base import BackendName, Directions, HingeReduction, LabelLoss
from hardneg.losses.call import Call
from hardneg.losses.listed import loss_of_triplets
from hardneg.losses.mined import MinedByLoss, MinedTerms
from hardneg.losses.terms.choices import choices_of_pairs, paired_choices
from hardneg.losses.terms.hinge import all_positives, hinge_terms
from hardneg.losses.terms.reduction import Both, Terms
from hardneg.negatives import Negatives, NegativesName, Selection
from hardneg.ops.loss_requests import LabelledLoss
from hardneg.ops.requests import Search
from hardneg.ops.scores import Backend
from hardneg.penalties import Penalty, PenaltyName, resolve_penalty
from hardneg.positives import (
    AllPositives,
    EasiestPositive,
    HardestPositive,
    Positives,
    PositivesName,
    resolve_positives,
)
from hardneg.similarities import Similarity, SimilarityName

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = ["TripletLoss"]


class TripletLoss(LabelLoss):
    """``phi(margin - s(anchor, positive) + s(anchor, negative))`` over the chosen triplets.

    With a distance as similarity (scores are negated distances) that is the familiar
    ``max(0, d(anchor, positive) - d(anchor, negative) + margin)``. ``positives="all"`` with
    ``negatives="all"`` is batch-all, ``"hardest"`` with ``"hardest"`` batch-hard, ``"all"`` with
    ``"semihard"`` FaceNet's. Dense equivalent of batch-all::

        s = similarity(embeddings, embeddings)
        x = (margin - s[:, :, None] + s[:, None, :]).clamp(min=0)   # anchor, positive, negative
        same = labels[:, None] == labels[None]
        pairs = same & ~eye(n)
        loss = x[pairs[:, :, None] & ~same[:, None, :]].sum() / pairs.sum()

    Reads the number of positives from the device where ``positives="all"``.

    Args:
        margin: at least 0.
        positives: ``"all"``, ``"hardest"`` or ``"easiest"``.
        negatives: by name or object.
        similarity: by name, object or callable.
        penalty: ``"hinge"``, ``"squared_hinge"`` or ``"logistic"`` (soft margin; usually ``margin=0``).
        directions: with a reference, ``"queries"`` (embeddings are the anchors), ``"candidates"`` or
            ``"both"`` (added).
        reduction: ``"mean"`` over (anchor, positive) pairs with a negative, ``"sum"``, ``"mean_active"``
            over non-zero triplets, ``"mean_triplets"`` over all triplets, ``"none"``: (terms by anchor and
            positive, those of the other direction); ``term_pairs`` says which pair each of them is.
        backend: ``"auto"``, ``"dense"``, ``"tiled"``, ``"triton"`` or an object such as ``Tiled()``.

    Source: Schroff et al., "FaceNet", CVPR 2015; Hermans et al., "In Defense of the Triplet Loss", 2017.

    Example:
        >>> loss = TripletLoss(margin=0.2, positives="all", negatives="semihard")
        >>> value = loss(torch.randn(32, 16), torch.arange(32) // 4)
    """

    takes_triplets: ClassVar[bool] = True
    ORDERS: ClassVar[dict[type[Positives], str]] = {
        HardestPositive: "lowest",
        EasiestPositive: "highest",
    }

    def __init__(
        self,
        margin: float = 0.2,
        positives: Positives | PositivesName = "all",
        negatives: Negatives | NegativesName = "semihard",
        similarity: Similarity | SimilarityName = "cosine",
        *,
        penalty: Penalty | PenaltyName = "hinge",
        directions: Directions = "queries",
        reduction: HingeReduction = "mean",
        backend: BackendName | Backend = "auto",
    ) -> None:
        super().__init__(negatives, similarity, directions, reduction, backend)
        self.margin = check_number("margin", margin, at_least=0)
        accepted = AllPositives, HardestPositive, EasiestPositive
        self.positives = resolve_positives(positives, type(self).__name__, accepted)
        self.penalty = resolve_penalty(penalty)

    @property
    def lists_positives(self) -> bool:
        """With ``positives="all"``."""
        return isinstance(self.positives, AllPositives)

    def from_triplets(
        self,
        embeddings: Float[Tensor, "n d"],
        anchors: Int[Tensor, "t"],
        positives: Int[Tensor, "t"] | None = None,
        negatives: Int[Tensor, "t"] | None = None,
        reference: Float[Tensor, "m d"] | None = None,
    ) -> Any:
        """Compute the loss of triplets that another miner found, each a term: ``from_triplets(embeddings, *triplets)``.

        One that is listed twice counts twice; ``"mean"`` is over all of them. Memory O((n + m) d + t).

        Args:
            embeddings: n x d.
            anchors, positives, negatives: row numbers.
            reference: m x d, of which positives and negatives are rows; None: the embeddings.

        Returns:
            A scalar, or with ``reduction="none"`` (terms in the order of the lists, nothing).

        Raises:
            ValueError, TypeError: as in ``from_pairs`` of the losses on pairs.
        """
        return loss_of_triplets(self, (embeddings, reference), (anchors, positives, negatives))

    def whole(self, call: Call) -> LabelledLoss:
        """The hinges of every pair of one label, or of one positive an anchor."""
        order = self.ORDERS.get(type(self.positives))
        return call.whole(LabelledLoss, margin=self.margin, penalty=self.penalty, order=order)

    def choices(self, call: Call) -> MinedByLoss:
        """See ``Loss``: of the one positive of each anchor, or of every one."""
        if isinstance(self.positives, AllPositives):
            return MinedByLoss(*call.in_directions(choices_of_pairs))
        return MinedByLoss(*call.in_directions(self.choices_of_one))

    def choices_of_one(self, call: Call) -> MinedTerms:
        """The negatives of every query, beside the positive taken."""
        chosen, _ = paired_choices(replace(call, directions="queries"), self.positive_of(call))
        assert chosen is not None
        return chosen

    def terms(self, call: Call) -> Both:
        """Every anchor's triplets."""
        return call.in_directions(self.of_queries)

    def of_queries(self, call: Call) -> Terms:
        """The triplets of every query as anchor."""
        if isinstance(self.positives, AllPositives):
            return all_positives(call, self.margin, self.penalty)
        anchors = replace(call, directions="queries")
        terms, _ = hinge_terms(anchors, self.positive_of(call), self.margin, self.penalty)
        assert terms is not None
        return terms

    def positive_of(self, call: Call) -> Int[Tensor, "n"]:
        """The hardest or easiest positive of every query; -1 for none."""
        selection = Selection(self.ORDERS[type(self.positives)], 1)
        return call.scores.select(Search(selection, "positives", columns=False)).rows[:, 0]
