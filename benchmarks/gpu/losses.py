"""Every loss with a backend of one's choice, on pairs or on labels, for checks of behaviour and launch-bound times."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import hardneg
from benchmarks.formulas import SIGMOID_BIAS, SIGMOID_TEMPERATURE

Loss = Any
Inputs = tuple[Tensor, ...]

OF_PAIRS: dict[str, Callable[[Any], Loss]] = {
    "hardest": lambda by: hardneg.ContrastiveLoss(backend=by),
    "8 hardest": lambda by: hardneg.ContrastiveLoss(negatives=hardneg.TopK(8), backend=by),
    "semi-hard": lambda by: hardneg.ContrastiveLoss(negatives="semihard", backend=by),
    "all (hinge)": lambda by: hardneg.ContrastiveLoss(negatives="all", backend=by),
    "order, hardest": lambda by: hardneg.ContrastiveLoss(similarity="order", backend=by),
    "order, all": lambda by: hardneg.ContrastiveLoss(0.05, "all", "order", backend=by),
    "InfoNCE": lambda by: hardneg.InfoNCELoss(0.05, backend=by),
    "InfoNCE, 8 hardest": lambda by: hardneg.InfoNCELoss(
        0.05, negatives=hardneg.TopK(8), backend=by
    ),
    "sigmoid": lambda by: hardneg.SigmoidLoss(SIGMOID_TEMPERATURE, SIGMOID_BIAS, backend=by),
    "unified": lambda by: hardneg.UnifiedPairLoss(backend=by),
    "polynomial": lambda by: hardneg.PolynomialLoss(backend=by),
}
OF_LABELS: dict[str, Callable[[Any], Loss]] = {
    "batch-hard": lambda by: hardneg.TripletLoss(positives="hardest", backend=by),
    "SupCon": lambda by: hardneg.SupConLoss(backend=by),
    "pairwise": lambda by: hardneg.PairwiseContrastiveLoss(backend=by),
    "margin, distance-weighted": lambda by: hardneg.MarginLoss(backend=by),
    "multi-similarity": lambda by: hardneg.MultiSimilarityLoss(backend=by),
    "circle": lambda by: hardneg.CircleLoss(backend=by),
}
LOSSES = OF_PAIRS | OF_LABELS


def drawn(
    name: str, shape: tuple[int, int], dtype: torch.dtype, device: str, seed: int = 0
) -> Inputs:
    """Two sets of embeddings, or one with four samples a label."""
    generator = torch.Generator(device).manual_seed(seed)
    draw = torch.rand if name.startswith("order") else torch.randn
    told = {"generator": generator, "device": device, "dtype": dtype}
    x, y = (draw(*shape, **told).requires_grad_() for _ in range(2))
    if name in OF_LABELS:
        return x, torch.arange(shape[0], device=device) // 4
    return x, y


def step(loss: Loss, inputs: Inputs) -> tuple[Tensor, ...]:
    """The value and the gradients of all embeddings; a drawing loss draws the same each time."""
    torch.manual_seed(11)
    value = loss(*inputs)
    leaves = [x for x in inputs if x.is_floating_point()]
    return value.detach(), *torch.autograd.grad(value, leaves)


def recorded(loss: Loss, inputs: Inputs) -> tuple[Any, tuple[Tensor, ...]]:
    """The CUDA graph of a step, and the tensors that each replay fills."""
    leaves = [x for x in inputs if x.is_floating_point()]

    def run() -> tuple[Tensor, ...]:
        value = loss(*inputs)
        return value.detach(), *torch.autograd.grad(value, leaves)

    warm = torch.cuda.Stream()
    warm.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(warm):  # kernels compile and workspaces appear before the capture
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(warm)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = run()
    return graph, found
