"""Runs every file of ``interpreted/`` in a process of its own, where Triton interprets its kernels."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

FILES = sorted((Path(__file__).parent / "interpreted").glob("test_*.py"))
WITHOUT_TRITON = importlib.util.find_spec("triton") is None


MORE_SEEDS = [file for file in FILES if "SEEDS" in file.read_text(encoding="utf-8")]


def run(file: Path, *options: str, timeout: float = 900) -> None:
    """One file's tests."""
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    # workers of the surrounding run would otherwise be taken for this one's
    for name in [name for name in environment if name.startswith("PYTEST")]:
        del environment[name]
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file)]
    told = {"env": environment, "capture_output": True, "text": True, "timeout": timeout}
    done = subprocess.run([*command, *options], **told)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout, done.stdout[-2000:]


@pytest.mark.skipif(WITHOUT_TRITON, reason="Triton is not installed")
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_in_the_interpreter(file: Path) -> None:
    run(file)


@pytest.mark.skipif(WITHOUT_TRITON, reason="Triton is not installed")
@pytest.mark.parametrize("file", MORE_SEEDS, ids=lambda file: file.stem)
@pytest.mark.full
def test_more_seeds_in_the_interpreter(file: Path) -> None:
    run(file, "--full", "-m", "full", timeout=3600)
