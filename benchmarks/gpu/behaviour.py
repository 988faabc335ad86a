"""Checks of what every loss does beside being right: same bits twice, compile, graphs, autocast, opcheck."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.gpu.arithmetic import Verdict, distance
from benchmarks.gpu.losses import LOSSES, drawn, recorded, step
from benchmarks.gpu.place import Place

Check = Callable[[Place, str], Iterator[Verdict]]


def shape(place: Place) -> tuple[int, int]:
    """Ragged, so that masks are at work."""
    return (18, 12) if place.small else (1001, 136)


def exactly(what: str, found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> Verdict:
    """How many numbers have other bits."""
    wrong = sum(int((a != b).sum()) for a, b in zip(found, expected, strict=True))
    return Verdict(what, float(wrong), 0.0, 0.0)


def closely(what: str, found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> Verdict:
    """The largest difference, in multiples of the largest expected number; compilers may round otherwise."""
    errors, allowed = [], 0.0
    for a, b in zip(found, expected, strict=True):
        size = float(b.double().abs().max()) or 1.0
        errors.append(distance(a, b) / size)
        allowed = max(allowed, 4 * torch.finfo(b.dtype).eps)
    worst = torch.tensor(errors, dtype=torch.float64).max()  # where Python's max may lose a NaN
    return Verdict(what, float(worst), 0.0, allowed)


def finite(what: str, found: tuple[Tensor, ...]) -> Verdict:
    """Nothing is NaN, and something is not 0."""
    sound = all(bool(x.isfinite().all()) for x in found) and bool((found[1] != 0).any())
    return Verdict(what, 0.0 if sound else float("nan"), 0.0, 0.0)


def deterministic(place: Place, name: str) -> Iterator[Verdict]:
    loss = place.loss(LOSSES[name])
    for dtype in (torch.float32, torch.bfloat16):
        inputs = drawn(name, shape(place), dtype, place.device)
        first = step(loss, inputs)
        yield finite(f"finite, {dtype}", first)
        yield exactly(f"the same bits twice, {dtype}", step(loss, inputs), first)


def compiled(place: Place, name: str) -> Iterator[Verdict]:
    loss = place.loss(LOSSES[name])
    inputs = drawn(name, shape(place), torch.bfloat16, place.device)
    torch._dynamo.reset()
    fast = torch.compile(loss, fullgraph=True, backend=place.compiler)
    yield closely("torch.compile(fullgraph=True)", step(fast, inputs), step(loss, inputs))


def captured(place: Place, name: str) -> Iterator[Verdict]:
    """A CUDA graph of forward and backward, replayed on other embeddings."""
    loss = place.loss(LOSSES[name])
    inputs = drawn(name, shape(place), torch.bfloat16, place.device)
    others = drawn(name, shape(place), torch.bfloat16, place.device, seed=1)
    expected = step(loss, others)
    recording, found = recorded(loss, inputs)
    with torch.no_grad():
        for x, y in zip(inputs, others, strict=True):
            x.copy_(y)
    recording.replay()
    torch.cuda.synchronize()
    yield exactly("replayed CUDA graph", found, expected)


def autocast(place: Place, name: str) -> Iterator[Verdict]:
    """float32 embeddings stay float32 inside autocast, and the loss is float32."""
    loss = place.loss(LOSSES[name])
    inputs = drawn(name, shape(place), torch.float32, place.device)
    with torch.autocast(place.device, torch.bfloat16):
        inside = step(loss, inputs)
    yield exactly("autocast", inside, step(loss, inputs))
    kinds = [x.dtype for x in inside]
    yield Verdict("dtypes in autocast", float(any(k != torch.float32 for k in kinds)), 0.0, 0.0)


class Calls(TorchDispatchMode):
    """Keeps the first call of every hardneg operator, backward ones too."""

    def __init__(self) -> None:
        super().__init__()
        self.first: dict[str, tuple[Any, tuple[Any, ...]]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "hardneg" and func._opname not in self.first:
            kept = tuple(x.detach().clone() if isinstance(x, Tensor) else x for x in args)
            self.first[func._opname] = func, kept
        return func(*args, **(kwargs or {}))


def opchecked(place: Place, name: str) -> Iterator[Verdict]:
    """``torch.library.opcheck`` of every operator that the loss calls."""
    loss = place.loss(LOSSES[name])
    inputs = drawn(name, shape(place), torch.bfloat16, place.device)
    with Calls() as calls:
        step(loss, inputs)
    tests = ("test_schema", "test_autograd_registration", "test_faketensor")
    for operator, (func, kept) in calls.first.items():
        torch.library.opcheck(func, kept, test_utils=tests)
        yield Verdict(f"opcheck {operator}", 0.0, 0.0, 0.0)


CHECKS: dict[str, tuple[Check, tuple[str, ...]]] = {
    "deterministic": (deterministic, tuple(LOSSES)),
    "autocast": (autocast, ("hardest", "8 hardest", "all (hinge)", "InfoNCE", "SupCon")),
    "opcheck": (opchecked, ("hardest", "8 hardest", "all (hinge)", "InfoNCE", "multi-similarity")),
    "graph": (
        captured,
        ("hardest", "8 hardest", "semi-hard", "all (hinge)", "InfoNCE", "sigmoid", "SupCon"),
    ),
    "compile": (compiled, ("hardest", "8 hardest", "all (hinge)", "InfoNCE", "SupCon")),
}
"""What is checked, and for which losses: ``compile`` and ``graph`` take seconds each."""
