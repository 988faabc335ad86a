"""Anchors without a valid negative or positive."""

from __future__ import annotations

import pytest
import torch
from every_loss import (
    LABELLED,
    Case,
    arguments,
    assert_same,
    run,
    value_and_gradients,
)
from semantic_cases import (
    assert_zero,
    backends,
    column,
    every,
    paired,
    resolve_negatives,
)

from hardneg import (
    All,
    Ceiling,
    Hardest,
    SemiHard,
    TopK,
)
from hardneg.functional import (
    contrastive_loss,
    info_nce_loss,
    sup_con_loss,
    unified_pair_loss,
)

labelled = pytest.mark.parametrize("which", LABELLED, ids=str)


@backends
@every
def test_no_anchor_has_a_negative(which: Case, backend: object) -> None:
    embeddings, _ = arguments(which, m=7)
    same = torch.zeros(7, dtype=torch.long)
    groups = [same] * len(embeddings)
    found = value_and_gradients(which, embeddings, groups, backend=backend)
    if not which.about.pairs_are_terms and not which.about.positives_suffice:
        assert_zero(found)
    assert found[0].isfinite()
    assert all(gradient.isfinite().all() for gradient in found[1])


@backends
@pytest.mark.parametrize("negatives", ["all", TopK(2), All(Ceiling())], ids=str)
def test_sup_con_keeps_positives_without_a_negative(negatives: object, backend: object) -> None:
    """Its sum is over all others, of which an anchor without a negative has its positives."""
    leaf = arguments(LABELLED[0], dtype=torch.float64)[0][0].requires_grad_()
    labels = torch.zeros(7, dtype=torch.long)
    told = {"temperature": 0.2, "negatives": negatives, "backend": backend}
    value = sup_con_loss(leaf, labels, **told)
    z = torch.nn.functional.normalize(leaf)
    others = (z @ z.T / 0.2).masked_select(~torch.eye(7, dtype=torch.bool)).view(7, 6)
    expected = (others.logsumexp(1) - others.mean(1)).mean()
    torch.testing.assert_close(value, expected)
    found, *_ = torch.autograd.grad(value, leaf)
    torch.testing.assert_close(found, torch.autograd.grad(expected, leaf)[0])
    assert found.abs().max() > 0.01
    value, stats = sup_con_loss(leaf, labels, **told, return_stats=True)
    torch.testing.assert_close(value, expected)
    assert stats.hardest_negative_mean == 0


@backends
@labelled
def test_no_anchor_has_a_positive(which: Case, backend: object) -> None:
    embeddings, _ = arguments(which)
    found = value_and_gradients(which, embeddings, [torch.arange(7)], backend=backend)
    if not which.about.pairs_are_terms:
        assert_zero(found)
    assert found[0].isfinite()
    assert all(gradient.isfinite().all() for gradient in found[1])


@backends
@every
def test_a_batch_of_one(which: Case, backend: object) -> None:
    embeddings, groups = arguments(which, n=1, m=1)
    found = value_and_gradients(which, embeddings, groups, backend=backend)
    if not which.own_pair_is_a_term:
        assert_zero(found)
    assert found[0].isfinite()
    for reduction in ("sum", "mean_active"):
        assert run(which, embeddings, groups, backend=backend, reduction=reduction).isfinite()


@backends
@paired
@pytest.mark.parametrize("lacking", ["all ignored", "all related"])
def test_an_anchor_without_a_negative_is_left_out(
    which: Case, backend: object, lacking: str
) -> None:
    embeddings, _ = arguments(which, m=7)
    mask = torch.zeros(7, 7, dtype=torch.bool)
    mask[2] = True
    told = {"ignore_mask": mask}
    if lacking == "all related":
        related = mask | torch.eye(7, dtype=torch.bool)
        told = {"positive_mask": related}
    options = {"backend": backend, "directions": "queries", **told}
    leaves = [x.requires_grad_() for x in embeddings]
    terms, none = run(which, leaves, [], reduction="none", **options)
    assert none.shape == (0,)
    if which.own_pair_is_a_term:
        total = run(which, leaves, [], reduction="sum", **options)
        torch.testing.assert_close(total, terms.sum())
        return
    assert terms[2] == 0
    free = torch.arange(7) != 2
    mean = run(which, leaves, [], reduction="mean", **options)
    if dict(which.options)["negatives"] != SemiHard("none"):
        torch.testing.assert_close(mean, terms[free].mean())
    own = torch.autograd.grad(terms[2], leaves[0], retain_graph=True)[0]
    assert (own == 0).all()
    alone = torch.autograd.grad(mean, leaves[0])[0]
    assert (alone[2] == 0).all()
    assert alone.isfinite().all()


@backends
@paired
def test_an_ignored_pair_of_ones_own_is_left_out(which: Case, backend: object) -> None:
    embeddings, _ = arguments(which, m=7)
    ignore = torch.zeros(7, 7, dtype=torch.bool)
    ignore[2, 2] = True
    free = torch.arange(7) != 2
    options = {"backend": backend, "ignore_mask": ignore}
    terms = run(which, embeddings, [], reduction="none", directions="both", **options)
    whole = run(which, embeddings, [], reduction="none", directions="both", backend=backend)
    for found, expected in zip(terms, whole, strict=True):
        if not which.own_pair_is_a_term:
            assert found[2] == 0
        torch.testing.assert_close(found[free], expected[free])
    if not which.own_pair_is_a_term and resolve_negatives(which) != SemiHard("none"):
        mean = run(which, embeddings, [], directions="queries", **options)
        torch.testing.assert_close(mean, terms[0][free].mean())


@backends
@pytest.mark.parametrize("loss", [contrastive_loss, info_nce_loss, unified_pair_loss])
@pytest.mark.parametrize("negatives", [All(Ceiling()), TopK(2, Ceiling()), Hardest(Ceiling())])
def test_an_anchor_whose_ceiling_admits_nothing_is_left_out(
    loss: object, negatives: object, backend: object
) -> None:
    queries, candidates = column(1.0, 1.0), column(0.0, 3.0, 1.0)
    told = {"negatives": negatives, "similarity": "dot", "margin": 2.5, "backend": backend}
    terms, _ = loss(queries, candidates, directions="queries", reduction="none", **told)
    assert terms[0] == 0
    assert terms[1] > 0
    mean = loss(queries, candidates, directions="queries", **told)
    torch.testing.assert_close(mean, terms[1])


@backends
@labelled
def test_a_label_that_occurs_once_is_left_out(which: Case, backend: object) -> None:
    (x,), _ = arguments(which)
    labels = torch.tensor([0, 0, 1, 1, 2, 2, 3])
    with_single = value_and_gradients(which, [x], [labels], backend=backend, reduction="mean")
    ignore = torch.zeros(7, 7, dtype=torch.bool)
    ignore[6] = True
    ignored = value_and_gradients(which, [x], [labels], backend=backend, ignore_mask=ignore)
    if not which.about.pairs_are_terms:
        assert_same(with_single, ignored)
    assert with_single[1][0].isfinite().all()
