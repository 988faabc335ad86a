"""What type checkers see: the generated stub, and a user's script."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from functional_stub import STUB, stub

HERE = Path(__file__).parent
REPOSITORY = HERE.parent.parent


def test_the_stub_is_that_of_the_classes() -> None:
    assert STUB.read_text() == stub(), "run python tests/typed/functional_stub.py"


@pytest.mark.skipif(importlib.util.find_spec("pyright") is None, reason="pyright is not installed")
def test_pyright_accepts_a_users_script() -> None:
    """mypy --strict does too: ``make types`` runs it."""
    words = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "user_script.py"]
    environment = {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1",
    }
    done = subprocess.run(words, cwd=HERE, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_users_script_runs() -> None:
    words = [sys.executable, str(HERE / "user_script.py")]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
