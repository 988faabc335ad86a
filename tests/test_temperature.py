"""Learned and fixed numbers of a loss: what is loaded counts, what is shown is used, nothing is rounded."""

from __future__ import annotations

import copy
import math
import pickle
import re
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from every_loss import numbers
from torch import Tensor, nn

from hardneg import (
    AcrossRanks,
    InfoNCELoss,
    Learned,
    MarginLoss,
    NTXentLoss,
    SigmoidLoss,
    SupConLoss,
)

X, Y, LABELS = numbers(8, 4, 0), numbers(8, 4, 1), torch.arange(8) // 2
SOFTMAX = [
    (InfoNCELoss, (X, Y)),
    (NTXentLoss, (X, LABELS)),
    (SupConLoss, (X, LABELS)),
    (SigmoidLoss, (X, Y)),
]
softmax = pytest.mark.parametrize(("kind", "given"), SOFTMAX)


def learned(kind: Callable[..., nn.Module], temperature: float) -> nn.Module:
    return kind(Learned(temperature))


def sigmoid(temperature: float = 0.1, bias: float = -10.0, *, trained: bool) -> SigmoidLoss:
    """Both numbers fixed, or both learned as SigLIP does."""
    if not trained:
        return SigmoidLoss(temperature, bias)
    return SigmoidLoss(Learned(temperature, max_scale=1000), Learned(bias))


def number(x: float | Tensor) -> float:
    return float(x.detach()) if isinstance(x, Tensor) else x


def shown_temperature(loss: nn.Module) -> float:
    return float(re.search(r"temperature=([^,]+), learned", repr(loss))[1])


# State


@softmax
@pytest.mark.parametrize("temperatures", [(0.5, 0.07), (0.03, 1.0), (0.123456789, 0.2)])
def test_what_is_loaded_counts(
    kind: type, given: tuple[Tensor, Tensor], temperatures: tuple[float, float]
) -> None:
    first, second = temperatures
    for source in (kind(first), learned(kind, first)):
        for target in (kind(second), learned(kind, second)):
            assert (
                str(target.load_state_dict(source.state_dict()))
                == "<All keys matched successfully>"
            )
            torch.testing.assert_close(target(*given), source(*given))
            assert shown_temperature(target) == pytest.approx(first, rel=1e-5)


@softmax
def test_a_fixed_number_is_resumed_exactly(kind: type, given: object) -> None:
    for value in (0.07, 0.5, 0.123456, 1e-4, 30.0):
        other = kind(0.2)
        other.load_state_dict(kind(value).state_dict())
        assert other.temperature() == value
        assert other.state_dict()["temperature.logit_scale"].dtype == torch.float32


def test_the_bias_and_the_boundary_that_are_loaded_count() -> None:
    for trained in (False, True):
        loss = sigmoid(bias=-3.5, trained=trained)
        for target in (SigmoidLoss(), sigmoid(trained=True)):
            target.load_state_dict(loss.state_dict())
            torch.testing.assert_close(target(X, Y), loss(X, Y))
            assert "bias=-3.5" in repr(target)
        boundary = MarginLoss(beta=Learned(0.7) if trained else 0.7, negatives="all")
        for target in (
            MarginLoss(negatives="all"),
            MarginLoss(beta=Learned(1.2), negatives="all"),
        ):
            target.load_state_dict(boundary.state_dict())
            torch.testing.assert_close(target(X, LABELS), boundary(X, LABELS))
            assert "beta=0.7" in repr(target)


@pytest.mark.parametrize("trained", [False, True])
def test_states_without_dimensions_load(trained: bool) -> None:
    state = {"bias": torch.tensor(-4.0), "temperature.logit_scale": torch.tensor(1.5)}
    model = nn.ModuleDict({"loss": sigmoid(trained=trained)})
    model.load_state_dict({f"loss.{name}": value for name, value in state.items()})
    assert number(model["loss"].temperature()) == pytest.approx(math.exp(-1.5))
    assert number(model["loss"].bias) == -4.0
    assert all(value.dim() == 0 for value in state.values())


