"""Kernels under bounds made from scores: a duplicate of the positive is on neither side of its score."""

from __future__ import annotations

import pytest
import torch
from random_comparisons import SIMILARITIES

from hardneg.losses.terms.windows import pair_rounding
from hardneg.negatives.ceiling import Ceiling
from hardneg.negatives.selection import Selection
from hardneg.ops.comparison import Comparison, Relation, Window
from hardneg.ops.energies import Linear
from hardneg.ops.fused_backend import Fused
from hardneg.ops.requests import ExponentialTerms, PenaltyTerms, Search
from hardneg.ops.rounding import bounds_under
from hardneg.penalties import Logistic
from hardneg.similarities import Cosine, Dot, Euclidean

KINDS = [(s, torch.float32) for s in SIMILARITIES]
KINDS += [(Cosine(), torch.float16), (Dot(), torch.bfloat16), (Euclidean(), torch.bfloat16)]


@pytest.mark.parametrize(("similarity", "dtype"), KINDS, ids=str)
def test_a_duplicate_is_neither_below_nor_above(similarity: object, dtype: torch.dtype) -> None:
    """75 rows are two panels, and the last tile of each is not full."""
    n = 75
    g = torch.Generator().manual_seed(n)
    which = (torch.arange(n) // 2)[torch.randperm(n, generator=g)]
    captions = (torch.randn(38, 37, generator=g) + 2)[which]
    images = (captions + 0.5 * torch.randn(n, 37, generator=g)).to(dtype)
    own = torch.arange(n)
    twins = (which[:, None] == which).fill_diagonal_(fill_value=False)
    relation = Relation(paired=True, ignore=~twins)
    comparison = Comparison(images, captions.to(dtype), similarity, relation)
    scores = Fused().scores(comparison)
    p = scores.pairs(own, own)
    rounding = pair_rounding(scores, own, own, p)
    ceiling, floor = bounds_under(Ceiling(), p, rounding), rounding.above(p)
    for window in (Window(row_ceiling=ceiling), Window(row_floor=floor)):
        for k in (1, 2):
            search = Search(Selection("highest", k), window=window, columns=False)
            assert (scores.select(search).rows == -1).all()
        assert (scores.penalty_sum(PenaltyTerms(Logistic(), p, window=window)).rows == 0).all()
        terms = ExponentialTerms(Linear(), window=window, columns=False)
        assert scores.logsumexp(terms).rows.isneginf().all()
