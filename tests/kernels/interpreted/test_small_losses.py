"""Whole losses of small batches by kernels against the dense definitions in float64."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from rounding import assert_rounded
from torch import Tensor

from benchmarks.gpu.whole import in_type
from hardneg import Ceiling, ContrastiveLoss, Hardest, InfoNCELoss, Learned, SemiHard
from hardneg.losses.base import Loss
from hardneg.ops.small.backend import Small, SmallScores

KERNELS = Small(kernels=True, others=False)
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
Make = Callable[..., Loss]


def contrastive(**chosen: Any) -> Make:
    return lambda **told: ContrastiveLoss(0.3, **(chosen | told))


def info_nce(temperature: Any, **chosen: Any) -> Make:
    return lambda **told: InfoNCELoss(temperature, **(chosen | told))


LOSSES: dict[str, Make] = {
    "hardest": contrastive(),
    "hardest, logistic": contrastive(penalty="logistic"),
    "hardest, squared": contrastive(penalty="squared_hinge"),
    "all": contrastive(negatives="all"),
    "all, logistic": contrastive(negatives="all", penalty="logistic"),
    "all, squared": contrastive(negatives="all", penalty="squared_hinge"),
    "InfoNCE": info_nce(0.07),
    "InfoNCE, learned": info_nce(Learned(0.2)),
    "InfoNCE, cold": info_nce(Learned(0.002, max_scale=1e4), margin=0.1),
    "InfoNCE, hardest": info_nce(Learned(0.2), negatives="hardest", margin=0.1),
}
UNDER_CEILINGS: dict[str, Make] = {
    "semi-hard": contrastive(negatives="semihard"),
    "semi-hard, none": contrastive(negatives=SemiHard(fallback="none")),
    "semi-hard, hardest": contrastive(negatives=SemiHard(fallback="hardest")),
    "below 0.9": contrastive(negatives=Hardest(ceiling=Ceiling(0.9, 0.1))),
    "InfoNCE, semi-hard": info_nce(Learned(0.2), negatives="semihard"),
}
SHAPES = ((41, 73, 21), (33, 33, 40), (26, 50, 7), (17, 19, 35), (2, 2, 3), (2, 9, 2), (1, 5, 4))
RELATIONS = ("none", "ids", "positive_mask", "ignore_mask", "one id", "own ignored", "transposed")


@pytest.fixture(autouse=True)
def answers(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """Which losses the kernels knew: all of them."""
    found: list[bool] = []
    loss = SmallScores.loss

    def noted(self: SmallScores, request: Any) -> Tensor | None:
        value = loss(self, request)
        if self.knows == KERNELS:
            found.append(value is not None and "KernelLoss" in str(value.grad_fn or "KernelLoss"))
        return value

    monkeypatch.setattr(SmallScores, "loss", noted)
    yield found
    assert found
    assert all(found)


def relation(kind: str, n: int, m: int) -> dict[str, Tensor]:
    """Arguments that say who is related."""
    own = torch.eye(n, m, dtype=torch.bool)
    if kind == "ids":
        ids = torch.arange(m) // 2 - 3
        return {"query_ids": ids[:n], "candidate_ids": ids}
    if kind == "one id":
        return {"query_ids": torch.zeros(n).int(), "candidate_ids": torch.arange(m).int() // n}
    if kind == "positive_mask":
        return {"positive_mask": own | (torch.rand(n, m) < 0.3)}
    if kind == "ignore_mask":
        return {"ignore_mask": ~own & (torch.rand(n, m) < 0.3)}
    if kind == "own ignored":
        return {"ignore_mask": torch.rand(n, m) < 0.4}
    if kind == "transposed":
        return {"ignore_mask": (torch.rand(m, n) < 0.3).T, "positive_mask": own.T.contiguous().T}
    return {}


def embeddings(n: int, m: int, d: int, dtype: torch.dtype, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Pairs close enough that every strategy finds something."""
    made = torch.Generator().manual_seed(seed)
    q, c = torch.randn(n, d, generator=made), torch.randn(m, d, generator=made)
    c[:n] += 0.7 * q
    return q.to(dtype), c.to(dtype)


