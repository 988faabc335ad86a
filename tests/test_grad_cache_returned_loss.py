"""Gradient caching that returns a loss: whoever trains back-propagates it, scaled, divided or among others."""

from __future__ import annotations

import copy
import gc
import weakref
from functools import partial
from typing import Any

import pytest
import torch
from every_loss import EVERY, Case, numbers
from torch import Tensor, nn
from towers import assert_alike, gradients, sides, tower, two_towers

from hardneg import GradCache, InfoNCELoss, Learned


def plain_loss(modules: list[nn.Module], inputs: list[Tensor], loss: Any) -> Tensor:
    return loss(*[m(x) for m, x in zip(modules, inputs, strict=True)])


@pytest.mark.parametrize("chunk", [1, 4, 64])
@pytest.mark.parametrize("which", EVERY, ids=str)
def test_every_loss(which: Case, chunk: int) -> None:
    ids = torch.arange(9) * 4 // 9
    rows = sides(9, 9) if which.kind == "paired" else sides(9, 9)[:1]

    def loss(first: Tensor, second: Tensor | None = None) -> Tensor:
        torch.manual_seed(0)
        return which(first, second, *((ids, ids) if which.kind == "paired" else (ids, None)))

    ours, theirs = (list(two_towers())[: len(rows)] for _ in range(2))
    value = GradCache(*ours, chunk_size=chunk)(loss, *rows)
    expected = plain_loss(theirs, rows, loss)
    assert value.requires_grad
    assert all(p.grad is None for m in ours for p in m.parameters())
    value.backward()
    expected.backward()
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-14)
    assert_alike(gradients(*ours), gradients(*theirs))


def test_scaled_divided_accumulated_and_added_to_another_loss() -> None:
    """As with accumulation over two batches, a loss scaler and a second objective on the same towers."""
    ours, theirs = list(two_towers()), list(two_towers())
    learned = [InfoNCELoss(Learned(0.07)).double() for _ in range(2)]
    cache, scaler = GradCache(*ours, chunk_size=4), torch.amp.GradScaler("cpu", init_scale=256.0)
    for seed in (0, 1):
        x = [one + seed for one in sides(10, 10)]
        total = (cache(learned[0], *x) + 0.1 * ours[0](x[0]).square().sum()) / 2
        scaler.scale(total).backward()
        plain = plain_loss(theirs, x, learned[1]) + 0.1 * theirs[0](x[0]).square().sum()
        (plain / 2 * 256).backward()
    assert_alike(gradients(*ours, learned[0]), gradients(*theirs, learned[1]))


def test_gradients_of_parameters_and_inputs_by_autograd_grad() -> None:
    """Also through what made the inputs, which a shared encoder gets twice."""
    module, weight = two_towers()[0], torch.ones(5, dtype=torch.float64, requires_grad=True)
    x, y = numbers(10, 5, 0, torch.float64), numbers(10, 5, 1, torch.float64)
    leaves = [weight, *module.parameters()]
    cache = GradCache(module, module, chunk_size=3)
    found = torch.autograd.grad(cache(InfoNCELoss(), x * weight, y), leaves)
    expected = torch.autograd.grad(InfoNCELoss()(module(x * weight), module(y)), leaves)
    assert_alike(list(found), list(expected))
    assert all(p.grad is None for p in leaves)


