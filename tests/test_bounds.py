"""Bounds made from scores: what equals one to within rounding lies on neither side, however scores are computed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import hardneg.functional as H
from hardneg import (
    All,
    Ceiling,
    Hardest,
    RandomK,
    RankWindow,
    SelectiveHardest,
    SemiHard,
    Tiled,
    TopK,
)
from hardneg.losses.call import Call
from hardneg.losses.terms.windows import bound_of, pair_rounding, window_of_pairs
from hardneg.negatives.selection import Selection
from hardneg.ops.backends import bind
from hardneg.ops.comparison import Comparison, Relation, Window
from hardneg.ops.energies import Linear
from hardneg.ops.requests import (
    BatchAllTerms,
    ExponentialTerms,
    PairSearch,
    PenaltyTerms,
    Search,
)
from hardneg.ops.scores import Scores
from hardneg.penalties import Hinge, Logistic
from hardneg.similarities import Cosine, Dot, Euclidean, Order, SquaredEuclidean


def product(queries: Tensor, candidates: Tensor) -> Tensor:
    """A callable: the inner product, less something of its own."""
    return queries @ candidates.T - 0.3 * candidates.norm(dim=1)


SIMILARITIES = (Cosine(), Dot(), Euclidean(), SquaredEuclidean(), Order(), product)
BACKENDS = ("auto", "dense", Tiled((100, 64)))
DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)

similarities = pytest.mark.parametrize(
    "similarity", SIMILARITIES, ids=lambda s: getattr(s, "code", "callable")
)
backends = pytest.mark.parametrize("backend", BACKENDS, ids=["auto", "dense", "tiles of 100x64"])
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: str(d)[6:])


def batch(n: int, d: int, seed: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    """n images and their captions, of which every text stands twice, in two random places; and where."""
    g = torch.Generator().manual_seed(seed)
    which = (torch.arange(n) // 2)[torch.randperm(n, generator=g)]
    texts = torch.randn(n // 2 + 1, d, generator=g) + torch.randn(d, generator=g)
    captions = texts[which]
    images = captions + 0.8 * torch.randn(n, d, generator=g)
    twins = (which[:, None] == which).fill_diagonal_(fill_value=False)
    return images.to(dtype), captions.to(dtype), twins


def compared(n: int, d: int, seed: int, similarity: Any, dtype: torch.dtype) -> Comparison:
    """Of each query's candidates its own and that one's duplicate, where there is one; the others are ignored."""
    images, captions, twins = batch(n, d, seed, dtype)
    return Comparison(images, captions, similarity, Relation(paired=True, ignore=~twins))


def below(scores: Scores, ceiling: Ceiling) -> Call:
    """A call whose queries have their negatives below the ceiling."""
    return Call(scores, All(ceiling=ceiling), "mean", "queries", statistics=False)


def nobody(found: Tensor) -> bool:
    """Whether a search found nothing for anyone."""
    return bool((found == -1).all())


@backends
@similarities
@dtypes
def test_a_duplicate_of_the_positive_is_not_below_it(
    dtype: torch.dtype, similarity: Any, backend: Any
) -> None:
    """In any reduction, on either side, in a batch that fills several tiles and ends at an edge of one."""
    for n, d in ((257, 5), (270, 129)):
        comparison = compared(n, d, n + d, similarity, dtype)
        scores, own = bind(backend, comparison), torch.arange(n)
        p = scores.pairs(own, own)
        bound = bound_of(below(scores, Ceiling()), own, own, p)
        window = window_of_pairs(below(scores, Ceiling()), own, p)
        for k in (1, 3):
            search = Search(Selection("highest", k), window=window, columns=False)
            assert nobody(scores.select(search).rows)
        sums = scores.penalty_sum(PenaltyTerms(Logistic(), p, window=window))
        assert (sums.rows == 0).all()
        terms = ExponentialTerms(Linear(), window=window, columns=False)
        assert scores.logsumexp(terms).rows.isneginf().all()
        assert nobody(scores.select_per_pair(PairSearch(own, bound, Selection("highest", 1))))
        turned = Search(Selection("highest", 1), window=Window(column_ceiling=bound), rows=False)
        assert nobody(scores.swapped().select(turned).columns)
        for penalty in (Logistic(), Hinge()):
            found = scores.batch_all(BatchAllTerms(penalty, 0.1, Ceiling(), per_pair=True))
            assert (found.sums == 0).all()
            assert (found.pairs == 0).all()


@backends
@similarities
@dtypes
def test_a_duplicate_is_not_above_the_floor(
    dtype: torch.dtype, similarity: Any, backend: Any
) -> None:
    comparison = compared(301, 24, 8, similarity, dtype)
    scores, own = bind(backend, comparison), torch.arange(301)
    p = scores.pairs(own, own)
    bound = pair_rounding(scores, own, own, p).above(p)
    search = Search(Selection("highest", 1), window=Window(row_floor=bound), columns=False)
    assert nobody(scores.select(search).rows)


@pytest.mark.parametrize("ceiling", [Ceiling(), Ceiling(0.9), Ceiling(1.5), Ceiling(1.0, -0.25)])
@backends
@similarities
def test_what_is_below_by_a_little_is_found(
    similarity: Any, backend: Any, ceiling: Ceiling
) -> None:
    """Candidates below and above the bound by a few times the rounding, and by no less."""
    n, d = 300, 64
    images, captions, _ = batch(n, d, 3)
    comparison = Comparison(images, captions, similarity, Relation(paired=True))
    scores, own = bind(backend, comparison), torch.arange(n)
    p = scores.pairs(own, own)
    bound = bound_of(below(scores, ceiling), own, own, p)
    window = Window(row_ceiling=bound)
    found = scores.select(Search(Selection("highest", 1), window=window, columns=False)).rows[:, 0]
    exact = similarity(images.double(), captions.double())
    limit = ceiling(exact.diagonal())
    width = (limit - bound).abs()
    assert (width > 0).all()
    assert (width < 1e-4 * exact.abs().amax()).all()
    exact.fill_diagonal_(torch.inf)
    expected = exact.masked_fill(exact >= (limit - 2 * width)[:, None], -torch.inf)
    reachable = expected.amax(1) > -torch.inf
    assert reachable.float().mean() > 0.3
    assert (found[reachable] >= 0).all()
    chosen = exact[own, found.clamp(min=0)]
    assert (chosen[reachable] >= expected.amax(1)[reachable] - width[reachable]).all()
    assert (chosen[found >= 0] < limit[found >= 0]).all()


@pytest.mark.parametrize("offset", [0.0, -1.0, 2.0])
@backends
@pytest.mark.parametrize(
    "similarity", [Dot(), SquaredEuclidean(), product], ids=["dot", "sq", "callable"]
)
def test_whole_numbers_stay_exact(similarity: Any, backend: Any, offset: float) -> None:
    """Scores that differ differ by 1, far more than rounding, so those next to the bound are told apart."""
    g = torch.Generator().manual_seed(1)
    x, y = (torch.randint(-3, 4, (270, 9), generator=g).float() for _ in range(2))
    if similarity is product:
        y[:, 4:] = 0
        y = F.one_hot(torch.randint(0, 9, (270,), generator=g), 9).float()

        def whole(q: Tensor, c: Tensor) -> Tensor:
            return 5 * q @ c.T

        similarity = whole
    comparison = Comparison(x, y, similarity, Relation(paired=True))
    scores, own = bind(backend, comparison), torch.arange(270)
    p = scores.pairs(own, own)
    bound = bound_of(below(scores, Ceiling(1.0, offset)), own, own, p)
    search = Search(Selection("highest", 1), window=Window(row_ceiling=bound), columns=False)
    found = scores.select(search).rows[:, 0]
    exact = similarity(x, y).round()
    exact = torch.where(torch.eye(270, dtype=torch.bool), torch.inf, exact)
    limit = similarity(x, y).round().diagonal() + offset
    expected = exact.masked_fill(exact >= limit[:, None], -torch.inf).max(1)
    assert torch.equal(found, torch.where(expected.values.isneginf(), -1, expected.indices))


# Losses


PAIRS: dict[str, tuple[Any, dict[str, Any]]] = {
    "semi-hard": (H.contrastive_loss, {"negatives": "semihard"}),
    "semi-hard or none": (H.contrastive_loss, {"negatives": SemiHard("none")}),
    "all below": (H.contrastive_loss, {"negatives": All(ceiling=Ceiling())}),
    "hardest below": (H.contrastive_loss, {"negatives": Hardest(ceiling=Ceiling())}),
    "top below": (H.contrastive_loss, {"negatives": TopK(3, ceiling=Ceiling())}),
    "random below": (H.contrastive_loss, {"negatives": RandomK(200, ceiling=Ceiling())}),
    "ranks below": (H.contrastive_loss, {"negatives": RankWindow(0, 2, ceiling=Ceiling())}),
    "softmax below": (H.info_nce_loss, {"negatives": All(ceiling=Ceiling())}),
    "softmax semi-hard": (H.info_nce_loss, {"negatives": "semihard"}),
    "polynomial": (H.polynomial_loss, {"margin": 0.0, "negatives": TopK(2)}),
    "polynomial semi-hard": (H.polynomial_loss, {"negatives": "semihard"}),
}
SETS: dict[str, tuple[Any, dict[str, Any]]] = {
    "semi-hard": (H.triplet_loss, {"positives": "all", "negatives": "semihard"}),
    "of the hardest": (H.triplet_loss, {"positives": "hardest", "negatives": "semihard"}),
    "batch-all below": (H.triplet_loss, {"negatives": All(ceiling=Ceiling())}),
    "batch-all below, none": (
        H.triplet_loss,
        {"negatives": All(ceiling=Ceiling()), "reduction": "none"},
    ),
    "softmax of pairs": (H.nt_xent_loss, {"negatives": TopK(3, ceiling=Ceiling())}),
    "two-sided": (H.multi_similarity_loss, {"epsilon": 0.0}),
    "two-sided, apart": (H.multi_similarity_loss, {"epsilon": 0.1, "negatives": TopK(4)}),
}


def assert_same_loss(found: Any, expected: Any) -> None:
    """A loss in float32, and the definition in float64."""
    pairs = zip(found, expected, strict=True) if isinstance(found, tuple) else [(found, expected)]
    for x, y in pairs:
        torch.testing.assert_close(x.double(), y, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("name", PAIRS)
@backends
@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclidean"])
def test_losses_of_pairs_with_duplicates(name: str, similarity: str, backend: Any) -> None:
    """In float64 the definition tells duplicates by far less: it has no other scores near the bound."""
    loss, options = PAIRS[name]
    if similarity != "cosine" and name.startswith("polynomial"):
        pytest.skip("its polynomials are made for cosines")
    images, captions, _ = batch(300, 16, 4)
    images, captions = images / 8, captions / 8
    chosen = {**options, "similarity": similarity, "reduction": "mean"}
    torch.manual_seed(0)
    found = loss(images, captions, **chosen, backend=backend)
    torch.manual_seed(0)
    expected = loss(images.double(), captions.double(), **chosen, backend="dense")
    assert_same_loss(found, expected)
    assert expected > 0


@pytest.mark.parametrize("name", SETS)
@backends
@pytest.mark.parametrize("similarity", ["cosine", "squared_euclidean"])
def test_losses_of_sets_with_duplicates(name: str, similarity: str, backend: Any) -> None:
    """Each row's double has another label, so it scores exactly as the row itself does, positive for others."""
    loss, options = SETS[name]
    g = torch.Generator().manual_seed(7)
    x = torch.randn(151, 16, generator=g) / 6
    x = torch.cat([x, x])[torch.randperm(302, generator=g)]
    labels = torch.randint(0, 120, (302,), generator=g)  # few pairs: chance brings no near-ties
    chosen = {**options, "similarity": similarity}
    found = loss(x, labels, **chosen, backend=backend)
    expected = loss(x.double(), labels, **chosen, backend="dense")
    assert_same_loss(found, expected)


