"""``guide``: another model's embeddings leave out likely positives, against the same pairs under an ``ignore_mask``."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from every_loss import BACKEND_IDS, BACKENDS
from torch import Tensor
from torch.nn import functional as F

from hardneg import (
    All,
    Ceiling,
    ContrastiveLoss,
    Cosine,
    InfoNCELoss,
    PolynomialLoss,
    PositiveAware,
    Qwen3Mask,
    RankWindow,
    SigmoidLoss,
    TopK,
    UnifiedPairLoss,
)

LOSSES: dict[str, tuple[type, dict[str, Any]]] = {
    "hardest": (ContrastiveLoss, {}),
    "all": (ContrastiveLoss, {"negatives": "all"}),
    "semi-hard": (ContrastiveLoss, {"negatives": "semihard", "reduction": "none"}),
    "ranks": (ContrastiveLoss, {"negatives": RankWindow(1, 4)}),
    "InfoNCE": (InfoNCELoss, {"temperature": 0.3}),
    "InfoNCE below": (InfoNCELoss, {"temperature": 0.3, "negatives": All(Ceiling(0.9))}),
    "InfoNCE, top 3": (InfoNCELoss, {"temperature": 0.3, "negatives": TopK(3)}),
    "every positive": (InfoNCELoss, {"temperature": 0.3, "positives": "all"}),
    "unified": (UnifiedPairLoss, {}),
    "polynomial": (PolynomialLoss, {}),
    "sigmoid": (SigmoidLoss, {}),
}
CEILINGS = (Ceiling(), PositiveAware(0.9), Ceiling(offset=-0.1), Qwen3Mask(0.1))


def total(value: Any) -> Tensor:
    """One number of a loss, or of its terms."""
    parts = value if isinstance(value, tuple) else (value,)
    return torch.stack([part.sin().sum() for part in parts]).sum()


def too_close(
    guide: Tensor, related: Tensor, ceiling: Ceiling, of_queries: bool, paired: bool
) -> Tensor:
    """The definition: pairs that score, by the guide, at or above the bound over the anchor's positive."""
    if not of_queries:
        return too_close(guide.T, related.T, ceiling, True, paired).T
    n, m = guide.shape
    if paired:
        positive = torch.full((n,), torch.inf)
        positive[: min(n, m)] = guide.diagonal()
    else:
        positive = torch.where(related, guide, -torch.inf).amax(1)
    bound = torch.where(positive.isfinite(), ceiling(positive), torch.inf)
    found: Tensor = (guide > bound[:, None] - 1e-6) & ~related
    return found


@pytest.mark.parametrize("backend", BACKENDS, ids=BACKEND_IDS)
@pytest.mark.parametrize("name", LOSSES)
def test_equals_an_ignore_mask(name: str, backend: Any) -> None:
    kind, options = LOSSES[name]
    g = torch.Generator().manual_seed(7)
    for n, m in ((5, 5), (7, 12), (40, 40)):
        q, c, gq, gc = (torch.randn(*s, generator=g) for s in ((n, 8), (m, 8), (n, 5), (m, 5)))
        q, c = q.double(), c.double()
        ids = torch.arange(n) // 2
        other_ids = torch.cat([ids, torch.arange(m - n) + 50])
        named = {"query_ids": ids, "candidate_ids": other_ids}
        related = (ids[:, None] == other_ids) | (torch.arange(n)[:, None] == torch.arange(m))
        directions = ("queries",) if kind is SigmoidLoss and m > n else ("queries", "candidates")
        for ceiling in CEILINGS:
            for direction in directions:
                paired = "positives" not in options
                by_guide = Cosine()(gq, gc)
                mask = too_close(by_guide, related, ceiling, direction == "queries", paired)
                loss = kind(**options, directions=direction, backend=backend)
                dense = kind(**options, directions=direction, backend="dense")
                sides = [(q.clone().requires_grad_(), c.clone().requires_grad_()) for _ in "ab"]
                found = loss(*sides[0], guide=(gq, gc), guide_ceiling=ceiling, **named)
                expected = dense(*sides[1], ignore_mask=mask, **named)
                torch.testing.assert_close(total(found), total(expected), rtol=1e-9, atol=1e-10)
                gradients = [
                    torch.autograd.grad(total(x), s, allow_unused=True)
                    for x, s in zip((found, expected), sides, strict=True)
                ]
                torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("backend", ["auto", "tiled"])