def test_frozen_parts_an_unused_side_and_whole_numbers() -> None:
    first, second = two_towers()
    first[0].requires_grad_(False)

    class Numbered(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inside = first

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.inside(x), torch.arange(len(x))

    cache = GradCache(Numbered(), second, chunk_size=4)
    cache(lambda a, i, b: (a * (i[:, None] < 4)).square().sum(), *sides(6, 6)).backward()
    assert first[0].weight.grad is None
    assert first[2].weight.grad is not None
    assert all(p.grad is None for p in second.parameters())


def test_everything_frozen() -> None:
    first, second = (m.requires_grad_(False) for m in two_towers())
    loss = InfoNCELoss(Learned(0.07)).double()
    GradCache(first, second, chunk_size=4)(loss, *sides(6, 6)).backward()
    assert all(p.grad.abs() > 0 for p in loss.parameters())


def test_without_gradients_there_is_one_pass() -> None:
    calls = []
    module = tower(5, norm=nn.BatchNorm1d(32)).double()
    module.register_forward_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    other, x = copy.deepcopy(module), sides(8, 1)[0]
    calls.clear()
    with torch.no_grad():
        value = GradCache(module, chunk_size=4)(torch.sum, x)
        other(x[:4]), other(x[4:])
    assert not value.requires_grad
    assert calls == [False] * 4  # the copy's hook counts too
    assert torch.equal(module[2].running_mean, other[2].running_mean)


def test_running_statistics_move_with_the_backward() -> None:
    module = tower(5, norm=nn.BatchNorm1d(32)).double()
    before, x = module[2].running_mean.clone(), sides(12, 1)[0]
    plain = copy.deepcopy(module)
    value = GradCache(module, chunk_size=4)(lambda e: e.square().mean(), x)
    assert torch.equal(module[2].running_mean, before)
    value.backward()
    for part in x.split(4):
        plain(part)
    torch.testing.assert_close(module[2].running_mean, plain[2].running_mean)


def test_dropout_is_replayed_although_numbers_were_drawn_in_between() -> None:
    ours = tower(5, drop=nn.Dropout(0.5)).double()
    theirs, x = copy.deepcopy(ours), sides(10, 1)[0]
    torch.manual_seed(11)
    value = GradCache(ours, chunk_size=4)(lambda e: e.pow(3).mean(), x)
    torch.rand(17)
    state = torch.get_rng_state()
    value.backward()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(11)
    torch.cat([theirs(part) for part in x.split(4)]).pow(3).mean().backward()
    assert_alike(gradients(ours), gradients(theirs))


def test_the_second_pass_is_cast_as_the_first_was() -> None:
    """The backward stands outside of autocast; both passes are in bfloat16, gradients those of the other form."""
    ours, theirs = (two_towers(torch.float32) for _ in range(2))
    x, seen = [one.float() for one in sides(32, 32)], []
    ours[0].register_forward_hook(lambda _, __, out: seen.append(out.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        value = GradCache(*ours, chunk_size=8)(InfoNCELoss(), *x)
        GradCache(*theirs, chunk_size=8).backward(InfoNCELoss(), *x)
    value.backward()
    assert seen == [torch.bfloat16] * 8
    assert_alike(gradients(*ours), gradients(*theirs), 0)
    assert not torch.is_autocast_enabled("cpu")


def test_a_graph_that_is_kept_can_be_gone_through_again() -> None:
    module, x = two_towers()[0], sides(6, 1)[0]
    value = GradCache(module, chunk_size=4)(lambda e: e.square().sum(), x)
    value.backward(retain_graph=True)
    once = [g.clone() for g in gradients(module)]
    value.backward()
    assert_alike(gradients(module), [2 * g for g in once])


def test_an_error_in_the_backward_reaches_the_caller_and_nothing_is_left() -> None:
    module, x = tower(5).double(), sides(6, 1)[0]
    cache = GradCache(module, chunk_size=2)
    value = cache(lambda e: e.square().sum(), x)
    hook = module[0].register_forward_hook(lambda *_: (_ for _ in ()).throw(KeyError("inside")))
    with pytest.raises(KeyError, match="inside"):
        value.backward()
    hook.remove()
    assert all(p.grad is None for p in module.parameters())
    assert torch.is_grad_enabled()
    cache(lambda e: e.square().sum(), x).backward()
    assert len(gradients(module)) == 6


def test_a_loss_that_is_dropped_is_freed_at_once() -> None:
    module = two_towers()[0]
    gc.disable()
    try:
        seen: list[weakref.ref[Tensor]] = []

        def loss(e: Tensor) -> Tensor:
            seen.append(weakref.ref(e))
            return e.square().sum()

        value = GradCache(module, chunk_size=4)(loss, sides(6, 1)[0])
        del value
        assert seen[0]() is None
    finally:
        gc.enable()


def test_a_second_derivative_is_refused() -> None:
    module = two_towers()[0]
    value = GradCache(module, chunk_size=4)(lambda e: e.square().sum(), sides(6, 1)[0])
    (found, *_) = torch.autograd.grad(value, list(module.parameters()), create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        found.sum().backward()


class Pair(nn.Module):
    """Two towers whose forward is the loss of a batch, as a trainer calls it."""

    def __init__(self, cached: bool) -> None:
        super().__init__()
        self.first, self.second = two_towers(torch.float32)
        self.cached = cached

    def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        if self.cached:
            cache = GradCache(self.first, self.second, chunk_size=3)
            return {"loss": cache(InfoNCELoss(), x, y)}
        return {"loss": InfoNCELoss()(self.first(x), self.second(y))}


def test_the_trainer_of_transformers(tmp_path) -> None:
    """Four steps with accumulation and clipping end at the weights of the plain batch."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    pytest.importorskip("accelerate", reason="accelerate is not installed")
    x, y = (one.float() for one in sides(32, 32))
    rows = [{"x": a, "y": b} for a, b in zip(x, y, strict=True)]
    models = [Pair(cached) for cached in (True, False)]
    for model in models:
        told = transformers.TrainingArguments(
            str(tmp_path), per_device_train_batch_size=4, gradient_accumulation_steps=2, max_steps=4,
            learning_rate=0.01, report_to=[], use_cpu=True, save_strategy="no", disable_tqdm=True,
            logging_strategy="no",
        )  # fmt: skip
        transformers.Trainer(model, told, train_dataset=rows).train()
    for a, b in zip(*[m.parameters() for m in models], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert not torch.equal(models[1].first[0].weight, Pair(False).first[0].weight)


@pytest.mark.parametrize(
    ("run", "error", "message"),
    [
        (lambda c, x: c(lambda e: e.sum(1), x), TypeError, r"the loss returned \(6,\): expected a scalar"),
        (lambda c, x: c(torch.sum, x, x), ValueError, "1 encoders but 2 inputs: expected one for each"),
    ],
)  # fmt: skip
def test_messages(run: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        run(GradCache(two_towers()[0], chunk_size=2), sides(6, 1)[0])


def test_options_are_bound_to_the_loss() -> None:
    ids = torch.arange(10) // 2
    bound = partial(InfoNCELoss(), query_ids=ids, candidate_ids=ids)
    value = GradCache(*two_towers(), chunk_size=4)(bound, *sides(10, 10))
    torch.testing.assert_close(value, plain_loss(list(two_towers()), sides(10, 10), bound))
