"""docs/integrations.md: the code of every section runs where its library is installed."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from pair_models import batch, clip
from sentences import COLUMNS, make_model
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from warning_filters import ROOT

import hardneg

PAGE = (ROOT / "docs" / "integrations.md").read_text(encoding="utf-8")
SECTIONS = {s.split("\n")[0]: s for s in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]}
NEEDS = {
    "sentence-transformers": ["sentence_transformers", "datasets", "accelerate"],
    "transformers": ["transformers", "accelerate"],
    "open_clip": [],
    "pytorch-metric-learning": ["pytorch_metric_learning"],
    "Lightning": ["lightning"],
    "Trackers": ["accelerate", "tensorboard"],
}


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


def given(section: str, folder: Path) -> dict[str, Any]:
    """What a reader has already."""
    names = "anchor", "positive", "negative_1", "negative_2"
    found: dict[str, Any] = {"torch": torch, "out": str(folder / "out")}
    found |= {name: getattr(hardneg, name) for name in hardneg.__all__}
    found |= {name: torch.randn(128, 16) for name in ("images", "captions", "embeddings")}
    found["labels"] = torch.arange(128) // 4
    if section == "Lightning":
        found |= {"image_encoder": nn.Linear(5, 4), "text_encoder": nn.Linear(5, 4)}
        pairs = TensorDataset(torch.randn(8, 5), torch.randn(8, 5))
        found |= dict.fromkeys(("loader", "validation_loader"), DataLoader(pairs, batch_size=4))
    if section == "sentence-transformers":
        make_model(folder / "model")
        found |= {
            "folder": str(folder / "model"),
            "columns": dict(zip(names, COLUMNS, strict=True)),
        }
    if section == "transformers":
        data = batch()
        rows = [{"input_ids": data["input_ids"][i], "pixel_values": data["pixel_values"][i].float(),
                 "image_id": i // 2} for i in range(8)]  # fmt: skip
        found |= {"clip": clip().float(), "pairs": rows}
    return found


@pytest.mark.filterwarnings("ignore:The .*dataloader.* does not have many workers")
@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true")
@pytest.mark.parametrize("section", NEEDS)
def test_its_code_runs(section: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    skip_without(NEEDS[section], section)
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names = given(section, tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", SECTIONS[section], re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, f"integrations.md, {section}", "exec"), names)