def step(loss: Loss, q: Tensor, c: Tensor, **given: Any) -> list[Tensor]:
    """The loss, and its gradients by the embeddings and by what is learned."""
    q, c = q.detach().requires_grad_(), c.detach().requires_grad_()
    value = loss(q, c, **given)
    return [value.detach(), *torch.autograd.grad(value * 3, [q, c, *loss.parameters()])]


def assert_like_dense(make: Make, q: Tensor, c: Tensor, told: dict[str, Any], **given: Any) -> None:
    """The loss and its gradients, within the rounding of their type.

    16-bit derivatives by all negatives are rounded before they are multiplied: those gradients are held to the
    formula in that type. All else is held to float32.
    """
    found = step(make(backend=KERNELS, **told), q, c, **given)
    loss = make(backend="dense", **told)
    eager = step(loss, q, c, **given)
    if loss.negatives.complete and q.dtype != torch.float32:
        loss.similarity = in_type(loss.similarity, q.dtype)
        eager[1:3] = step(loss, q, c, **given)[1:3]
    exact = make(backend="dense", **told).double()
    assert_rounded(found, eager, lambda: step(exact, q.double(), c.double(), **given))


FORMATS = [
    pytest.param(similarity, dtype, marks=() if dtype == other else pytest.mark.full)
    for similarity, other in (("cosine", torch.bfloat16), ("dot", torch.float32))
    for dtype in DTYPES
]


@pytest.mark.parametrize(("similarity", "dtype"), FORMATS)
@pytest.mark.parametrize("name", LOSSES)
def test_losses(name: str, similarity: str, dtype: torch.dtype) -> None:
    rng = random.Random(f"{name} {similarity} {dtype}")
    for number, kind in enumerate(rng.sample(RELATIONS, 4)):
        shape = rng.choice(SHAPES)
        told = {
            "similarity": similarity,
            "reduction": rng.choice(("mean", "sum", "mean_active")),
            "directions": rng.choice(("both", "both", "queries", "candidates")),
        }
        torch.manual_seed(number)
        given = relation(kind, *shape[:2])
        assert_like_dense(LOSSES[name], *embeddings(*shape, dtype, number), told, **given)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", UNDER_CEILINGS)
def test_ceilings(name: str, dtype: torch.dtype) -> None:
    met = list(zip(RELATIONS[::2], SHAPES, strict=False))
    for kind, shape in met[DTYPES.index(dtype) % 2 :: 2]:
        torch.manual_seed(1)
        given = relation(kind, *shape[:2])
        assert_like_dense(UNDER_CEILINGS[name], *embeddings(*shape, dtype), {}, **given)


@pytest.mark.parametrize(
    ("n", "dtype"),
    [
        (80, torch.float32),
        pytest.param(200, torch.float32, marks=pytest.mark.full),
        pytest.param(300, torch.bfloat16, marks=pytest.mark.full),
    ],
)
@pytest.mark.parametrize("name", ["hardest", "all", "InfoNCE, learned"])
def test_more_rows(name: str, n: int, dtype: torch.dtype) -> None:
    assert_like_dense(LOSSES[name], *embeddings(n, n + 7, 20, dtype), {})


@pytest.mark.parametrize("name", ["hardest", "all", "InfoNCE, learned"])
@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_strides(name: str, similarity: str) -> None:
    q, c = embeddings(20, 31, 12, torch.float32)
    expected = step(LOSSES[name](backend=KERNELS, similarity=similarity), q, c)
    apart = torch.cat([q, q], 1)[:, :12], torch.stack([c, c], 2)[..., 0]
    for given in (apart, (q.T.contiguous().T, c)):
        found = step(LOSSES[name](backend=KERNELS, similarity=similarity), *given)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_the_smallest_of_equals_is_chosen() -> None:
    q, c = embeddings(9, 40, 6, torch.float32)
    q, c = q.round(), c.round()  # whose products are exact
    c[[1, 33, 34, 36]] = q[4] * 2 + 1
    q[7] = q[6] = c[2]
    _, dq, dc = step(ContrastiveLoss(0.5, similarity="dot", backend=KERNELS), q, c)
    assert (dc[1] != 0).any()
    assert (dc[[33, 34, 36]] == 0).all()
    expected = step(ContrastiveLoss(0.5, similarity="dot", backend="dense"), q, c)
    torch.testing.assert_close(dq, expected[1])
    torch.testing.assert_close(dc, expected[2])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_a_row_that_everybody_chooses(similarity: str, dtype: torch.dtype) -> None:
    """Of collapsed embeddings all choose the first; its pulls are added up from many blocks.

    Only one coordinate is not 0, so that no order of sums tells their scores apart.
    """
    q, c = embeddings(70, 70, 6, dtype)
    c[:] = torch.eye(6)[0]
    told = {"similarity": similarity, "penalty": "logistic"}
    for sides in ((q, c), (c, q)):
        found = step(ContrastiveLoss(backend=KERNELS, **told), *sides)
        expected = step(ContrastiveLoss(backend="dense", **told), *sides)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=2 * torch.finfo(dtype).eps)


