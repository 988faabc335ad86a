"""Equal scores, hinges at 0, duplicates."""

from __future__ import annotations

import pytest
import torch
from every_loss import (
    BACKENDS,
    Case,
    assert_same,
    numbers,
    value_and_gradients,
)
from semantic_cases import (
    assert_zero,
    backends,
    column,
    fixed,
    paired,
)

import hardneg
from hardneg import (
    Hardest,
    RankWindow,
    TopK,
)
from hardneg.functional import (
    contrastive_loss,
    pairwise_contrastive_loss,
    triplet_loss,
)


@backends
def test_the_first_of_equal_scores_is_chosen(backend: object) -> None:
    query = column(1.0)
    candidates = column(2.0, 1.0, 3.0, 3.0, 0.0, 3.0, 3.0).requires_grad_()
    told = {"similarity": "dot", "directions": "queries", "margin": 1.0, "backend": backend}
    for negatives, expected in (
        (Hardest(), [2]),
        (TopK(2), [2, 3]),
        (TopK(3), [2, 3, 5]),
        (RankWindow(1, 3), [3, 5]),
        (RankWindow(3, 5), [1, 6]),
    ):
        loss = contrastive_loss(query, candidates, negatives=negatives, penalty="logistic", **told)
        (gradient,) = torch.autograd.grad(loss, candidates)
        assert gradient[:, 0].nonzero()[:, 0].tolist() == [0, *expected]


@backends
def test_the_first_of_equal_positives_is_chosen(backend: object) -> None:
    embeddings, labels = column(1.0), torch.tensor([0])
    reference = column(9.0, 2.0, 5.0, 2.0, 5.0).requires_grad_()
    reference_labels = torch.tensor([1, 0, 0, 0, 0])
    for positives, expected in (("hardest", 1), ("easiest", 2)):
        told = {"similarity": "dot", "positives": positives, "negatives": "hardest"}
        loss = triplet_loss(
            embeddings, labels, reference, reference_labels, backend=backend, **told
        )
        (gradient,) = torch.autograd.grad(loss, reference)
        assert gradient[:, 0].nonzero()[:, 0].tolist() == [0, expected]


@backends
def test_the_guard_of_selective_hardest_is_strict(backend: object) -> None:
    """Scores apart by the threshold itself, or equal under a threshold of 0, are told apart."""
    told = {"similarity": "dot", "directions": "queries", "margin": 1.5, "backend": backend}
    for hardest, threshold, expected in ((2.0, 0.0, 1.5), (1.0, 1.0, 0.5), (1.0, 1.25, 0.25)):
        candidates = column(2.0, hardest, 0.0)
        negatives = hardneg.SelectiveHardest(threshold)
        loss = contrastive_loss(column(1.0), candidates, negatives=negatives, **told)
        assert loss.item() == expected


@pytest.mark.parametrize("similarity", ["dot", "squared_euclidean"])
@fixed
def test_ties_are_broken_alike_by_every_backend(which: Case, similarity: str) -> None:
    if not which.takes(similarity):
        pytest.skip("the margin loss takes distances only")
    generator = torch.Generator().manual_seed(3)
    sizes = (13, 17) if which.kind == "paired" else (17,)
    embeddings = [
        torch.randint(-1, 2, (n, 3), generator=generator, dtype=torch.float64) for n in sizes
    ]
    groups = [] if which.kind == "paired" else [torch.arange(17) // 3]
    found = [
        value_and_gradients(which, embeddings, groups, similarity=similarity, backend=backend)
        for backend in BACKENDS
    ]
    for other in found[1:]:
        assert_same(other, found[0], rtol=1e-9, atol=1e-12)


@backends
@pytest.mark.parametrize("negatives", ["all", "hardest", "semihard", TopK(2), RankWindow(0, 2)])
def test_a_hinge_at_exactly_0_has_no_gradient(negatives: object, backend: object) -> None:
    candidates = column(2.0, 1.0, 0.0)
    told = {"margin": 1.0, "similarity": "dot", "negatives": negatives, "backend": backend}
    leaves = [column(1.0).requires_grad_(), candidates.requires_grad_()]
    loss = contrastive_loss(*leaves, directions="queries", **told)
    assert_zero((loss, list(torch.autograd.grad(loss, leaves))))
    for positives in ("all", "hardest"):
        labels = torch.tensor([0]), torch.tensor([0, 1, 2])
        options = {"positives": positives, **told}
        loss = triplet_loss(leaves[0], labels[0], leaves[1], labels[1], **options)
        assert_zero((loss, list(torch.autograd.grad(loss, leaves))))


@backends
def test_a_pair_at_exactly_its_margin_has_no_gradient(backend: object) -> None:
    x, labels = column(0.0, 1.0, 3.0), torch.tensor([0, 0, 1])
    x.requires_grad_()
    told = {"positive_margin": 1.0, "negative_margin": 2.0, "penalty": "hinge"}
    loss = pairwise_contrastive_loss(x, labels, backend=backend, **told)
    assert_zero((loss, list(torch.autograd.grad(loss, x))))


@backends
@paired
def test_duplicates_by_id_are_no_negatives(which: Case, backend: object) -> None:
    """Candidates of a query's id, here far too good, may as well not be there."""
    queries, candidates = numbers(5, 4, 0), numbers(5, 4, 1)
    options = {"directions": "queries", "backend": backend}
    for i in range(5):
        more = torch.cat([candidates, queries[i : i + 1] * 1.01])
        ids = torch.arange(5), torch.tensor([*range(5), i])
        terms = which(queries, more, *ids, reduction="none", **options)[0]
        plain = which(queries, candidates, reduction="none", **options)[0]
        torch.testing.assert_close(terms[i], plain[i])
    # All five queries of one image: the five captions are out of one another's way.
    ids = torch.zeros(5, dtype=torch.long)
    alone = torch.cat([candidates, numbers(3, 4, 2)])
    found = which(queries, alone, ids, torch.tensor([0] * 5 + [1, 2, 3]), **options)
    others = torch.eye(5, 8).eq(0) & (torch.arange(8) < 5)
    torch.testing.assert_close(found, which(queries, alone, ignore_mask=others, **options))
