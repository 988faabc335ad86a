"""Which triplets a batch trains on: selections of this library, and those of pytorch-metric-learning that equal them.

Embeddings have length 1 and distances are Euclidean. ``mean_active`` is the mean over triplets with a loss, which is
pytorch-metric-learning's default.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from torch import Tensor

from benchmarks.peers import needing
from hardneg import (
    All,
    Ceiling,
    DistanceWeighted,
    Hardest,
    RandomK,
    RankWindow,
    SemiHard,
    TopK,
    TripletLoss,
    Warmup,
)
from hardneg.negatives import Negatives

OURS, PEER = "hardneg", "pytorch-metric-learning"
Step = Callable[[Tensor, Tensor], Tensor]
Made = Callable[[float], Step]

SOFT = "batch-hard, soft margin"
"""Has no margin to choose."""
WEIGHTED = "distance-weighted"
"""One negative an anchor here, for all its positives; there as many as the class has rows, each for a random one."""
WARM_UP = 100


def ours(negatives: Negatives, positives: str = "all", reduction: str = "mean_active") -> Made:
    """``TripletLoss`` at any margin."""
    shared = {"similarity": "euclidean", "reduction": reduction}
    return lambda margin: TripletLoss(margin, positives, negatives, **shared)


def after_all(positives: str) -> Made:
    """The hardest negative, once all of them have taught for ``WARM_UP`` steps."""

    def made(margin: float) -> Step:
        loss = TripletLoss(margin, positives, Hardest(), "euclidean", reduction="mean_active")
        schedule, steps = Warmup(All(), Hardest(), WARM_UP), count()
        return lambda embeddings, labels: loss(embeddings, labels, negatives=schedule(next(steps)))

    return made


def soft_batch_hard(margin: float) -> Step:
    return TripletLoss(0.0, "hardest", Hardest(), "euclidean", penalty="logistic")


SELECTIONS: dict[str, Made] = {
    "all": ours(All()),
    "all, mean over all triplets": ours(All(), reduction="mean_triplets"),
    "all below the positive": ours(All(ceiling=Ceiling())),
    "semi-hard (FaceNet)": ours(SemiHard()),
    "hardest": ours(Hardest()),
    "hardest, after 100 steps of all": after_all("all"),
    "batch-hard": ours(Hardest(), "hardest"),
    "batch-hard, after 100 steps of all": after_all("hardest"),
    SOFT: soft_batch_hard,
    "easiest positive, semi-hard": ours(SemiHard(fallback="none"), "easiest"),
    "8 hardest": ours(TopK(8)),
    "8 hardest below the positive": ours(TopK(8, Ceiling())),
    "8 hardest, at least 0.5 away": ours(TopK(8, max_score=-0.5)),
    "ranks 2 to 9": ours(RankWindow(1, 9)),
    "8 at random": ours(RandomK(8)),
    WEIGHTED: ours(DistanceWeighted()),
    "distance-weighted, 4 an anchor": ours(DistanceWeighted(k=4)),
}


def peer(miner: str, loss: dict[str, object] | None = None, **choices: object) -> Made:
    """Its ``TripletMarginLoss`` on what one of its miners finds."""

    def made(margin: float) -> Step:
        with needing(PEER):
            from pytorch_metric_learning import losses, miners
        given = {"margin": margin, **choices} if miner == "TripletMarginMiner" else choices
        mine = getattr(miners, miner)(**given)
        triplets = losses.TripletMarginLoss(**{"margin": margin, **(loss or {})})
        return lambda embeddings, labels: triplets(embeddings, labels, mine(embeddings, labels))

    return made


CLOSER = "all closer than the positive"
"""Has no equal here: ceilings bound scores from above, the positive's from below does not exist."""

PEERS: dict[str, Made] = {
    "all": peer("TripletMarginMiner", type_of_triplets="all"),
    "all below the positive": peer("TripletMarginMiner", type_of_triplets="semihard"),
    CLOSER: peer("TripletMarginMiner", type_of_triplets="hard"),
    "hardest": peer("BatchEasyHardMiner", pos_strategy="all", neg_strategy="hard"),
    "batch-hard": peer("BatchHardMiner"),
    SOFT: peer("BatchHardMiner", {"margin": 0.0, "smooth_loss": True}),
    "easiest positive, semi-hard": peer("BatchEasyHardMiner"),
    WEIGHTED: peer("DistanceWeightedMiner"),
}

LIBRARIES = {OURS: SELECTIONS, PEER: PEERS}
NAMES = list(dict.fromkeys([*SELECTIONS, *PEERS]))
"""Every selection of either library."""
EXACT = [name for name in SELECTIONS if name in PEERS and name != WEIGHTED]
"""Without a random draw: both libraries compute one loss of the same embeddings."""