def test_a_duplicate_of_the_positive_is_not_below_it() -> None:
    q, c = embeddings(12, 12, 64, torch.float32)
    c[5:8] = c[4]
    told = {"negatives": SemiHard(fallback="none")}
    assert_like_dense(contrastive(), q, c, told)


@pytest.mark.parametrize(
    ("name", "dtype"), list(zip(LOSSES, itertools.cycle(DTYPES), strict=False)), ids=str
)
def test_zero_rows_have_no_gradient(name: str, dtype: torch.dtype) -> None:
    q, c = embeddings(12, 18, 7, dtype)
    q[3], c[5], c[16] = 0, 0, 0
    assert_like_dense(LOSSES[name], q, c, {})
    _, dq, dc, *_ = step(LOSSES[name](backend=KERNELS), q, c)
    assert (dq[3] == 0).all()
    assert (dc[[5, 16]] == 0).all()


# NumPy, with which the interpreter computes, warns of them.
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    ("bad", "dtype"), list(zip((float("nan"), float("inf"), -float("inf")), DTYPES, strict=True))
)
@pytest.mark.parametrize("name", ["hardest", "all", "InfoNCE, learned", "semi-hard"])
def test_a_number_that_is_none_makes_all_nan(name: str, dtype: torch.dtype, bad: float) -> None:
    make = (LOSSES | UNDER_CEILINGS)[name]
    for side, similarity, directions in (
        (0, "cosine", "both"),
        (0, "dot", "candidates"),
        (1, "cosine", "candidates"),
        (1, "dot", "both"),
    ):
        if name == "semi-hard" and similarity == "dot":
            continue
        given = embeddings(9, 14, 5, dtype)
        given[side][-1, 1] = bad
        told = {"similarity": similarity, "directions": directions}
        for found in step(make(backend=KERNELS, **told), *given):
            assert found.isnan().all()


SCALES = {
    torch.float32: (1e30, 1e-37),
    torch.float16: (2.0**13, 2.0**-3),
    torch.bfloat16: (2.0**100, 2.0**-100),
}
SCALED = [
    pytest.param(name, dtype, scales, marks=() if (i + j) % 3 == 0 else pytest.mark.full)
    for i, name in enumerate(LOSSES)
    for j, (dtype, scales) in enumerate(SCALES.items())
]


@pytest.mark.parametrize(("name", "dtype", "scales"), SCALED)
def test_cosine_knows_no_length(name: str, dtype: torch.dtype, scales: tuple[float, ...]) -> None:
    q, c = embeddings(20, 24, 16, dtype)
    value, dq, dc, *rest = step(LOSSES[name](backend=KERNELS), q, c)
    for scale in scales:
        found = step(LOSSES[name](backend=KERNELS), q * scale, c)
        exact = {"rtol": 2e-5, "atol": 1e-6}  # scores are rounded otherwise
        torch.testing.assert_close(found[0], value, **exact)
        size = 2e-6 * float(dq.abs().max())
        tolerance = {"rtol": 2 * torch.finfo(dtype).eps + 2e-5, "atol": size}
        # the smallest float16 is 2**-24
        least = {"atol": scale * 2.0**-24 + size} if dtype == torch.float16 else {}
        torch.testing.assert_close(found[1].double() * scale, dq.double(), **tolerance | least)
        torch.testing.assert_close(found[2], dc, **tolerance)
        for one, other in zip(found[3:], rest, strict=True):
            torch.testing.assert_close(one, other, **exact)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("similarity", ["cosine", "dot"])