def test_states_that_do_not_fit() -> None:
    for loss in (InfoNCELoss(), InfoNCELoss(Learned(0.07))):
        with pytest.raises(RuntimeError, match="Missing key"):
            loss.load_state_dict({})
        assert loss.load_state_dict({}, strict=False).missing_keys == ["temperature.logit_scale"]
        with pytest.raises(RuntimeError, match="logit_scale"):
            loss.load_state_dict({"temperature.logit_scale": torch.zeros(3)})
    with pytest.raises(RuntimeError, match="one finite number"):
        InfoNCELoss().load_state_dict({"temperature.logit_scale": torch.tensor([math.nan])})


def test_a_loss_across_ranks_loads_too() -> None:
    across = AcrossRanks(InfoNCELoss(0.07))
    state = {f"loss.{k}": v for k, v in InfoNCELoss(0.5).state_dict().items()}
    across.load_state_dict(state)
    assert across.loss.temperature() == 0.5


@pytest.mark.parametrize("trained", [False, True])
def test_copies_keep_what_was_loaded(trained: bool) -> None:
    loss = sigmoid(trained=trained)
    loss.load_state_dict(SigmoidLoss(0.3, bias=-2.0).state_dict())
    for other in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert torch.equal(other(X, Y), loss(X, Y))
        assert repr(other) == repr(loss)


def test_no_number_is_without_dimensions_or_needlessly_a_parameter() -> None:
    for loss in (InfoNCELoss(), SigmoidLoss(), MarginLoss()):
        assert not [*loss.parameters(), *loss.buffers()]
    for loss in (sigmoid(trained=True), MarginLoss(beta=Learned(1.2))):
        assert {p.shape for p in loss.parameters()} == {torch.Size([1])}


# The bound


