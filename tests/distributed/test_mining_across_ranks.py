"""``CorpusMiner`` over ranks, each a part of the corpus, equal to one process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from process_groups import ProcessGroups

from hardneg import Ceiling, TopK
from hardneg.mining import AcrossProcesses, CorpusMiner, InProcess, MinedRows

QUERIES = torch.randn(19, 8, generator=torch.Generator().manual_seed(0))
KNOWN: dict[str, Any] = {
    "positives": torch.arange(19) % 7,
    "exclude": [[i, i + 3] for i in range(19)],
}
FEW: dict[str, Any] = {"positives": torch.zeros(19, dtype=torch.long)}


def corpus_rows(rows: int) -> torch.Tensor:
    found = torch.randn(rows, 8, generator=torch.Generator().manual_seed(1))
    found[::5] = found[2].clone()
    return found


def mine_rows(folder: Path, source: Any, searcher: Any, **options: Any) -> MinedRows:
    miner = CorpusMiner(TopK(4, Ceiling(0.9)), memory=10_240, searcher=searcher, **options)
    return miner(QUERIES, source, folder, **KNOWN)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.npz"))}


def mine_on_rank(rank: int, size: int, folder: Path, source: Any, mistake: bool) -> Any:
    if source == "blocks":
        source = iter(corpus_rows(131).split(9))
    if not mistake:
        return mine_rows(folder, source, AcrossProcesses()).indices.tolist()
    with pytest.raises(ValueError, match=r"max_score=None, now max_score=0\.5"):
        mine_rows(folder, source, AcrossProcesses(), max_score=0.5)
    return None


@pytest.mark.parametrize("size", [2, 3])
def test_equals_one_process(size: int, tmp_path: Path, groups: ProcessGroups) -> None:
    np.save(tmp_path / "rows.npy", corpus_rows(131).numpy())
    expected = mine_rows(tmp_path / "one", corpus_rows(131), InProcess())
    for name, source in (("file", tmp_path / "rows.npy"), ("copied", "blocks")):
        found = groups(size)(mine_on_rank, tmp_path / name, source, False)
        assert found == [expected.indices.tolist()] * size
        assert files(tmp_path / name) == files(expected.folder)
    (tmp_path / "file" / min(files(expected.folder))).unlink()
    groups(size)(mine_on_rank, tmp_path / "file", tmp_path / "rows.npy", False)
    assert files(tmp_path / "file") == files(expected.folder)
    groups(size)(mine_on_rank, tmp_path / "file", tmp_path / "rows.npy", True)


def test_a_rank_without_rows(tmp_path: Path, groups: ProcessGroups) -> None:
    np.save(tmp_path / "few.npy", corpus_rows(131)[:2].numpy())
    miner = CorpusMiner(TopK(4), memory=10_240)
    expected = miner(QUERIES, tmp_path / "few.npy", tmp_path / "one", **FEW)
    found = groups(3)(mine_few, tmp_path / "ranks", tmp_path / "few.npy")
    assert found == [expected.indices.tolist()] * 3


def mine_few(rank: int, size: int, folder: Path, source: Path) -> Any:
    miner = CorpusMiner(TopK(4), memory=10_240, searcher=AcrossProcesses())
    return miner(QUERIES, source, folder, **FEW).indices.tolist()
