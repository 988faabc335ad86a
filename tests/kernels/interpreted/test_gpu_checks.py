"""Some checks of the GPU command with the kernels themselves: what it will run on a GPU runs here."""

from __future__ import annotations

import pytest

from benchmarks.cases import OURS
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