def test_both_directions_are_the_sum_of_each(backend: Any) -> None:
    g = torch.Generator().manual_seed(1)
    q, c, gq, gc = (torch.randn(300, 8, generator=g) for _ in range(4))
    for negatives in ("hardest", "all", TopK(3)):
        both, *each = (
            ContrastiveLoss(negatives=negatives, directions=d, backend=backend)(
                q, c, guide=(gq, gc)
            )
            for d in ("both", "queries", "candidates")
        )
        torch.testing.assert_close(both, sum(each))


def test_the_formula_of_gistembed() -> None:
    """Queries against candidates; GISTEmbedLoss adds pairs within each side."""
    g = torch.Generator().manual_seed(2)
    q, c, gq, gc = (torch.randn(12, 8, generator=g, dtype=torch.float64) for _ in range(4))
    by_guide = F.normalize(gq) @ F.normalize(gc).T
    z = F.normalize(q) @ F.normalize(c).T / 0.05
    z = z.masked_fill(by_guide > by_guide.diagonal()[:, None], -torch.inf)
    expected = F.cross_entropy(z, torch.arange(12), reduction="sum")
    loss = InfoNCELoss(0.05, directions="queries", reduction="sum")
    found = loss(q, c, guide=(gq, gc))
    torch.testing.assert_close(found, expected)


def test_a_duplicate_of_the_positive_is_left_out() -> None:
    q, c = torch.randn(3, 4), torch.randn(3, 4)
    gq, gc = torch.randn(3, 6), torch.randn(3, 6)
    gc[1] = gc[0]
    c = c.requires_grad_()
    ContrastiveLoss(10.0, "all", directions="queries", reduction="sum")(
        q[:1], c, guide=(gq[:1], gc), ignore_mask=torch.tensor([[False, False, True]])
    ).backward()
    assert c.grad is not None
    assert c.grad[1].abs().sum() == 0


def test_nothing_flows_to_the_guide() -> None:
    x, y = torch.randn(6, 8, requires_grad=True), torch.randn(6, 8)
    gq, gc = torch.randn(6, 3, requires_grad=True), torch.randn(6, 3)
    ContrastiveLoss()(x, y, guide=(gq, gc)).backward()
    assert gq.grad is None


def test_own_negatives_beside_a_guide() -> None:
    q, c, own = torch.randn(6, 8), torch.randn(6, 8), torch.randn(6, 2, 8)
    guide = torch.randn(6, 3), torch.randn(6, 3)
    loss = InfoNCELoss(0.1, directions="queries", reduction="none")
    both, _ = loss(q, c, own_negatives=own, guide=guide)
    guided, _ = loss(q, c, guide=guide)
    assert (both > guided).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_guides_of_any_type_and_compiled(dtype: torch.dtype) -> None:
    q, c = torch.randn(20, 8), torch.randn(20, 8)
    guide = torch.randn(20, 3).to(dtype), torch.randn(20, 3).to(dtype)
    loss = ContrastiveLoss(negatives=TopK(2))
    expected = loss(q, c, guide=tuple(x.float() for x in guide))
    torch.testing.assert_close(loss(q, c, guide=guide), expected)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(q, c, guide=guide), expected)


def test_twice_left_out_is_left_out() -> None:
    """By ids and by the guide, in a tile whose scores are marked by adding the largest number."""
    n = 300
    q, c = torch.randn(n, 8, requires_grad=True), torch.randn(n, 8)
    guide = torch.ones(n, 2), torch.ones(n, 2)
    ids = torch.arange(n) // 3
    for loss in (ContrastiveLoss(negatives="all"), InfoNCELoss(0.1), SigmoidLoss()):
        value = loss(q, c, query_ids=ids, candidate_ids=ids, guide=guide)
        (found,) = torch.autograd.grad(value, q)
        assert value.isfinite()
        assert found.isfinite().all()


X, G = torch.randn(4, 8), torch.randn(4, 3)
MISTAKES = [
    ({"guide": G}, "is a Tensor"),
    ({"guide": (G,)}, "is a tuple"),
    ({"guide": (G, G[:3])}, "guide_candidates has 3 rows"),
    ({"guide": (G, G[:, :2])}, "guide_queries are"),
    ({"guide": (G, None)}, "guide_candidates is a NoneType"),
    ({"guide": (G, G), "guide_ceiling": 0.9}, "guide_ceiling"),
    ({"guide_ceiling": Ceiling()}, "without guide"),
]


@pytest.mark.parametrize(("options", "message"), MISTAKES)
def test_mistakes(options: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        ContrastiveLoss()(X, X.clone(), **options)
