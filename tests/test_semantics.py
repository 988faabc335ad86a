"""The semantics that every backend shares, row by row, for every loss that each row concerns."""

from __future__ import annotations

import copy
import math
import pickle
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from every_loss import (
    BACKEND_IDS,
    BACKENDS,
    EVERY,
    FIXED,
    LABELLED,
    PAIR_LOSSES,
    PAIRED,
    Case,
    arguments,
    assert_same,
    case,
    numbers,
    run,
    value_and_gradients,
)
from torch import Tensor

import hardneg
from hardneg import (
    All,
    Ceiling,
    DistanceWeighted,
    Hardest,
    InfoNCELoss,
    Learned,
    NTXentLoss,
    RandomK,
    RankWindow,
    SemiHard,
    SigmoidLoss,
    Steps,
    SupConLoss,
    TopK,
    Warmup,
)
from hardneg.functional import (
    contrastive_loss,
    info_nce_loss,
    nt_xent_loss,
    pairwise_contrastive_loss,
    polynomial_loss,
    sigmoid_loss,
    triplet_loss,
    unified_pair_loss,
)

backends = pytest.mark.parametrize("backend", BACKENDS, ids=BACKEND_IDS)
every = pytest.mark.parametrize("which", EVERY, ids=str)
fixed = pytest.mark.parametrize("which", FIXED, ids=str)
paired = pytest.mark.parametrize("which", PAIRED, ids=str)
labelled = pytest.mark.parametrize("which", LABELLED, ids=str)
SIMILARITIES = ("cosine", "dot", "euclidean", "squared_euclidean", "order")


def column(*values: float) -> Tensor:
    """Embeddings of width 1: under the dot product with 1 they are their own scores."""
    return torch.tensor(values)[:, None]


def assert_zero(found: tuple[Tensor, list[Tensor]]) -> None:
    """A loss of 0 that is still a function of its inputs."""
    assert found[0].item() == 0
    for gradient in found[1]:
        assert (gradient == 0).all()


# Anchors without a valid negative or positive


@backends
@every
def test_no_anchor_has_a_negative(which: Case, backend: object) -> None:
    embeddings, _ = arguments(which, m=7)
    same = torch.zeros(7, dtype=torch.long)
    groups = [same] * len(embeddings)
    found = value_and_gradients(which, embeddings, groups, backend=backend)
    if which.name not in PAIR_LOSSES:
        assert_zero(found)
    assert found[0].isfinite()
    assert all(gradient.isfinite().all() for gradient in found[1])


@backends
@labelled
def test_no_anchor_has_a_positive(which: Case, backend: object) -> None:
    embeddings, _ = arguments(which)
    found = value_and_gradients(which, embeddings, [torch.arange(7)], backend=backend)
    if which.name not in PAIR_LOSSES:
        assert_zero(found)
    assert found[0].isfinite()
    assert all(gradient.isfinite().all() for gradient in found[1])


@backends
@every
def test_a_batch_of_one(which: Case, backend: object) -> None:
    embeddings, groups = arguments(which, n=1, m=1)
    found = value_and_gradients(which, embeddings, groups, backend=backend)
    if which.name != "sigmoid":
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
    told = {"ignore": mask}
    if lacking == "all related":
        related = mask | torch.eye(7, dtype=torch.bool)
        own_name = which.name in ("info_nce", "sigmoid")
        told = {"positive_mask" if own_name else "positives": related}
    options = {"backend": backend, "directions": "queries", **told}
    leaves = [x.requires_grad_() for x in embeddings]
    terms, none = run(which, leaves, [], reduction="none", **options)
    assert none.shape == (0,)
    if which.name == "sigmoid":
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
    options = {"backend": backend, "ignore": ignore}
    terms = run(which, embeddings, [], reduction="none", directions="both", **options)
    whole = run(which, embeddings, [], reduction="none", directions="both", backend=backend)
    for found, expected in zip(terms, whole, strict=True):
        if which.name != "sigmoid":
            assert found[2] == 0
        torch.testing.assert_close(found[free], expected[free])
    if which.name != "sigmoid" and resolve_negatives(which) != SemiHard("none"):
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
    if which.name not in PAIR_LOSSES:
        assert_same(with_single, ignored)
    assert with_single[1][0].isfinite().all()


