"""Order violations in kernels: the very numbers of the definition's own steps in float32, at every width."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hardneg.ops.comparison import Comparison, Relation
from hardneg.ops.fused_backend import Fused
from hardneg.ops.requests import PenaltyTerms
from hardneg.ops.triton.arguments import Side
from hardneg.ops.triton.operands import operands
from hardneg.ops.triton.order_gradient import add_violations
from hardneg.penalties import Identity
from hardneg.similarities import Order

ORDERS = [Order(), Order("queries")]
DTYPES = [torch.float32, torch.float16, torch.bfloat16]


def violation(similarity: Order, queries: Tensor, candidates: Tensor) -> Tensor:
    """Squared violations, coordinate after coordinate."""
    total = torch.zeros(len(queries), len(candidates))
    for q, c in zip(queries.float().T, candidates.float().T, strict=True):
        total += similarity.violation(q[:, None], c[None]).square()
    return total


@pytest.mark.parametrize("similarity", ORDERS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("width", [1, 3, 4, 6, 9])
def test_scores_are_those_of_the_definition_to_the_bit(
    similarity: Order, dtype: torch.dtype, width: int
) -> None:
    """A row's only negative is the whole sum of its penalties; sizes far apart, so that every rounding shows."""
    sizes = torch.tensor([1e-3, 1.0, 3e3])[torch.randint(3, (37, width))]
    q, c = (torch.randn(37, width) * sizes).to(dtype), torch.randn(1, width).to(dtype)
    rows = torch.zeros(37)
    scores = Fused().scores(Comparison(q, c, similarity, Relation()))
    found = scores.penalty_sum(PenaltyTerms(Identity(), rows)).rows
    expected = -violation(similarity, q, c)[:, 0].double().sqrt().float()
    assert torch.equal(found[1:], expected[1:])  # the first row's candidate is its positive


@pytest.mark.parametrize("width", [2, 8])
def test_copies_end_in_zeros(width: int) -> None:
    """A tile goes on behind the last embedding and the last coordinate, and asks for neither."""
    x = torch.randn(5, 2 * width)[:, :width]
    copy = operands(Comparison(x, x, Order(), Relation())).queries
    assert copy.dtype == torch.float32
    rows = copy.transpose(0, 1).flatten(1)
    assert torch.equal(rows[:5, :width], x)
    assert rows[5:].count_nonzero() == 0
    assert rows[:, width:].count_nonzero() == 0


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("earlier", [False, True])
def test_gradients_are_those_of_the_definition_to_the_bit(sign: float, earlier: bool) -> None:
    own, others, weights = torch.randn(11, 37), torch.randn(9, 37), torch.randn(11, 9)
    before = torch.randn(11, 37)
    total = torch.zeros(11, 37)
    for j in range(9):
        total += weights[:, j, None] * (sign * (others[j] - own)).clamp(min=0)
    expected = sign * total + before if earlier else sign * total
    sides = (Side(x, x.stride(0)) for x in (own, others))
    add_violations(before, weights, *sides, sign, earlier)
    assert torch.equal(before, expected)
