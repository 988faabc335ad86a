"""Random draws among very many candidates: nobody's place among them may decide."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hardneg.negatives.selection import (
    COLUMN_SALT,
    ROW_SALT,
    Selection,
    pair_hash,
    pair_keys,
    ranking_keys,
)
from hardneg.ops.comparison import Comparison, Relation
from hardneg.ops.requests import Search
from hardneg.ops.tiled_backend import Tiled
from hardneg.similarities import Cosine, Euclidean

UNIFORM = Selection("random", 1)
WEIGHTED = Selection("distance_weighted", 1, parameters=(6.0, 0.5, 1.4))
SEED = torch.tensor(2**31 - 2)


def keys_of_one_anchor(selection: Selection, dtype: torch.dtype, first: int, m: int) -> Tensor:
    """The keys of equally good candidates."""
    scores, others = torch.zeros((), dtype=dtype), torch.arange(first, first + m)
    weighed = replaced(selection)
    return pair_keys(scores, weighed, Cosine(), SEED, torch.tensor(77), others, ROW_SALT).expand(m)


def replaced(selection: Selection) -> Selection:
    """Scores of 0 are at a distance of 1.41 on the sphere: let them be drawn."""
    near = selection.order == "distance_weighted"
    return Selection(selection.order, 1, parameters=(6.0, 0.5, 2.0) if near else ())


@pytest.mark.parametrize("salt", [ROW_SALT, COLUMN_SALT])
@pytest.mark.parametrize("first", [0, 2**31 - 2**22])
def test_no_two_candidates_of_an_anchor_share_a_hash(first: int, salt: int) -> None:
    m = 1 << 22
    hashes = pair_hash(SEED, torch.tensor(5), torch.arange(first, first + m), salt)
    assert len(hashes.unique()) == m
    assert hashes.min() >= 0
    deciles = torch.bincount(hashes.long() * 10 // 2**31, minlength=10).double()
    assert (deciles / m - 0.1).abs().max() < 0.001


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("first", [0, 2**31 - 2**22])
def test_no_two_candidates_of_an_anchor_tie(first: int, dtype: torch.dtype) -> None:
    """Keys are ordinary floats: a device that takes subnormal ones for 0 sees them apart too."""
    keys = keys_of_one_anchor(UNIFORM, dtype, first, 1 << 22)
    assert len(keys.unique()) == len(keys)
    assert keys.abs().min() >= torch.finfo(torch.float32).tiny
    assert keys.abs().max() < 1e30


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_highest_weighted_keys_do_not_tie(dtype: torch.dtype) -> None:
    """The lower ones may: they are drawn by nobody who has these to choose from."""
    highest = keys_of_one_anchor(WEIGHTED, dtype, 0, 1 << 22).topk(1000).values
    assert len(highest.unique()) == 1000
    assert highest.isfinite().all()


@pytest.mark.parametrize("selection", [UNIFORM, WEIGHTED], ids=lambda s: s.order)
def test_draws_among_many_are_uniform_over_their_places(selection: Selection) -> None:
    n, m = 1200, 1 << 14
    scores = torch.zeros(()).expand(n, m)
    found = ranking_keys(
        scores, replaced(selection), Cosine(), SEED, torch.arange(n), torch.arange(m), ROW_SALT
    ).argmax(1)
    counts = torch.bincount(found * 10 // m, minlength=10).double()
    statistic = ((counts - n / 10).square() / (n / 10)).sum().item()
    assert statistic < 27.9, "less than one chance in a thousand"  # 9 degrees of freedom


def test_weights_hold_among_many() -> None:
    """Half of the candidates at a distance of 0.6, half at 1.2, by turns: drawn as their weights say."""
    n, m, width = 500, 1 << 15, 6
    distances = torch.tensor([0.6, 1.2]).repeat(m // 2)
    found = ranking_keys(
        -distances.expand(n, m), WEIGHTED, Euclidean(), SEED, torch.arange(n), torch.arange(m), 1
    ).argmax(1)
    d = distances[:2].double()
    weights = d ** (2.0 - width) * (1 - d.square() / 4) ** (-(width - 3) / 2)
    expected = n * weights[1] / weights.sum()
    assert abs((found % 2).sum() - expected) < 4 * (expected * (1 - expected / n)).sqrt()


@pytest.mark.parametrize("selection", [UNIFORM, WEIGHTED], ids=lambda s: s.order)
def test_the_highest_key_of_a_million_is_drawn(selection: Selection) -> None:
    """Through tiles, whose number is in the hundreds here."""
    m = (1 << 20) + 77
    q, c = torch.ones(2, 1), torch.ones(1, 1).expand(m, 1)
    search = Search(replaced(selection), "negatives", seed=SEED, columns=False)
    found = Tiled().scores(Comparison(q, c, Cosine(), Relation())).select(search).rows
    keys = ranking_keys(
        torch.ones(2, 1),
        replaced(selection),
        Cosine(),
        SEED,
        torch.arange(2),
        torch.arange(m),
        ROW_SALT,
    )
    assert torch.equal(found[:, 0], keys.argmax(1))
