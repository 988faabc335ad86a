"""The loss of a run, its negatives step by step, and how far it looks for them: its own pairs, those
of all processes, those of earlier steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.distributed as dist
from torch import Tensor, nn

from hardneg import (
    AcrossRanks,
    All,
    ContrastiveLoss,
    Dot,
    InfoNCELoss,
    Learned,
    MemoryQueue,
    Order,
    SigmoidLoss,
    UnifiedPairLoss,
    Warmup,
)
from hardneg.losses.base import PairLoss
from vsepp.negatives import outside_sets, strategy_of
from vsepp.retrieval import similarity_of
from vsepp.settings import Loss


def build_loss(
    settings: Loss, similarity: Dot | Order | None = None, directions: str = "both"
) -> PairLoss:
    """The loss. The encoders normalise, so cosine is their inner product; hinges are summed over
    the batch, as the released code does.
    """
    measured = similarity_of(settings.measure) if similarity is None else similarity
    options: dict[str, Any] = {"similarity": measured, "directions": directions}
    temperature, bias = learned(settings.temperature, settings), learned(settings.bias, settings)
    if settings.loss == "infonce":
        return InfoNCELoss(temperature, **options)
    if settings.loss == "sigmoid":  # knows no directions: every pair counts once
        return SigmoidLoss(temperature, bias, **{**options, "directions": "queries"})
    if settings.loss == "unified":
        return UnifiedPairLoss(settings.margin, **options)
    return ContrastiveLoss(settings.margin, reduction="sum", **options)


def learned(number: float, settings: Loss) -> float | Learned:
    """A number, or one to train from there."""
    return Learned(number) if settings.learn_temperature else number


def negatives_by_step(settings: Loss, steps_per_epoch: int) -> Callable[[int], Any]:
    """Which negatives count at a step: all of them while warming up, then the chosen ones."""
    return Warmup(All(), strategy_of(settings), warmup_steps(settings, steps_per_epoch))


def warmup_steps(settings: Loss, steps_per_epoch: int) -> int:
    """How many steps the warm-up lasts."""
    return round(settings.warmup_epochs * steps_per_epoch)


class InBatch(nn.Module):
    """The loss of the pairs at hand; over all processes with ``--across-ranks``."""

    queued = 0

    def __init__(self, settings: Loss, ranks: int) -> None:
        super().__init__()
        loss = build_loss(settings)
        self.alone = not (settings.across_ranks and ranks > 1)
        self.use_ids, self.others = not settings.strict_parity, settings.negatives_from
        self.loss = loss if self.alone else AcrossRanks(loss)

    def forward(self, images: Tensor, captions: Tensor, ids: Tensor, negatives: Any) -> Tensor:
        """The loss. A process that has no pairs and looks at no others contributes 0."""
        if self.alone and len(images) == 0:
            return images.sum() + captions.sum()
        given = ids if self.use_ids else None
        options = {"query_ids": given, "candidate_ids": given, "negatives": negatives}
        if self.others:
            options["ignore_mask"] = outside_sets(len(images), self.others, images.device)
        return self.loss(images, captions, **options)

    def remember(self, images: Tensor, captions: Tensor, ids: Tensor) -> None:
        """Nothing is remembered."""


class InBatchAndQueue(nn.Module):
    """Each direction against the candidates at hand and a queue of earlier ones.

    Both queues hold a row for every pair, so an image stands in its queue once a caption. All
    processes hold the same two queues; they are part of a checkpoint.
    """

    def __init__(self, settings: Loss, width: int, ranks: int) -> None:
        super().__init__()
        group = dist.group.WORLD if ranks > 1 else None
        self.images = MemoryQueue(settings.queue, width, group=group)
        self.captions = MemoryQueue(settings.queue, width, group=group)
        similarity = similarity_of(settings.measure)
        to_captions = build_loss(settings, similarity, "queries")
        to_images = build_loss(settings, similarity.swapped(), "queries")
        self.across = settings.across_ranks and ranks > 1
        self.to_captions = AcrossRanks(to_captions) if self.across else to_captions
        self.to_images = AcrossRanks(to_images) if self.across else to_images

    @property
    def queued(self) -> int:
        """Earlier pairs that the next ones will meet."""
        return self.captions.count

    def forward(self, images: Tensor, captions: Tensor, ids: Tensor, negatives: Any) -> Tensor:
        """The sum of both directions. A process that has no pairs and looks at no others
        contributes 0.
        """
        if not self.across and len(images) == 0:
            return images.sum() + captions.sum()
        there = self.one_way(self.to_captions, images, captions, self.captions, ids, negatives)
        return there + self.one_way(self.to_images, captions, images, self.images, ids, negatives)

    def one_way(
        self,
        loss: nn.Module,
        queries: Tensor,
        candidates: Tensor,
        queue: MemoryQueue,
        ids: Tensor,
        negatives: Any,
    ) -> Tensor:
        """Queries against candidates and queue."""
        extend = queue.extend_share if self.across else queue.extend
        more, numbers = extend(candidates, ids)
        return loss(queries, more, query_ids=ids, candidate_ids=numbers, negatives=negatives)

    def remember(self, images: Tensor, captions: Tensor, ids: Tensor) -> None:
        """Put the pairs of all processes into the queues, once a step."""
        self.images.update(images, ids)
        self.captions.update(captions, ids)


class InBatchAndOwn(nn.Module):
    """Each direction against the batch and each pair's own negatives, whose rows follow the pairs'."""

    queued = 0

    def __init__(self, settings: Loss) -> None:
        super().__init__()
        similarity = similarity_of(settings.measure)
        self.to_captions = build_loss(settings, similarity, "queries")
        self.to_images = build_loss(settings, similarity.swapped(), "queries")

    def forward(
        self,
        images: Tensor,
        captions: Tensor,
        ids: Tensor,
        negatives: Any,
        own_ids: Tensor | None = None,
    ) -> Tensor:
        """The sum of both directions; 0 in a process without pairs."""
        n = len(ids)
        if n == 0:
            return images.sum() + captions.sum()
        given = {"query_ids": ids, "candidate_ids": ids, "negatives": negatives}
        ways = ((self.to_captions, images, captions), (self.to_images, captions, images))
        parts = []
        for way, (loss, queries, candidates) in enumerate(ways):
            own = {}
            if own_ids is not None:
                rows = candidates[n:].unflatten(0, (n, -1))
                own = {"own_negatives": rows, "own_negative_ids": own_ids[way]}
            parts.append(loss(queries[:n], candidates[:n], **given, **own))
        return parts[0] + parts[1]

    def remember(self, images: Tensor, captions: Tensor, ids: Tensor) -> None:
        """Nothing is remembered."""


def build_objective(
    settings: Loss, width: int, ranks: int
) -> InBatch | InBatchAndQueue | InBatchAndOwn:
    """What the settings ask for, for embeddings of this width in so many processes."""
    if settings.own_negatives:
        return InBatchAndOwn(settings)
    if settings.queue:
        return InBatchAndQueue(settings, width, ranks)
    return InBatch(settings, ranks)
