"""float32 products in fewer bits: what the kernels multiply, and how far results are off beside torch's own tf32.

A GPU cuts the lowest 13 bits of what its tensor cores take as tf32; the interpreter multiplies in full. So operands
that are rounded already are multiplied alike in both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from dense_case import Case, case, differentiated
from rounding import assert_rounded
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from hardneg.negatives.selection import Selection
from hardneg.ops.comparison import Comparison, Relation
from hardneg.ops.energies import Linear
from hardneg.ops.fused_backend import Fused
from hardneg.ops.reference import Dense
from hardneg.ops.requests import ExponentialTerms, Search
from hardneg.ops.scores import Backend
from hardneg.ops.triton.operands import operands
from hardneg.similarities import Cosine, Dot, Euclidean, SquaredEuclidean

PRODUCTS = [Cosine(), Dot(), Euclidean(), SquaredEuclidean()]
DIGITS = 11
"""Of tf32, the leading one among them."""


def nearest(x: Tensor) -> Tensor:
    """The nearest numbers of so many digits, halves away from 0."""
    fraction, exponent = torch.frexp(x.double())
    scaled = fraction * 2**DIGITS
    rounded = scaled.sign() * (scaled.abs() + 0.5).floor()
    return torch.ldexp(rounded / 2**DIGITS, exponent).float()


class TensorFloat(TorchDispatchMode):
    """float32 products as torch's tf32 computes them: of rounded operands, added up in float32."""

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None):
        if operator.overloadpacket.__name__ in ("mm", "bmm", "addmm"):
            args = tree_map(lambda x: nearest(x) if is_single(x) else x, args)
        return operator(*args, **(kwargs or {}))


def is_single(x: Any) -> bool:
    return isinstance(x, Tensor) and x.dtype == torch.float32


@contextmanager
def products(precision: str) -> Iterator[None]:
    """``"tf32"`` in one pass without ``"medium"``, under which a CPU may multiply in bfloat16; ``"high"``."""
    if precision == "tf32":
        torch.backends.cuda.matmul.fp32_precision = "tf32"
    else:
        torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision("highest")


def by_product(similarity: Any) -> Any:
    """A similarity of which torch's own formula has a product of matrices; as it is, or distances from products."""
    if similarity not in (Euclidean(), SquaredEuclidean()):
        return similarity

    def distances(q: Tensor, c: Tensor) -> Tensor:
        squares = q.square().sum(1)[:, None] + c.square().sum(1)[None] - 2 * q @ c.T
        squares = squares.clamp(min=1e-6)
        return -squares if similarity == SquaredEuclidean() else -squares.sqrt()

    return distances


def exponentials(backend: Backend, comparison: Comparison, leaves: list[Tensor]):
    found = backend.scores(comparison).logsumexp(ExponentialTerms(Linear(2.0, 0.1)))
    return found.rows.sum() + found.columns.sum(), list(found), []


def check(run: Callable[[Backend, Comparison, list[Tensor]], Any], one: Case, name: str) -> None:
    """As ``assert_within_budget``, beside torch's tf32 instead of its float32."""
    c = one.comparison
    product = by_product(c.similarity)
    wide = Comparison(c.queries.double(), c.candidates.double(), c.similarity, c.relation)
    with products(name):
        found = differentiated(run, Fused(), c, [])
    with TensorFloat():
        eager = differentiated(run, Dense(), replace(c, similarity=product), [])

    def compute() -> list[Tensor]:
        results, gradients, _ = differentiated(run, Dense(), wide, [])
        return results + gradients

    assert_rounded(found[0] + found[1], eager[0] + eager[1], compute)


@pytest.mark.parametrize("similarity", PRODUCTS, ids=str)
@pytest.mark.parametrize("name", ["high", "tf32"])
def test_results_beside_tf32(similarity: object, name: str) -> None:
    for seed in (1, 2):
        shape = (41, 73, 21)
        one = case(seed, similarity=similarity, dtype=torch.float32, shape=shape)
        check(exponentials, one, name)


@pytest.mark.parametrize("similarity", PRODUCTS, ids=str)
@pytest.mark.parametrize("width", [7, 16, 100])
def test_single_pass_operands_have_no_bits_to_lose(similarity: object, width: int) -> None:
    x, y = torch.randn(20, width), torch.randn(30, width)
    with products("tf32"):
        ready = operands(Comparison(x, y, similarity, Relation()))
    for read in (ready.queries, ready.candidates):
        assert (read.view(torch.int32) & 0x1FFF).eq(0).all()
    if similarity == Dot():
        assert torch.equal(ready.queries[:, :width], nearest(x))
    if similarity == Cosine():
        unit = torch.nn.functional.normalize(x.double()).float()
        assert (ready.queries[:, :width] - unit).abs().max() <= 2.0**-DIGITS / 2 + 2.0**-22


def test_rounding_keeps_what_is_not_finite_and_both_signs() -> None:
    x = torch.tensor([[0.0, -0.0, 1.0 + 2.0**-11, -1.0 - 2.0**-11, torch.inf, -torch.inf]])
    full = torch.tensor([[0x7FFFFFFF, -1]], dtype=torch.int32).view(torch.float32)
    with products("tf32"):
        read = operands(Comparison(x, x, Dot(), Relation())).queries[:, :6]
        lost = operands(Comparison(full, full, Dot(), Relation())).queries[:, :2]
    one = 1.0 + 2.0**-10
    assert read.tolist() == [[0.0, -0.0, one, -one, torch.inf, -torch.inf]]
    assert lost.isnan().all()


@pytest.mark.parametrize("similarity", [Dot(), Cosine()], ids=str)
@pytest.mark.parametrize("width", [16, 21, pytest.param(100, marks=pytest.mark.full)])
def test_parts_keep_sixteen_digits(similarity: object, width: int) -> None:
    """What ``"high"`` promises: float32 as a sum of two bfloat16 numbers, 64 times as near as tf32."""
    x, y = torch.randn(40, width), torch.randn(50, width)
    ids = torch.arange(40), torch.arange(50) + 100
    wide = similarity(x.double(), y.double())
    with products("high"):
        found = Fused().scores(Comparison(x, y, similarity, Relation(*ids)))
        some = range(0, 50, 7)
        columns = torch.stack([one_column(found.comparison, j) for j in some], 1)
    y, wide = y[::7], wide[:, ::7]
    size = x.norm(dim=1)[:, None] * y.norm(dim=1) if similarity == Dot() else 1.0
    assert ((columns - wide) / size).abs().max() <= 2.0**-16


def one_column(comparison: Comparison, column: int) -> Tensor:
    """The scores of one candidate, which the log of a single exponential is."""
    alone = replace(comparison, candidates=comparison.candidates[column : column + 1])
    told = replace(alone, relation=Relation(comparison.relation.row_ids, torch.tensor([100])))
    return Fused().scores(told).logsumexp(ExponentialTerms(Linear(), columns=False)).rows


def test_parts_of_whole_numbers_are_exact() -> None:
    """Of sixteen digits: ties stay ties."""
    x = torch.randint(-30000, 30000, (40, 21)).float()
    y = torch.zeros(30, 21).scatter_(1, torch.arange(30)[:, None] % 21, 1.0)
    told = Comparison(x, y, Dot(), Relation(torch.arange(40), torch.arange(30) + 100))
    exact = Fused().scores(told).select(Search(Selection("highest", 1)))
    with products("high"):
        found = Fused().scores(told).select(Search(Selection("highest", 1)))
    assert torch.equal(found.rows, exact.rows)
    assert torch.equal(found.columns, exact.columns)
