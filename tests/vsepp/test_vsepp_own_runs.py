"""Runs on a user's own data: trained, reported, measured, killed and resumed."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from own_data import own_rows, write_feature_table, write_table
from vsepp.commands import main, train_arguments
from vsepp.data.pairs import read_splits
from vsepp.recipes import RECIPES
from vsepp.retrieval import caution

CHECKOUT = Path(__file__).parents[2]
SCRIPT = CHECKOUT / "examples" / "vsepp_own.py"
SMALL = ["--cpu", "--no-tensorboard", "--quiet", "--threshold", "1", "--epochs", "3"]
SMALL += ["--embed-dim", "8", "--word-dim", "6", "--batch-size", "8", "--checkpoint-every", "2"]
SMALL += ["--blocks", "1", "--hidden-dim", "8", "--drop", "0.2"]


def finished(out: Path) -> tuple[dict, dict[str, torch.Tensor]]:
    """The numbers of a run but its times, and its best weights."""
    folder = out / "own-seed0"
    result = json.loads((folder / "result.json").read_text())
    for row in result["history"]:
        del row["seconds"]
    del result["seconds_per_epoch"], result["peak_memory_mib"]
    return result, torch.load(folder / result["best_file"], weights_only=True)["model"]


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> Path:
    """A table, and a run on it that was left alone."""
    base = tmp_path_factory.mktemp("own")
    table = write_feature_table(base)
    main("own", ["--data", str(table), "--out", str(base / "runs"), *SMALL])
    return base


def refused(given: list[str], capsys) -> str:
    with pytest.raises(SystemExit) as stopped:
        main("own", given)
    assert stopped.value.code == 2
    return capsys.readouterr().err


def test_the_report_expects_nothing_of_own_data(own: Path, capsys) -> None:
    main("own", ["report", str(own / "runs"), "--out", str(own / "page.html")])
    said, page = capsys.readouterr().out, (own / "page.html").read_text()
    assert "own-seed0" in said
    assert "expected" not in said
    assert "<th>expected</th>" not in page
    assert "digest" not in page


def test_another_recipe_on_own_data_has_no_foreign_numbers(own: Path, tmp_path, capsys) -> None:
    given = ["--recipe", "flickr8k-256-vse++", "--data", str(own / "captions.csv")]
    main("own", [*given, "--out", str(tmp_path), *SMALL, "--epochs", "1"])
    assert "expected" not in capsys.readouterr().out
    page = (tmp_path / "report.html").read_text()
    assert "reference run" not in page
    assert "<th>expected</th>" not in page


def test_every_recipe_can_be_named_for_own_data(own: Path) -> None:
    """What only other data have is left out: restval, mirrored features."""
    table = own / "captions.csv"
    for name, recipe in RECIPES.items():
        if recipe.start_from or recipe.settings.data.dataset == "scenes":
            continue
        data = train_arguments(name, (name,), ["--data", str(table)], "own").settings.data
        assert data.digest
        kept = replace(data, layout="precomp", crop="1c")
        assert len(read_splits(kept, table).train.images) == 24, name


def test_a_model_is_measured_on_another_table(own: Path, tmp_path: Path, capsys) -> None:
    rows = [[image, said, "test" if image % 2 else "train"] for image, said in own_rows()]
    other = write_table(tmp_path / "other.csv", ["feature", "caption", "split"], rows)
    run = ["evaluate", str(own / "runs" / "own-seed0"), "--cpu"]
    main("own", [*run, "--data", str(own / "captions.csv")])
    recorded = finished(own / "runs")[0]["results"]["test"]["rsum"]
    assert f"rsum {recorded:.1f}" in capsys.readouterr().out
    main("own", run)  # the run knows its table
    assert f"rsum {recorded:.1f}" in capsys.readouterr().out
    main("own", [*run, "--data", str(other), "--features", str(own / "captions.npy")])
    assert "test: i2t" in capsys.readouterr().out


def test_killed_then_resumed(own: Path, tmp_path: Path) -> None:
    """By SIGKILL between two checkpoints, within the second epoch."""
    given = ["--data", str(own / "captions.csv"), "--out", str(tmp_path), "--resume", *SMALL]
    paths = os.pathsep.join([str(CHECKOUT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    command = [sys.executable, str(SCRIPT), *given]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 90
    while not any(tmp_path.glob("*/state-000000010")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "own-seed0" / "result.json").exists()
    main("own", given)
    ours, theirs = finished(tmp_path), finished(own / "runs")
    assert ours[0] == theirs[0]
    assert all(torch.equal(value, theirs[1][name]) for name, value in ours[1].items())


def test_a_part_of_few_images_is_told(own: Path, tmp_path: Path, capsys) -> None:
    """Any model has these recalls: the line says which."""
    rows = [[image, said, {0: "dev"}.get(image, "train")] for image, said in own_rows()]
    for row in rows:
        row[2] = "test" if 1 <= row[0] <= 8 else row[2]
    given = write_table(tmp_path / "few.csv", ["feature", "caption", "split"], rows)
    told = "caution: t2i R@K is 100 by construction with at most K images: "
    features = ["--features", str(own / "captions.npy")]
    more = ["--data", str(given), *features, *SMALL, "--epochs", "1"]
    main("own", [*more, "--out", str(tmp_path / "runs")])
    said = capsys.readouterr().err
    assert said.count(told) == 1
    assert f"{told}dev has 1 image (R@1, R@5, R@10), test has 8 images (R@10)\n" in said
    result = json.loads((tmp_path / "runs" / "own-seed0" / "result.json").read_text())
    (row,) = result["history"]
    assert {row["text_to_image"][f"recall_at_{level}"] for level in (1, 5, 10)} == {100}
    assert result["results"]["test"]["text_to_image"]["recall_at_10"] == 100
    run = ["evaluate", str(tmp_path / "runs" / "own-seed0"), "--data", str(given), *features]
    main("own", [*run, "--cpu"])
    assert capsys.readouterr().err == f"{told}test has 8 images (R@10)\n"


def test_of_enough_images_nothing_is_told() -> None:
    assert caution({"dev": 11, "test": 5_000}) == ""


@pytest.mark.parametrize("changed", ["captions.csv", "captions.npy"])
def test_data_that_changed_are_not_gone_on_with(
    own: Path, tmp_path: Path, capsys, changed: str
) -> None:
    table = write_feature_table(tmp_path / "data")
    given = ["--data", str(table), "--out", str(tmp_path / "runs"), *SMALL]
    main("own", [*given, "--epochs", "1"])
    copied = tmp_path / "moved"
    (tmp_path / "data").rename(copied)
    moved = ["--data", str(copied / "captions.csv"), *given[2:], "--resume"]
    main("own", [*moved, "--epochs", "2"])
    if changed == "captions.csv":
        rows = own_rows()
        rows[0][1] = "another caption"
        write_table(copied / "captions.csv", ["feature", "caption"], rows)
    else:
        np.save(copied / "captions.npy", np.load(copied / "captions.npy") + 1)
    capsys.readouterr()
    assert "was begun with other data" in refused([*moved, "--epochs", "3"], capsys)


def test_refusals_are_a_line_and_status_2(own: Path, tmp_path: Path, capsys) -> None:
    assert "your own data need --data" in refused(["--out", str(tmp_path)], capsys)
    given = ["--data", str(own / "captions.csv"), "--out", str(tmp_path), *SMALL]
    said = refused([*given, "--batch-size", "512"], capsys)
    assert "--batch-size is 512: expected at most" in said
