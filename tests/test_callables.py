"""Callable similarities that tiles cannot score, or that are distances, are refused; all others are left alone."""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from every_loss import ONE_OF_EACH, Case, numbers
from torch import Tensor, nn

from hardneg import ContrastiveLoss, InfoNCELoss, Tiled, TripletLoss
from hardneg.functional import contrastive_loss, info_nce_loss
from hardneg.ops import callable_checks

TILED = ("auto", "tiled", Tiled((5, 7)))
in_tiles = pytest.mark.parametrize("backend", TILED, ids=str)
Similarity = Callable[[Tensor, Tensor], Tensor]


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return F.normalize(a) @ F.normalize(b).T


def both(similarity: Any, backend: object, width: int = 6, **options: Any) -> list[Tensor]:
    x, y = numbers(11, width, 0), numbers(11, width, 1)
    told = {"similarity": similarity, "backend": backend, **options}
    return [kind(**told)(x, y) for kind in (ContrastiveLoss, InfoNCELoss)]


def refused(similarity: Any, backend: object, *parts: str, width: int = 6) -> None:
    with pytest.raises(ValueError, match="similarity ") as caught:
        both(similarity, backend, width)
    for part in parts:
        assert part in str(caught.value)


# Scores that depend on other rows


class Normalised(nn.Module):
    """Batch normalisation over the rows of either side."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.over_rows = nn.BatchNorm1d(width, affine=False)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.over_rows(a) @ self.over_rows(b).T


def whole_batch() -> dict[str, Similarity]:
    return {
        "dual softmax": lambda a, b: cosine(a, b) * (20 * cosine(a, b)).softmax(0),
        "softmax of the rows": lambda a, b: (5 * a @ b.T).softmax(1),
        "centred": lambda a, b: cosine(a - a.mean(0), b - b.mean(0)),
        "candidates centred": lambda a, b: a @ (b - b.mean(0)).T,
        "over the largest": lambda a, b: cosine(a, b) / cosine(a, b).max(),
        "standardised": lambda a, b: (cosine(a, b) - cosine(a, b).mean()) / cosine(a, b).std(),
        "ranks": lambda a, b: cosine(a, b).argsort(1).argsort(1).float() + 0 * (a @ b.T),
        "by position": lambda a, b: a @ b.T + torch.arange(len(b)),
        "batch normalisation": Normalised(6),
    }


@in_tiles
@pytest.mark.parametrize("name", whole_batch())
def test_scores_that_depend_on_other_rows(name: str, backend: object) -> None:
    refused(whole_batch()[name], backend, "beside it", 'backend="dense"')


@pytest.mark.parametrize("name", whole_batch())
def test_the_way_out_is_dense(name: str) -> None:
    assert all(value.isfinite() for value in both(whole_batch()[name], "dense"))


@in_tiles
def test_batch_normalisation_in_evaluation_is_local(backend: object) -> None:
    module = Normalised(6)
    refused(module, backend, "beside it")
    assert all(value.isfinite() for value in both(module.eval(), backend))
    refused(module.train(), backend, "beside it")
    assert module.over_rows.num_batches_tracked == 0
    assert torch.equal(module.over_rows.running_mean, torch.zeros(6))


# A parameter of the callable's


@in_tiles
def test_a_parameter_that_tiles_cannot_train(backend: object) -> None:
    weight = torch.eye(6).requires_grad_()
    scale = nn.Parameter(torch.ones(()))
    layer = nn.Linear(6, 6)

    class Holder:
        def __init__(self) -> None:
            self.weight = weight

        def score(self, a: Tensor, b: Tensor) -> Tensor:
            return a @ self.weight @ b.T

    for similarity in (
        lambda a, b: a @ weight @ b.T,
        lambda a, b: scale * (a @ b.T),
        lambda a, b: layer(a) @ b.T,
        Holder().score,
        partial(lambda w, a, b: a @ w @ b.T, weight),
    ):
        refused(similarity, backend, "requires a gradient", 'backend="dense"')
        with torch.no_grad():
            assert all(value.isfinite() for value in both(similarity, backend))

    def bilinear(a: Tensor, b: Tensor) -> Tensor:
        return a @ weight @ b.T

    both(bilinear, "dense")[1].backward()
    assert weight.grad.abs().sum() > 0
    refused(bilinear, backend, "requires a gradient")
    weight.requires_grad_(False)
    assert all(value.isfinite() for value in both(bilinear, backend))


# Distances


@pytest.mark.parametrize("backend", [*TILED, "dense"], ids=str)
@pytest.mark.parametrize("width", [2, 6, 64])
@pytest.mark.parametrize(
    "distance",
    [
        torch.cdist,
        partial(torch.cdist, p=1.0),
        lambda a, b: torch.cdist(a, b).square(),
        lambda a, b: 1 - cosine(a, b),
        lambda a, b: torch.acos(cosine(a, b).clamp(-1, 1)),
        lambda a, b: (b[None] - a[:, None]).abs().amax(2),
    ],
    ids=["cdist", "Manhattan", "squared", "1 - cosine", "angle", "largest difference"],
)
def test_a_distance(distance: Any, width: int, backend: object) -> None:
    refused(distance, backend, "lowest with itself", "negate", '"euclidean"', width=width)
    assert all(v.isfinite() for v in both(lambda a, b: -distance(a, b), backend, width))


def test_every_loss_refuses_them() -> None:
    def check(which: Case, similarity: Any, part: str) -> None:
        x, labels = numbers(6, 4, 0), torch.arange(6) // 2
        given = (x, numbers(6, 4, 1)) if which.kind == "paired" else (x, None, labels)
        with pytest.raises(ValueError, match=part):
            which(*given, similarity=similarity)

    for which in ONE_OF_EACH:
        if not which.takes(torch.cdist):
            continue
        check(which, torch.cdist, "lowest with itself")
        check(which, lambda a, b: (a @ b.T).softmax(1), "beside it")


# Callables that are left alone


class Poincare(nn.Module):
    """A negated distance of the unit ball, not defined outside of it; in either mode the same."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        gap = (a[:, None] - b[None]).square().sum(2)
        room = (1 - a.square().sum(1))[:, None] * (1 - b.square().sum(1))[None]
        return -torch.acosh(1 + 2 * gap / room + 1e-6)


