"""``Operator``: a reduction over requests as an operator of PyTorch, or as the same code under autograd.

An operator's schema is that of its requests (``schema``). What no schema can name, such as a similarity that is any
callable, runs the same function inside ``torch.autograd.Function``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hardneg.ops.operators.schema import (
    flatten,
    is_named,
    parameters_of,
    tensor_names,
    tensors_of,
    unflatten,
    value_names,
    with_tensors,
)
from hardneg.ops.scores import NO_SECOND_DERIVATIVE
from hardneg.similarities import score_dtype

__all__ = ["Gradients", "Operator", "empty_gradient", "scale_gradient"]

LIBRARIES: dict[str, torch.library.Library] = vars(torch.ops.hardneg).setdefault("_libraries", {})
"""The library of each operator, kept where a second import of this package finds it."""

Gradients = Mapping[str, Tensor | None]
"""Gradients by the name of the tensor that they belong to."""


class Operator:
    """A reduction over requests.

    Args:
        name: of ``torch.ops.hardneg.<name>``.
        requests: their classes, in order.
        results: how many tensors it returns.
        run: computes them from the requests.
        shapes: tensors of the same shapes and types, contents undefined.
    """

    def __init__(
        self,
        name: str,
        requests: tuple[type, ...],
        results: int,
        run: Callable[..., tuple[Tensor, ...]],
        shapes: Callable[..., tuple[Tensor, ...]],
    ) -> None:
        self.name, self.requests, self.run = name, requests, run
        self.results, self.shapes = results, shapes
        self.differentiable = 0
        self.backward: Callable[..., Gradients] | None = None
        self.names = tuple(name for kind in requests for name in value_names(kind))
        self.tensors = tuple(place for place, name in enumerate(self.names) if name)
        schema = ", ".join(parameters_of(requests))
        returned = ", ".join(["Tensor"] * results)
        tags = (torch.Tag.pt2_compliant_tag,)
        library = fresh_library(name)
        library.define(f"{name}({schema}) -> ({returned})", tags=tags)
        library.impl(name, self.kernel, "CompositeExplicitAutograd")
        torch.library.register_fake(f"hardneg::{name}", self.fake, lib=library)

    def __call__(self, *requests: Any) -> tuple[Tensor, ...]:
        """The results."""
        if all(is_named(request) for request in requests):
            values = [value for request in requests for value in flatten(request)]
            # looked up anew: after a second import the operator is that of the later one
            found = getattr(torch.ops.hardneg, self.name)(*values)
            return (found,) if self.results == 1 else found
        if self.backward is None:
            return self.without_autograd(requests)
        tensors = [x for request in requests for x in tensors_of(request)]
        results: tuple[Tensor, ...] = Unnamed.apply(self, requests, *tensors)
        return results

    def restore(self, values: Any) -> tuple[Any, ...]:
        """The requests of flat values."""
        left = iter(values)
        return tuple(unflatten(kind, left) for kind in self.requests)

    def without_autograd(self, requests: tuple[Any, ...]) -> tuple[Tensor, ...]:
        """The results, outside autograd and autocast."""
        device = requests[0].queries.device.type
        with torch.no_grad(), torch.autocast(device, enabled=False):
            return self.run(*requests)

    def kernel(self, *values: Any) -> Any:
        """What PyTorch calls. No two results share memory, as operators must have it.

        Empty ones may, and the lengths of two sides that are one tensor.
        """
        found, taken = [], set[int]()
        for x in self.without_autograd(self.restore(values)):
            found.append(x.clone() if x.numel() == 0 or id(x) in taken else x)
            taken.add(id(x))
        return found[0] if self.results == 1 else tuple(found)

    def fake(self, *values: Any) -> Any:
        """What PyTorch calls to learn the shapes."""
        found = self.shapes(*self.restore(values))
        return found[0] if self.results == 1 else found

    def differentiate(
        self, backward: Callable[..., Gradients], results: int, by: Operator | None = None
    ) -> None:
        """Give the first ``results`` results a backward, computed ``by`` an operator that has none itself.

        Args:
            backward: ``(requests, results, upstream, needed) -> Gradients``; ``needed`` holds the names of the
                tensors that want a gradient.
        """
        self.backward, self.differentiable = backward, results
        torch.library.register_autograd(
            f"hardneg::{self.name}",
            self.flat_backward,
            setup_context=self.keep,
            lib=LIBRARIES[self.name],
        )
        if by is not None:
            forbid_backward(by.name)

    def keep(self, ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Keep arguments and results for the backward."""
        output = (output,) if self.results == 1 else output
        ctx.mark_non_differentiable(*output[self.differentiable :])
        # no zeros the size of the embeddings for what has no gradient
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*(inputs[place] for place in self.tensors), *output)
        ctx.rest = [None if name else value for name, value in zip(self.names, inputs, strict=True)]

    def flat_backward(self, ctx: Any, *upstream: Tensor | None) -> tuple[Tensor | None, ...]:
        """One gradient for each flat argument."""
        values, saved = list(ctx.rest), ctx.saved_tensors
        for place, tensor in zip(self.tensors, saved[: -self.results], strict=True):
            values[place] = tensor
        asked = zip(self.names, ctx.needs_input_grad, strict=True)
        needed = {name for name, yes in asked if yes is True}
        given = self.gradients(self.restore(values), saved[-self.results :], upstream, needed)
        return tuple(given.get(name) if name in needed else None for name in self.names)

    def gradients(
        self,
        requests: tuple[Any, ...],
        results: tuple[Tensor, ...],
        upstream: tuple[Tensor | None, ...],
        needed: set[str],
    ) -> Gradients:
        """The gradients of the requests' tensors by name; none where no result has any."""
        given = upstream[: self.differentiable]
        if all(gradient is None for gradient in given):
            return {}
        assert self.backward is not None
        sides = {name.removeprefix("to_") for name in needed}
        found = self.backward(requests, results, given, sides)
        return {**found, "to_queries": found["queries"], "to_candidates": found["candidates"]}


