"""Names that ``hardneg`` does not have: those of other libraries, and those of its modules."""

from __future__ import annotations

import importlib
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

import hardneg
from hardneg.other_names import FACTORS, INSTEAD, MODULES, instead_of

IN_MODULES = ("CorpusMiner", "retrieval_metrics", "Diagnostics", "recall_at_k", "info_nce_loss")
ASKED = (*INSTEAD, *IN_MODULES)


def message_of(statement: str) -> str:
    with pytest.raises((AttributeError, ImportError)) as caught:
        exec(statement, {"hardneg": hardneg})
    return str(caught.value)


@pytest.mark.parametrize("name", ASKED)
def test_a_name_elsewhere_says_what_to_write(name: str) -> None:
    instead = instead_of(name)
    assert instead
    for statement in (f"hardneg.{name}", f"from hardneg import {name}"):
        said = message_of(statement)
        assert repr(name) in said
        assert said.endswith(instead)
    assert not hasattr(hardneg, name)
    assert getattr(hardneg, name, None) is None
    # an import that finds a module falls back to it; no name may stand in its way
    assert importlib.util.find_spec(f"hardneg.{name}") is None


def test_some_of_them() -> None:
    assert "ContrastiveLoss(directions='queries')" in message_of(
        "from hardneg import TripletMarginLoss"
    )
    assert "MemoryQueue(size, width)" in message_of("from hardneg import CrossBatchMemory")
    assert "hardneg.mining.CorpusMiner" in message_of("from hardneg import mine, CorpusMiner")
    assert "hardneg.metrics.recall_at_k" in message_of("hardneg.recall_at_k(1)")


def test_what_is_said_exists() -> None:
    """Modules are the package's, and what stands behind ``hardneg.`` or begins a call can be found."""
    assert set(MODULES) == set(hardneg.MODULES) - {"integrations"}
    for module in (*MODULES, *FACTORS):
        for name in importlib.import_module(f"hardneg.{module}").__all__:
            if not hasattr(hardneg, name):
                assert getattr(
                    importlib.import_module(instead_of(name)[6:].rpartition(".")[0]), name
                )


@pytest.mark.parametrize("instead", dict.fromkeys(INSTEAD.values()))
def test_what_is_named_in_the_table_exists(instead: str) -> None:
    bare = re.findall(r"(?<![\w.'])([A-Z]\w+)\(", instead)
    bare += re.findall(r"write ([A-Z]\w+)(?![\w.])", instead)
    placed = re.findall(r"(hardneg\.[\w.]+)\.([A-Z]\w+)", instead)
    assert bare or placed or instead == INSTEAD["AccuracyCalculator"]
    for name in bare:
        assert name in hardneg.__all__, name
    for module, name in placed:
        spec = importlib.util.find_spec(module)
        assert spec is not None, module
        assert f'"{name}"' in Path(spec.origin).read_text(), name


@pytest.mark.parametrize("name", ["Nothing", "__wrapped__", "_private"])
def test_other_names_raise_as_python_does(name: str) -> None:
    assert message_of(f"hardneg.{name}") == f"module 'hardneg' has no attribute {name!r}"
    assert "cannot import name" in message_of(f"from hardneg import {name}")


def test_modules_are_imported_as_ever() -> None:
    """Nothing else is imported for a name that is found."""
    program = (
        "import sys, hardneg\n"
        "from hardneg import mine, metrics\n"
        "hasattr(hardneg, '__wrapped__'), dir(hardneg)\n"
        "assert 'hardneg.other_names' not in sys.modules\n"
        "try:\n    from hardneg import InfoNCE\n"
        "except ImportError as error:\n    assert 'InfoNCELoss(' in str(error), error\n"
        "else:\n    raise SystemExit('found')\n"
        "assert 'hardneg.encoders' not in sys.modules\n"
        "from hardneg import writing\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