@pytest.mark.parametrize("name", ["hardest", "all", "InfoNCE, learned"])
def test_one_set(name: str, similarity: str, dtype: torch.dtype) -> None:
    """One tensor on both sides: its gradient is the sum of both, rounded once."""
    x, _ = embeddings(14, 14, 9, dtype)
    x[1::2] = x[::2] + 0.4 * x[1::2]

    def both(loss: Loss, one: Tensor) -> list[Tensor]:
        one = one.detach().requires_grad_()
        value = loss(one, one, **relation("ids", 14, 14))
        return [value.detach(), *torch.autograd.grad(value, [one, *loss.parameters()])]

    found = both(LOSSES[name](backend=KERNELS, similarity=similarity), x)
    dense = [LOSSES[name](backend="dense", similarity=similarity) for _ in "ab"]
    exact = dense[1].double()
    assert_rounded(found, both(dense[0], x), lambda: both(exact, x.double()))


@pytest.mark.parametrize("name", ["hardest", "all", "InfoNCE, learned", "semi-hard"])
def test_what_is_frozen(name: str) -> None:
    q, c = embeddings(10, 15, 8, torch.bfloat16)
    loss = (LOSSES | UNDER_CEILINGS)[name](backend=KERNELS)
    value, dq, dc, *_ = step(loss, q, c)
    for learned in itertools.product((False, True), repeat=2):
        sides = q.clone().requires_grad_(learned[0]), c.clone().requires_grad_(learned[1])
        found = loss(*sides)
        assert torch.equal(found, value)
        if found.requires_grad:
            (found * 3).backward()
        for x, known, expected in zip(sides, learned, (dq, dc), strict=True):
            assert (x.grad is not None) == known
            assert not known or torch.equal(x.grad, expected)
    with torch.no_grad():
        assert torch.equal(loss(q, c), value)


@pytest.mark.parametrize("name", ["hardest", "all", "InfoNCE, learned"])
def test_backward_passes(name: str) -> None:
    """They can run twice, on a loss that was changed in place, but are not differentiated again."""
    q, c = (x.requires_grad_() for x in embeddings(10, 15, 8, torch.float32))
    value = LOSSES[name](backend=KERNELS)(q, c)
    first = torch.autograd.grad(value, [q, c], retain_graph=True)
    again = torch.autograd.grad(value, [q, c], retain_graph=True)
    assert all(torch.equal(x, y) for x, y in zip(first, again, strict=True))
    with pytest.raises(RuntimeError, match='backend="dense"'):
        torch.autograd.grad(value, q, create_graph=True)
    value /= 2
    halves = torch.autograd.grad(value, [q, c], retain_graph=True)
    for x, y in zip(first, halves, strict=True):
        torch.testing.assert_close(x / 2, y)
    with torch.no_grad():
        c.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(value, q)


@pytest.mark.parametrize(
    ("dtype", "names"),
    [
        (torch.float32, ("hardest", "InfoNCE, learned")),
        (torch.float16, ("semi-hard", "InfoNCE, learned")),
        (torch.bfloat16, ("hardest", "all, logistic")),
    ],
    ids=str,
)
def test_the_same_bits_every_time(dtype: torch.dtype, names: tuple[str, ...]) -> None:
    for name in names:
        make, given = (LOSSES | UNDER_CEILINGS)[name], embeddings(37, 45, 12, dtype)
        first, second = (step(make(backend=KERNELS), *given) for _ in "ab")
        assert all(torch.equal(x, y) for x, y in zip(first, second, strict=True)), name


def test_autocast_changes_nothing() -> None:
    given = embeddings(16, 16, 8, torch.float32)
    loss = LOSSES["InfoNCE"](backend=KERNELS)
    expected = step(loss, *given)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = step(loss, *given)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


def test_no_matrix_is_kept() -> None:
    q, c = (x.requires_grad_() for x in embeddings(60, 70, 4, torch.float32))
    for name in ("hardest", "all", "InfoNCE, learned"):
        saved: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda x, saved=saved: saved.append(x.numel()) or x, lambda x: x
        ):
            LOSSES[name](backend=KERNELS)(q, c).backward()
        assert 0 < max(saved) < 2000
