"""Some checks of the GPU command with the kernels themselves: what it will run on a GPU runs here."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from benchmarks.gpu import tune
from benchmarks.gpu.configurations import alternatives
from benchmarks.gpu.losses import LOSSES, drawn, step
from benchmarks.gpu.place import Place
from benchmarks.gpu.steps import every_job
from benchmarks.gpu.tune import LOSS_OF
from hardneg.ops.triton import tuning

PLACE = Place("cpu", small=True)
JOBS = every_job(PLACE)
CHOSEN = (
    # a list of pairs that is one number expanded was once read beyond its end
    "correct: sums, float32 highest, cosine, one query, two coordinates",
    "correct: select, bfloat16, cosine, masks",
    "correct: ties, bfloat16",
    "beyond: select, 2.8e9 scores",
    "deterministic: hardest",
    "autocast: InfoNCE",
    "bits: hardest, d = 64",
    "waits: SupCon",
    "correct: select, bfloat16, cosine, two panels",
    "correct: whole hardest, float32 highest",
    "correct: whole semi-hard, bfloat16",
    "correct: whole all (squared hinge), float16",
    "correct: whole InfoNCE, bfloat16",
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
        def __contains__(self, key: object) -> bool:
            asked.append(key[:2])
            return super().__contains__(key)

    monkeypatch.setattr(tuning, "TABLE", Watched(tuning.TABLE))
    inputs = drawn(LOSS_OF[kernel], (16, 8), torch.bfloat16, "cpu")
    step(PLACE.loss(LOSSES[LOSS_OF[kernel]]), inputs)
    (key, _), *_ = alternatives(kernel, 8, PLACE)
    assert key[:2] in asked


@pytest.mark.parametrize("bad", [0, 1])
def test_only_another_configuration_may_fail(bad: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One beside the table's may be too large for the device; the table's own may not."""
    key, tiles = ("best", "product16", "interpreter"), tuning.INTERPRETER
    chosen = [(key, replace(tiles, rows=48) if i == bad else tiles) for i in range(2)]
    monkeypatch.setattr(tune, "alternatives", lambda *_: chosen)
    found = tune.tried("best", 1024, PLACE)
    if bad == 0:  # no power of two
        with pytest.raises(Exception, match="power of 2"):
            list(found)
    else:
        rows = list(found)
        assert ["note" in row for row in rows] == [False, True, False]
        assert not rows[-1]["changed"]
