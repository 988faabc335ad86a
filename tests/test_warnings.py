"""A warning that this repository's code causes is an error in every process; a dependency's deprecation is listed."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from typing_extensions import deprecated
from warning_filters import ROOT, filters_of_python, own_modules

PROGRAM = """
import warnings

def old(kind, level):
    warnings.warn("old is deprecated: use new", kind, stacklevel=level)

def call_from(module, kind, level=2):
    names = {"__name__": module, "old": old, "kind": kind, "level": level}
    exec("old(kind, level)", names)
"""
names: dict[str, object] = {"__name__": "dependency"}
exec(PROGRAM, names)
call_from = names["call_from"]

importlib.import_module("hardneg.losses")
OURS = ("hardneg", "hardneg.losses.contrastive", "vsepp.train", "benchmarks.core", "test_traps")
KINDS = (DeprecationWarning, PendingDeprecationWarning, FutureWarning, UserWarning)


@pytest.mark.parametrize("module", OURS)
@pytest.mark.parametrize("kind", KINDS)
def test_ours_is_an_error(module: str, kind: type[Warning]) -> None:
    with pytest.raises(kind, match="old is deprecated"):
        call_from(module, kind)


@pytest.mark.parametrize("module", ["accelerate.optimizer", "torch", "hardneg_plugin", "core"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_dependency_s_deprecation_is_not(module: str, kind: type[Warning]) -> None:
    with warnings.catch_warnings(record=True) as seen:
        call_from(module, kind)
        call_from("hardneg", kind, level=1)  # at the line of the dependency that warns
    assert [str(one.message) for one in seen] == ["old is deprecated: use new"] * 2


def test_what_is_no_deprecation_is_an_error_anywhere() -> None:
    for kind in (UserWarning, RuntimeWarning):
        with pytest.raises(kind, match="overflow"):
            warnings.warn_explicit("overflow", kind, "optimizer.py", 1, "accelerate.optimizer")


def test_every_module_is_known() -> None:
    """As Python names those that are imported."""
    folders = [str(ROOT / top) for top in ("hardneg", "tests", "benchmarks", "examples")]
    imported = {
        name
        for name, module in sys.modules.items()
        if name != "__main__" and str(getattr(module, "__file__", None)).startswith(tuple(folders))
    }
    assert {"hardneg.losses", "test_warnings", "conftest"} <= imported
    assert imported - set(own_modules()) == set()


@pytest.mark.parametrize(("module", "status"), [("hardneg.checks", 1), ("accelerate", 0)])
def test_in_a_process_that_a_test_starts(module: str, status: int) -> None:
    assert os.environ["PYTHONWARNINGS"] == filters_of_python()
    program = f"{PROGRAM}\ncall_from({module!r}, FutureWarning)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == status
    assert "FutureWarning: old is deprecated" in done.stderr


FILES = {
    "dependency.py": PROGRAM + "\ndef inside():\n    call_from(__name__, FutureWarning)\n",
    "hardneg/__init__.py": """
import dependency

def uses_an_old_name():
    dependency.old(DeprecationWarning, 2)

def uses_what_does():
    dependency.inside()
""",
    "tests/test_both.py": """
import hardneg

def test_ours():
    hardneg.uses_an_old_name()

def test_theirs():
    hardneg.uses_what_does()
""",
}


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["one process", "xdist"])
def test_a_whole_run(tmp_path: Path, workers: tuple[str, ...]) -> None:
    """One test fails, the other passes and is in the summary."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for name in ("conftest.py", "warning_filters.py"):
        shutil.copy(ROOT / "tests" / name, tmp_path / "tests")
    told = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "PYTHONWARN"))}
    told["PYTHONPATH"] = str(tmp_path)
    command = [sys.executable, "-m", "pytest", "tests", *workers]
    done = subprocess.run(command, cwd=tmp_path, env=told, capture_output=True, text=True)
    assert "1 failed, 1 passed, 1 warning" in done.stdout, done.stdout + done.stderr
    assert "FAILED tests/test_both.py::test_ours - DeprecationWarning" in done.stdout
    summary = done.stdout.partition("warnings summary")[2]
    assert "FutureWarning: old is deprecated: use new" in summary


def test_the_decorator_of_pytorch_warns_at_the_caller_s_line() -> None:
    @deprecated("gone soon", category=FutureWarning)
    def collective() -> None:
        pass

    with pytest.raises(FutureWarning, match="gone soon"):
        collective()
