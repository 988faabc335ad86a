"""The other libraries' losses, each imported only when it is asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.formulas import MARGIN, SIGMOID_BIAS, SIGMOID_TEMPERATURE, TEMPERATURE, cosine

Step = Callable[..., Tensor]


class Missing(Exception):
    """A peer that this Python does not have; the message says which."""


@contextmanager
def needing(package: str) -> Iterator[None]:
    """A module that is not there makes the peer ``Missing``; a name that it lacks is an error."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise Missing(f"{package} is not installed ({error})") from error


def metric_learning_batch_all() -> Step:
    """All triplets of pytorch-metric-learning, averaged over those above zero (its default)."""
    with needing("pytorch-metric-learning"):
        from pytorch_metric_learning import distances, losses
    return losses.TripletMarginLoss(margin=MARGIN, distance=distances.CosineSimilarity())


def metric_learning_hardest() -> Step:
    """Its batch-hard miner and triplet loss, once a direction."""
    with needing("pytorch-metric-learning"):
        from pytorch_metric_learning import distances, losses, miners, reducers
    miner = miners.BatchHardMiner(distance=distances.CosineSimilarity())
    loss = losses.TripletMarginLoss(
        margin=MARGIN, distance=distances.CosineSimilarity(), reducer=reducers.MeanReducer()
    )

    def step(queries: Tensor, candidates: Tensor) -> Tensor:
        labels = torch.arange(len(queries), device=queries.device)
        others = labels.clone()
        total = torch.zeros((), device=queries.device)
        for anchors, reference in ((queries, candidates), (candidates, queries)):
            triplets = miner(anchors, labels, reference, others)
            total = total + loss(anchors, labels, triplets, reference, others)
        return total

    return step


def open_clip() -> Step:
    """open_clip's ClipLoss, which takes normalised features."""
    with needing("open_clip_torch"):
        from open_clip.loss import ClipLoss
    loss = ClipLoss()

    def step(queries: Tensor, candidates: Tensor) -> Tensor:
        scale = torch.tensor(1 / TEMPERATURE, device=queries.device)
        return loss(F.normalize(queries), F.normalize(candidates), scale)

    return step


def open_clip_sigmoid() -> Step:
    """open_clip's SigLipLoss."""
    with needing("open_clip_torch"):
        from open_clip.loss import SigLipLoss
    loss = SigLipLoss()

    def step(queries: Tensor, candidates: Tensor) -> Tensor:
        scale = torch.tensor(1 / SIGMOID_TEMPERATURE, device=queries.device)
        return loss(F.normalize(queries), F.normalize(candidates), scale, SIGMOID_BIAS)

    return step


def siglip_kernel() -> Step:
    """siglip-kernel's fused sigmoid loss (a GPU only); it takes normalised features."""
    with needing("siglip-kernel"):
        from siglip_kernel import fused_siglip_loss

    def step(queries: Tensor, candidates: Tensor) -> Tensor:
        told = {"device": queries.device}
        scale = torch.full((), math.log(1 / SIGMOID_TEMPERATURE), **told)
        bias = torch.full((), SIGMOID_BIAS, **told)
        return fused_siglip_loss(F.normalize(queries), F.normalize(candidates), scale, bias)

    return step


def memeff() -> Step:
    """memeff's CLIP loss (a GPU only), which normalises by itself."""
    with needing("memeff"):
        from memeff import MemoryEfficientCLIPLoss
    loss: Step = MemoryEfficientCLIPLoss(temperature=TEMPERATURE, stable=False)
    return loss


def sentence_transformers() -> Step:
    """The formula of its MultipleNegativesRankingLoss (scale 20): queries to candidates alone."""

    def step(queries: Tensor, candidates: Tensor) -> Tensor:
        scores = cosine(queries, candidates) / TEMPERATURE
        return F.cross_entropy(scores, torch.arange(len(scores), device=scores.device))

    return step


def linear_cross_entropy() -> Step:
    """PyTorch's chunked linear cross-entropy, the candidates as weights, once a direction."""
    entropy = getattr(F, "linear_cross_entropy", None)
    options = getattr(torch.nn, "LinearCrossEntropyOptions", None)
    if entropy is None or options is None:
        raise Missing(f"torch {torch.__version__} has no chunked linear_cross_entropy")

    def step(queries: Tensor, candidates: Tensor) -> Tensor:
        a, b = F.normalize(queries), F.normalize(candidates)
        target = torch.arange(len(a), device=a.device)
        there = entropy(a / TEMPERATURE, b, target, options=options())
        back = entropy(b / TEMPERATURE, a, target, options=options())
        return (there + back) / 2

    return step


def inf_cl() -> Step:
    """Inf-CL's fused log-sum-exp (a GPU only), once a direction; it takes normalised features."""
    with needing("inf-cl"):
        from inf_cl import cal_flash_loss

    def step(queries: Tensor, candidates: Tensor) -> Tensor:
        a, b = F.normalize(queries), F.normalize(candidates)
        scale = torch.tensor(1 / TEMPERATURE, device=a.device)
        there, back = cal_flash_loss(a, b, scale=scale), cal_flash_loss(b, a, scale=scale)
        return (there.mean() + back.mean()) / 2

    return step
