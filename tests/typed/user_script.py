"""A script as a user writes it, for the type checkers: losses, functions, statistics, terms one by one, metrics."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hardneg import (
    AcrossRanks,
    All,
    Ceiling,
    ContrastiveLoss,
    Hardest,
    InfoNCELoss,
    Learned,
    MemoryQueue,
    MiningStatistics,
    SigmoidLoss,
    TopK,
    TripletLoss,
    Warmup,
)
from hardneg.functional import contrastive_loss, triplet_loss
from hardneg.metrics import map_at_r, retrieval_metrics


def step(model: nn.Module, images: Tensor, captions: Tensor, ids: Tensor) -> float:
    loss = ContrastiveLoss(margin=0.2, negatives="hardest")
    loss(images, captions).backward()
    value, stats = loss(images, captions, query_ids=ids, candidate_ids=ids, return_stats=True)
    value.backward()
    gap: float = stats.as_dict()["gap"]
    schedule = Warmup(All(), Hardest(), steps=1000)
    loss(images, captions, negatives=schedule(3)).backward()
    return gap + float(value)


def functions(images: Tensor, captions: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    value: Tensor = contrastive_loss(images, captions, margin=0.3)
    total, stats = contrastive_loss(images, captions, return_stats=True)
    counted: MiningStatistics = stats
    of_queries, of_candidates = contrastive_loss(images, captions, reduction="none")
    triplet_loss(images, labels, negatives=TopK(4, ceiling=Ceiling())).backward()
    print(value.shape, total.shape, counted.gap)
    return of_queries, of_candidates


def learned(images: Tensor, captions: Tensor, ids: Tensor) -> list[nn.Parameter]:
    clip = InfoNCELoss(temperature=Learned(0.07, max_scale=100))
    siglip = SigmoidLoss(Learned(0.1, max_scale=1000), bias=Learned(-10.0))
    queue = MemoryQueue(size=100, width=256)
    rows, row_ids = queue.extend(captions, ids)
    value = clip(images, rows, query_ids=ids, candidate_ids=row_ids) + siglip(images, captions)
    value.backward()
    terms = ContrastiveLoss(reduction="none")
    of_queries, _ = terms(images, captions)
    print(of_queries.shape, AcrossRanks(clip), TripletLoss()(images, ids).item())
    return [*clip.parameters(), *siglip.parameters()]


def report(images: Tensor, captions: Tensor, ids: Tensor) -> float:
    found = retrieval_metrics(images, captions, ids, ids)
    return found.rsum + float(map_at_r(images, captions, ids, ids))


if __name__ == "__main__":
    x = torch.randn(8, 256, requires_grad=True)
    print(step(nn.Identity(), x, torch.randn(8, 256, requires_grad=True), torch.arange(8)))
