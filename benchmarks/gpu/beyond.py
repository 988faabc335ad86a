"""Checks where offsets no longer fit into 32 bits: more than 2^31 scores, and embeddings of more than 2^31 numbers.

No float64 matrix of that size fits, so a few rows and columns, the last ones among them, are compared with
the definition on just these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from benchmarks.gpu.arithmetic import Verdict, judged
from benchmarks.gpu.place import Place
from benchmarks.gpu.problems import leaf
from hardneg.negatives.selection import Selection
from hardneg.ops.comparison import Comparison, Relation
from hardneg.ops.energies import Linear
from hardneg.ops.reference import Dense
from hardneg.ops.requests import ExponentialTerms, PenaltyTerms, Search
from hardneg.penalties import Hinge
from hardneg.similarities import Dot

SHOWN = 48


def many_scores(place: Place) -> Comparison:
    """70,000 x 40,000 scores: 2.8e9."""
    return numbered(place, *((60, 90, 8) if place.small else (70_000, 40_000, 64)))


def many_numbers(place: Place) -> Comparison:
    """2,200,000 x 1024 numbers on one side: 2.3e9."""
    return numbered(place, *((90, 20, 8) if place.small else (2_200_000, 96, 1024)))


def numbered(place: Place, n: int, m: int, d: int) -> Comparison:
    """bfloat16 embeddings with ids, so that a part of the rows keeps its relations."""
    generator = torch.Generator(place.device).manual_seed(4)

    def draw(k: int) -> Tensor:
        x = torch.randn(k, d, generator=generator, device=place.device, dtype=torch.bfloat16)
        return x.div_(d**0.5).requires_grad_()

    ids = [torch.arange(k, device=place.device) for k in (n, m)]
    return Comparison(draw(n), draw(m), Dot(), Relation(*ids))


def some_rows(x: Comparison) -> tuple[Tensor, Comparison]:
    """Numbers of a few rows, the first and the last among them, and the comparison of these in float64."""
    n = x.queries.shape[0]
    rows = torch.linspace(0, n - 1, min(SHOWN, n), device=x.queries.device).long()
    ids = x.relation.row_ids
    assert ids is not None
    part = replace(
        x,
        queries=leaf(x.queries.detach()[rows].double()),
        candidates=leaf(x.candidates.detach().double()),
        relation=replace(x.relation, row_ids=ids[rows]),
    )
    return rows, part


def selected(place: Place, x: Comparison) -> Iterator[Verdict]:
    """Hardest of rows and of columns: their float64 scores fall short of the best by rounding only."""
    found = place.reductions().scores(x).select(Search(Selection("highest", 1)))
    for side, y, chosen in (("rows", x, found.rows), ("columns", x.swapped(), found.columns)):
        rows, part = some_rows(y)
        right = Dense().scores(part).select(Search(Selection("highest", 1))).rows
        s = part.queries.detach() @ part.candidates.detach().T
        short = s.gather(1, right) - s.gather(1, chosen[rows].clamp(min=0))
        allowed = 64 * torch.finfo(torch.float32).eps * float(s.abs().max())
        missing = (chosen[rows] < 0) != (right < 0)
        error = float("nan") if bool(missing.any()) else float(short.max())
        yield Verdict(f"hardest of {side}", error, 0.0, allowed)


def summed(place: Place, x: Comparison) -> Iterator[Verdict]:
    """Hinge totals with gradients of the queries, and log-sum-exps of rows and columns."""
    n, m = x.queries.shape[0], x.candidates.shape[0]
    rows, part = some_rows(x)
    of_all = [torch.full((k,), 0.3, device=x.queries.device) for k in (n, m)]
    mine = place.reductions().scores(x).penalty_total(PenaltyTerms(Hinge(), *of_all), *of_all)
    gradient = torch.autograd.grad(mine.value, x.queries)[0][rows]
    of_part = of_all[0][rows].double(), of_all[1].double()
    exact = Dense().scores(part).penalty_total(PenaltyTerms(Hinge(), *of_part), *of_part)
    right = torch.autograd.grad(exact.value, part.queries)[0]
    yield judged("gradient of queries", gradient, right.bfloat16(), right, torch.bfloat16)
    yield judged(
        "highest arguments",
        mine.row_maxima[rows],
        exact.row_maxima.float(),
        exact.row_maxima,
        torch.float32,
    )
    del mine, gradient
    for side, y in (("rows", x), ("columns", x.swapped())):
        rows, part = some_rows(y)
        found = place.reductions().scores(x).logsumexp(ExponentialTerms(Linear(4.0)))
        both = found.rows if side == "rows" else found.columns
        want = Dense().scores(part).logsumexp(ExponentialTerms(Linear(4.0), columns=False)).rows
        yield judged(f"logsumexp of {side}", both[rows], want.float(), want, torch.float32)


CHECKS: dict[
    str, tuple[Callable[[Place], Comparison], Callable[[Place, Comparison], Iterator[Verdict]]]
] = {
    "select, 2.8e9 scores": (many_scores, selected),
    "sums, 2.8e9 scores": (many_scores, summed),
    "select, 2.3e9 numbers": (many_numbers, selected),
    "sums, 2.3e9 numbers": (many_numbers, summed),
}
