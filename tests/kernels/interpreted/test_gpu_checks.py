"""Some checks of the GPU command with the kernels themselves: what it will run on a GPU runs here."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.case import OURS
from benchmarks.gpu import configurations, measurements
from benchmarks.gpu.cases import cases
from benchmarks.gpu.configurations import LOSS_OF
from benchmarks.gpu.jobs import checks
from benchmarks.gpu.place import Place
from benchmarks.timing import Runner
from hardneg.ops.triton import tuning

PLACE = Place("cpu", small=True)
JOBS = checks(PLACE)
CHOSEN = (
    # a list of pairs that is one number expanded was once read beyond its end
    "correct: sums, float32 highest, cosine, one query, two coordinates",
    "correct: select, bfloat16, cosine, masks",
    "correct: ties, bfloat16",
    "beyond: select, 2.8e9 scores",
    "deterministic: hardest",
    "autocast: InfoNCE",
)


@pytest.mark.parametrize("name", CHOSEN)
def test_job(name: str) -> None:
    rows = list(JOBS[name].run())
    assert rows
    assert [row for row in rows if not row["passed"]] == []


@pytest.mark.parametrize("kernel", LOSS_OF)
def test_what_is_tuned_is_launched(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Configurations of an entry that the loss never asks for would all take the same time."""
    asked = []

    class Watched(dict):
        def get(self, key: tuple[str, str, str], *default: object) -> object:
            asked.append(key[:2])
            return super().get(key, *default)

    monkeypatch.setattr(tuning, "TABLE", Watched(tuning.TABLE))
    case = next(c for c in cases(PLACE) if c.name == LOSS_OF[kernel])
    contender = case.contender(OURS)
    Runner(contender, contender.make(), case.at(case.small).on("cpu")).run()
    assert (kernel, "product16") in asked


@pytest.mark.parametrize("bad", [0, 1])
def test_only_another_configuration_may_fail(bad: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One beside the table's may be too large for the device; the table's own may not."""
    key, tiles = ("best", "product16", "interpreter"), tuning.INTERPRETER
    chosen = [(key, replace(tiles, rows=48) if i == bad else tiles) for i in range(2)]
    monkeypatch.setattr(configurations, "alternatives", lambda *_: chosen)
    found = measurements.tried("best", PLACE)
    if bad == 0:  # no power of two
        with pytest.raises(Exception, match="power of 2"):
            list(found)
    else:
        assert ["note" in row for row in found] == [False, True]