# Semi-hard and its fallbacks

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


# Equal scores, hinges at 0, duplicates


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
    if which.name == "margin" and similarity == "dot":
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


# Degenerate embeddings


@backends
@every
def test_a_zero_vector_under_cosine(which: Case, backend: object) -> None:
    if which.name == "margin":
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


@backends
@pytest.mark.parametrize("similarity", SIMILARITIES)
@every
def test_collapsed_embeddings(which: Case, similarity: str, backend: object) -> None:
    if which.name == "margin" and "euclidean" not in similarity:
        pytest.skip("the margin loss takes distances only")
    if dict(which.options)["negatives"] == "distance_weighted" and similarity in ("dot", "order"):
        pytest.skip("distance weighting needs distances")
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


@backends
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@every
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
    if which.name == "margin":
        pytest.skip("the margin loss takes distances only")
    embeddings, groups = arguments(which)
    options = {"similarity": "cosine", "backend": backend}
    expected = value_and_gradients(which, embeddings, groups, **options)
    value, gradients = value_and_gradients(
        which, [x * scale for x in embeddings], groups, **options
    )
    assert_same((value, [g * scale for g in gradients]), expected, rtol=1e-4, atol=1e-5)


# Types


@backends
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@every
def test_half_precision(which: Case, dtype: torch.dtype, backend: object) -> None:
    embeddings, groups = arguments(which, dtype=dtype)
    value, gradients = value_and_gradients(which, embeddings, groups, backend=backend)
    assert value.dtype == torch.float32
    assert [g.dtype for g in gradients] == [dtype] * len(gradients)
    wide = [x.float() for x in embeddings]
    expected = value_and_gradients(which, wide, groups, backend=backend)
    torch.testing.assert_close(value, expected[0], rtol=1e-5, atol=1e-6)
    rounding = 2 * torch.finfo(dtype).eps
    for found, right in zip(gradients, expected[1], strict=True):
        bound = rounding * right.abs().amax()
        assert ((found.float() - right).abs() <= bound).all()


@backends
@every
def test_double_precision(which: Case, backend: object) -> None:
    embeddings, groups = arguments(which, dtype=torch.float64)
    value, gradients = value_and_gradients(which, embeddings, groups, backend=backend)
    assert value.dtype == torch.float64
    assert all(g.dtype == torch.float64 for g in gradients)


