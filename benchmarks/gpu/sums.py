"""Checks of ``penalty_sum``, ``penalty_total``, ``logsumexp`` and ``pair_scores``: values and gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.arithmetic import Verdict, judged
from benchmarks.gpu.problems import Problem, between
from hardneg.ops.comparison import OPEN, Comparison, Window
from hardneg.ops.energies import CircleNegative, CirclePositive, Energy, Linear
from hardneg.ops.reference import Dense
from hardneg.ops.requests import ExponentialTerms, PenaltyTerms
from hardneg.ops.scores import Backend
from hardneg.penalties import BY_NAME, Penalty


@dataclass(frozen=True)
class Anchors:
    """What a reduction is told of each query and each candidate besides the embeddings."""

    row_thresholds: Tensor
    column_thresholds: Tensor
    row_weights: Tensor
    column_weights: Tensor
    scale: Tensor
    window: Window

    @classmethod
    def of(cls, problem: Problem) -> Anchors:
        """Thresholds between the scores, so that no hinge is near its kink; arbitrary weights."""
        s, scale = problem.exact_scores, 1.5
        generator = torch.Generator().manual_seed(2)
        weights = [torch.rand(k, generator=generator).to(s.device) for k in s.shape]
        return cls(
            scale * between(s, 0.1, 0.4),
            scale * between(s.T, 0.1, 0.4),
            *weights,
            torch.tensor(scale, device=s.device),
            problem.window(),
        )

    def copied(self, dtype: torch.dtype) -> Anchors:
        """Leaves of their own in that type; weights and bounds have no gradient."""

        def own(x: Tensor) -> Tensor:
            return x.detach().to(dtype, copy=True).requires_grad_()

        return replace(
            self,
            row_thresholds=own(self.row_thresholds),
            column_thresholds=own(self.column_thresholds),
            scale=own(self.scale),
            row_weights=self.row_weights.to(dtype),
            column_weights=self.column_weights.to(dtype),
        )


Reduction = Callable[[Backend, Comparison, Anchors], tuple[dict[str, Tensor], Tensor]]
"""Results by name, and the number whose gradients are compared."""


def weighted(rows: Tensor, columns: Tensor, a: Anchors) -> Tensor:
    """One number of both sides' results; a row without any admitted candidate is left out."""
    total = rows.new_zeros(())
    for of_side, weights in ((rows, a.row_weights), (columns, a.column_weights)):
        some = of_side.isfinite()
        total = total + (torch.where(some, of_side, 0.0) * weights * some).sum()
    return total


def penalty_sum(
    penalty: Penalty,
    among: str,
    sign: float,
    windowed: bool,
    by: Backend,
    x: Comparison,
    a: Anchors,
) -> tuple[dict[str, Tensor], Tensor]:
    found = by.scores(x).penalty_sum(
        PenaltyTerms(
            penalty,
            a.row_thresholds,
            a.column_thresholds,
            among=among,
            sign=sign,
            scale=a.scale,
            window=a.window if windowed else OPEN,
        ),
    )
    return found._asdict(), weighted(found.rows, found.columns, a)


def penalty_total(
    penalty: Penalty, among: str, sign: float, by: Backend, x: Comparison, a: Anchors
) -> tuple[dict[str, Tensor], Tensor]:
    found = by.scores(x).penalty_total(
        PenaltyTerms(
            penalty, a.row_thresholds, a.column_thresholds, among=among, sign=sign, scale=a.scale
        ),
        a.row_weights,
        a.column_weights,
    )
    return found._asdict(), found.value


def logsumexp(
    energy: Energy, among: str, windowed: bool, by: Backend, x: Comparison, a: Anchors
) -> tuple[dict[str, Tensor], Tensor]:
    window = a.window if windowed else OPEN
    found = by.scores(x).logsumexp(
        ExponentialTerms(energy, among=among, scale=a.scale, window=window)
    )
    return found._asdict(), weighted(found.rows, found.columns, a)


def pair_scores(by: Backend, x: Comparison, a: Anchors) -> tuple[dict[str, Tensor], Tensor]:
    n, m = x.queries.shape[0], x.candidates.shape[0]
    rows = torch.arange(n, device=x.queries.device)[:, None].expand(n, 3)
    columns = (rows * 5 + torch.arange(3, device=rows.device)) % m
    columns = torch.where((rows + columns) % 4 == 3, -1, columns)
    found = by.scores(x).pairs(rows, columns)
    return {"scores": found}, (found * a.row_weights[:, None]).sum()


