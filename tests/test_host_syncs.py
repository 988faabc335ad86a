"""No loss makes the host wait for a GPU, so that it can be captured in a graph: told from fake tensors of one.

A fake tensor has no numbers: reading one raises, and so does a shape that depends on them. The operators' own
code runs, not only their shapes. Copies from the host to the device, and back, are noticed beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from every_loss import EVERY, Case, arguments, run
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hardneg import (
    Ceiling,
    ContrastiveLoss,
    Hardest,
    InfoNCELoss,
    Learned,
    MarginLoss,
    SigmoidLoss,
    SupConLoss,
    TopK,
    TripletLoss,
)
from hardneg.ops.small import by_kernels

if not torch.backends.cuda.is_built():
    pytest.skip("torch built for CPUs alone crashes on fake GPU tensors", allow_module_level=True)

READS = (DataDependentOutputException, DynamicOutputShapeException)
"""What a fake tensor raises where a number of it is asked for."""
LISTS_POSITIVES = [
    w
    for w in EVERY
    if (w.name == "triplet" and w.positives not in ("hardest", "easiest"))
    or (w.name == "nt_xent" and dict(w.options)["negatives"] != "all")
]
"""These read the number of positives from the device, as their documentation says."""
ASYNCHRONOUS = [w for w in EVERY if w not in LISTS_POSITIVES]


ON_GPU = torch._C.DispatchKeySet(torch._C.DispatchKey.CUDA)


@pytest.fixture(autouse=True)
def without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fake tensors have no memory that a kernel could read; see ``test_operation_counts`` for those."""
    monkeypatch.setattr(by_kernels, "runs_kernels", lambda device: False)


class HostCopy(Exception):
    """Numbers were copied between the host and the device."""


class Watched(TorchDispatchMode):
    """Runs the operators of the package, not only their shapes; raises where memory crosses to the GPU or back."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.namespace == "hardneg":
            with self:
                return func.redispatch(ON_GPU, *args, **kwargs)
        given = {x.device.type for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        found = func(*args, **kwargs)
        made = {x.device.type for x in tree_leaves(found) if isinstance(x, Tensor)}
        crosses = len(given) == 1 and len(given | made) > 1
        if crosses or (func._schema.name == "aten::copy_" and len(given) > 1):
            raise HostCopy(f"{func} between {sorted(given | made)}")
        return found


def on_fake_gpu(x: Tensor) -> Tensor:
    return torch.empty(x.shape, dtype=x.dtype, device="cuda", requires_grad=x.is_floating_point())


def watched(call: Callable[..., Any], *tensors: Tensor, made: bool = False) -> None:
    """Run it, and the backward of what it returns, on fake tensors like these; of what it makes, with ``made``."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        fakes = [on_fake_gpu(x) for x in tensors]
        if made:
            with torch.device("cuda"):
                call = call()
        with Watched():
            found = call(*fakes)
            value = found[0] if isinstance(found, tuple) else found
            assert value.device.type == "cuda"
            reached = backward(value)
        leaves = [x for x in fakes if x.requires_grad]
        assert all(any(x is leaf for leaf in reached) for x in leaves)


@torch.no_grad()
def backward(value: Tensor) -> list[Tensor]:
    """The leaves that a gradient reaches, one function after the other: autograd's engine wants a GPU for fake ones."""
    gradients = {value.grad_fn: {value.output_nr: torch.ones_like(value)}}
    reached = []
    for node in in_order(value.grad_fn):
        if hasattr(node, "variable"):
            reached.append(node.variable)
            continue
        for (other, index), gradient in passed_on(node, gradients.get(node, {})):
            if gradient is not None:
                like, so_far = other._input_metadata[index], gradients.setdefault(other, {})
                share = gradient.sum_to_size(like.shape).to(like.dtype)  # what was broadcast
                so_far[index] = so_far[index] + share if index in so_far else share
    return reached


def passed_on(node: Any, given: dict[int, Tensor]) -> Any:
    """Every function that the gradient goes on to, with its share."""
    upstream = [given.get(i) for i in range(len(node._input_metadata))]
    edges = node.next_functions
    if callable(node):
        found = node(*upstream)
        found = found if isinstance(found, tuple) else (found,)
        pairs = zip(edges, found, strict=True)
    else:  # written in Python: a share for each argument, an edge for each tensor among them
        wanted = [
            g
            for g, needed in zip(node.apply(*upstream), node.needs_input_grad, strict=True)
            if needed
        ]
        pairs = zip([edge for edge in edges if edge[0] is not None], wanted, strict=True)
    return [pair for pair in pairs if pair[0][0] is not None]


def in_order(root: Any) -> list[Any]:
    """Every function behind all that use it."""
    done: list[Any] = []
    seen = set()

    def visit(node: Any) -> None:
        if node is None or node in seen:
            return
        seen.add(node)
        for other, _ in node.next_functions:
            visit(other)
        done.append(node)

    visit(root)
    return done[::-1]