@backends
@every
def test_autocast_changes_nothing(which: Case, backend: object) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        embeddings, groups = arguments(which, dtype=dtype)
        expected = value_and_gradients(which, embeddings, groups, backend=backend)
        leaves = [x.requires_grad_() for x in embeddings]
        torch.manual_seed(5)
        with torch.autocast("cpu", torch.bfloat16):
            value = run(which, leaves, groups, backend=backend)
        gradients = list(torch.autograd.grad(value, leaves))
        assert value.dtype == torch.float32
        assert all(g.dtype == dtype for g in gradients)
        assert_same((value.detach(), gradients), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("negatives", ["hardest", "all"])
@backends
def test_autocast_leaves_a_callable_similarity_alone(backend: object, negatives: str) -> None:
    torch.manual_seed(0)
    leaves = [torch.randn(9, 16, requires_grad=True) for _ in range(2)]
    options = {"similarity": lambda q, c: q @ c.T, "negatives": negatives, "backend": backend}
    for loss in (contrastive_loss, info_nce_loss):
        expected = loss(*leaves, **options)
        right = torch.autograd.grad(expected, leaves)
        with torch.autocast("cpu", torch.bfloat16):
            value = loss(*leaves, **options)
        gradients = torch.autograd.grad(value, leaves)
        assert_same((value, list(gradients)), (expected, list(right)), rtol=1e-6, atol=1e-7)


# Shapes and layouts


@backends
@pytest.mark.parametrize("similarity", SIMILARITIES)
@every
def test_width_1(which: Case, similarity: str, backend: object) -> None:
    if which.name == "margin" and "euclidean" not in similarity:
        pytest.skip("the margin loss takes distances only")
    if dict(which.options)["negatives"] == "distance_weighted" and similarity in ("dot", "order"):
        pytest.skip("distance weighting needs distances")
    embeddings, groups = arguments(which, d=1, dtype=torch.float64)
    options = {"similarity": similarity}
    found = value_and_gradients(which, embeddings, groups, backend=backend, **options)
    expected = value_and_gradients(which, embeddings, groups, backend="dense", **options)
    assert found[0].isfinite()
    assert all(gradient.isfinite().all() for gradient in found[1])
    below_the_positive = isinstance(resolve_negatives(which), SemiHard)
    if below_the_positive and similarity == "cosine":
        return  # All scores are 1 or -1, so that rounding says which of them lie below another.
    # Softplus is linear from 20 on: 2e-9 away from the logarithm.
    assert_same(found, expected, rtol=1e-8, atol=1e-12)


@backends
@every
def test_layouts(which: Case, backend: object) -> None:
    embeddings, groups = arguments(which)
    expected = value_and_gradients(which, embeddings, groups, backend=backend)

    def through(view: object) -> tuple[Tensor, list[Tensor]]:
        leaves = [x.clone().requires_grad_() for x in embeddings]
        torch.manual_seed(5)
        value = run(which, [view(x) for x in leaves], groups, backend=backend)
        return value.detach(), list(torch.autograd.grad(value, leaves))

    assert_same(through(lambda x: x.T.contiguous().T), expected)
    assert_same(through(lambda x: torch.cat([x, x], dim=1)[:, : x.shape[1]]), expected)
    assert_same(through(lambda x: torch.stack([x, x], dim=1)[:, 0]), expected)
    assert_same(through(lambda x: torch.stack([x, x], dim=2)[:, :, 1]), expected)


@backends
@every
def test_expanded_inputs(which: Case, backend: object) -> None:
    embeddings, groups = arguments(which)
    rows = [x[:1].clone() for x in embeddings]
    spread = [x.expand(y.shape) for x, y in zip(rows, embeddings, strict=True)]
    dense = [x.contiguous() for x in spread]
    expected = value_and_gradients(which, dense, groups, backend=backend)
    leaves = [x.requires_grad_() for x in rows]
    torch.manual_seed(5)
    full = [x.expand(y.shape) for x, y in zip(leaves, embeddings, strict=True)]
    value = run(which, full, groups, backend=backend)
    gradients = torch.autograd.grad(value, leaves)
    torch.testing.assert_close(value, expected[0])
    for found, right in zip(gradients, expected[1], strict=True):
        torch.testing.assert_close(found, right.sum(0, keepdim=True), rtol=1e-4, atol=1e-5)


@backends
@every
def test_a_gradient_for_one_side_only(which: Case, backend: object) -> None:
    embeddings, _ = arguments(which)
    if which.kind == "labelled":
        embeddings.append(numbers(9, 4, 7))
        groups = [torch.arange(7) % 3, torch.arange(9) % 3]
    else:
        groups = []
    expected = value_and_gradients(which, embeddings, groups, backend=backend)
    for side in (0, 1):
        leaves = [x.clone().requires_grad_(i == side) for i, x in enumerate(embeddings)]
        torch.manual_seed(5)
        value = run(which, leaves, groups, backend=backend)
        value.backward()
        assert leaves[1 - side].grad is None
        torch.testing.assert_close(value.detach(), expected[0])
        torch.testing.assert_close(leaves[side].grad, expected[1][side])


# No side effects


@backends
@every
def test_inputs_are_not_modified(which: Case, backend: object) -> None:
    embeddings, groups = arguments(which)
    if which.kind == "paired":
        groups = [torch.arange(7), torch.arange(9)]
    ignore = torch.zeros(7, 9 if which.kind == "paired" else 7, dtype=torch.bool)
    ignore[0, 3] = True
    leaves = [x.requires_grad_() for x in embeddings]
    given = [*leaves, *groups, ignore]
    before = [x.detach().clone() for x in given]
    versions = [x._version for x in given]
    options = {"backend": backend, "ignore": ignore}
    value, _ = run(which, leaves, groups, return_stats=True, **options)
    value.backward()
    for x, old in zip(given, before, strict=True):
        torch.testing.assert_close(x.detach(), old, rtol=0, atol=0)
    assert [x._version for x in given] == versions


@backends
@every
def test_no_global_state(which: Case, backend: object) -> None:
    embeddings, groups = arguments(which)
    torch.manual_seed(11)
    before = torch.get_rng_state()
    first = run(which, embeddings, groups, backend=backend)
    if not which.random:
        assert torch.equal(torch.get_rng_state(), before)
    run(which, [x * 2 + 1 for x in embeddings], groups, backend=backend)
    torch.manual_seed(11)
    second = run(which, embeddings, groups, backend=backend)
    assert torch.equal(first, second)
    assert torch.is_grad_enabled()
    assert torch.get_default_dtype() == torch.float32


@backends
@every
def test_evaluation_without_gradients(which: Case, backend: object) -> None:
    embeddings, groups = arguments(which)
    expected, _ = value_and_gradients(which, embeddings, groups, backend=backend)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            torch.manual_seed(5)
            value = run(which, embeddings, groups, backend=backend)
            assert not value.requires_grad
            torch.testing.assert_close(value.clone(), expected)
            run(which, embeddings, groups, backend=backend, return_stats=True)


# Statistics


def naive_statistics(
    scores: Tensor, terms: list[tuple[int, int, list[int], Tensor]]
) -> dict[str, float]:
    """From a list of (anchor, positive, negatives, values of the negatives)."""
    kept = [t for t in terms if t[2]]
    active = sum(int((values > 0).sum()) for *_, values in kept)
    considered = sum(len(values) for *_, values in kept)
    positive = sum(float(scores[a, p]) for a, p, *_ in kept) / len(kept)
    hardest = sum(float(scores[a, n].max()) for a, _, n, _ in kept) / len(kept)
    return {
        "active_fraction": active / considered,
        "positive_mean": positive,
        "hardest_negative_mean": hardest,
        "gap": positive - hardest,
    }


def resolve_negatives(which: Case) -> object:
    """The strategy as an object where that is semi-hard."""
    negatives = dict(which.options).get("negatives", "semihard")
    return SemiHard() if negatives == "semihard" else negatives


def unit_scores(a: Tensor, b: Tensor) -> Tensor:
    return F.normalize(a, dim=1) @ F.normalize(b, dim=1).T


@backends
@pytest.mark.parametrize("negatives", ["all", "hardest", TopK(2)])
def test_statistics_of_pairs(negatives: object, backend: object) -> None:
    queries, candidates = numbers(6, 4, 1, torch.float64), numbers(8, 4, 2, torch.float64)
    ids = torch.tensor([0, 0, 1, 2, 3, 4]), torch.tensor([0, 0, 1, 2, 3, 4, 4, 9])
    told = {"negatives": negatives, "backend": backend, "margin": 0.3}
    _, stats = contrastive_loss(
        queries, candidates, query_ids=ids[0], candidate_ids=ids[1], return_stats=True, **told
    )
    s = unit_scores(queries, candidates)
    free = ids[0][:, None] != ids[1][None]
    k = {"all": 8, "hardest": 1}.get(negatives, 2) if isinstance(negatives, str) else 2
    terms = []
    big = torch.zeros(14, 14, dtype=torch.float64)
    big[:6, 6:], big[6:, :6] = s, s.T
    for anchor in range(12):
        row = anchor if anchor < 6 else anchor - 6
        others = (
            [6 + j for j in range(8) if free[row, j]]
            if anchor < 6
            else [i for i in range(6) if free[i, row]]
        )
        own = 6 + row if anchor < 6 else row
        ranked = sorted(others, key=lambda j, a=anchor: -float(big[a, j]))[:k]
        values = 0.3 - big[anchor, own] + big[anchor, ranked]
        terms.append((anchor, own, ranked, values))
    expected = naive_statistics(big, terms)
    found = stats.as_dict()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value), name
    assert found["masked_count"] == int((~free).sum()) - 6
    assert not stats.gap.requires_grad


