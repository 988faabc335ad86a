"""What gradient caching leaves behind when something raises in the middle, and hooks around its calls."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from towers import assert_alike, gradients, sides, tower

from hardneg import GradCache


class Fragile(nn.Module):
    """An encoder with dropout and batch norm that raises at its n-th call."""

    def __init__(self, fails_at: int) -> None:
        super().__init__()
        layers = {"drop": nn.Dropout(0.5), "norm": nn.BatchNorm1d(32)}
        self.tower, self.calls, self.fails_at = tower(5, **layers).double(), 0, fails_at

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.calls == self.fails_at:
            torch.rand(7)
            raise KeyError("in the middle")
        return self.tower(x)


CHUNKS = 4
FAILS_AT: list[Any] = [1, 2, 4, "loss", "backward"]


@pytest.mark.parametrize("fails_at", FAILS_AT)
@pytest.mark.parametrize("training", [True, False])
def test_an_error_before_the_second_pass_leaves_the_module_as_it_was(
    fails_at: Any, training: bool
) -> None:
    """Running statistics, gradients, the mode and torch's switches; random numbers are as far as they were drawn."""
    module = Fragile(fails_at if isinstance(fails_at, int) else 0).train(training)
    before = {name: x.clone() for name, x in module.state_dict().items()}

    def loss(x: Tensor) -> Tensor:
        if fails_at == "loss":
            raise KeyError("in the loss")
        return x.square().mean()

    def backward(value: Tensor) -> None:
        raise KeyError("in the backward")

    cache = GradCache(module, chunk_size=3, backward=backward)
    with pytest.raises(KeyError):
        cache.backward(loss, sides(3 * CHUNKS, 1)[0])
    for name, x in module.state_dict().items():
        assert torch.equal(x, before[name]), name
    assert all(p.grad is None for p in module.parameters())
    assert module.training == training
    assert torch.is_grad_enabled()
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_an_error_in_the_second_pass_leaves_the_generator_ahead(chunk: int) -> None:
    """Where the first pass left it, not set back into a chunk."""
    module, x = Fragile(CHUNKS + 1 + chunk), sides(3 * CHUNKS, 1)[0]
    torch.manual_seed(0)
    with pytest.raises(KeyError):
        GradCache(module, chunk_size=3).backward(lambda e: e.square().mean(), x)
    found = torch.get_rng_state()
    plain = Fragile(0)
    torch.manual_seed(0)
    with torch.no_grad():
        for part in x.split(3):
            plain(part)
    assert torch.equal(found, torch.get_rng_state())
    assert module.training


def test_it_can_be_called_again_after_an_error() -> None:
    x = sides(12, 1)[0]
    ours, theirs = Fragile(3), Fragile(0)
    theirs.load_state_dict(ours.state_dict())
    with pytest.raises(KeyError):
        GradCache(ours, chunk_size=3).backward(lambda e: e.square().mean(), x)
    for module in (ours, theirs):
        torch.manual_seed(1)
        GradCache(module, chunk_size=3).backward(lambda e: e.square().mean(), x)
    assert_alike(gradients(ours), gradients(theirs))


def test_hooks_see_every_call_of_both_passes() -> None:
    module, seen = tower(5).double(), []
    module.register_forward_hook(lambda *_: seen.append(torch.is_grad_enabled()))
    module[1].register_full_backward_hook(lambda *_: seen.append("back"))
    GradCache(module, chunk_size=3).backward(lambda e: e.square().mean(), sides(6, 1)[0])
    assert seen == [False, False, True, "back", True, "back"]


def test_a_gradient_hook_of_a_parameter_sees_every_chunk() -> None:
    x = sides(6, 1)[0]
    module, plain = tower(5).double(), tower(5).double()
    plain.load_state_dict(module.state_dict())
    for one in (module, plain):
        one[0].weight.register_hook(lambda g: 2 * g)
    GradCache(module, chunk_size=3).backward(lambda e: e.square().mean(), x)
    plain(x).square().mean().backward()
    assert_alike(gradients(module), gradients(plain))


class Renewing(nn.Module):
    """An encoder that puts another tensor in the place of its buffers, and one that counts in place."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = tower(5).double()
        self.register_buffer("centre", torch.zeros(8, dtype=torch.float64))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        found = self.tower(x) - self.centre
        self.centre = 0.9 * self.centre + 0.1 * found.detach().mean(0)
        self.calls += 1
        return found


def test_buffers_that_are_replaced_are_put_back_too() -> None:
    """The second pass begins with the first one's centre; each chunk moves it once."""
    x = sides(9, 1)[0]
    ours, theirs = Renewing(), Renewing()
    theirs.load_state_dict(ours.state_dict())
    held = ours.calls
    GradCache(ours, chunk_size=3).backward(lambda e: e.pow(3).mean(), x)
    torch.cat([theirs(part) for part in x.split(3)]).pow(3).mean().backward()
    assert ours.calls == 3
    assert ours.calls is held
    torch.testing.assert_close(ours.centre, theirs.centre, rtol=1e-12, atol=1e-14)
    assert_alike(gradients(ours), gradients(theirs))
