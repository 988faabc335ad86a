"""Every case at a small shape: equal values, sane rows, and times (``pytest benchmarks --benchmark-only``)."""

from __future__ import annotations

import json

import pytest
import torch

from benchmarks import core, memory, table
from benchmarks.case import OURS, PRODUCT, Case, Contender, Target
from benchmarks.cases import CASES
from benchmarks.peers import Missing, needing
from benchmarks.timing import run_once

PAIRS = [
    pytest.param(case, contender, id=f"{case.name}-{contender.name}")
    for case in CASES
    for contender in case.contenders
]


COMPARED = [p for p in PAIRS if p.values[1].same_value and p.values[1].name != OURS]


def made(contender: Contender):
    try:
        return contender.make()
    except Missing as missing:
        pytest.skip(str(missing))


@pytest.mark.parametrize(("case", "contender"), PAIRS)
def test_time(benchmark, case: Case, contender: Contender) -> None:
    benchmark.group = case.name
    step = made(contender)
    inputs = case.at(case.small).inputs(gradients=contender.gradient)
    benchmark.pedantic(run_once, (contender, step, inputs), rounds=5, warmup_rounds=1)


@pytest.mark.parametrize(("case", "contender"), COMPARED)
def test_contenders_compute_the_same(case: Case, contender: Contender) -> None:
    inputs = case.at(case.small).inputs(gradients=False)
    found, expected = made(contender)(*inputs), case.contender(OURS).make()(*inputs)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_rows_and_their_table(monkeypatch) -> None:
    """A case that is run in small gives complete rows, and the table shows them."""
    case = CASES[0]
    monkeypatch.setattr(
        core,
        "in_own_process",
        lambda *_: {"seconds": 1.0, "peak_mib": 3.0, "total_mib": 9.0},
    )
    rows = core.measure(case.at(case.small), torch.get_num_threads(), 2, 0.1)
    rows = [json.loads(json.dumps(row)) for row in rows]
    assert [row["contender"] for row in rows] == [c.name for c in case.contenders]
    assert next(r for r in rows if r["contender"] == PRODUCT)["ratio"] == 1
    assert [found["met"] in (True, False) for found in rows[0]["targets"]] == [True] * 3
    older = [
        {**row, "date": "2000-01-01", "median_ms": 7777.0} for row in rows if "note" not in row
    ]
    block = table.table(older + rows)
    assert "| hardest (96 x 96 x 32) |" in block
    assert "7.78 s" not in block


def test_targets_are_judged_in_their_own_unit() -> None:
    assert Target("a", 1 / 4).judged(0.2) == {
        "target": "≥ 4 x faster than a",
        "value": 5.0,
        "limit": 4.0,
        "met": True,
    }
    assert Target("a", 1.5, times=3).judged(6.0)["value"] == 2.0
    assert not Target("a", 1.5, times=3).judged(6.0)["met"]
    assert Target("a", 1.5).judged(None)["met"] is None


def test_a_peer_that_lacks_a_name_is_not_missing() -> None:
    with pytest.raises(Missing, match="x is not installed"), needing("x"):
        import no_such_module  # noqa: F401
    with pytest.raises(ImportError, match="no_such_name"), needing("x"):
        from math import no_such_name  # noqa: F401


def test_a_peak_is_seen() -> None:
    """64 MiB that are touched and freed again raise the peak by as much."""
    memory.forget_peak()
    before = memory.resident()
    torch.ones(16 * 2**20).sum()
    assert memory.peak() - before > 60 * memory.MIB
