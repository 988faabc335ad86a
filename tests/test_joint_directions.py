"""``InfoNCELoss(directions="joint")``: one softmax over negatives of three kinds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from every_loss import BACKEND_IDS, BACKENDS
from torch import Tensor, nn
from torch.nn import functional as F

from hardneg import All, Cosine, InfoNCELoss, Qwen3Mask, TopK

T = 0.2


def formula(
    q: Tensor,
    c: Tensor,
    ids: Tensor,
    other_ids: Tensor,
    own: Tensor | None = None,
    offset: float | None = None,
) -> Tensor:
    """The loss of Qwen3-Embedding: related pairs, and those above the positive by more than the offset, left out."""
    n = len(q)
    q, c = F.normalize(q), F.normalize(c)
    s = q @ c.T
    p = s.diagonal()[:n, None]
    same = torch.arange(n)[:, None] == torch.arange(len(c))
    kinds = [
        (s, (ids[:, None] == other_ids) | same),
        (q @ q.T, ids[:, None] == ids),
        (c[:n] @ c.T, (other_ids[:n, None] == other_ids) | same),
    ]
    if own is not None:
        of_own = (q[:, None] * F.normalize(own, dim=-1)).sum(-1)
        kinds.append((of_own, torch.zeros_like(of_own, dtype=torch.bool)))
    logits = [p / T]
    for x, left_out in kinds:
        gone = left_out if offset is None else left_out | (x > p + offset)
        logits.append((x / T).masked_fill(gone, -torch.inf))
    return -F.log_softmax(torch.cat(logits, 1), 1)[:, 0]


def batch(n: int, m: int) -> tuple[Tensor, ...]:
    g = torch.Generator().manual_seed(n)
    shapes = (n, 8), (m, 8), (n, 3, 8)
    q, c, own = (torch.randn(*s, generator=g, dtype=torch.float64) for s in shapes)
    ids = torch.arange(n) // 2
    return q, c, own, ids, torch.cat([ids, torch.arange(m - n) + 100])


@pytest.mark.parametrize("backend", BACKENDS, ids=BACKEND_IDS)
@pytest.mark.parametrize("offset", [None, 0.1, -0.2])
@pytest.mark.parametrize("with_own", [False, True])
def test_equals_the_formula(backend: Any, offset: float | None, with_own: bool) -> None:
    negatives = "all" if offset is None else All(Qwen3Mask(offset))
    loss = InfoNCELoss(T, negatives, directions="joint", reduction="none", backend=backend)
    for n, m in ((6, 6), (5, 13), (40, 40)):
        q, c, own, ids, other_ids = batch(n, m)
        given = [x.clone().requires_grad_() for x in (q, c, own)]
        more = {"own_negatives": given[2]} if with_own else {}
        terms, none = loss(*given[:2], query_ids=ids, candidate_ids=other_ids, **more)
        exact = [x.clone().requires_grad_() for x in (q, c, own)]
        expected = formula(*exact[:2], ids, other_ids, exact[2] if with_own else None, offset)
        assert none.numel() == 0
        torch.testing.assert_close(terms, expected, rtol=1e-9, atol=1e-10)
        sides = slice(None) if with_own else slice(2)
        found = torch.autograd.grad(terms.sin().sum(), given[sides])
        right = torch.autograd.grad(expected.sin().sum(), exact[sides])
        torch.testing.assert_close(found, right, rtol=1e-8, atol=1e-10)


def test_a_guide_looks_at_all_three_kinds() -> None:
    """GISTEmbedLoss of sentence-transformers, whose mean is over all queries."""
    q, c, _, _, _ = batch(12, 12)
    gq, gc = torch.randn(12, 5, dtype=torch.float64), torch.randn(12, 5, dtype=torch.float64)
    similarity = Cosine()
    limit = similarity(gq, gc).diagonal()[:, None]
    logits, own = [], torch.eye(12, dtype=torch.bool)
    for (a, b), (x, y), alike in (
        ((q, c), (gq, gc), False),
        ((q, q), (gq, gq), True),
        ((c, c), (gc, gc), True),
    ):
        gone = (similarity(x, y) > limit) | (own if alike else False)
        logits.append((similarity(a, b) / T).masked_fill(gone, -torch.inf))
    expected = F.cross_entropy(torch.cat(logits, 1), torch.arange(12), reduction="sum")
    loss = InfoNCELoss(T, directions="joint", reduction="sum")
    torch.testing.assert_close(loss(q, c, guide=(gq, gc)), expected)


class Fake(nn.Module):
    """A model of sentence-transformers whose features are its embeddings."""

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return features

    def similarity(self, a: Tensor, b: Tensor) -> Tensor:
        return F.normalize(a) @ F.normalize(b).T


def test_equals_sentence_transformers() -> None:
    losses = pytest.importorskip(
        "sentence_transformers.sentence_transformer.losses", exc_type=ImportError
    )
    q, c, _, _, _ = batch(8, 8)
    theirs = losses.MultipleNegativesRankingLoss(
        Fake(),
        scale=1 / T,
        directions=("query_to_doc", "query_to_query", "doc_to_doc"),
        partition_mode="joint",
    )
    expected = theirs.compute_loss_from_embeddings([q, c], None)
    torch.testing.assert_close(InfoNCELoss(T, directions="joint")(q, c), expected)


def test_compiles_whole() -> None:
    q, c, own, ids, other_ids = batch(6, 9)
    loss = InfoNCELoss(T, All(Qwen3Mask()), directions="joint")
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    options = {"query_ids": ids, "candidate_ids": other_ids, "own_negatives": own}
    torch.testing.assert_close(compiled(q, c, **options), loss(q, c, **options))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dtypes(dtype: torch.dtype) -> None:
    q, c, _, ids, _ = batch(40, 40)
    q, c = q.to(dtype), c.to(dtype)
    loss = InfoNCELoss(T, directions="joint")
    exact = loss(q.double(), c.double(), query_ids=ids, candidate_ids=ids)
    for backend in BACKENDS:
        loss.backend = backend
        found = loss(q, c, query_ids=ids, candidate_ids=ids)
        torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-5)


def test_what_it_does_not_take() -> None:
    with pytest.raises(ValueError, match="all of them"):
        InfoNCELoss(negatives=TopK(2), directions="joint")
    with pytest.raises(ValueError, match="paired rows only"):
        InfoNCELoss(positives="all", directions="joint")
    with pytest.raises(ValueError, match="all of them"):
        InfoNCELoss(directions="joint")(torch.randn(3, 4), torch.randn(3, 4), negatives="hardest")
    with pytest.raises(ValueError, match="from_scores"):
        InfoNCELoss(directions="joint").from_scores(torch.randn(3, 3))
