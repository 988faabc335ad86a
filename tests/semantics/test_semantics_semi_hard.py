"""Semi-hard and its fallbacks."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from semantic_cases import (
    backends,
    column,
)

from hardneg import (
    Ceiling,
    DistanceWeighted,
    Hardest,
    RandomK,
    RankWindow,
    SemiHard,
    TopK,
)
from hardneg.functional import (
    contrastive_loss,
    info_nce_loss,
    nt_xent_loss,
    polynomial_loss,
    triplet_loss,
)

POSITIVE, ABOVE, ABOVE_TOO = 2.0, 3.0, 5.0


SEMI_HARD = [
    ("easiest", (ABOVE, ABOVE_TOO), ABOVE),
    ("hardest", (ABOVE, ABOVE_TOO), ABOVE_TOO),
    ("none", (ABOVE, ABOVE_TOO), None),
    ("easiest", (ABOVE, 1.0), 1.0),
    ("hardest", (1.5, 1.75), 1.75),
    ("none", (-1.0, -4.0), -1.0),
    ("easiest", (POSITIVE, 1.0), 1.0),
    ("none", (POSITIVE, POSITIVE), None),
]


@backends
@pytest.mark.parametrize(("fallback", "others", "chosen"), SEMI_HARD)
def test_semi_hard(
    fallback: str, others: tuple[float, float], chosen: float | None, backend: object
) -> None:
    query, candidates = column(1.0), column(POSITIVE, *others)
    negatives = SemiHard(fallback)
    told = {"negatives": negatives, "similarity": "dot", "backend": backend}
    of_pairs = {"directions": "queries", **told}
    labels = torch.tensor([4]), torch.tensor([4, 0, 1])
    hinge = 0.0 if chosen is None else max(0.0, 1.5 - POSITIVE + chosen)
    found = contrastive_loss(query, candidates, margin=1.5, **of_pairs)
    assert found.item() == pytest.approx(hinge)
    for positives in ("all", "hardest", "easiest"):
        found = triplet_loss(
            query, labels[0], candidates, labels[1], margin=1.5, positives=positives, **told
        )
        assert found.item() == pytest.approx(hinge)
    soft = 0.0 if chosen is None else math.log1p(math.exp(chosen - POSITIVE))
    found = info_nce_loss(query, candidates, temperature=1.0, **of_pairs)
    assert found.item() == pytest.approx(soft, rel=1e-5)
    found = nt_xent_loss(query, labels[0], candidates, labels[1], temperature=1.0, **told)
    assert found.item() == pytest.approx(soft, rel=1e-5)
    numbers_of_loss = {"margin": 100.0, "positive": (100.0,), "negative": (50.0, 1.0)}
    found = polynomial_loss(query, candidates, **numbers_of_loss, **of_pairs)
    assert found.item() == pytest.approx(0.0 if chosen is None else 150 + chosen)


@backends
def test_semi_hard_of_the_candidates(backend: object) -> None:
    # Scores: column 0 has its positive 2 and, below it, 1; column 1 its positive 1 and only 4 above.
    queries, candidates = torch.tensor([[2.0, 4.0], [1.0, 1.0]]), torch.eye(2)
    told = {"similarity": "dot", "directions": "candidates", "backend": backend}
    options = {"margin": 1.5, "reduction": "none", **told}
    terms = contrastive_loss(queries, candidates, negatives=SemiHard("none"), **options)
    assert terms[0].shape == (0,)
    assert terms[1].tolist() == [0.5, 0.0]
    terms = contrastive_loss(queries, candidates, negatives="semihard", **options)
    assert terms[1].tolist() == [0.5, 4.5]


@backends
@pytest.mark.parametrize(("fallback", "hinge"), [("hardest", 3.0), ("easiest", 1.5), ("none", 0)])
def test_every_strategy_falls_back_where_its_ceiling_admits_nothing(
    fallback: str, hinge: float, backend: object
) -> None:
    query, candidates = column(1.0), column(2.0, -1.0, 2.5, 1.5)  # 1, 2, 1.5 and 0.5 away
    told = {"similarity": "euclidean", "directions": "queries", "backend": backend}
    below = Ceiling(0.0, -50.0)
    for kind in (
        Hardest,
        partial(TopK, 2),
        partial(RandomK, 2),
        partial(RankWindow, 1, 3),
        DistanceWeighted,
    ):
        negatives = kind(ceiling=below, fallback=fallback)
        loss = contrastive_loss(query, candidates, margin=2.5, negatives=negatives, **told)
        assert loss.item() == hinge


@backends
def test_distance_weighting_never_draws_at_its_cutoff(backend: object) -> None:
    negatives = DistanceWeighted(nonzero_loss_cutoff=1.0, k=2)
    told = {"similarity": "euclidean", "directions": "queries", "backend": backend}
    loss = contrastive_loss(
        column(0.0), column(0.0, 1.0, 0.5), margin=1.5, negatives=negatives, **told
    )
    assert loss.item() == 1.0
