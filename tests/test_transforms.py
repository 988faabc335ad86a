"""Forward-mode derivatives and ``torch.func``: right with the definitions, an error of our own everywhere else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from every_loss import ONE_OF_EACH, Case, arguments, run
from torch import Tensor
from torch.autograd import forward_ad

from hardneg import InfoNCELoss, Learned, SigmoidLoss, Tiled

# torch's own formulas for forward-mode derivatives of some functions are compiled by torch.jit.script
pytestmark = pytest.mark.filterwarnings(
    "ignore:`torch.jit.script` is deprecated:FutureWarning",
    "ignore:Attempted to insert a get_attr Node:UserWarning",  # by torch.func.linearize
)
SAID = 'use backend="dense"'
one_of_each = pytest.mark.parametrize("which", ONE_OF_EACH, ids=lambda which: which.name)
others = pytest.mark.parametrize("backend", ["auto", "tiled", Tiled((3, 5))], ids=str)
Function = Callable[[Tensor], Tensor]


def tanh_of_products(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b.T).tanh()


def of_first(which: Case, **options: Any) -> tuple[Function, Tensor, Tensor]:
    """The loss as a function of its first argument, the argument, and a direction."""
    (x, *rest), groups = arguments(which, dtype=torch.float64)
    direction = torch.linspace(-1, 1, x.numel(), dtype=x.dtype).view_as(x)
    return lambda first: run(which, [first, *rest], groups, **options), x, direction


def gradient(f: Function, x: Tensor) -> Tensor:
    leaf = x.clone().requires_grad_()
    (found,) = torch.autograd.grad(f(leaf), leaf)
    return found


def dual(f: Function, x: Tensor, direction: Tensor) -> Tensor:
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(f(forward_ad.make_dual(x, direction))).tangent


TRANSFORMS: dict[str, Callable[[Function, Tensor, Tensor], Tensor]] = {
    "jvp": lambda f, x, v: torch.func.jvp(f, (x,), (v,))[1],
    "jacfwd": lambda f, x, v: (torch.func.jacfwd(f)(x) * v).sum(),
    "linearize": lambda f, x, v: torch.func.linearize(f, x)[1](v),
    "dual numbers": dual,
    "grad": lambda f, x, v: (torch.func.grad(f)(x) * v).sum(),
    "vjp": lambda f, x, v: (torch.func.vjp(f, x)[1](torch.ones_like(f(x)))[0] * v).sum(),
    "jacrev": lambda f, x, v: (torch.func.jacrev(f)(x) * v).sum(),
    "vmap of grad": lambda f, x, v: (torch.vmap(torch.func.grad(f))(x[None])[0] * v).sum(),
}
transforms = pytest.mark.parametrize("name", TRANSFORMS)


@transforms
@one_of_each
def test_the_definitions_follow_every_transform(which: Case, name: str) -> None:
    if name == "vmap of grad" and which.kind == "labelled":
        pytest.skip("a list of positives has no fixed length, which vmap needs")
    f, x, direction = of_first(which, backend="dense")
    found = TRANSFORMS[name](f, x, direction)
    torch.testing.assert_close(found, (gradient(f, x) * direction).sum())


@others
@transforms
@one_of_each
def test_all_other_backends_say_so(which: Case, name: str, backend: object) -> None:
    f, x, direction = of_first(which, backend=backend)
    with pytest.raises(RuntimeError, match=SAID):
        TRANSFORMS[name](f, x, direction)
    assert gradient(f, x).isfinite().all()


@others
@pytest.mark.parametrize("name", ["jvp", "dual numbers", "grad", "vmap of grad"])
def test_callables_say_so_too(name: str, backend: object) -> None:
    which = next(w for w in ONE_OF_EACH if w.name == "info_nce")
    f, x, direction = of_first(which, backend=backend, similarity=tanh_of_products)
    with pytest.raises(RuntimeError, match=SAID):
        TRANSFORMS[name](f, x, direction)


@others
def test_other_transforms_say_so(backend: object) -> None:
    which = next(w for w in ONE_OF_EACH if w.name == "contrastive")
    f, x, _ = of_first(which, backend=backend)
    for call in (
        lambda: torch.func.hessian(f)(x),
        lambda: torch.vmap(f)(x[None]),
        lambda: torch.func.jvp(torch.func.grad(f), (x,), (x,)),
        lambda: torch.autograd.functional.jvp(f, x, x, create_graph=True),
    ):
        with pytest.raises(RuntimeError, match=SAID):
            call()


@pytest.mark.parametrize(
    "make",
    [
        lambda **told: InfoNCELoss(Learned(0.3), **told),
        lambda **told: InfoNCELoss(Learned(0.01, max_scale=50.0), **told),
        lambda **told: SigmoidLoss(Learned(0.3, max_scale=1000), Learned(-1.0), **told),
    ],
    ids=["softmax", "beyond its bound", "sigmoid"],
)
def test_parameters_of_a_loss(make: Any) -> None:
    """``functional_call`` under transforms of the parameters alone, the embeddings being constants."""
    (x, y), _ = arguments(ONE_OF_EACH[0], n=7, m=7, dtype=torch.float64)
    dense = make(backend="dense").double()
    parameters = {name: p.detach() for name, p in dense.named_parameters()}

    def value(given: dict[str, Tensor], loss: Any = dense) -> Tensor:
        return torch.func.functional_call(loss, given, (x, y))

    expected = torch.autograd.grad(dense(x, y), list(dense.parameters()))
    found = torch.func.grad(value)(parameters)
    torch.testing.assert_close(list(found.values()), list(expected))
    directions = {name: torch.ones_like(p) for name, p in parameters.items()}
    tangent = torch.func.jvp(value, (parameters,), (directions,))[1]
    torch.testing.assert_close(tangent, sum(g.sum() for g in expected))
    for backend in ("auto", "tiled"):
        loss = make(backend=backend).double()
        torch.testing.assert_close(value(parameters, loss), dense(x, y))
        for call in (
            torch.func.grad(value),
            lambda p, f: torch.func.jvp(lambda g: value(g, f), (p,), (p,)),
        ):
            with pytest.raises(RuntimeError, match=SAID):
                call(parameters, loss)


@pytest.mark.parametrize("name", ["jvp", "grad"])
def test_compiled_too(name: str) -> None:
    torch._dynamo.reset()
    which = next(w for w in ONE_OF_EACH if w.name == "info_nce")
    f, x, direction = of_first(which, backend="auto")
    compiled = torch.compile(lambda a, v: TRANSFORMS[name](f, a, v), backend="aot_eager")
    with pytest.raises(RuntimeError, match=SAID):
        compiled(x, direction)
    torch._dynamo.reset()
