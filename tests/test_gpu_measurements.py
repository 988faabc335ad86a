"""What the GPU command measures: ours before others, failures as rows, winners that are right, and what it prints."""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks import formulas, peers
from benchmarks.case import OURS, PLAIN, PRODUCT, Contender, Target
from benchmarks.gpu import counters, measurements, report, shipped, steadiness, tune, wheels
from benchmarks.gpu.cases.device_case import DeviceCase
from benchmarks.gpu.cases.headline import product_in_blocks
from benchmarks.gpu.configurations import table_line
from benchmarks.gpu.losses import LOSSES, drawn
from benchmarks.gpu.place import Place
from benchmarks.gpu.summary import summary

PLACE = Place("cpu", small=True, backend="tiled")


def product(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum()


def out_of_memory(*_: Tensor) -> Tensor:
    raise torch.OutOfMemoryError("too large")


def case(*contenders: Contender, targets: tuple[Target, ...] = ()) -> DeviceCase:
    return DeviceCase("x", (8, 8, 4), (8, 8, 4), contenders, targets, None)


def steady(name: str, step: Callable[..., Tensor] = product) -> Contender:
    return Contender(name, lambda: step)


@pytest.mark.parametrize("who", [OURS, PLAIN])
def test_only_a_rival_may_run_out_of_memory(who: str) -> None:
    pair = [steady(n, out_of_memory if n == who else product) for n in (OURS, PLAIN)]
    found = measurements.measured(case(*pair), PLACE)
    if who == OURS:
        with pytest.raises(torch.OutOfMemoryError):
            list(found)
    else:
        assert [row.get("note") for row in found] == [None, "out of memory"]


def test_ours_is_told_before_any_other_starts() -> None:
    started = []

    def late() -> Callable[..., Tensor]:
        started.append(PLAIN)
        return product

    found = measurements.measured(case(steady(OURS), Contender(PLAIN, late)), PLACE)
    assert next(found)["contender"] == OURS
    assert started == []
    row = next(found)
    assert row["contender"] == PLAIN
    assert row["hardneg_ratio"] > 0


def test_a_rival_that_is_missing_leaves_its_target_open_and_the_next_one_runs() -> None:
    contenders = steady(OURS), steady("a", out_of_memory), steady(PRODUCT)
    targets = Target("a", 1.0), Target(PRODUCT, 1e9)
    rows = list(measurements.measured(case(*contenders, targets=targets), PLACE))
    assert [found["met"] for row in rows for found in row["targets"]] == [None, True]


def test_the_product_in_blocks_is_the_product(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.gpu.cases.headline.BLOCK", (4, 3))
    a, b = torch.randn(10, 5), torch.randn(8, 5)
    assert torch.equal(product_in_blocks()(a, b), a[8:] @ b[6:].t())


# Tuning


def found(seconds: float, value: float, **sizes: int) -> tune.Found:
    from hardneg.ops.triton.tuning import Configuration

    tile = {"rows": 64, "columns": 64, "depth": 64, "warps": 4, "stages": 3, **sizes}
    key = ("best", "product16", "sm_90")
    return tune.Found(key, Configuration(**tile), seconds, (torch.tensor([value]),))


def test_the_fastest_wins_if_its_results_are_right() -> None:
    every = [found(1.0, 5.0), found(0.5, 6.0, rows=32), found(0.8, 5.0, rows=128)]
    row = tune.winner("best", 1024, every)
    assert row["changed"]
    assert "(128, 64, 64, 4, 3)" in row["line"]
    assert [wrong["rows"] for wrong in row["wrong"]] == [32]
    assert (
        tune.winner("best", 1024, [found(1.0, 5.0), found(0.99, 5.0, rows=128)])["changed"] is False
    )
    assert not tune.close((torch.tensor([torch.nan]),), (torch.tensor([1.0]),))


def test_the_line_can_be_pasted(monkeypatch: pytest.MonkeyPatch) -> None:
    from hardneg.ops.triton import tuning

    one = found(1.0, 5.0)
    monkeypatch.setattr(tuning, "TABLE", dict(tuning.TABLE))
    exec(table_line(one.key, one.configuration), vars(tuning))
    assert astuple(tuning.TABLE[one.key]) == (64, 64, 64, 4, 3)


# Steadiness


def test_other_bits_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    class Shaky(torch.nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            calls.append(0)
            return (a * b).sum() + (len(calls) == 3)

    assert [v.passed for v in steadiness.repeated(PLACE, "hardest", 64)] == [True]
    monkeypatch.setitem(LOSSES, "hardest", lambda by: Shaky())
    assert [v.passed for v in steadiness.repeated(PLACE, "hardest", 64)] == [False]


def test_a_wait_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    class Reads(torch.nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return (a * b).sum() * float(a.detach().sum())

    assert all(v.passed for v in steadiness.waits(PLACE, "InfoNCE"))
    monkeypatch.setitem(LOSSES, "InfoNCE", lambda by: Reads())
    verdicts = list(steadiness.waits(PLACE, "InfoNCE"))
    assert [v.passed for v in verdicts] == [False]
    assert "waits for the device" in verdicts[0].what


# Counters


NCU = """==PROF== Connected to process 7
a line of the program
"ID","Process ID","Kernel Name","Section Name","Metric Name","Metric Unit","Metric Value","Rule Name"
"0","7","best_kernel","GPU Speed Of Light Throughput","Duration","ms","1.25",""
"0","7","best_kernel","Occupancy","Theoretical Occupancy","%","12.50",""
"0","7","best_kernel","Occupancy","","","","TheoreticalOccupancy"
"""


def test_counters_are_read_from_the_table() -> None:
    assert counters.metrics(NCU) == {"Duration": "1.25 ms", "Theoretical Occupancy": "12.50 %"}
    assert counters.metrics("==ERROR== ERR_NVGPUCTRPERM") == {}


def test_the_profile_names_what_takes_long() -> None:
    rows = list(counters.profiled(PLACE, "hardest"))
    assert rows[0]["what"] == "all launches"
    assert rows[0]["count"] > 10
    assert rows[1]["us"] >= rows[2]["us"] > 0


# The folder of compiled kernels


def test_a_packed_folder_is_where_it_is_unpacked(tmp_path: Path) -> None:
    folder = tmp_path / "kernels"
    (folder / "A").mkdir(parents=True)
    (folder / "A" / "best.cubin").write_bytes(b"code")
    (folder / "A" / "best.ptx").write_text("text")
    children = {"best.cubin": "/elsewhere/A/best.cubin", "best.ptx": "/elsewhere/A/best.ptx"}
    (folder / "A" / "__grp__best.json").write_text(json.dumps({"child_paths": children}))
    shipped.stripped(folder)
    with shipped.unpacked(shipped.packed(folder)) as place:
        assert place != folder
        listed = json.loads((place / "A" / "__grp__best.json").read_text())["child_paths"]
        assert listed == {"best.cubin": str((place / "A" / "best.cubin").resolve())}
        assert shipped.compiled(place) == 1
    assert not place.exists()


def test_wheels_are_imported_without_an_installer(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "other-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("other_library/__init__.py", "VALUE = 7")
    with wheels.unpacked(tmp_path) as place:
        assert (place / "other_library" / "__init__.py").read_text() == "VALUE = 7"
    assert not place.exists()
    with (
        pytest.raises(FileNotFoundError, match="holds no wheel"),
        wheels.unpacked(tmp_path / "none"),
    ):
        pass


PEERS = (peers.memeff, peers.siglip_kernel, peers.inf_cl, peers.open_clip_sigmoid)


@pytest.mark.parametrize("make", PEERS, ids=lambda make: make.__name__)
def test_a_library_that_is_not_there_is_named(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("memeff", "siglip_kernel", "inf_cl", "open_clip", "open_clip.loss"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(peers.Missing, match="is not installed"):
        make()


def test_the_sigmoid_formula_is_the_loss() -> None:
    a, b = (torch.randn(9, 5) for _ in range(2))
    assert torch.allclose(formulas.sigmoid(a, b), LOSSES["sigmoid"]("dense")(a, b))
    pytest.importorskip("open_clip")
    assert torch.allclose(formulas.sigmoid(a, b), peers.open_clip_sigmoid()(a, b))


# What is printed


def test_every_kind_of_row_is_a_line() -> None:
    about = {"job": "a: b", "stage": "a"}
    target = {"target": "≤ 2 s", "value": 3.0, "limit": 2.0, "met": False}
    timed = {"case": "c", "contender": "d", "median_ms": 1.0, "min_ms": 1.0, "max_ms": 2.0}
    rows: list[dict[str, Any]] = [
        {"ceiling": "copy", "value": 3000.0, "unit": "GB/s"},
        {**timed, "targets": [target], "hardneg_ms": 2.0, "hardneg_ratio": 2.0, "peak_mib": 1.0},
        {"case": "c", "contender": "e", "note": "out of memory"},
        {"kernel": "best", "width": 64, "configuration": {"rows": 64}, "median_ms": 1.0},
        tune.winner("best", 1024, [found(1.0, 5.0)]),
        {"profile": "hardest", "what": "best_kernel", "count": 1, "us": 3.0, "share": 0.5},
        {"counters": "best", "values": {"Duration": "1 ms"}},
        {"counters": "best", "note": "ncu is not on the path"},
        {"error": "RuntimeError: broken"},
        {"passed": False, "what": "x", "error": 1.0, "allowed": 0.0, "eager_error": 0.0},
    ]
    rows = [{**about, **row} for row in rows]
    assert all(report.line(row) for row in rows)
    text = summary([*rows, {**about, "not_run": "no time left"}, {**about, "took": 2.0}])
    assert "  a: 1, 2 s; 10, 2; 1" in text
    assert "c: target ≤ 2 s: 3.00, MISSED" in text
    assert 'keep TABLE["best", "product16", "sm_90"] = Configuration(64, 64, 64, 4, 3)' in text
    assert "checks: 0 of 1 passed\nerrors: 1\njobs without time: 1\n" in text


def test_drawn_inputs_ask_for_gradients() -> None:
    assert all(x.requires_grad for x in drawn("hardest", (4, 3), torch.float32, "cpu"))
