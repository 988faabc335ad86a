"""The package may be imported twice in a process: a notebook reloads it, a test runner forgets it."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import hardneg

PREAMBLE = """
import importlib, sys, torch
import hardneg
from hardneg import ContrastiveLoss, InfoNCELoss, TripletLoss, TopK
q, c = torch.randn(300, 8, requires_grad=True), torch.randn(300, 8)
labels = torch.arange(300) // 3

def values(package):
    losses = [
        package.ContrastiveLoss(negatives="all"),
        package.InfoNCELoss(negatives=package.TopK(2)),
        package.TripletLoss(negatives="all"),
    ]
    found = []
    for loss, second in zip(losses, (c, c, labels)):
        q.grad = None
        value = loss(q, second)
        value.backward()
        found += [value.detach(), q.grad.clone()]
    return found

def alike(first, second):
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))

def forget():
    for name in [name for name in sys.modules if name.split(".")[0] == "hardneg"]:
        del sys.modules[name]

before = values(hardneg)
"""
WAYS = {
    "a fresh import, several times": """
        for _ in range(3):
            forget()
            again = importlib.import_module("hardneg")
            assert again is not hardneg
            alike(values(again), before)
            alike(values(hardneg), before)
    """,
    "one module reloaded": """
        from hardneg.ops.operators import logsumexp, pair_scores, registration, select
        for module in (registration, logsumexp, pair_scores, select, registration):
            importlib.reload(module)
            alike(values(hardneg), before)
    """,
    "a loss under way": """
        q.grad = None
        value = ContrastiveLoss(negatives="all")(q, c)
        forget()
        importlib.import_module("hardneg")
        value.backward()
        assert torch.equal(q.grad, before[1])
    """,
    "compiled afterwards": """
        forget()
        again = importlib.import_module("hardneg")
        loss = torch.compile(again.ContrastiveLoss(negatives="all"), fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(loss(q, c).detach(), before[0])
    """,
}


@pytest.mark.parametrize("way", WAYS)
def test_a_second_import(way: str) -> None:
    program = PREAMBLE + textwrap.dedent(WAYS[way]) + "\nprint('done')"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(hardneg.__file__).parent.parent,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout.strip() == "done", done.stderr
