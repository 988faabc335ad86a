"""Widths and starts of rows that a GPU cannot read 16 bytes at a time: the kernels read a copy with zeros behind."""

from __future__ import annotations

import pytest
import torch
from dense_case import case
from test_logsumexp import check
from torch import Tensor

from hardneg.negatives.selection import Selection
from hardneg.ops.comparison import Comparison, Relation
from hardneg.ops.energies import Linear
from hardneg.ops.fused_backend import Fused
from hardneg.ops.reference import Dense
from hardneg.ops.requests import Search
from hardneg.ops.triton.operands import operands
from hardneg.similarities import Cosine, Dot, Euclidean, SquaredEuclidean

WIDTHS = (1, 15, 16, 17, 50, 100, 300, 520, 1000)


def whole(n: int, width: int, dtype: torch.dtype) -> Tensor:
    """Whole numbers, whose products are exact in every type."""
    return torch.randint(-3, 4, (n, width)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("width", WIDTHS)
def test_selection_is_exact(width: int, dtype: torch.dtype) -> None:
    q, c = whole(37, width, dtype), whole(50, width, dtype)
    for similarity in (Dot(), SquaredEuclidean()):
        comparison = Comparison(q, c, similarity, Relation())
        for k in (1, 3):
            search = Search(Selection("highest", k), "negatives")
            found = Fused().scores(comparison).select(search)
            wide = Comparison(q.double(), c.double(), similarity, Relation())
            expected = Dense().scores(wide).select(search)
            assert torch.equal(found.rows, expected.rows)
            assert torch.equal(found.columns, expected.columns)


@pytest.mark.parametrize("similarity", [Cosine(), Euclidean()])
@pytest.mark.parametrize("width", [17, 100])
def test_gradients(width: int, similarity: object) -> None:
    for dtype in (torch.bfloat16, torch.float16):
        one = case(3, similarity=similarity, dtype=dtype, shape=(26, 50, width))
        check(one, Linear())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_what_kernels_read_is_aligned(dtype: torch.dtype) -> None:
    """Odd widths, slices of wider rows, rows that start between multiples of 16 bytes; else no copy."""
    wide = torch.randn(20, 99).to(dtype)
    for x in (wide, wide[:, :64], wide[:, 3:67], torch.randn(20, 80).to(dtype)[:, 1:65]):
        ready = operands(Comparison(x, x, Cosine(), Relation()))
        read = ready.queries
        assert read.stride(0) % 16 == read.data_ptr() % 16 == ready.width % 16 == 0
        assert torch.equal(read[:, : x.shape[1]], x)
        assert (read[:, x.shape[1] :] == 0).all()
    x = torch.randn(20, 96).to(dtype)
    for given in (x, x[:, :48]):
        assert operands(Comparison(given, given, Dot(), Relation())).queries is given