def train(loss: nn.Module, optimiser: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
    optimiser.zero_grad()
    loss(x, y).backward()
    optimiser.step()


OPTIMISERS = [
    lambda p: torch.optim.Adam(p, lr=1e-2),
    lambda p: torch.optim.AdamW(p, lr=3e-3),
    lambda p: torch.optim.SGD(p, lr=0.5, momentum=0.9),
]


@pytest.mark.parametrize("make", OPTIMISERS, ids=["Adam", "AdamW", "SGD"])
@pytest.mark.parametrize("bound", [100.0, 60.0])
def test_a_bounded_scale_comes_back_as_soon_as_that_of_clip(make: Callable, bound: float) -> None:
    generator = torch.Generator().manual_seed(3)
    direction = torch.randn(1, 16, generator=generator)
    x = F.normalize(direction + 0.15 * torch.randn(64, 16, generator=generator))
    mixed = x[torch.randperm(64, generator=generator)]

    def steps_back(clamped: bool) -> int:
        loss = InfoNCELoss(Learned(0.02, max_scale=bound))
        optimiser, scale = make(loss.parameters()), loss.temperature.logit_scale

        def step(y: Tensor) -> None:
            train(loss, optimiser, x, y)
            if clamped:
                with torch.no_grad():
                    scale.clamp_(max=math.log(bound))

        for _ in range(400):
            step(x)
        assert 1 / number(loss.temperature()) == pytest.approx(bound, rel=0.02)
        for count in range(300):
            if 1 / number(loss.temperature()) < 0.995 * bound:
                return count
            step(mixed)
        return 300

    assert steps_back(False) <= 2 * steps_back(True) + 2


def test_a_state_holds_the_scale_that_is_used() -> None:
    loss = InfoNCELoss(Learned(0.02))
    with torch.no_grad():
        loss.temperature.logit_scale.fill_(6.0)
    assert shown_temperature(loss) == pytest.approx(0.01)
    expected = loss(X, Y)
    for other in (InfoNCELoss(), InfoNCELoss(Learned(0.07, max_scale=1e4))):
        other.load_state_dict(loss.state_dict())
        torch.testing.assert_close(other(X, Y), expected)


@pytest.mark.parametrize("first", [0.001, 0.005, 1e-6])
def test_a_first_value_beyond_the_bound_is_shown_as_it_is_used(first: float) -> None:
    loss = InfoNCELoss(Learned(first))
    assert shown_temperature(loss) == pytest.approx(0.01)
    assert number(loss.temperature()) == pytest.approx(0.01)
    assert number(loss.temperature.logit_scale) == pytest.approx(math.log(100))
    assert shown_temperature(InfoNCELoss(first)) == first


@pytest.mark.parametrize("above", [0.0, 0.5])
def test_gradients_pass_back_over_the_bound_but_not_beyond_it(above: float) -> None:
    for sign in (-1.0, 1.0):
        loss = InfoNCELoss(Learned(0.01))
        scale = loss.temperature.logit_scale
        with torch.no_grad():
            scale += above
        (sign * -loss.temperature().log()).backward()  # sign * log scale
        held = sign < 0 and above > 0
        assert number(scale.grad) == (0.0 if held else sign)


# Precision


@softmax
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("temperature", [0.07, 0.013, 0.9])
def test_half_precision_does_not_round_the_temperature(
    kind: type, given: tuple[Tensor, Tensor], dtype: torch.dtype, temperature: float
) -> None:
    second = given[1].to(dtype) if given[1].is_floating_point() else given[1]
    inputs = (given[0].to(dtype), second)
    expected = kind(temperature)(*inputs)
    for make in (lambda: learned(kind, temperature), lambda: kind(temperature)):
        loss = nn.Sequential(make()).to(dtype)[0]
        torch.testing.assert_close(loss(*inputs), expected, rtol=1e-5, atol=1e-6)
        assert float(loss.state_dict()["temperature.logit_scale"]) == pytest.approx(
            -math.log(temperature), rel=1e-6
        )


def test_half_precision_reaches_the_rest_of_the_model() -> None:
    model = nn.ModuleDict({"tower": nn.Linear(4, 4), "loss": sigmoid(trained=True)})
    assert model.bfloat16()["tower"].weight.dtype == torch.bfloat16
    assert {p.dtype for p in model["loss"].parameters()} == {torch.float32}
    assert {p.dtype for p in model.double()["loss"].parameters()} == {torch.float64}
    frozen = InfoNCELoss(similarity=nn.Bilinear(4, 4, 1).requires_grad_(False))
    assert frozen.half().similarity.weight.dtype == torch.float16


def test_a_half_precision_default_does_not_round_it() -> None:
    torch.set_default_dtype(torch.bfloat16)
    try:
        loss = InfoNCELoss(Learned(0.07))
        fixed = InfoNCELoss(0.2)
        fixed.load_state_dict(loss.state_dict())
    finally:
        torch.set_default_dtype(torch.float32)
    assert number(loss.temperature()) == pytest.approx(0.07, rel=1e-6)
    assert fixed.temperature() == 0.07


def test_on_the_meta_device_and_off_it_again() -> None:
    with torch.device("meta"):
        loss, fixed = sigmoid(trained=True), SigmoidLoss(0.3)
    assert "temperature=?" in repr(loss)
    loss.to_empty(device="cpu").load_state_dict(SigmoidLoss(0.3).state_dict())
    fixed.to_empty(device="cpu")
    torch.testing.assert_close(loss(X, Y), fixed(X, Y))


def test_a_parameter_is_learned_and_shown_so() -> None:
    loss = InfoNCELoss(nn.Parameter(torch.tensor(0.5)))
    assert "temperature=0.5, learned=True" in repr(loss)
    loss(torch.eye(3), torch.eye(3)).backward()
    (parameter,) = loss.parameters()
    assert float(parameter.grad) != 0
