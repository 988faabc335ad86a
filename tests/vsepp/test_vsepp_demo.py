"""``make demo`` with nothing but what the extra ``demo`` installs."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

from test_vsepp_resume import CHECKOUT, environment

MODULES = {
    "eccv-caption": "eccv_caption",
    "pytorch-metric-learning": "pytorch_metric_learning",
    "scikit-learn": "sklearn",
}
TOOLS = ("pytest", "hypothesis", "pytest-benchmark", "pytest-xdist", "jaxtyping", "ruff", "mypy")
WITHOUT = """
import runpy, sys
names, script, *words = sys.argv[1:]
sys.modules |= dict.fromkeys(names.split(","))  # None: an import raises ModuleNotFoundError
sys.argv = [script, *words]
runpy.run_path(script, run_name="__main__")
"""


def absent() -> list[str]:
    """Modules of everything that the other extras install."""
    extras = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    extras = extras["optional-dependencies"]
    named = {line.split(">=")[0] for extra in extras.values() for line in extra}
    kept = {line.split(">=")[0] for line in extras["demo"]}
    others = {name for name in named - kept if "[" not in name} - set(TOOLS)
    return sorted(MODULES.get(name, name) for name in others)


def run(out: Path, *words: str) -> subprocess.CompletedProcess[str]:
    script = str(CHECKOUT / "examples" / "vsepp_coco.py")
    command = [sys.executable, "-c", WITHOUT, ",".join(absent()), script, *words]
    told = {"capture_output": True, "text": True, "timeout": 300}
    return subprocess.run([*command, "--out", str(out), "--cpu"], env=environment(), **told)


def test_the_demo_needs_no_other_extra(tmp_path: Path) -> None:
    assert {"torchvision", "tensorboard", "transformers", "sklearn"} <= set(absent())
    sizes = "--train-images 60 --epochs 1 --warmup-epochs 0 --embed-dim 8 --word-dim 8 --quiet"
    done = run(tmp_path, *sizes.split())
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    assert (tmp_path / "report.html").is_file()
    results = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("*/result.json"))]
    assert [one["recipe"] for one in results] == ["scenes-top8", "scenes-vse0"]


def test_raw_images_say_what_they_need(tmp_path: Path, flickr_root: Path) -> None:
    done = run(tmp_path, "--data", str(flickr_root), "--dataset", "flickr8k", "--layout", "raw")
    assert done.returncode == 2
    assert "error: raw images need torchvision: pip install -e '.[vsepp]'" in done.stderr