LEGITIMATE = {
    "dot": lambda a, b: a @ b.T,
    "cosine": cosine,
    "negated distance": lambda a, b: -torch.cdist(a, b),
    "Gaussian": lambda a, b: (-torch.cdist(a, b).square()).exp(),
    "order": lambda a, b: -(b[None] - a[:, None]).relu().norm(dim=2),
    "not symmetric": lambda a, b: (a @ b.T - 0.1 * b.sum(1)).tanh(),
    "first coordinates": lambda a, b: a[:, :2] @ b[:, :2].T,
    "overlap of sets": lambda a, b: torch.minimum(a[:, None], b[None]).sum(2),
    "correlation of rows": lambda a, b: cosine(
        a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    ),
    "constant": lambda a, b: 0 * (a @ b.T),
    "frozen weights": partial(lambda w, a, b: a @ w @ b.T, numbers(6, 6, 9)),
    "module": Poincare(),
}


@in_tiles
@pytest.mark.parametrize("name", LEGITIMATE)
@pytest.mark.parametrize("scale", [1e-3, 0.1])
def test_callables_that_are_left_alone(name: str, scale: float, backend: object) -> None:
    x, y = scale * numbers(40, 6, 0), scale * numbers(45, 6, 1)
    for loss in (contrastive_loss, info_nce_loss):
        found = loss(x, y, similarity=LEGITIMATE[name], backend=backend)
        expected = loss(x, y, similarity=LEGITIMATE[name], backend="dense")
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@in_tiles
def test_random_callables_are_left_alone(backend: object) -> None:
    dropout = nn.Dropout(0.5)
    assert all(v.isfinite() for v in both(lambda a, b: dropout(a) @ b.T, backend))
    assert all(v.isfinite() for v in both(lambda a, b: a @ b.T + 0.01 * torch.rand(()), backend))


@in_tiles
def test_a_callable_that_fails_on_made_up_rows(backend: object) -> None:
    def picky(a: Tensor, b: Tensor) -> Tensor:
        if (a >= 0).all():
            raise RuntimeError("rows of one sign")
        return a @ b.T

    x, y = numbers(40, 6, 0), numbers(40, 6, 1)
    found = info_nce_loss(x, y, similarity=picky, backend=backend)
    torch.testing.assert_close(found, info_nce_loss(x, y, similarity="dot"))


# The trial itself


def test_the_trial_leaves_random_numbers_alone() -> None:
    noisy = nn.Sequential(nn.Dropout(0.5))
    similarity: Similarity = lambda a, b: noisy(a) @ b.T + torch.rand(len(a), len(b))  # noqa: E731
    torch.manual_seed(7)
    before = torch.get_rng_state()
    callable_checks.check_callable(similarity, numbers(3, 6, 0), in_tiles=True)
    assert torch.equal(torch.get_rng_state(), before)


class Counting:
    """A similarity that counts its calls."""

    calls = 0

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        type(self).calls += 1
        return a @ b.T

    def method(self, a: Tensor, b: Tensor) -> Tensor:
        return self(a, b)


def calls_of(run: Callable[[], object]) -> int:
    before = Counting.calls
    run()
    return Counting.calls - before


def test_a_callable_is_tried_once() -> None:
    x, labels, counting = numbers(6, 4, 0), torch.arange(6) // 2, Counting()
    loss = TripletLoss(similarity=counting)
    first = calls_of(lambda: loss(x, labels))
    assert first - calls_of(lambda: loss(x, labels)) == 2
    of_call = partial(contrastive_loss, x, x.flip(0))
    for similarity in (lambda: counting.method, lambda: lambda a, b: COUNTING(a, b)):
        counted = [calls_of(lambda s=similarity: of_call(similarity=s())) for _ in range(3)]
        assert counted[1] == counted[2] == counted[0] - 2


COUNTING = Counting()


def test_what_was_found_does_not_keep_the_callable() -> None:
    known = len(callable_checks.KNOWN)
    counting = Counting()
    contrastive_loss(numbers(6, 4, 0), numbers(6, 4, 1), similarity=counting)
    assert len(callable_checks.KNOWN) == known + 1
    del counting
    gc.collect()
    assert len(callable_checks.KNOWN) <= known


def test_a_callable_that_cannot_be_remembered() -> None:
    class Unhashable(Counting):
        __slots__ = ()
        __hash__ = None

    for _ in range(2):
        assert all(v.isfinite() for v in both(Unhashable(), "auto"))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients(mode: Any) -> None:
    with mode():
        refused(lambda a, b: (a @ b.T).softmax(1), "auto", "beside it")
        refused(torch.cdist, "auto", "lowest with itself")
        assert all(v.isfinite() for v in both(cosine, "auto"))
