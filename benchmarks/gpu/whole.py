"""Checks of whole losses of small batches, by value and by bits: one launch for each of their steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

import hardneg
from benchmarks.gpu.arithmetic import Arithmetic, OwnPrecision, Verdict, judged
from benchmarks.gpu.losses import drawn
from benchmarks.gpu.place import Place

LOSSES: dict[str, Callable[..., Any]] = {
    "hardest": hardneg.ContrastiveLoss,
    "semi-hard": lambda **told: hardneg.ContrastiveLoss(negatives="semihard", **told),
    "all (hinge)": lambda **told: hardneg.ContrastiveLoss(negatives="all", **told),
    "all (squared hinge)": lambda **told: hardneg.ContrastiveLoss(
        negatives="all", penalty="squared_hinge", reduction="mean_active", **told
    ),
    "InfoNCE": lambda **told: hardneg.InfoNCELoss(hardneg.Learned(0.1), **told),
}
CHOOSING = ("hardest", "semi-hard")
"""What they choose may turn on the rounding of a score, so float32 is checked with exact products alone."""
SHAPE, TINY = (1000, 1300, 160), (19, 26, 12)


def in_type(similarity: Any, dtype: torch.dtype) -> Callable[[Tensor, Tensor], Tensor]:
    """The similarity as plain PyTorch computes it in 16 bits, its scores then made float32."""
    own = OwnPrecision(similarity, dtype)
    return lambda queries, candidates: own(queries, candidates).float()


def inputs(place: Place, dtype: torch.dtype) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    """Embeddings of pairs, some of one id, and a few candidates more."""
    n, m, d = TINY if place.small else SHAPE
    y, _ = drawn("hardest", (m, d), dtype, place.device)
    noise, _ = drawn("hardest", (n, d), dtype, place.device, seed=1)
    x = (y[:n] + 0.8 * noise).detach().requires_grad_()
    ids = torch.arange(m, device=place.device) // 2
    return (x, y), {"query_ids": ids[:n], "candidate_ids": ids}


def outcome(loss: Any, x: tuple[Tensor, ...], ids: dict[str, Tensor]) -> list[Tensor]:
    """The value, and the gradients of both sides and of a temperature."""
    value = loss(*x, **ids)
    return [value.detach(), *torch.autograd.grad(value, [*x, *loss.parameters()])]


def verdicts(place: Place, name: str, arithmetic: Arithmetic) -> Iterator[Verdict]:
    """Beside float64 and plain PyTorch, and beside itself."""
    make, dtype = LOSSES[name], arithmetic.dtype
    x, ids = inputs(place, dtype)
    double = tuple(t.detach().double().requires_grad_() for t in x)
    exact = outcome(make(backend="dense").to(place.device).double(), double, ids)
    with arithmetic.chosen():
        ours = make(backend=place.whole()).to(place.device)
        found, again = outcome(ours, x, ids), outcome(ours, x, ids)
        eager = outcome(make(backend="dense").to(place.device), x, ids)
        if dtype != torch.float32:
            own = in_type(ours.similarity, dtype)
            formula = make(backend="dense", similarity=own).to(place.device)
            eager[1:3] = outcome(formula, x, ids)[1:3]
    names = ("value", "queries' gradient", "candidates' gradient", "temperature's gradient")
    for what, *numbers in zip(names, found, eager, exact, strict=False):
        kind = dtype if what.endswith("s' gradient") else torch.float32
        yield judged(what, *numbers, kind)
    wrong = sum(int((a != b).sum()) for a, b in zip(found, again, strict=True))
    yield Verdict("the same bits twice", float(wrong), 0.0, 0.0)


def suited(arithmetic: Arithmetic) -> list[str]:
    """The losses that are checked in a number format."""
    rounded = arithmetic.dtype == torch.float32 and arithmetic.products != "highest"
    return [name for name in LOSSES if not (rounded and name in CHOOSING)]
