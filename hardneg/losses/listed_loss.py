"""``ListedLoss``: what losses on labels make of pairs and triplets that another miner listed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from hardneg.losses.listed import loss_of_pairs
from hardneg.losses.loss import Loss

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = ["ListedLoss"]


class ListedLoss(Loss):
    """Base of ``LabelLoss``."""

    def from_pairs(
        self,
        embeddings: Float[Tensor, "n d"],
        anchors: Int[Tensor, "p"],
        positives: Int[Tensor, "p"] | None = None,
        negative_anchors: Int[Tensor, "q"] | None = None,
        negatives: Int[Tensor, "q"] | None = None,
        reference: Float[Tensor, "m d"] | None = None,
    ) -> Any:
        """Compute the loss of pairs that another miner found: ``loss.from_pairs(embeddings, *pairs)``.

        An anchor's positives and negatives are those listed, whatever the loss's own strategy; one that is listed
        twice counts twice. Memory O((n + m) d + p + q).

        Args:
            embeddings: n x d.
            anchors, positives: row numbers of positive pairs.
            negative_anchors, negatives: row numbers of negative pairs.
            reference: m x d, of which positives and negatives are rows; None: the embeddings.

        Returns:
            As the call itself.

        Raises:
            ValueError, TypeError: naming the list, what was expected, and what came. On a GPU row numbers are
                checked there, without waiting.
        """
        if self.takes_triplets:
            raise ValueError(f"{type(self).__name__} takes triplets, not pairs: use from_triplets")
        sides = embeddings, reference
        return loss_of_pairs(self, sides, (anchors, positives), (negative_anchors, negatives))

    def from_triplets(
        self,
        embeddings: Float[Tensor, "n d"],
        anchors: Int[Tensor, "t"],
        positives: Int[Tensor, "t"] | None = None,
        negatives: Int[Tensor, "t"] | None = None,
        reference: Float[Tensor, "m d"] | None = None,
    ) -> Any:
        """Compute the loss of triplets that another miner found: ``loss.from_triplets(embeddings, *triplets)``.

        For a loss on pairs they are the pairs (anchor, positive) and (anchor, negative), each as often as it is
        listed. Arguments, results and errors as in ``from_pairs``.
        """
        return self.from_pairs(embeddings, anchors, positives, anchors, negatives, reference)