@pytest.mark.parametrize("n", [256, 258, 600])
def test_duplicate_captions_are_not_semi_hard(n: int) -> None:
    """Written out in float64: the hardest negative that scores below the positive, the duplicate being none."""
    torch.manual_seed(0)
    half = torch.randn(n // 2, 256)
    captions = torch.cat([half, half])
    images = captions + 3.0 * torch.randn(n, 256)
    s = F.normalize(images.double()) @ F.normalize(captions.double()).T
    p, own = s.diagonal().clone(), torch.arange(n)
    twin = (own + n // 2) % n
    below = s < p[:, None]
    below[own, own] = below[own, twin] = False
    hardest = s.masked_fill(~below, -9).amax(1)
    easiest = s.scatter(1, own[:, None], 9.0).amin(1)
    expected = (0.2 - p + torch.where(hardest > -9, hardest, easiest)).clamp(min=0).mean()
    found = H.contrastive_loss(images, captions, negatives="semihard", directions="queries")
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=0)
    logits = (20 * s).masked_fill(~below, -torch.inf).logsumexp(1)
    expected = F.softplus(logits - 20 * p).mean()
    found = H.info_nce_loss(
        images, captions, negatives=All(ceiling=Ceiling()), temperature=0.05, directions="queries"
    )
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("precision", ["high", "medium"])
@pytest.mark.parametrize(
    "similarity",
    [Cosine(), Dot(), Euclidean(), product],
    ids=["cosine", "dot", "euclidean", "callable"],
)
def test_products_with_fewer_bits(similarity: Any, precision: str) -> None:
    """Where ``torch.set_float32_matmul_precision`` lets products round their factors, more counts as equal."""
    comparison = compared(300, 96, 5, similarity, torch.float32)
    scores, own = bind("auto", comparison), torch.arange(300)
    torch.set_float32_matmul_precision(precision)
    try:
        p = scores.pairs(own, own)
        bound = bound_of(below(scores, Ceiling()), own, own, p)
        search = Search(Selection("highest", 1), window=Window(row_ceiling=bound), columns=False)
        found = scores.select(search).rows
    finally:
        torch.set_float32_matmul_precision("highest")
    assert nobody(found)


@backends
def test_the_guard_of_selective_hardest_counts_equality(backend: Any) -> None:
    """Positive and hardest negative exactly a threshold apart in real numbers: not closer than it."""
    n = 260
    g = torch.Generator().manual_seed(2)
    turn = torch.linalg.qr(torch.randn(n, n, generator=g, dtype=torch.float64)).Q
    one = torch.eye(n, dtype=torch.float64)
    q, c = turn.float(), ((0.7 * one + 0.4 * one.roll(1, 1)) @ turn).float()
    chosen = {"similarity": "dot", "directions": "queries", "reduction": "none", "margin": 0.5}
    close = SelectiveHardest(threshold=0.3)
    found, _ = H.contrastive_loss(q, c, negatives=close, backend=backend, **chosen)
    hardest, _ = H.contrastive_loss(q, c, negatives="hardest", backend=backend, **chosen)
    assert (hardest > 0.1).all()
    torch.testing.assert_close(found, hardest)
