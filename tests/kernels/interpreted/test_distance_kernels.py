"""Distances in the kernels: a far row, or a far place, costs the others no digits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hardneg.negatives.selection import Selection
from hardneg.ops.comparison import Comparison, Relation
from hardneg.ops.fused_backend import Fused
from hardneg.ops.reference import Dense
from hardneg.ops.requests import PenaltyTerms, Search
from hardneg.ops.triton.operands import operands
from hardneg.ops.triton.select import select as fused_select
from hardneg.penalties import Hinge
from hardneg.similarities import Euclidean, SquaredEuclidean

N, M, D = 60, 90, 20


def sides(kind: str) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    q, c = torch.randn(N, D, generator=g), torch.randn(M, D, generator=g)
    if kind == "far row":
        c[5] = 1e6
    if kind == "offset":
        q, c = q + 1e4, c + 1e4
    if kind == "two places":
        q[::2] += 1e4
        c[::2] += 1e4
    if kind == "offset, far row":
        q, c = q + 1e4, c + 1e4
        c[5] = 1e6
    return q, c


UNRELATED = Relation(torch.zeros(N, dtype=torch.long), torch.ones(M, dtype=torch.long))
"""All pairs are negatives, row i beside candidate i too."""
KINDS = ("plain", "far row", "offset", "two places", "offset, far row")


@pytest.mark.parametrize("kind", KINDS)
def test_panels_hold_distances_of_near_rows(kind: str) -> None:
    q, c = sides(kind)
    ready = operands(Comparison(q, c, SquaredEuclidean(), Relation()))
    true = torch.cdist(q.double(), c.double()).square()
    near = true < 1e4
    assert near.sum() > N
    for panel, extent in ready.panels((40, 72)):
        assert panel.scores is not None
        error = (panel.scores + true[extent.rows, extent.columns]).abs()
        assert error[near[extent.rows, extent.columns]].max() < 1e-3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("similarity", [Euclidean(), SquaredEuclidean()], ids=repr)
@pytest.mark.parametrize("frozen", [None, 0, 1])
def test_sums_and_gradients_agree_with_float64(
    kind: str, similarity: object, frozen: int | None
) -> None:
    """Thresholds between the near pairs and the far ones, so that only near ones count."""
    q, c = sides(kind)
    terms = [
        PenaltyTerms(
            Hinge(), torch.full((N,), -50.0).to(t), torch.full((M,), -50.0).to(t), "negatives"
        )
        for t in (torch.float32, torch.float64)
    ]
    found = run(q, c, similarity, terms[0], frozen, Fused())
    true = run(q.double(), c.double(), similarity, terms[1], frozen, Dense())
    for ours, right in zip(found, true, strict=True):
        assert right.abs().max() > 0
        assert (ours.double() - right).abs().max() <= 1e-4 * right.abs().max()


def run(
    q: Tensor, c: Tensor, similarity: object, terms: PenaltyTerms, frozen: int | None, by: object
) -> list[Tensor]:
    leaves = [x.clone().requires_grad_(place != frozen) for place, x in enumerate((q, c))]
    sums = by.scores(Comparison(*leaves, similarity, Relation())).penalty_sum(terms)
    learnt = [x for x in leaves if x.requires_grad]
    gradients = torch.autograd.grad(sums.rows.sum() + 2 * sums.columns.sum(), learnt)
    return [sums.rows.detach(), sums.columns.detach(), *gradients]


@pytest.mark.parametrize("kind", KINDS)
def test_the_nearest_is_found(kind: str) -> None:
    q, c = sides(kind)
    found = fused_select(
        Comparison(q, c, Euclidean(), UNRELATED), Search(Selection("highest", 1), "negatives")
    )
    true = torch.cdist(q.double(), c.double())
    assert torch.equal(found[0][:, 0], true.argmin(1))
    told_apart = torch.arange(M) != 5  # to the far row all are equally far
    assert torch.equal(found[1][told_apart, 0], true.argmin(0)[told_apart])