@backends
@pytest.mark.parametrize("positives", ["all", "hardest", "easiest"])
@pytest.mark.parametrize("negatives", ["hardest", TopK(2), "all"])
def test_statistics_of_triplets(positives: str, negatives: object, backend: object) -> None:
    x, labels = numbers(9, 4, 1, torch.float64), torch.arange(9) // 3
    told = {"positives": positives, "negatives": negatives, "backend": backend, "margin": 0.3}
    _, stats = triplet_loss(x, labels, return_stats=True, **told)
    s = unit_scores(x, x)
    k = {"all": 9, "hardest": 1}.get(negatives, 2) if isinstance(negatives, str) else 2
    terms = []
    for a in range(9):
        own = [p for p in range(9) if p != a and labels[p] == labels[a]]
        if positives != "all":
            pick = min if positives == "hardest" else max
            own = [pick(own, key=lambda p, a=a: float(s[a, p]))]
        others = [n for n in range(9) if labels[n] != labels[a]]
        ranked = sorted(others, key=lambda n, a=a: -float(s[a, n]))[:k]
        terms += [(a, p, ranked, 0.3 - s[a, p] + s[a, ranked]) for p in own]
    expected = naive_statistics(s, terms)
    found = stats.as_dict()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value), name
    assert found["masked_count"] == 0