def fresh_library(name: str) -> torch.library.Library:
    """A library for one operator, in place of that of an earlier import (a reloaded notebook) of this module.

    As ``torch.library.custom_op`` does: a process takes one definition of an operator at a time.
    """
    if name in LIBRARIES:
        LIBRARIES.pop(name)._destroy()
    LIBRARIES[name] = torch.library.Library("hardneg", "FRAGMENT")
    return LIBRARIES[name]


class Unnamed(torch.autograd.Function):
    """An operator on requests that no schema can name."""

    @staticmethod
    def forward(
        ctx: Any, operator: Operator, requests: tuple[Any, ...], *tensors: Tensor | None
    ) -> tuple[Tensor, ...]:
        """The results."""
        output = operator.without_autograd(requests)
        ctx.mark_non_differentiable(*output[operator.differentiable :])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors, *output)
        ctx.operator = operator
        ctx.requests = [with_tensors(request, iter(lambda: None, 0)) for request in requests]
        return output

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor | None) -> Any:
        """One gradient for each tensor."""
        if torch.is_grad_enabled():
            raise RuntimeError(NO_SECOND_DERIVATIVE)
        operator, saved = ctx.operator, ctx.saved_tensors
        names = [name for kind in operator.requests for name in tensor_names(kind)]
        needed = {n for n, yes in zip(names, ctx.needs_input_grad[2:], strict=True) if yes}
        tensors = iter(saved[: -operator.results])
        requests = tuple(with_tensors(request, tensors) for request in ctx.requests)
        given = operator.gradients(requests, saved[-operator.results :], upstream, needed)
        return None, None, *(given.get(name) if name in needed else None for name in names)


def forbid_backward(name: str) -> None:
    """Raise for a second derivative rather than be silently wrong."""

    def backward(ctx: Any, *gradients: Tensor) -> Any:
        raise RuntimeError(NO_SECOND_DERIVATIVE)

    torch.library.register_autograd(f"hardneg::{name}", backward, lib=LIBRARIES[name])


def empty_gradient(x: Tensor, needed: bool) -> Tensor:
    """The gradient of embeddings, float32 for half precision too; empty where they are frozen."""
    return x.new_empty(x.shape if needed else 0, dtype=score_dtype(x))


@dataclass(frozen=True, eq=False)
class Scaling:
    """A gradient that the forward pass computed, and the upstream number that scales it."""

    queries: Tensor
    upstream: Tensor


def scale(request: Scaling) -> tuple[Tensor]:
    """The product, rounded once: the upstream number of a loss scaler is beyond float16."""
    gradient = request.queries
    upstream = request.upstream.reshape((1,) * gradient.dim())
    return (torch.mul(gradient, upstream, out=torch.empty_like(gradient)),)


SCALE_GRADIENT = Operator(
    "scale_gradient", (Scaling,), 1, scale, lambda a: (torch.empty_like(a.queries),)
)
forbid_backward("scale_gradient")


def scale_gradient(gradient: Tensor, upstream: Tensor) -> Tensor:
    """A gradient that the forward pass computed, times the upstream number."""
    return SCALE_GRADIENT(Scaling(gradient, upstream))[0]
