"""Some checks of the GPU command with the kernels themselves: what it will run on a GPU runs here."""

from __future__ import annotations

import pytest

from benchmarks.gpu.jobs import checks
from benchmarks.gpu.place import Place

JOBS = checks(Place("cpu", small=True))
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