@backends
@every
def test_statistics_are_finite_and_detached(which: Case, backend: object) -> None:
    embeddings, groups = arguments(which)
    leaves = [x.requires_grad_() for x in embeddings]
    torch.manual_seed(5)
    value, stats = run(which, leaves, groups, return_stats=True, backend=backend)
    expected, _ = value_and_gradients(which, embeddings, groups, backend=backend)
    torch.testing.assert_close(value.detach(), expected)
    for name, number in stats.as_dict().items():
        assert math.isfinite(number), name
        assert not getattr(stats, name).requires_grad
    assert 0 <= stats.active_fraction <= 1
    s = unit_scores(embeddings[0], embeddings[-1])
    if which.similarity == "cosine":
        assert s.min() - 1e-5 <= stats.hardest_negative_mean <= s.max() + 1e-5


@backends
@every
def test_the_means_are_over_all_negatives(which: Case, backend: object) -> None:
    """... whichever of them the loss uses, where no anchor is left out; classes are of one size here."""
    if resolve_negatives(which) == SemiHard("none") or "distance_weighted" in str(which):
        pytest.skip("the strategy leaves anchors out")
    embeddings, groups = arguments(which, n=9, m=11)
    told = {"return_stats": True, "directions": "queries", "backend": backend}
    _, stats = run(which, embeddings, groups, **told)
    x, y = embeddings[0], embeddings[-1]
    s = unit_scores(x, y) if which.similarity == "cosine" else -torch.cdist(x, y)
    own = torch.eye(9, 11, dtype=torch.bool)
    positive, negative = own, ~own
    if groups:
        kin = groups[0][:, None] == groups[0]
        positive, negative = kin & ~own[:, :9], ~kin
    of_anchor = {
        "hardest": s.masked_fill(~positive, math.inf).amin(1),
        "easiest": s.masked_fill(~positive, -math.inf).amax(1),
    }
    chosen = of_anchor.get(which.positives)
    mean = s[positive].mean() if chosen is None else chosen.mean()
    hardest = s.masked_fill(~negative, -math.inf).amax(1).mean()
    torch.testing.assert_close(stats.positive_mean, mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(stats.hardest_negative_mean, hardest, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(stats.gap, mean - hardest, rtol=1e-4, atol=1e-5)


@backends
@every
def test_statistics_do_not_depend_on_the_backend(which: Case, backend: object) -> None:
    embeddings, groups = arguments(which)
    torch.manual_seed(5)
    _, found = run(which, embeddings, groups, return_stats=True, backend=backend)
    torch.manual_seed(5)
    _, expected = run(which, embeddings, groups, return_stats=True, backend="dense")
    for name, number in expected.as_dict().items():
        assert found.as_dict()[name] == pytest.approx(number, rel=1e-4, abs=1e-5), name


# Modules

MODULES = [
    hardneg.ContrastiveLoss(negatives=TopK(3), similarity="order"),
    hardneg.InfoNCELoss(hardneg.Learned(0.07)),
    hardneg.UnifiedPairLoss(),
    hardneg.PolynomialLoss(),
    hardneg.SigmoidLoss(hardneg.Learned(0.1, max_scale=1000)),
    hardneg.TripletLoss(positives="hardest"),
    hardneg.NTXentLoss(hardneg.Learned(0.07)),
    hardneg.SupConLoss(),
    hardneg.PairwiseContrastiveLoss(),
    hardneg.MarginLoss(negatives="all", beta=hardneg.Learned(1.2)),
    hardneg.MultiSimilarityLoss(),
    hardneg.CircleLoss(),
]
modules = pytest.mark.parametrize("loss", MODULES, ids=lambda loss: type(loss).__name__)
TWO_SETS = ("ContrastiveLoss", "InfoNCELoss", "UnifiedPairLoss", "PolynomialLoss", "SigmoidLoss")


def of_module(loss: torch.nn.Module) -> Tensor:
    x = numbers(8, 4, 3)
    second = numbers(8, 4, 4) if type(loss).__name__ in TWO_SETS else torch.arange(8) // 2
    return loss(x, second)


@modules
def test_modules_are_copied_and_stored(loss: torch.nn.Module) -> None:
    expected = of_module(loss)
    for other in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert torch.equal(of_module(other), expected)
        assert repr(other) == repr(loss)
    state = loss.state_dict()
    other = type(loss)()
    other.load_state_dict(state)
    assert other.state_dict().keys() == state.keys()
    for name, value in other.state_dict().items():
        assert torch.equal(value, state[name])


@modules
def test_modules_print_their_choices(loss: torch.nn.Module) -> None:
    text = repr(loss)
    assert text.startswith(type(loss).__name__)
    assert str(loss.negatives) in text


LEARNED = [
    (InfoNCELoss, {"temperature": Learned(0.1)}),
    (InfoNCELoss, {"temperature": Learned(0.1), "negatives": TopK(2)}),
    (NTXentLoss, {"temperature": Learned(0.1)}),
    (NTXentLoss, {"temperature": Learned(0.1), "negatives": TopK(2)}),
    (SupConLoss, {"temperature": Learned(0.1)}),
    (SupConLoss, {"temperature": Learned(0.1), "negatives": TopK(2)}),
    (SigmoidLoss, {"temperature": Learned(0.1), "bias": Learned(-1.0)}),
    (SigmoidLoss, {"temperature": Learned(0.1), "bias": Learned(-1.0), "negatives": TopK(2)}),
]


@backends
@pytest.mark.parametrize(("kind", "options"), LEARNED)
def test_a_learnable_temperature_has_the_dense_gradient(
    kind: type, options: dict[str, object], backend: object
) -> None:
    found = []
    for how in (backend, "dense"):
        loss = kind(temperature=0.3, backend=how, **options)
        of_module(loss).backward()
        found.append([p.grad for p in loss.parameters()])
    assert found[0][0].abs() > 1e-3
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_the_temperature_of_clip() -> None:
    """Against autograd over the formula that the docstring gives."""
    queries, candidates = numbers(6, 4, 0), numbers(6, 4, 1)
    scale = torch.tensor(-math.log(0.3), requires_grad=True)
    z = F.normalize(queries) @ F.normalize(candidates).T * scale.exp()
    target = torch.arange(6)
    expected = (F.cross_entropy(z, target) + F.cross_entropy(z.T, target)) / 2
    expected.backward()
    loss = InfoNCELoss(0.3, learnable_temperature=True)
    value = loss(queries, candidates)
    value.backward()
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(loss.temperature.logit_scale.grad, scale.grad[None])


def test_the_temperature_and_bias_of_siglip() -> None:
    queries, candidates = numbers(6, 4, 0), numbers(6, 4, 1)
    scale = torch.tensor(math.log(10.0), requires_grad=True)
    bias = torch.tensor(-10.0, requires_grad=True)
    z = F.normalize(queries) @ F.normalize(candidates).T * scale.exp() + bias
    expected = -F.logsigmoid((2 * torch.eye(6) - 1) * z).sum() / 6
    expected.backward()
    loss = SigmoidLoss(Learned(0.1, max_scale=1000))
    value = loss(queries, candidates)
    value.backward()
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(loss.temperature.logit_scale.grad, scale.grad[None])
    torch.testing.assert_close(loss.bias.grad, bias.grad[None])


@backends
def test_the_bound_of_the_scale_lets_the_gradient_pass(backend: object) -> None:
    told = {"temperature": Learned(0.1), "max_scale": 5.0, "backend": backend}
    loss = InfoNCELoss(0.1, **told)
    bounded = InfoNCELoss(0.2, learnable_temperature=False, backend=backend)
    value = of_module(loss)
    torch.testing.assert_close(value, of_module(bounded))
    value.backward()
    assert loss.temperature.logit_scale.grad.abs() > 1e-3


@backends
@paired
def test_a_strategy_may_be_given_with_every_call(which: Case, backend: object) -> None:
    names = {"contrastive": hardneg.ContrastiveLoss, "info_nce": InfoNCELoss}
    if which.name not in names:
        pytest.skip("one hinge loss and one softmax loss stand for all: they share the argument")
    schedule = Warmup(TopK(2), Hardest(), steps=3)
    stages = Steps((0, TopK(2)), (3, Hardest()))
    queries, candidates = numbers(6, 4, 0), numbers(6, 4, 1)
    kind = names[which.name]
    loss = kind(negatives="all", backend=backend)
    for step in range(5):
        expected = kind(negatives=TopK(2) if step < 3 else Hardest(), backend=backend)
        for of_step in (schedule(step), stages(step)):
            value = loss(queries, candidates, negatives=of_step)
            assert torch.equal(value, expected(queries, candidates))
    assert loss.negatives == All()


@modules
def test_every_module_takes_a_strategy_with_the_call(loss: torch.nn.Module) -> None:
    x = numbers(8, 4, 3)
    second = numbers(8, 4, 4) if type(loss).__name__ in TWO_SETS else torch.arange(8) // 2
    negatives = hardneg.RandomK(2) if isinstance(loss, hardneg.MarginLoss) else TopK(2)
    with torch.no_grad():
        other = copy.deepcopy(loss)
        other.negatives = negatives
        torch.manual_seed(1)
        expected = other(x, second)
        torch.manual_seed(1)
        assert torch.equal(loss(x, second, negatives=negatives), expected)


@backends
@pytest.mark.parametrize("positives", ["paired", "all"])
@pytest.mark.parametrize("loss", [info_nce_loss, sigmoid_loss])
def test_all_positives_of_pairs(loss: object, positives: str, backend: object) -> None:
    """With one candidate an id both choices of positives are the same loss."""
    queries, candidates = numbers(6, 4, 0, torch.float64), numbers(6, 4, 1, torch.float64)
    ids = {"query_ids": torch.arange(6), "candidate_ids": torch.arange(6)}
    found = loss(queries, candidates, positives=positives, backend=backend, **ids)
    torch.testing.assert_close(found, loss(queries, candidates, backend="dense"))


def test_the_cases_cover_every_loss() -> None:
    import hardneg.functional

    known = {which.name + "_loss" for which in EVERY}
    assert known == set(hardneg.functional.__all__)
    assert case("contrastive", "paired").kind == "paired"
