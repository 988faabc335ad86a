"""Strategies as miners, and losses on labels as losses, of pytorch-metric-learning.

Imported on demand: ``pip install 'hardneg[pytorch-metric-learning]'``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hardneg.checks import check_type
from hardneg.extras import require
from hardneg.losses.base import LabelLoss
from hardneg.losses.triplet import TripletLoss

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from hardneg.negatives import Negatives, NegativesName
    from hardneg.positives import Positives, PositivesName
    from hardneg.similarities import Similarity, SimilarityName

require(
    "pytorch_metric_learning",
    "pytorch-metric-learning",
    "hardneg.integrations.pytorch_metric_learning",
)

from pytorch_metric_learning.miners import BaseMiner  # noqa: E402, behind the message
from pytorch_metric_learning.utils import loss_and_miner_utils  # noqa: E402

__all__ = ["HardNegLoss", "HardNegMiner"]

Triplets = tuple[Tensor, Tensor, Tensor]


class HardNegMiner(BaseMiner):  # type: ignore[misc]
    """A miner of pytorch-metric-learning that lists what a strategy selects, without a matrix of distances.

    ``miner(embeddings, labels)`` returns ``(anchors, positives, negatives)``, row numbers of triplets, for its losses
    and trainers. It reads the number of triplets from the device, as its own miners do.

    Args:
        negatives: a strategy that selects, by name or object, such as ``TopK(4)``.
        positives: ``"all"``, ``"hardest"`` or ``"easiest"``.
        similarity: by name, object or callable.

    Raises:
        ValueError, TypeError: naming the argument, what was expected, and what came; for ``All()``, which selects
            nothing: use its losses without a miner.

    Example:
        >>> miner = HardNegMiner("semihard")
        >>> anchors, positives, negatives = miner(torch.randn(32, 8), torch.arange(32) // 4)
    """

    def __init__(
        self,
        negatives: Negatives | NegativesName = "hardest",
        positives: Positives | PositivesName = "all",
        similarity: Similarity | SimilarityName = "cosine",
    ) -> None:
        super().__init__()
        self.loss = TripletLoss(positives=positives, negatives=negatives, similarity=similarity)
        if self.loss.negatives.complete:
            raise ValueError(
                f"negatives are {self.loss.negatives!r}: a miner needs a selection, such as TopK(8); for all "
                "negatives of an anchor use the loss without a miner"
            )

    def mine(
        self,
        embeddings: Float[Tensor, "n d"],
        labels: Int[Tensor, "n"],
        ref_emb: Float[Tensor, "m d"],
        ref_labels: Int[Tensor, "m"],
    ) -> Triplets:
        """The triplets, of one set where ``ref_emb`` is the embeddings."""
        sides = (embeddings, labels)
        if ref_emb is not embeddings:
            sides = (*sides, ref_emb, ref_labels)  # type: ignore[assignment]
        chosen = self.loss.mined(*sides).queries
        assert chosen is not None
        if chosen.positives is None:
            pairs, _ = self.loss.term_pairs(*sides)
            rows = torch.searchsorted(chosen.anchors, pairs[:, 0].contiguous())
            return listed(pairs[:, 0], pairs[:, 1], chosen.indices[rows])
        return listed(chosen.anchors, chosen.positives, chosen.indices)


def listed(
    anchors: Int[Tensor, "p"], positives: Int[Tensor, "p"], negatives: Int[Tensor, "p k"]
) -> Triplets:
    """A triplet for each pair and each of its negatives."""
    rows, places = ((negatives >= 0) & (positives >= 0)[:, None]).nonzero(as_tuple=True)
    return anchors[rows], positives[rows], negatives[rows, places]


class HardNegLoss(nn.Module):
    """A loss of this package on labels, called as those of pytorch-metric-learning.

    Without an ``indices_tuple`` the loss's own strategy selects; with one, the listed pairs or triplets are its terms.

    Args:
        loss: on labels, such as ``TripletLoss()``.

    Example:
        >>> loss = HardNegLoss(TripletLoss(0.2, reduction="mean_active"))
        >>> embeddings, labels = torch.randn(32, 8), torch.arange(32) // 4
        >>> value = loss(embeddings, labels, HardNegMiner("semihard")(embeddings, labels))
    """

    def __init__(self, loss: LabelLoss) -> None:
        super().__init__()
        check_type("loss", loss, LabelLoss)
        self.loss = loss

    def forward(
        self,
        embeddings: Float[Tensor, "n d"],
        labels: Int[Tensor, "n"] | None = None,
        indices_tuple: tuple[Tensor, ...] | None = None,
        ref_emb: Float[Tensor, "m d"] | None = None,
        ref_labels: Int[Tensor, "m"] | None = None,
    ) -> Any:
        """Compute the loss of a batch.

        Args:
            embeddings, labels: n x d, and n integers.
            indices_tuple: of a miner: three lists of row numbers (anchors, positives, negatives) or four (anchors,
                positives, anchors, negatives).
            ref_emb, ref_labels: the rows that anchors are compared with; None: the embeddings.
        """
        if indices_tuple is None:
            ids = (None if x is None else x.to(embeddings.device) for x in (labels, ref_labels))
            own, others = ids
            return self.loss(embeddings, own, ref_emb, others)
        if len(indices_tuple) not in (3, 4):
            raise ValueError(
                f"indices_tuple has {len(indices_tuple)} lists: expected 3, triplets, or 4, pairs"
            )
        lists = indices_tuple
        if self.loss.takes_triplets:
            lists = loss_and_miner_utils.convert_to_triplets(lists, labels, ref_labels)
        of: Any = self.loss.from_triplets if len(lists) == 3 else self.loss.from_pairs
        return of(embeddings, *lists, reference=ref_emb)
