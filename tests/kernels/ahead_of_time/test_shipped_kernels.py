"""Kernels compiled into a folder on a CPU are found by another process, wherever the folder has gone meanwhile."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu import shipped
from benchmarks.gpu.fill import PLACE, pieces, rows_like
from benchmarks.gpu.tune import LOSS_OF

ROOT = Path(__file__).resolve().parents[3]
LAUNCHES = "bits: hardest, 64"


def compile_in(folder: Path) -> None:
    """As a launch would, in a fresh process."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TRITON_CACHE_DIR": str(folder)}
    words = [sys.executable, "-c", f"from benchmarks.gpu import fill; fill.piece({LAUNCHES!r})"]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("filled") / "kernels"
    words = [sys.executable, "-m", "benchmarks.gpu", "--fill-cache", str(folder)]
    words += ["--only", LAUNCHES, "--workers", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert '"target": "sm_90"' in done.stdout
    assert {path.suffix for path in folder.glob("*/*")} == {".cubin", ".json"}
    return folder


def anew(folder: Path) -> int:
    """How many kernels the same launches compile, which leave their intermediate code."""
    compile_in(folder)
    return len(list(folder.glob("*/*.ttir")))


def test_the_same_launches_are_found(filled: Path, tmp_path: Path) -> None:
    count = shipped.compiled(filled)
    assert count >= 3
    moved = tmp_path / "elsewhere"
    shutil.copytree(filled, moved)
    away = filled.rename(filled.with_name("away"))  # the lists' absolute paths lead nowhere
    try:
        assert shipped.relocated(moved) == count
        assert anew(moved) == 0
        assert shipped.compiled(moved) == count
    finally:
        away.rename(filled)


@pytest.mark.full
def test_a_copy_whose_lists_lead_elsewhere_is_compiled_anew(filled: Path, tmp_path: Path) -> None:
    shutil.copytree(filled, tmp_path / "stale")
    away = filled.rename(filled.with_name("away"))
    try:
        assert anew(tmp_path / "stale") >= 3
    finally:
        away.rename(filled)


def test_a_packed_folder_too(filled: Path) -> None:
    with shipped.unpacked(shipped.packed(filled)) as place:
        assert anew(place) == 0


def test_the_pieces_are_those_of_a_run() -> None:
    names = [name for name, _ in pieces()]
    assert len(names) == len(set(names)) > 100
    for kernel in LOSS_OF:
        assert any(name.startswith(f"tune: {kernel}, 1024") for name in names)
    assert PLACE.backend == "compile"
    assert [rows_like(n) for n in (65_536, 1001, 9001)] == [1024, 1001, 1033]