def of_case(which: Case, n: int, m: int, **options: Any) -> tuple[Callable[..., Any], list[Tensor]]:
    embeddings, groups = arguments(which, n=n, m=m, d=8)
    count = len(embeddings)

    def call(*tensors: Tensor, **more: Any) -> Any:
        return run(which, list(tensors[:count]), list(tensors[count:]), **options, **more)

    return call, [*embeddings, *groups]


# What the watch sees


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda x: (x * torch.tensor(0.5, device=x.device)).sum(), HostCopy),
        (lambda x: (x * torch.tensor([0.5]).to(x.device)).sum(), HostCopy),
        (lambda x: (x.cpu() + 1).sum(), HostCopy),
        (lambda x: x.sum() if bool((x > 0).any()) else x.mean(), READS),
        (lambda x: x.sum() * float(x[0, 0]), READS),
        (lambda x: x[x > 0].sum(), READS),
    ],
)
def test_the_watch_sees_them(call: Any, error: Any) -> None:
    with pytest.raises(error):
        watched(call, torch.ones(3, 2))


def test_the_watch_sees_into_operators() -> None:
    """The list of positives is read inside an operator."""
    for loss in (TripletLoss(), TripletLoss(negatives="all", reduction="none")):
        with pytest.raises(READS):
            watched(loss, torch.ones(6, 2), torch.arange(6))


# Every loss

SIZES = ((7, 9), (1500, 1501))
"""One tile; then tiles."""


@pytest.mark.parametrize("which", ASYNCHRONOUS, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=("small", "large"))
@pytest.mark.parametrize("statistics", [False, True], ids=("plain", "statistics"))
def test_every_loss(which: Case, size: tuple[int, int], statistics: bool) -> None:
    # no kernels here: those are for the machine with a GPU
    backend = "auto" if size == SIZES[0] else "tiled"
    call, tensors = of_case(which, *size, return_stats=statistics, backend=backend)
    watched(call, *tensors)


@pytest.mark.parametrize("which", [w for w in ASYNCHRONOUS if w.kind == "paired"], ids=str)
@pytest.mark.parametrize("backend", ["auto", "tiled", "dense"])
def test_ids(which: Case, backend: str) -> None:
    _, tensors = of_case(which, 7, 9)

    def with_ids(*given: Tensor) -> Any:
        ids = torch.arange(9, device=given[0].device) // 2
        options = {"query_ids": ids[:7], "candidate_ids": ids, "backend": backend}
        return which.function(*given, **dict(which.options), **options, return_stats=True)

    watched(with_ids, *tensors)


@pytest.mark.parametrize("reduction", ["mean", "sum", "mean_active"])
@pytest.mark.parametrize("which", ASYNCHRONOUS[::4], ids=str)
def test_reductions_and_masks(which: Case, reduction: str) -> None:
    call, tensors = of_case(which, 8, 11)

    def with_mask(*given: Tensor) -> Any:
        rows = len(given[0])
        columns = len(given[1]) if which.kind == "paired" else rows
        ignore = torch.zeros(rows, columns, dtype=torch.bool, device=given[0].device)
        return call(*given, ignore_mask=ignore, reduction=reduction)

    watched(with_mask, *tensors)


MODULES: list[tuple[Callable[[], nn.Module], bool]] = [
    (lambda: ContrastiveLoss(negatives=TopK(3, ceiling=Ceiling(0.95))), False),
    (lambda: ContrastiveLoss(negatives="semihard", similarity="order"), False),
    (lambda: InfoNCELoss(negatives=TopK(40)), False),
    (lambda: InfoNCELoss(Learned(0.07)), False),
    (lambda: SigmoidLoss(Learned(0.1, max_scale=1000), Learned(-10.0), directions="both"), False),
    (lambda: SigmoidLoss(), False),
    (lambda: TripletLoss(positives="hardest", negatives=Hardest()), True),
    (lambda: SupConLoss(Learned(0.1)), True),
    (lambda: MarginLoss(beta=Learned(1.2), negatives="all"), True),
]


@pytest.mark.parametrize(("make", "labels"), MODULES)
@pytest.mark.parametrize("rows", [64, 1500])
def test_modules(make: Callable[[], nn.Module], labels: bool, rows: int) -> None:
    x = torch.ones(rows, 16)
    second = torch.arange(rows) if labels else x

    def on_backend() -> nn.Module:
        loss = make()
        loss.backend = "auto" if rows == 64 else "tiled"
        return loss

    watched(on_backend, x, second, made=True)


@pytest.mark.parametrize("which", LISTS_POSITIVES, ids=str)
def test_only_lists_of_positives_are_read(which: Case) -> None:
    """So that the list of exceptions holds no loss without need."""
    call, tensors = of_case(which, 7, 9)
    with pytest.raises(READS):
        watched(call, *tensors)
