"""``from_scores``: every loss on a matrix that the caller has, against the same loss on embeddings with that matrix."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from every_loss import BACKEND_IDS, BACKENDS, EVERY, Case
from torch import Tensor

import hardneg
from hardneg import Ceiling, ContrastiveLoss, InfoNCELoss, MarginLoss, SupConLoss, TopK, TripletLoss
from hardneg.losses.base import Loss

CASES = [c for c in EVERY if c.negatives != "distance_weighted"]
SHAPES = ((6, 6), (5, 13), (40, 40), (300, 300))


def total(value: Any) -> Tensor:
    """One number of a loss, or of its terms."""
    parts = value if isinstance(value, tuple) else (value,)
    return torch.stack([part.sin().sum() for part in parts]).sum()


def loss_of(case: Case, **options: Any) -> Any:
    return case.about.module(**{**dict(case.options), **options})


def matrix_and_embeddings(case: Case, n: int, m: int) -> tuple[Tensor, Tensor, Tensor]:
    """Embeddings, and their scores by the similarity of the loss."""
    g = torch.Generator().manual_seed(n * 100 + m)
    q, c = (torch.rand(rows, 9, generator=g, dtype=torch.float64) for rows in (n, m))
    if case.kind == "labelled" and n == m:
        c = q
    similarity = loss_of(case).similarity
    return similarity(q, c), q, c


def named(case: Case, n: int, m: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Ids, as ``from_scores`` and as the call take them."""
    if case.kind == "paired":
        ids = torch.arange(n) // 2
        both = {"query_ids": ids, "candidate_ids": torch.cat([ids, torch.arange(m - n) // 3])}
        return both, both
    labels = torch.arange(n) % 3
    if n == m:
        return {"labels": labels}, {"labels": labels}
    sides = {"labels": labels, "reference_labels": torch.arange(m) % 4}
    return sides, sides


@pytest.mark.parametrize("backend", BACKENDS, ids=BACKEND_IDS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_the_loss_of_the_embeddings(case: Case, backend: Any) -> None:
    for n, m in SHAPES[:3]:
        scores, q, c = matrix_and_embeddings(case, n, m)
        of_scores, of_embeddings = named(case, n, m)
        loss, dense = loss_of(case, backend=backend), loss_of(case, backend="dense")
        torch.manual_seed(3)
        found = loss.from_scores(scores, **of_scores)
        torch.manual_seed(3)
        if case.kind == "labelled":
            sides = (q,) if n == m else (q, of_embeddings["labels"], c)
            rest = dict(of_embeddings)
            if n != m:
                rest.pop("labels")
            expected = dense(*sides, **rest)
        else:
            expected = dense(q, c, **of_embeddings)
        torch.testing.assert_close(total(found), total(expected), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("backend", BACKENDS, ids=BACKEND_IDS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradient_of_the_scores(case: Case, backend: Any) -> None:
    n, m = 7, 7 if case.kind == "labelled" else 10
    scores, _, _ = matrix_and_embeddings(case, n, m)
    ids, _ = named(case, n, m)
    found = []
    for chosen in (backend, "dense"):
        s = scores.clone().requires_grad_()
        torch.manual_seed(0)
        found += torch.autograd.grad(total(loss_of(case, backend=chosen).from_scores(s, **ids)), s)
    torch.testing.assert_close(found[0], found[1], rtol=1e-9, atol=1e-12)
    assert found[1].abs().sum() > 0


@pytest.mark.parametrize("negatives", ["hardest", "all", "semihard", TopK(3)], ids=str)
@pytest.mark.parametrize("directions", ["both", "queries", "candidates"])
def test_large_matrices_in_tiles(negatives: Any, directions: Any) -> None:
    scores = torch.randn(300, 420, generator=torch.Generator().manual_seed(1))
    values = []
    for backend in ("auto", "dense"):
        s = scores.clone().requires_grad_()
        loss = ContrastiveLoss(negatives=negatives, directions=directions, backend=backend)
        value = loss.from_scores(s)
        values.append((value, *torch.autograd.grad(value, s)))
    torch.testing.assert_close(values[0], values[1])


def test_gradcheck() -> None:
    scores = torch.randn(5, 5, dtype=torch.float64, requires_grad=True)
    for loss in (ContrastiveLoss(negatives="all", backend="tiled"), InfoNCELoss(0.5)):
        assert torch.autograd.gradcheck(loss.from_scores, scores)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sixteen_bit_scores(dtype: torch.dtype) -> None:
    scores = torch.randn(30, 30).to(dtype)
    for backend in BACKENDS:
        s, exact = scores.clone().requires_grad_(), scores.double().requires_grad_()
        value = InfoNCELoss(0.5, backend=backend).from_scores(s)
        expected = InfoNCELoss(0.5).from_scores(exact)
        assert value.dtype == torch.float32
        torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-5)
        (found,), (right,) = torch.autograd.grad(value, s), torch.autograd.grad(expected, exact)
        assert found.dtype == dtype
        torch.testing.assert_close(found.double(), right, rtol=0.01, atol=1e-5)


def test_a_score_that_equals_a_bound_is_outside_and_its_neighbours_are_not() -> None:
    """Given scores are what they are: no rounding widens a bound."""
    below = torch.nextafter(torch.tensor(0.5), torch.tensor(0.0)).item()
    scores = torch.tensor([[0.5, 0.5, below], [0.0, 0.5, 0.0], [0.0, 0.0, 0.5]])
    for backend in BACKENDS:
        given = scores.clone().requires_grad_()
        loss = ContrastiveLoss(1.0, "semihard", directions="queries", backend=backend)
        loss.from_scores(given).backward()
        assert given.grad is not None
        assert given.grad[0].sign().tolist() == [-1.0, 0.0, 1.0]


def test_statistics_and_schedules() -> None:
    scores = torch.eye(4) + 0.1 * torch.arange(16).view(4, 4) / 16
    value, found = ContrastiveLoss().from_scores(scores, return_stats=True, negatives="all")
    assert value > 0 or found.active_fraction == 0
    assert found.positive_mean == scores.diagonal().mean()
    assert not found.collapsed


def test_one_set_leaves_itself_out() -> None:
    x = torch.nn.functional.normalize(torch.randn(8, 5, dtype=torch.float64))
    labels = torch.arange(8) // 2
    loss = SupConLoss(0.2)
    torch.testing.assert_close(loss.from_scores(x @ x.T, labels), loss(x, labels))
    mask = labels[:, None] == labels
    found = loss.from_scores(x @ x.T, positive_mask=mask, same_set=True)
    torch.testing.assert_close(found, loss(x, labels))


def test_distances_are_negated() -> None:
    x, labels = torch.randn(8, 5, dtype=torch.float64), torch.arange(8) // 2
    for loss in (MarginLoss(negatives="all"), TripletLoss(similarity="euclidean")):
        torch.testing.assert_close(loss.from_scores(-torch.cdist(x, x), labels), loss(x, labels))


def test_compiles_whole() -> None:
    scores = torch.randn(20, 20, requires_grad=True)
    loss = ContrastiveLoss(negatives=TopK(2, Ceiling(0.9)))
    compiled = torch.compile(loss.from_scores, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(scores), loss.from_scores(scores))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_not_hidden(bad: float) -> None:
    scores = torch.randn(4, 4)
    scores[1, 2] = bad
    for backend in BACKENDS:
        assert ContrastiveLoss(backend=backend).from_scores(scores).isnan()


MISTAKES: list[tuple[Loss, tuple[Any, ...], dict[str, Any], str]] = [
    (ContrastiveLoss(), ([[1.0]],), {}, "scores is a list"),
    (ContrastiveLoss(), (torch.randn(3),), {}, r"scores has shape \(3,\)"),
    (ContrastiveLoss(), (torch.ones(2, 2, dtype=torch.long),), {}, "floating-point"),
    (ContrastiveLoss(), (torch.randn(0, 4),), {}, "empty"),
    (ContrastiveLoss(), (torch.randn(4, 3),), {}, "4 queries but 3 candidates"),
    (ContrastiveLoss(), (torch.randn(2, 4),), {}, "without ids"),
    (SupConLoss(), (torch.randn(3, 4), torch.arange(3)), {}, "labels of the columns"),
    (SupConLoss(), (torch.randn(3, 3),), {"positive_mask": torch.eye(3) > 0}, "same_set"),
    (SupConLoss(), (torch.randn(3, 3),), {}, "labels or a positive_mask"),
    (MarginLoss(), (-torch.rand(4, 4), torch.arange(4) // 2), {}, "depend on the width"),
    (
        SupConLoss(directions="both"),
        (torch.randn(4, 4), torch.arange(4) // 2),
        {},
        "with one set",
    ),
]


@pytest.mark.parametrize(("loss", "arguments", "options", "message"), MISTAKES)
def test_mistakes(
    loss: Any, arguments: tuple[Any, ...], options: dict[str, Any], message: str
) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        loss.from_scores(*arguments, **options)


def test_kernels_have_nothing_to_fuse() -> None:
    loss = hardneg.ContrastiveLoss()
    loss.backend = "triton"
    with pytest.raises(ValueError, match=r"given|Triton"):
        loss.from_scores(torch.randn(3, 3))
