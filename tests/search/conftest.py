"""Two small models of the drawn scenes, trained once, and one on features."""

import shutil
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
sys.path[:0] = [str(CHECKOUT / "examples"), str(CHECKOUT / "tests" / "vsepp")]

from own_data import write_feature_table
from tiny_data import write_precomp
from vsepp.commands import main as trainer

SMALL = ["--cpu", "--no-tensorboard", "--quiet", "--threshold", "1", "--epochs", "1"]
SMALL += ["--embed-dim", "8", "--word-dim", "6", "--batch-size", "8"]


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """``scenes`` twice, ``own`` (of a table with HTML in it), ``f8k`` and ``exported``."""
    base = tmp_path_factory.mktemp("models")
    scenes = [*SMALL, "--train-images", "12", "--image-size", "16", "--recipe", "scenes-vse0"]
    trainer("coco", [*scenes, "--out", str(base / "scenes"), "--seed", "0", "1"])
    table = write_feature_table(base / "table")
    lines = table.read_text(encoding="utf-8").splitlines()
    hostile = [
        f'{line} <img src=x onerror="document.title=1"> {{{{7*7}}}} ${{7*7}}' for line in lines[1:]
    ]
    table.write_text("\n".join([lines[0], *(quoted(one) for one in hostile)]), encoding="utf-8")
    trainer("own", [*SMALL, "--data", str(table), "--out", str(base / "own"), "--hidden-dim", "8"])
    trainer("own", ["export", str(base / "own" / "own-seed0"), str(base / "exported")])
    write_precomp(base / "data" / "f8k_precomp")
    f8k = [*SMALL, "--recipe", "flickr8k-256-vse++", "--data", str(base / "data")]
    trainer("flickr8k", [*f8k, "--out", str(base / "f8k")])
    return base


def quoted(line: str) -> str:
    """A row of a table whose caption may hold anything."""
    number, caption = line.split(",", 1)
    return f'{number},"{caption.replace(chr(34), chr(34) * 2)}"'


@pytest.fixture
def scenes(trained: Path, tmp_path: Path) -> list[str]:
    """The folders of the two models of scenes, to be changed, as the trainer left them."""
    kept = shutil.ignore_patterns("embeddings-*")
    shutil.copytree(trained / "scenes", tmp_path / "scenes", ignore=kept)
    return [str(tmp_path / "scenes" / f"scenes-vse0-seed{seed}") for seed in (0, 1)]
