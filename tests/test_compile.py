"""Every loss compiles whole; importing the package is cheap; imports point one way. Without a runtime shape checker."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from every_loss import (
    EVERY,
    LABELLED,
    PAIRED,
    RANDOM,
    Case,
    arguments,
    assert_same,
    case,
    run,
    value_and_gradients,
)
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

import hardneg
from hardneg import Hardest, TopK

PACKAGE = Path(hardneg.__file__).parent
LISTED = (
    case("nt_xent", "labelled", negatives=TopK(2)),
    case("nt_xent", "labelled", negatives=Hardest()),
)
"""A log-sum-exp over a number of pairs that is read from the device: torch asks whether it is 0."""


@pytest.fixture(autouse=True)
def afresh() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def compiled_twice(which: Case, compiler: object, **options: object) -> int:
    """How often one graph is compiled for two batches; both results are those of eager mode."""
    counter = CompileCounterWithBackend(compiler)
    first, groups = arguments(which)
    count = len(first)

    def loss(*tensors: Tensor) -> Tensor:
        return run(which, list(tensors[:count]), list(tensors[count:]), **options)

    compiled = torch.compile(loss, fullgraph=True, backend=counter)
    for seed in (0, 7):
        embeddings, groups = arguments(which, seed=seed)
        leaves = [x.clone().requires_grad_() for x in embeddings]
        torch.manual_seed(5)
        value = compiled(*leaves, *groups)
        found = value.detach(), list(torch.autograd.grad(value, leaves))
        expected = value_and_gradients(which, embeddings, groups, **options)
        assert_same(found, expected, rtol=1e-4, atol=1e-5)
    return counter.frame_count


def few(cases: tuple[Case, ...], most: int) -> list[Case]:
    """At most so many of every loss."""
    taken: dict[str, list[Case]] = {}
    for which in cases:
        same = taken.setdefault(which.name, [])
        if len(same) < most and which not in LISTED:
            same.append(which)
    return [which for same in taken.values() for which in same]


CASES = few(PAIRED + LABELLED, 2) + few(RANDOM, 1)
CASES += [w for w in LABELLED if dict(w.options).get("positives") in ("hardest", "easiest")]
CASES += [w for w in LABELLED if "epsilon" in dict(w.options)]


# both backends for the first case of every loss, one of them in turn for the others
FIRSTS = {which.name: which for which in reversed(CASES)}
COMPILED = [
    pytest.param(
        which, backend, marks=() if which in FIRSTS.values() or i % 2 == j else pytest.mark.full
    )
    for i, which in enumerate(CASES)
    for j, backend in enumerate(("auto", "tiled"))
]


@pytest.mark.parametrize(("which", "backend"), COMPILED, ids=str)
def test_every_loss_compiles_whole(which: Case, backend: str) -> None:
    assert compiled_twice(which, "aot_eager", backend=backend) == 1


@pytest.mark.parametrize("which", LISTED, ids=str)
def test_listed_positives_compile_whole(which: Case) -> None:
    assert compiled_twice(which, "aot_eager") == 1


WITH_IDS = [w for w in EVERY if w.name in ("contrastive", "info_nce", "sigmoid")][::3]


@pytest.mark.parametrize("which", WITH_IDS, ids=str)
def test_ids_and_statistics_compile_whole(which: Case) -> None:
    embeddings, _ = arguments(which)
    groups = [torch.arange(7) // 2, torch.arange(9) // 2]

    def loss(*tensors: Tensor) -> tuple[Tensor, object]:
        found, stats = run(which, list(tensors[:2]), list(tensors[2:]), return_stats=True)
        return found, stats.gap

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    torch.manual_seed(5)
    found = compiled(*embeddings, *groups)
    torch.manual_seed(5)
    torch.testing.assert_close(found, loss(*embeddings, *groups))


def test_a_learned_temperature_compiles_whole() -> None:
    embeddings, _ = arguments(EVERY[0])
    for loss in (
        hardneg.InfoNCELoss(hardneg.Learned(0.07)),
        hardneg.SigmoidLoss(hardneg.Learned(0.1, max_scale=1000)),
    ):
        compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
        expected = torch.autograd.grad(loss(*embeddings), list(loss.parameters()))
        found = torch.autograd.grad(compiled(*embeddings), list(loss.parameters()))
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


INDUCTOR = (
    case("contrastive", "paired", negatives="hardest"),
    case("info_nce", "paired", negatives="all"),
)


@pytest.mark.parametrize("which", INDUCTOR, ids=str)
@pytest.mark.full
@pytest.mark.filterwarnings("default:::torch")
def test_a_few_with_inductor(which: Case) -> None:
    if not any(map(shutil.which, ("c++", "g++", "clang++"))):
        pytest.skip("inductor needs a C++ compiler")
    assert compiled_twice(which, "inductor") == 1


# Importing

FOREIGN = ("triton", "torchvision", "sklearn", "pandas", "matplotlib", "PIL")


def in_fresh_python(program: str) -> str:
    options = {"capture_output": True, "text": True, "check": True, "timeout": 60}
    directory = str(PACKAGE.parent)
    return subprocess.run([sys.executable, "-c", program], cwd=directory, **options).stdout


def test_the_import_brings_nothing_foreign() -> None:
    program = f"""
import sys, torch
before = set(sys.modules)
import hardneg, hardneg.functional
new = sorted(m for m in set(sys.modules) - before if m.split(".")[0] in {FOREIGN})
assert not new, new
print("clean")
"""
    assert in_fresh_python(program).strip() == "clean"


def test_the_import_is_quick() -> None:
    """Beside that of torch, in processor time, so that neither a slow machine nor a busy one counts."""
    program = """
import time
begin = time.process_time()
import torch
between = time.process_time()
import hardneg
print((time.process_time() - between) / (between - begin))
"""
    assert float(in_fresh_python(program)) < 0.3
