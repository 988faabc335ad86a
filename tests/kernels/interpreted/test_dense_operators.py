"""The operators of the dense kernels as PyTorch sees them: schemas, shapes, autograd, compilation, repetition."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from dense_case import case
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from hardneg import functional
from hardneg.ops.comparison import Comparison, Relation
from hardneg.ops.energies import Linear
from hardneg.ops.fused_backend import Fused
from hardneg.ops.requests import ExponentialTerms, PenaltyTerms
from hardneg.penalties import Hinge, Logistic
from hardneg.similarities import Cosine, Euclidean

NAMES = ("logsumexp", "logsumexp_backward", "penalty_sum", "penalty_sum_backward", "penalty_total")
DIFFERENTIABLE = ("logsumexp", "penalty_sum", "penalty_total")


class Recorder(TorchDispatchMode):
    """Keeps the arguments of the project's operators."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[str, tuple[Any, ...]] = {}

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None):
        namespace, name = operator.name().split("::")
        if namespace == "hardneg":
            detached = (x.detach() if isinstance(x, Tensor) else x for x in args)
            self.calls[name.split(".")[0]] = tuple(detached)
        return operator(*args, **(kwargs or {}))


@cache
def recorded() -> dict[str, tuple[Any, ...]]:
    """A call of every operator."""
    one = case(8, similarity=Euclidean(), dtype=torch.bfloat16, shape=(9, 11, 4))
    given = one.comparison.queries, one.comparison.candidates
    leaves = (x.detach().requires_grad_() for x in given)
    comparison = Comparison(*leaves, Euclidean(), Relation())
    rows, columns, scale = torch.zeros(9), torch.zeros(11), torch.tensor(2.0, requires_grad=True)
    recorder = Recorder()
    with recorder:
        sums = (
            Fused()
            .scores(comparison)
            .penalty_sum(PenaltyTerms(Logistic(), rows, columns, scale=scale))
        )
        (sums.rows.sum() + sums.columns.sum()).backward()
        weights = torch.ones(9), torch.ones(11)
        Fused().scores(comparison).penalty_total(PenaltyTerms(Hinge(), rows, columns), *weights)
        found = Fused().scores(comparison).logsumexp(ExponentialTerms(Linear(), scale=scale))
        (found.rows.sum() + found.columns.sum()).backward()
    return recorder.calls


# PyTorch's own tracing check reads .grad of a tensor that is not a leaf.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("name", NAMES)
def test_opcheck(name: str) -> None:
    arguments = recorded()[name]
    fused = getattr(torch.ops.hardneg, name).default._schema.arguments
    assert arguments[[x.name for x in fused].index("fused")] is True
    if name in DIFFERENTIABLE:
        arguments = tuple(
            x.requires_grad_() if isinstance(x, Tensor) and place < 2 else x
            for place, x in enumerate(arguments)
        )
    torch.library.opcheck(getattr(torch.ops.hardneg, name).default, arguments)


@pytest.mark.parametrize("name", ["contrastive_loss", "info_nce_loss"])
def test_compiled_as_one_graph(name: str) -> None:
    one = case(8, similarity=Cosine(), dtype=torch.float32, shape=(9, 11, 4))
    q, c = (x.detach() for x in (one.comparison.queries, one.comparison.candidates))

    def loss(queries: Tensor) -> Tensor:
        return getattr(functional, name)(queries, c, negatives="all", backend="triton")

    def value_and_gradient(run: Any) -> tuple[Tensor, Tensor]:
        leaf = q.clone().requires_grad_()
        value = run(leaf)
        return value.detach(), torch.autograd.grad(value, leaf)[0]

    expected = value_and_gradient(loss)
    found = value_and_gradient(torch.compile(loss, fullgraph=True, backend="aot_eager"))
    for x, y in zip(found, expected, strict=True):
        assert torch.equal(x, y)
