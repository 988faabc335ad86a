"""Gradient caching: exact gradients, little memory, and the same random numbers and buffers in both passes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from every_loss import EVERY, Case, numbers
from torch import Tensor, nn
from towers import assert_alike, gradients, sides, tower, two_towers

from hardneg import ContrastiveLoss, GradCache, InfoNCELoss, Learned


@contextmanager
def saved_bytes() -> Iterator[SimpleNamespace]:
    """The most bytes that autograd holds at once, each storage counted once; parameters are not counted."""
    seen, held = SimpleNamespace(most=0), {}

    class Kept:
        def __init__(self, x: Tensor) -> None:
            self.x, self.key = x.detach(), x.untyped_storage().data_ptr()
            count, size = held.get(self.key, (0, x.untyped_storage().nbytes()))
            held[self.key] = (count + 1, size)
            seen.most = max(seen.most, sum(size for _, size in held.values()))

        def __del__(self) -> None:
            count, size = held.pop(self.key)
            if count > 1:
                held[self.key] = (count - 1, size)

    def pack(x: Tensor) -> Any:
        return x if isinstance(x, nn.Parameter) or x._base is not None else Kept(x)

    with torch.autograd.graph.saved_tensors_hooks(
        pack, lambda k: k.x if isinstance(k, Kept) else k
    ):
        yield seen


def large_batch(dtype: torch.dtype, chunk: int | None) -> tuple[Tensor, list[Tensor], int]:
    """Value, gradients (the temperature's too) and saved bytes of a batch of 4,096."""
    n, shape = 4096, {"hidden": 128, "depth": 4, "out": 16}
    x, y = numbers(n, 5, 0).to(dtype), numbers(n, 7, 1).to(dtype)
    first, second = two_towers(dtype, **shape)
    loss = InfoNCELoss(Learned(0.07)).to(dtype)
    with saved_bytes() as saved:
        if chunk is None:
            value = loss(first(x), second(y))
            value.backward()
        else:
            value = GradCache(first, second, chunk_size=chunk).backward(loss, x, y)
    return value.detach(), gradients(first, second, loss), saved.most


@pytest.fixture(scope="module")
def plain_large() -> tuple[Tensor, list[Tensor], int]:
    return large_batch(torch.float64, None)


def test_a_batch_of_4096_in_chunks_of_64(plain_large) -> None:
    """The plain batch's gradients in a tenth of its activation memory, or less."""
    value, found, bytes_cached = large_batch(torch.float64, 64)
    expected, plain, bytes_plain = plain_large
    torch.testing.assert_close(value, expected, rtol=1e-13, atol=0)
    assert_alike(found, plain)
    assert bytes_plain > 4096 * 128 * 8 * 7
    assert bytes_cached <= 0.1 * bytes_plain


def test_a_batch_of_4096_in_float32(plain_large) -> None:
    """As near to float64 as the plain float32 batch is, within twice."""
    _, exact, _ = plain_large
    _, plain, _ = large_batch(torch.float32, None)
    _, found, _ = large_batch(torch.float32, 64)

    def error(of: list[Tensor]) -> float:
        return max(
            float((a.double() - b).abs().max() / b.abs().max())
            for a, b in zip(of, exact, strict=True)
        )

    assert error(found) <= 2 * error(plain) + 2**-23


def compare(
    encoders: Callable[[], list[nn.Module]],
    inputs: list[Any],
    loss: Callable[..., Tensor],
    chunk: int,
) -> None:
    """Gradient caching against the plain batch, on encoders made twice."""
    ours, theirs = encoders(), encoders()
    value = GradCache(*ours, chunk_size=chunk).backward(loss, *inputs)
    embeddings = [call(module, one) for module, one in zip(theirs, inputs, strict=True)]
    expected = loss(*[x for side in embeddings for x in side])
    expected.backward()
    assert not value.requires_grad
    torch.testing.assert_close(value, expected.detach(), rtol=1e-12, atol=1e-14)
    assert_alike(gradients(*dict.fromkeys(ours)), gradients(*dict.fromkeys(theirs)))


def call(module: nn.Module, inputs: Any) -> tuple[Tensor, ...]:
    if isinstance(inputs, dict):
        found = module(**inputs)
    else:
        found = module(*inputs) if isinstance(inputs, tuple) else module(inputs)
    return found if isinstance(found, tuple) else (found,)


@pytest.mark.parametrize("chunk", [1, 3, 5, 10, 64])
def test_any_chunk_size_and_more_candidates_than_queries(chunk: int) -> None:
    compare(lambda: list(two_towers()), sides(10, 13), ContrastiveLoss(negatives="all"), chunk)


@pytest.mark.parametrize("which", EVERY, ids=str)
def test_every_loss(which: Case) -> None:
    ids = torch.arange(9) * 4 // 9
    rows = sides(9, 9) if which.kind == "paired" else sides(9, 9)[:1]

    def loss(first: Tensor, second: Tensor | None = None) -> Tensor:
        torch.manual_seed(0)
        groups = (ids, ids) if which.kind == "paired" else (ids, None)
        return which(first, second, *groups)

    compare(lambda: list(two_towers())[: len(rows)], rows, loss, 4)


class Both(nn.Module):
    """Two sides in one module, with options and whole numbers among its results."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = two_towers()

    def forward(
        self, x: Tensor, y: Tensor, scale: float = 1.0, shift: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        second = self.second(y) * scale + (0 if shift is None else shift)
        return self.first(x), second, torch.arange(len(x))


def test_tuples_mappings_and_tuples_of_embeddings() -> None:
    def loss(first: Tensor, second: Tensor, *_: Tensor) -> Tensor:
        return InfoNCELoss()(first, second)

    x, y = sides(10, 10)
    shift = torch.tensor(0.1, dtype=torch.float64)
    compare(lambda: [Both()], [(x, y, 2.0)], loss, 4)
    compare(lambda: [Both()], [{"y": y, "x": x, "scale": 2.0, "shift": shift}], loss, 4)
    compare(lambda: [Both()], [{"y": y, "x": x, "shift": None}], loss, 4)


def test_one_encoder_for_both_sides() -> None:
    def shared() -> list[nn.Module]:
        return [two_towers()[0]] * 2

    compare(shared, [numbers(n, 5, n, torch.float64) for n in (10, 12)], InfoNCELoss(), 4)


def test_gradients_accumulate_and_reach_inputs() -> None:
    first, second = two_towers()
    x, y = (one.requires_grad_() for one in sides(6, 6))
    cache = GradCache(first, second, chunk_size=4)
    cache.backward(InfoNCELoss(), x, y)
    once, at_x = [g.clone() for g in gradients(first, second)], x.grad.clone()
    cache.backward(InfoNCELoss(), x, y)
    assert_alike(gradients(first, second), [2 * g for g in once])
    assert_alike([x.grad], [2 * at_x])
    InfoNCELoss()(first(x), second(y)).backward()
    assert_alike([x.grad], [3 * at_x])


def test_frozen_parts_and_an_unused_side_stay_without_gradients() -> None:
    first, second = two_towers()
    first[0].requires_grad_(False)
    value = GradCache(first, second, chunk_size=4).backward(
        lambda a, b: a.square().sum(), *sides(6, 6)
    )
    assert value > 0
    assert first[0].weight.grad is None
    assert first[2].weight.grad is not None
    assert all(p.grad is None for p in second.parameters())


# The second pass repeats the first


def chunked(modules: list[nn.Module], inputs: list[Tensor], chunk: int) -> list[Tensor]:
    """Chunks encoded one after the other, with a graph: what both passes must amount to."""
    return [
        torch.cat([module(part) for part in x.split(chunk)])
        for module, x in zip(modules, inputs, strict=True)
    ]


def test_dropout_is_replayed() -> None:
    with torch.random.fork_rng():
        ours = [tower(5, drop=nn.Dropout(0.5)).double(), tower(7, drop=nn.Dropout(0.5)).double()]
    theirs = [tower(5, drop=nn.Dropout(0.5)).double(), tower(7, drop=nn.Dropout(0.5)).double()]
    for a, b in zip(ours, theirs, strict=True):
        b.load_state_dict(a.state_dict())
    x = sides(10, 10)
    torch.manual_seed(11)
    value = GradCache(*ours, chunk_size=4).backward(InfoNCELoss(), *x)
    after = torch.get_rng_state()
    torch.manual_seed(11)
    expected = InfoNCELoss()(*chunked(theirs, x, 4))
    assert torch.equal(torch.get_rng_state(), after)
    expected.backward()
    torch.testing.assert_close(value, expected.detach(), rtol=1e-12, atol=0)
    assert_alike(gradients(*ours), gradients(*theirs))


def normalised() -> nn.Module:
    return tower(5, norm=nn.BatchNorm1d(32)).double()


def spectral() -> nn.Module:
    model = tower(5).double()
    model[2] = nn.utils.parametrizations.spectral_norm(model[2])
    return model


def one_pass(
    module: nn.Module, parts: tuple[Tensor, ...], loss: Callable[[Tensor], Tensor]
) -> None:
    """Gradients of chunks in a single pass, each graph back-propagated before the next call writes to
    the buffers: the loss's gradients at the embeddings come from a copy of the module.
    """
    with torch.no_grad():
        ahead = copy.deepcopy(module)
        embeddings = torch.cat([ahead(part) for part in parts]).requires_grad_()
    loss(embeddings).backward()
    for part, gradient in zip(parts, embeddings.grad.split(4), strict=True):
        module(part).backward(gradient)


@pytest.mark.parametrize("make", [normalised, spectral])
def test_buffers_are_updated_once(make: Callable[[], nn.Module]) -> None:
    """Batch norm takes the statistics of chunks, and its running ones move as in one pass over them."""
    ours = make()
    theirs, before = copy.deepcopy(ours), copy.deepcopy(ours)
    x = sides(12, 12)[0]
    loss = partial(ContrastiveLoss(negatives="all"), numbers(12, 8, 5, torch.float64))
    GradCache(ours, chunk_size=4).backward(loss, x)
    one_pass(theirs, x.split(4), loss)
    assert_alike(gradients(ours), gradients(theirs))
    for a, b, c in zip(ours.buffers(), theirs.buffers(), before.buffers(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)
        assert not torch.equal(a, c)


# Mixed precision


def test_autocast() -> None:
    """As near to the float32 gradients as the plain batch under autocast is, within twice."""
    x = [one.float() for one in sides(32, 32)]

    def run(low: bool, cached: bool) -> tuple[Tensor, list[Tensor]]:
        modules = two_towers(torch.float32)
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            if cached:
                value = GradCache(*modules, chunk_size=8).backward(InfoNCELoss(), *x)
            else:
                value = InfoNCELoss()(*[m(one) for m, one in zip(modules, x, strict=True)])
        if not cached:
            value.backward()
        return value.detach(), gradients(*modules)

    exact, plain, found = run(False, False), run(True, False), run(True, True)
    assert found[0].dtype == torch.float32
    torch.testing.assert_close(found[0], plain[0], rtol=1e-6, atol=0)
    for a, b, c in zip(found[1], plain[1], exact[1], strict=True):
        assert a.dtype == torch.float32
        assert (a - c).norm() <= 2 * (b - c).norm() + 2**-8 * c.norm()
    assert any(not torch.equal(b, c) for b, c in zip(plain[1], exact[1], strict=True))


def test_backward_steps_out_of_autocast() -> None:
    seen = []

    class Watched(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x * 1

        @staticmethod
        def backward(ctx: Any, g: Tensor) -> Tensor:
            seen.append(torch.is_autocast_enabled("cpu"))
            return g

    class Encoder(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            assert torch.is_autocast_enabled("cpu")
            return Watched.apply(super().forward(x))

    def loss(x: Tensor) -> Tensor:
        return Watched.apply(x.float()).square().sum()

    with torch.autocast("cpu", torch.bfloat16):
        GradCache(Encoder(5, 3), chunk_size=2).backward(loss, torch.randn(4, 5))
    assert seen == [False] * 3


def test_gradient_scaler() -> None:
    modules, plain = two_towers(), two_towers()
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    cache = GradCache(*modules, chunk_size=4, backward=lambda value: scaler.scale(value).backward())
    value = cache.backward(InfoNCELoss(), *sides(10, 10))
    InfoNCELoss()(*[m(x) for m, x in zip(plain, sides(10, 10), strict=True)]).backward()
    assert value < 20
    assert_alike(gradients(*modules), [1024 * g for g in gradients(*plain)])
    optimiser = torch.optim.SGD([p for m in modules for p in m.parameters()], lr=0.1)
    scaler.unscale_(optimiser)
    assert_alike(gradients(*modules), gradients(*plain))


# Refusals


class Returns(nn.Module):
    def __init__(self, result: Any) -> None:
        super().__init__()
        self.result = result

    def forward(self, x: Tensor) -> Any:
        return self.result(x)


X = torch.randn(5, 3)
LINEAR = nn.Linear(3, 2)


@pytest.mark.parametrize(
    ("run", "error", "message"),
    [
        (lambda: GradCache(chunk_size=4), ValueError, "no encoder given"),
        (lambda: GradCache(lambda x: x, chunk_size=4), TypeError, "an encoder .*expected a Module"),
        (lambda: GradCache(LINEAR, chunk_size=0), ValueError, "chunk_size is 0: expected"),
        (
            lambda: GradCache(LINEAR, chunk_size=2).backward(InfoNCELoss(), X, X),
            ValueError,
            "1 encoders but 2 inputs: expected one for each",
        ),
        (
            lambda: GradCache(LINEAR, chunk_size=2).backward(InfoNCELoss(), (X, X[:4])),
            ValueError,
            r"inputs\[0\] have rows: 4, 5; expected one row a sample",
        ),
        (
            lambda: GradCache(LINEAR, chunk_size=2).backward(InfoNCELoss(), 3),
            ValueError,
            r"inputs\[0\] have rows: no tensor with rows",
        ),
        (
            lambda: GradCache(LINEAR, chunk_size=2).backward(InfoNCELoss(), (X, ["a", "b"])),
            TypeError,
            r"inputs\[0\] hold a list: expected tensors with one row a sample",
        ),
        (
            lambda: GradCache(Returns(lambda x: {"x": x}), chunk_size=2).backward(sum, X),
            TypeError,
            "encoder 0 returned a dict: expected a tensor, or a tuple of tensors",
        ),
        (
            lambda: GradCache(Returns(lambda x: x.sum(0)), chunk_size=2).backward(sum, X),
            ValueError,
            r"encoder 0 returned shape \(3,\) for a chunk of 2 rows",
        ),
        (
            lambda: GradCache(LINEAR, chunk_size=2).backward(lambda x: x.sum(1), X),
            TypeError,
            r"the loss returned \(5,\): expected a scalar tensor",
        ),
        (
            lambda: GradCache(LINEAR, chunk_size=2).backward(lambda x: (x.sum(), 1), X),
            TypeError,
            "the loss returned tuple: expected a scalar tensor",
        ),
    ],
)
def test_messages(run, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        run()
