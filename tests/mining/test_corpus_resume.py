"""Runs that are killed, that meet a full disk, or whose files are damaged, and go on."""

from __future__ import annotations

import errno
import os
import resource
import signal
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
from corpora import files, problem, run
from forked_processes import forking
from torch import Tensor
from warning_filters import filter_warnings

from hardneg import writing
from hardneg.mining import InProcess, MinedRows, Request, TopLists
from hardneg.mining.searchers import Corpus

N = 61
"""Queries: 16 blocks."""


class Slowly(InProcess):
    """Searches slowly enough to be killed."""

    def lists(
        self, queries: Tensor, request: Request, corpus: Corpus, tick: Callable[[], None]
    ) -> TopLists:
        time.sleep(0.02)
        return super().lists(queries, request, corpus, tick)


def run_slowly(folder: Path) -> None:
    torch.set_num_threads(1)
    filter_warnings()
    run(problem(n=N), folder, searcher=Slowly())


def started(function: Callable[..., None], *arguments: object) -> BaseProcess:
    process = forking().Process(target=function, args=arguments)
    process.start()
    return process


def test_killed_and_resumed_ten_times(tmp_path: Path) -> None:
    expected = files(run(problem(n=N), tmp_path / "whole").folder)
    folder, kills = tmp_path / "killed", 0
    while kills < 10:
        before = len(files(folder)) if folder.exists() else 0
        process = started(run_slowly, folder)
        # after one more block, at a moment of its own
        while process.is_alive() and (not folder.exists() or len(files(folder)) <= before):
            time.sleep(0.001)
        time.sleep(0.003 * kills)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        kills += 1
        found = files(folder)
        assert found.items() <= expected.items()
        if len(found) < len(expected):
            with pytest.raises(ValueError, match="unfinished run"):
                MinedRows(folder)
    assert kills >= 5
    found = run(problem(n=N), folder)
    assert files(folder) == expected
    assert found.indices.equal(MinedRows(tmp_path / "whole").indices)
    assert not list(folder.glob(".*"))


def test_only_what_is_missing_is_computed(tmp_path: Path) -> None:
    asked = []

    class Counting(InProcess):
        def lists(
            self, queries: Tensor, request: Request, corpus: Corpus, tick: Callable[[], None]
        ) -> TopLists:
            asked.append(len(queries))
            return super().lists(queries, request, corpus, tick)

    expected = files(run(problem(), tmp_path).folder)
    names = sorted(expected)
    (tmp_path / names[2]).write_bytes(expected[names[2]][:-7])
    (tmp_path / names[5]).write_bytes(expected[names[5]][:60] + b"x" + expected[names[5]][61:])
    (tmp_path / names[7]).unlink()
    (tmp_path / f".{names[7]}.123.unfinished").write_bytes(expected[names[7]][:100])
    run(problem(), tmp_path, searcher=Counting())
    assert files(tmp_path) == expected
    assert len(asked) == 3
    assert not list(tmp_path.glob(".*"))


def test_another_bound_on_memory_goes_on(tmp_path: Path) -> None:
    """Blocks of queries stay as they were; the result does not depend on those of the corpus."""
    from corpora import SMALL

    from hardneg import Ceiling, TopK
    from hardneg.mining import CorpusMiner

    given = problem()
    expected = files(run(given, tmp_path).folder)
    for name in sorted(expected)[3:]:
        (tmp_path / name).unlink()
    miner = CorpusMiner(TopK(4, Ceiling(0.95)), memory=SMALL * 1000)
    miner(given.queries, given.corpus, tmp_path, **given.known)
    assert files(tmp_path) == expected


def run_with_small_files(folder: Path, limit: int) -> None:
    filter_warnings()
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    with pytest.raises(OSError, match="no space left while writing") as caught:
        run(problem(n=N), folder)
    raise SystemExit(3 if caught.value.errno == errno.EFBIG else 4)


def test_files_that_may_not_grow(tmp_path: Path) -> None:
    process = started(run_with_small_files, tmp_path, 1200)
    process.join()
    assert process.exitcode == 3
    assert not list(tmp_path.glob(".*"))
    assert (tmp_path / "manifest.json").exists()
    assert len(files(run(problem(n=N), tmp_path).folder)) == 16


def test_a_disk_that_fills_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = files(run(problem(), tmp_path / "whole").folder)
    written = []

    def full(path: Path) -> None:
        written.append(path)
        if len(written) > 9:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(writing, "to_disk", full)
        with pytest.raises(
            OSError, match=r"no space left while writing.*start again in the same folder"
        ):
            run(problem(), tmp_path / "full")
    found = files(tmp_path / "full")
    assert 0 < len(found) < len(expected)
    assert found.items() <= expected.items()
    run(problem(), tmp_path / "full")
    assert files(tmp_path / "full") == expected
