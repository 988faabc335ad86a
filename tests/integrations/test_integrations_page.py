"""docs/integrations.md: the code of every section runs where its library is installed, with the page's names alone."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from warning_filters import ROOT

import hardneg

PAGE = (ROOT / "docs" / "integrations.md").read_text(encoding="utf-8")
TOP, *PARTS = re.split(r"^## ", PAGE, flags=re.MULTILINE)
SECTIONS = {part.split("\n")[0]: part for part in PARTS}
NEEDS = {
    "sentence-transformers": ["sentence_transformers", "datasets", "accelerate"],
    "transformers": ["transformers", "accelerate"],
    "open_clip": [],
    "pytorch-metric-learning": ["pytorch_metric_learning"],
    "Lightning": ["lightning"],
    "Trackers": ["accelerate", "tensorboard"],
}


def blocks_of(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def test_every_section_is_known() -> None:
    assert list(SECTIONS) == list(NEEDS)


def skip_without(modules: list[str], section: str) -> None:
    for module in modules:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{section} needs {module}, which is not installed")


@pytest.mark.parametrize(
    "name", ["lightning", "pytorch_metric_learning", "sentence_transformers", "transformers"]
)
def test_examples_in_docstrings_run(name: str) -> None:
    skip_without([name], name)
    torch.manual_seed(0)
    module = importlib.import_module(f"hardneg.integrations.{name}")
    names = {one: getattr(hardneg, one) for one in hardneg.__all__} | {"torch": torch}
    found = doctest.testmod(module, extraglobs=names)
    assert found.attempted > 0
    assert found.failed == 0


@pytest.mark.filterwarnings("ignore:The .*dataloader.* does not have many workers")
@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true")
@pytest.mark.parametrize("section", NEEDS)
def test_its_code_runs(section: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    skip_without(NEEDS[section], section)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    torch.manual_seed(0)
    names: dict[str, Any] = {}
    (set_up,) = blocks_of(TOP)
    assert blocks_of(SECTIONS[section])
    for block in [set_up, *blocks_of(SECTIONS[section])]:
        exec(compile(block, f"integrations.md, {section}", "exec"), names)
