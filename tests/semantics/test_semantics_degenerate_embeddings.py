"""Degenerate embeddings."""

from __future__ import annotations

import math

import pytest
import torch
from covering import covering
from every_loss import (
    BACKENDS,
    EVERY,
    Case,
    arguments,
    assert_same,
    run,
    value_and_gradients,
)
from semantic_cases import (
    SIMILARITIES,
    backends,
    every,
    fixed,
)

from hardneg.functional import (
    contrastive_loss,
)


@backends
@every
def test_a_zero_vector_under_cosine(which: Case, backend: object) -> None:
    if not which.takes("cosine"):
        pytest.skip("the margin loss takes distances only")
    embeddings, groups = arguments(which)
    for x in embeddings:
        x[2] = 0
    options = {"similarity": "cosine", "backend": backend}
    value, gradients = value_and_gradients(which, embeddings, groups, **options)
    assert value.isfinite()
    for gradient in gradients:
        assert gradient.isfinite().all()
        assert (gradient[2] == 0).all()


@backends
def test_a_zero_vector_scores_0(backend: object) -> None:
    queries = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    candidates = torch.tensor([[3.0, 4.0], [1.0, 1.0]])
    options = {"margin": 0.25, "negatives": "all", "reduction": "none", "backend": backend}
    terms = contrastive_loss(queries, candidates, **options)
    own = 1 / math.sqrt(2)
    assert terms[0].tolist() == pytest.approx([0.25, 0.25 - own + 0.6])
    assert terms[1].tolist() == pytest.approx([0.25 + 0.6, 0.0])


@covering(2, similarity=SIMILARITIES, backend=BACKENDS, which=EVERY)
def test_collapsed_embeddings(which: Case, similarity: str, backend: object) -> None:
    if not which.takes(similarity):
        pytest.skip("the loss or its strategy needs distances")
    embeddings, groups = arguments(which)
    embeddings = [embeddings[0][:1].expand(x.shape).contiguous() for x in embeddings]
    options = {"similarity": similarity, "backend": backend}
    value, gradients = value_and_gradients(which, embeddings, groups, **options)
    assert value.isfinite()
    assert all(gradient.isfinite().all() for gradient in gradients)
    _, stats = run(which, embeddings, groups, return_stats=True, **options)
    assert stats.collapsed.item() is True


@backends
@every
def test_ordinary_embeddings_are_not_collapsed(which: Case, backend: object) -> None:
    embeddings, groups = arguments(which)
    _, stats = run(which, embeddings, groups, return_stats=True, backend=backend)
    assert stats.collapsed.item() is False
    shifted = [x + 3 for x in embeddings]
    assert not run(which, shifted, groups, return_stats=True, backend=backend)[1].collapsed


@covering(3, bad=[math.nan, math.inf, -math.inf], backend=BACKENDS, which=EVERY)
def test_one_number_that_is_not_finite_makes_loss_and_gradient_nan(
    which: Case, bad: float, backend: object
) -> None:
    for side in range(2 if which.kind == "paired" else 1):
        embeddings, groups = arguments(which)
        embeddings[side][-1, 1] = bad
        options = {"backend": backend}
        for reduction in ("mean", "sum", "mean_active"):
            value, gradients = value_and_gradients(
                which, embeddings, groups, reduction=reduction, **options
            )
            assert value.isnan()
            assert any(gradient.isnan().any() for gradient in gradients)
        terms = run(which, embeddings, groups, reduction="none", **options)
        assert terms[0].isnan().all()


@backends
@pytest.mark.parametrize("scale", [1e30, 1e-30])
@fixed
def test_cosine_knows_no_length(which: Case, scale: float, backend: object) -> None:
    if not which.takes("cosine"):
        pytest.skip("the margin loss takes distances only")
    embeddings, groups = arguments(which)
    options = {"similarity": "cosine", "backend": backend}
    expected = value_and_gradients(which, embeddings, groups, **options)
    value, gradients = value_and_gradients(
        which, [x * scale for x in embeddings], groups, **options
    )
    assert_same((value, [g * scale for g in gradients]), expected, rtol=1e-4, atol=1e-5)