REDUCTIONS: dict[str, Reduction] = {
    "pair_scores": pair_scores,
    **{
        f"penalty_sum {code}": partial(penalty_sum, BY_NAME[code], among, sign, windowed)
        for code, among, sign, windowed in (
            ("hinge", "negatives", 1.0, True),
            ("squared_hinge", "negatives", -1.0, True),
            ("logistic", "positives", -1.0, False),
            ("identity", "negatives", 1.0, False),
        )
    },
    **{
        f"penalty_total {code}": partial(penalty_total, BY_NAME[code], among, sign)
        for code, among, sign in (
            ("hinge", "negatives", 1.0),
            ("squared_hinge", "negatives", -1.0),
            ("logistic", "positives", -1.0),
        )
    },
    "logsumexp": partial(logsumexp, Linear(8.0, 0.1), "negatives", False),
    "logsumexp circle_negative": partial(logsumexp, CircleNegative(0.25, 8.0), "negatives", True),
    "logsumexp circle_positive": partial(logsumexp, CirclePositive(0.25, 8.0), "positives", False),
}


def gradients(total: Tensor, x: Comparison, a: Anchors) -> dict[str, Tensor]:
    """Of all that has one, by name."""
    inputs: dict[str, Tensor] = {
        "queries": x.queries,
        "candidates": x.candidates,
        "row_thresholds": a.row_thresholds,
        "column_thresholds": a.column_thresholds,
        "scale": a.scale,
    }
    if not total.requires_grad:
        return {}
    found = torch.autograd.grad(total, list(inputs.values()), allow_unused=True)
    named = zip(inputs, found, strict=True)
    return {f"gradient of {name}": g for name, g in named if g is not None}


@dataclass
class Watched:
    """A similarity that keeps its scores, to ask for their gradient afterwards."""

    similarity: Any
    scores: Tensor | None = None

    def __call__(self, queries: Tensor, candidates: Tensor) -> Tensor:
        self.scores = self.similarity(queries, candidates)
        if self.scores.requires_grad:
            self.scores.retain_grad()
        return self.scores


def size_of_sum(reduction: Reduction, problem: Problem, a: Anchors) -> float:
    """Sum of the magnitudes of the terms of the scale's gradient: one number's error may cancel, its rounding not."""
    watched = Watched(problem.comparison.similarity)
    _, total = reduction(Dense(), problem.converted(torch.float64, watched), a)
    if watched.scores is None or not total.requires_grad:
        return 0.0
    total.backward()
    slopes = watched.scores.grad
    return (
        0.0
        if slopes is None
        else float((slopes * watched.scores).detach().abs().sum() / float(a.scale.detach()))
    )


def outcome(
    reduction: Reduction, by: Backend, x: Comparison, a: Anchors
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Values and gradients."""
    values, total = reduction(by, x, a)
    return values, gradients(total, x, a)


def verdicts(name: str, problem: Problem) -> Iterator[Verdict]:
    """A reduction on a problem beside float64 and plain PyTorch."""
    reduction, anchors, dtype = REDUCTIONS[name], Anchors.of(problem), problem.arithmetic.dtype
    with problem.arithmetic.chosen():
        mine = outcome(
            reduction, problem.place.reductions(), problem.comparison, anchors.copied(torch.float32)
        )
        plain = outcome(
            reduction, Dense(), problem.eagerly(torch.float32), anchors.copied(torch.float32)
        )[0]
        steep = outcome(reduction, Dense(), problem.eagerly(dtype), anchors.copied(torch.float32))[
            1
        ]
    exact = outcome(reduction, Dense(), problem.exactly(), anchors.copied(torch.float64))
    for what, found in mine[0].items():
        if "counts" in what:
            yield counted(what, found, exact[0][what], problem)
        else:
            yield judged(what, found, plain[what], exact[0][what], torch.float32)
    for what in mine[1] | exact[1]:
        embeddings = what in ("gradient of queries", "gradient of candidates")
        of = dtype if embeddings else torch.float32
        none = torch.zeros_like(mine[1].get(what, exact[1].get(what)))
        found = judged(what, *(x.get(what, none) for x in (mine[1], steep, exact[1])), of)
        if what == "gradient of scale":
            size = size_of_sum(reduction, problem, anchors.copied(torch.float64))
            found = found.with_terms_of(size)
        yield found


def counted(what: str, found: Tensor, exact: Tensor, problem: Problem) -> Verdict:
    """Counts are exact where no score is near a bound, as the thresholds are chosen; else to a pair a row."""
    slack = 0.0 if problem.arithmetic.products == "highest" else 1.0
    difference: Any = (found - exact).abs().max() if exact.numel() else 0
    return Verdict(what, float(difference), 0.0, slack)
