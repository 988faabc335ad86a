"""Search by Ray Data on this machine, equal to one process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpora import files, problem, run

from hardneg import Ceiling, TopK
from hardneg.mining import CorpusMiner, RayData

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'hardneg[ray]'")


@pytest.fixture(scope="module")
def _ray_here() -> Iterator[None]:
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    yield
    ray.shutdown()


@pytest.mark.usefixtures("_ray_here")
@pytest.mark.filterwarnings("ignore")
def test_equals_one_process(tmp_path: Path) -> None:
    given: Any = problem(n=9)
    expected = run(given, tmp_path / "one")
    np.save(tmp_path / "rows.npy", given.corpus.numpy())
    ray.data.DataContext.get_current().enable_progress_bars = False
    miner = CorpusMiner(TopK(4, Ceiling(0.95)), memory=20_000, searcher=RayData())
    for name, corpus in (("mapped", tmp_path / "rows.npy"), ("in memory", given.corpus)):
        found = miner(given.queries, corpus, tmp_path / name, **given.known)
        assert found.indices.equal(expected.indices)
        assert found.scores.equal(expected.scores)
    assert len(files(tmp_path / "mapped")) == 2
