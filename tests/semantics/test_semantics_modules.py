"""Modules."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
import torch.nn.functional as F
from every_loss import (
    ABOUT,
    EVERY,
    Case,
    case,
    numbers,
)
from semantic_cases import (
    backends,
    paired,
)
from torch import Tensor

import hardneg
from hardneg import (
    Hardest,
    InfoNCELoss,
    Learned,
    NTXentLoss,
    SigmoidLoss,
    Steps,
    SupConLoss,
    TopK,
    Warmup,
)
from hardneg.functional import (
    info_nce_loss,
    sigmoid_loss,
)

MODULES = [
    hardneg.ContrastiveLoss(negatives=TopK(3), similarity="order"),
    hardneg.InfoNCELoss(hardneg.Learned(0.07)),
    hardneg.UnifiedPairLoss(),
    hardneg.PolynomialLoss(),
    hardneg.SigmoidLoss(hardneg.Learned(0.1, max_scale=1000)),
    hardneg.TripletLoss(positives="hardest"),
    hardneg.NTXentLoss(hardneg.Learned(0.07)),
    hardneg.SupConLoss(),
    hardneg.PairwiseContrastiveLoss(),
    hardneg.MarginLoss(negatives="all", beta=hardneg.Learned(1.2)),
    hardneg.MultiSimilarityLoss(),
    hardneg.CircleLoss(),
]


modules = pytest.mark.parametrize("loss", MODULES, ids=lambda loss: type(loss).__name__)


TWO_SETS = ("ContrastiveLoss", "InfoNCELoss", "UnifiedPairLoss", "PolynomialLoss", "SigmoidLoss")


def of_module(loss: torch.nn.Module) -> Tensor:
    x = numbers(8, 4, 3)
    second = numbers(8, 4, 4) if type(loss).__name__ in TWO_SETS else torch.arange(8) // 2
    return loss(x, second)


@modules
def test_modules_are_copied_and_stored(loss: torch.nn.Module) -> None:
    expected = of_module(loss)
    for other in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert torch.equal(of_module(other), expected)
        assert repr(other) == repr(loss)
    state = loss.state_dict()
    other = type(loss)()
    other.load_state_dict(state)
    assert other.state_dict().keys() == state.keys()
    for name, value in other.state_dict().items():
        assert torch.equal(value, state[name])


@modules
def test_modules_print_their_choices(loss: torch.nn.Module) -> None:
    text = repr(loss)
    assert text.startswith(type(loss).__name__)
    assert str(loss.negatives) in text


LEARNED = [
    (InfoNCELoss, {"temperature": Learned(0.3)}),
    (InfoNCELoss, {"temperature": Learned(0.3), "negatives": TopK(2)}),
    (NTXentLoss, {"temperature": Learned(0.3)}),
    (NTXentLoss, {"temperature": Learned(0.3), "negatives": TopK(2)}),
    (SupConLoss, {"temperature": Learned(0.3)}),
    (SupConLoss, {"temperature": Learned(0.3), "negatives": TopK(2)}),
    (SigmoidLoss, {"temperature": Learned(0.3), "bias": Learned(-1.0)}),
    (SigmoidLoss, {"temperature": Learned(0.3), "bias": Learned(-1.0), "negatives": TopK(2)}),
]


@backends
@pytest.mark.parametrize(("kind", "options"), LEARNED)
def test_a_learned_temperature_has_the_dense_gradient(
    kind: type, options: dict[str, object], backend: object
) -> None:
    found = []
    for how in (backend, "dense"):
        loss = kind(backend=how, **options)
        of_module(loss).backward()
        found.append([p.grad for p in loss.parameters()])
    assert found[0][0].abs() > 1e-3
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_the_temperature_of_clip() -> None:
    """Against autograd over the formula that the docstring gives."""
    queries, candidates = numbers(6, 4, 0), numbers(6, 4, 1)
    scale = torch.tensor(-math.log(0.3), requires_grad=True)
    z = F.normalize(queries) @ F.normalize(candidates).T * scale.exp()
    target = torch.arange(6)
    expected = (F.cross_entropy(z, target) + F.cross_entropy(z.T, target)) / 2
    expected.backward()
    loss = InfoNCELoss(Learned(0.3))
    value = loss(queries, candidates)
    value.backward()
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(loss.temperature.logit_scale.grad, scale.grad[None])


def test_the_temperature_and_bias_of_siglip() -> None:
    queries, candidates = numbers(6, 4, 0), numbers(6, 4, 1)
    scale = torch.tensor(math.log(10.0), requires_grad=True)
    bias = torch.tensor(-10.0, requires_grad=True)
    z = F.normalize(queries) @ F.normalize(candidates).T * scale.exp() + bias
    expected = -F.logsigmoid((2 * torch.eye(6) - 1) * z).sum() / 6
    expected.backward()
    loss = SigmoidLoss(Learned(0.1, max_scale=1000), Learned(-10.0))
    value = loss(queries, candidates)
    value.backward()
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(loss.temperature.logit_scale.grad, scale.grad[None])
    torch.testing.assert_close(loss.bias.grad, bias.grad[None])


@backends
def test_the_bound_of_the_scale_lets_the_gradient_pass(backend: object) -> None:
    loss = InfoNCELoss(Learned(0.1, max_scale=5.0), backend=backend)
    bounded = InfoNCELoss(0.2, backend=backend)
    value = of_module(loss)
    torch.testing.assert_close(value, of_module(bounded))
    value.backward()
    assert loss.temperature.logit_scale.grad.abs() > 1e-3


@backends
@paired
def test_a_strategy_may_be_given_with_every_call(which: Case, backend: object) -> None:
    schedule = Warmup(TopK(2), Hardest(), steps=3)
    stages = Steps((0, TopK(2)), (3, Hardest()))
    queries, candidates = numbers(6, 4, 0), numbers(6, 4, 1)
    kind = which.about.module
    loss = kind(negatives=TopK(5), backend=backend)
    for step in range(5):
        expected = kind(negatives=TopK(2) if step < 3 else Hardest(), backend=backend)
        for of_step in (schedule(step), stages(step)):
            value = loss(queries, candidates, negatives=of_step)
            assert torch.equal(value, expected(queries, candidates))
    assert loss.negatives == TopK(5)


@modules
def test_every_module_takes_a_strategy_with_the_call(loss: torch.nn.Module) -> None:
    x = numbers(8, 4, 3)
    second = numbers(8, 4, 4) if type(loss).__name__ in TWO_SETS else torch.arange(8) // 2
    negatives = hardneg.RandomK(2) if isinstance(loss, hardneg.MarginLoss) else TopK(2)
    with torch.no_grad():
        other = copy.deepcopy(loss)
        other.negatives = negatives
        torch.manual_seed(1)
        expected = other(x, second)
        torch.manual_seed(1)
        assert torch.equal(loss(x, second, negatives=negatives), expected)


@backends
@pytest.mark.parametrize("positives", ["paired", "all"])
@pytest.mark.parametrize("loss", [info_nce_loss, sigmoid_loss])
def test_all_positives_of_pairs(loss: object, positives: str, backend: object) -> None:
    """With one candidate an id both choices of positives are the same loss."""
    queries, candidates = numbers(6, 4, 0, torch.float64), numbers(6, 4, 1, torch.float64)
    ids = {"query_ids": torch.arange(6), "candidate_ids": torch.arange(6)}
    found = loss(queries, candidates, positives=positives, backend=backend, **ids)
    torch.testing.assert_close(found, loss(queries, candidates, backend="dense"))


def test_the_cases_cover_every_loss() -> None:
    import hardneg.functional

    known = {which.name + "_loss" for which in EVERY}
    assert {which.name for which in EVERY} == set(ABOUT)
    assert known == set(hardneg.functional.__all__)
    assert case("contrastive", "paired").kind == "paired"
