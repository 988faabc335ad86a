"""The command line: what is refused, the file for Embedding Atlas, and which part may use which."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F

import vsepp_search
from own_data import write_feature_table
from tiny_data import write_picture
from vsepp.checkpoints import FORMAT
from vsepp_search import opened
from vsepp_search.arguments import Search
from vsepp_search.commands import main

PACKAGE = Path(vsepp_search.__file__).parent
CHECKOUT = PACKAGE.parents[1]


def refusal(capsys, *given: object) -> str:
    """What a refusal says."""
    with pytest.raises(SystemExit) as stopped:
        main([*map(str, given), "--cpu"])
    assert stopped.value.code == 2
    told = capsys.readouterr().err
    assert "Traceback" not in told
    return told


def test_runs_that_are_missing_or_too_many(trained: Path, tmp_path: Path, capsys) -> None:
    out = ["--atlas", tmp_path / "a.parquet"]
    assert "holds no checkpoint: name a run's folder" in refusal(capsys, tmp_path, *out)
    assert "no checkpoint at" in refusal(capsys, tmp_path / "absent", *out)
    run = trained / "scenes" / "scenes-vse0-seed0"
    assert "2 runs are named: expected one run with --atlas" in refusal(capsys, run, run, *out)
    assert "3 runs are named: expected one run, or two" in refusal(capsys, run, run, run)
    name = refusal(capsys, run, "--atlas", tmp_path / "a.csv")
    assert "expected a name that ends in .parquet" in name
    assert "--neighbors is 0" in refusal(capsys, run, *out, "--neighbors", "0")


def test_data_that_are_missing_or_others(trained: Path, tmp_path: Path, capsys) -> None:
    out = ["--atlas", tmp_path / "a.parquet"]
    own, f8k = trained / "own" / "own-seed0", trained / "f8k" / "flickr8k-256-vse++-seed0"
    for run, said in ((f8k, "flickr8k needs --data DIR"), (own, "your own data need --data")):
        moved = tmp_path / run.name
        shutil.copytree(run, moved)
        noted = json.loads((moved / "data.json").read_text())["data"]
        (moved / "data.json").write_text(json.dumps({"data": f"{noted}.moved"}))
        assert said in refusal(capsys, moved, *out)
        (moved / "data.json").write_text(json.dumps({"data": 3}))
        assert "data.json names no data: pass --data" in refusal(capsys, moved, *out)
    assert "exported is an exported model" in refusal(capsys, trained / "exported", *out)
    given = ["--data", trained / "data", "--images", tmp_path]
    assert "expected a folder of the pictures that test_names.txt" in refusal(
        capsys, f8k, *given, *out
    )
    np.save(tmp_path / "wide.npy", np.random.default_rng(0).random((30, 9), np.float32))
    table = trained / "table" / "captions.csv"
    wide = refusal(capsys, own, "--data", table, "--features", tmp_path / "wide.npy", *out)
    assert "sees features 6 wide, but" in wide
    assert "holds features 9 wide" in wide


def test_a_run_knows_its_data(trained: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    """Its folder, and a model in it, from another folder; ``--data`` names others."""
    monkeypatch.chdir(tmp_path)
    table, own = trained / "table" / "captions.csv", trained / "own" / "own-seed0"
    (named,) = opened.indexes(Search((own,), data=table, cpu=True))
    assert "data: " not in capsys.readouterr().err
    for run in (own, next(own.glob("best-*.pt"))):
        (index,) = opened.indexes(Search((run,), cpu=True))
        assert index.split.captions == named.split.captions
        assert torch.equal(index.embedded.images, named.embedded.images)
        assert f"data: {table}, as the run was trained on" in capsys.readouterr().err
    others = write_feature_table(tmp_path / "others", 12)
    (index,) = opened.indexes(Search((own,), data=others, cpu=True))
    assert len(index.split.captions) < len(named.split.captions)
    runs = own, trained / "f8k" / "flickr8k-256-vse++-seed0"
    with pytest.raises(ValueError, match="need the same images and captions"):
        opened.indexes(Search(runs, cpu=True))


def test_two_models_of_different_data(trained: Path) -> None:
    runs = trained / "own" / "own-seed0", trained / "scenes" / "scenes-vse0-seed0"
    table = trained / "table" / "captions.csv"
    with pytest.raises(ValueError, match="need the same images and captions"):
        opened.indexes(Search(runs, data=table, cpu=True))


def test_an_exported_model_is_the_run(trained: Path) -> None:
    table = trained / "table" / "captions.csv"
    runs = trained / "own" / "own-seed0", trained / "exported"
    run, exported = opened.indexes(Search(runs, data=table, cpu=True))
    assert torch.equal(run.embedded.images, exported.embedded.images)
    assert torch.equal(run.embedded.captions, exported.embedded.captions)
    assert (trained / "exported" / "embeddings-test.safetensors").is_file()


class Harmful:
    """An object whose unpickling would run a program."""

    def __reduce__(self):
        return os.system, ("touch harmed",)


def test_harmful_files_are_refused(trained: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    out = ["--atlas", tmp_path / "a.parquet"]
    torch.save({"format": FORMAT, "model": Harmful()}, tmp_path / "model.pt")
    assert "was refused, nothing in it was run" in refusal(capsys, tmp_path / "model.pt", *out)
    shutil.copytree(trained / "exported", tmp_path / "exported")
    (tmp_path / "exported" / "config.json").write_text(
        json.dumps({"towers": {"embed_dim": 10**12}})
    )
    broken = refusal(capsys, tmp_path / "exported", "--data", trained / "table/captions.csv", *out)
    assert "exported" in broken
    assert not (tmp_path / "harmed").exists()


def with_names(trained: Path, tmp_path: Path, names: list[str]) -> Path:
    """The features with names of pictures beside them."""
    data = tmp_path / "data"
    shutil.copytree(trained / "data", data)
    (data / "f8k_precomp" / "test_names.txt").write_text("\n".join(names) + "\n")
    return data


def test_photographs_of_precomputed_features(trained: Path, tmp_path: Path, capsys) -> None:
    run = trained / "f8k" / "flickr8k-256-vse++-seed0"
    names = [f"{number}.jpg" for number in range(12)]
    data, photographs = with_names(trained, tmp_path, names), tmp_path / "elsewhere" / "photographs"
    for number, name in enumerate(names):
        write_picture(photographs / name, number)
    asked = Search((run,), data=data, images=str(photographs), cpu=True)
    (index,) = opened.indexes(asked)
    assert index.split.images.pictures[3] == photographs / "3.jpg"
    assert index.split.images.thumbnail(3, 20).startswith(b"\xff\xd8")
    secret = tmp_path / "elsewhere" / "secret.jpg"
    write_picture(secret, 0)
    (photographs / "3.jpg").unlink()
    (photographs / "3.jpg").symlink_to(secret)
    given = [run, "--data", data, "--images", photographs, "--atlas", tmp_path / "a.parquet"]
    assert "links to" in refusal(capsys, *given)
    (data / "f8k_precomp" / "test_names.txt").write_text("../secret.jpg\n" * 12)
    assert "is no name of a picture inside" in refusal(capsys, *given)


def test_the_file_for_embedding_atlas(trained: Path, tmp_path: Path, capsys) -> None:
    run, path = trained / "scenes" / "scenes-vse0-seed0", tmp_path / "new" / "a.parquet"
    main([str(run), "--cpu", "--atlas", str(path), "--neighbors", "4"])
    told = capsys.readouterr().out
    assert (
        f"embedding-atlas {path} --text text --image image --x x --y y --neighbors neighbors"
        in told
    )
    rows = pq.read_table(path).to_pylist()
    (index,) = opened.indexes(Search((run,), cpu=True))
    images = F.normalize(index.embedded.images.double(), dim=1)
    assert len(rows) == 500
    near = images @ images.T
    captions = index.embedded.captions.double()
    scores = index.embedded.images.double() @ captions.T
    middle = images - images.mean(0)
    spread = torch.linalg.svdvals(middle)
    for axis, name in enumerate("xy"):
        values = torch.tensor([row[name] for row in rows], dtype=torch.float64)
        assert float(values.norm()) == pytest.approx(float(spread[axis]), rel=1e-5)
    for at in (0, 77, 499):
        row = rows[at]
        assert row["text"].splitlines() == [*index.split.captions[5 * at : 5 * at + 5]]
        ids, distances = row["neighbors"]["ids"], row["neighbors"]["distances"]
        assert ids[0] == at
        assert len(ids) == 5
        others = near[at].clone()
        others[at] = -2
        assert distances[1:] == pytest.approx((1 - others.topk(4).values).tolist(), abs=1e-5)
        assert distances == pytest.approx((1 - near[at, ids]).tolist(), abs=1e-5)
        own = scores[at, 5 * at : 5 * at + 5]
        rest = scores[at].clone()
        rest[5 * at : 5 * at + 5] = -2
        assert row["positive_score"] == pytest.approx(float(own.max()), abs=1e-5)
        assert row["negative_score"] == pytest.approx(float(rest.max()), abs=1e-5)
        assert row["best_rank"] == 1 + int((rest > own.max()).sum())
        assert row["image"]["bytes"].startswith(b"\x89PNG")


def test_without_pictures_the_file_has_none(trained: Path, tmp_path: Path, capsys) -> None:
    own, path = trained / "own" / "own-seed0", tmp_path / "a.parquet"
    main([str(own), "--data", str(trained / "table/captions.csv"), "--cpu", "--atlas", str(path)])
    assert "--image" not in capsys.readouterr().out
    table = pq.read_table(path)
    assert "image" not in table.column_names
    # three test images: each has the two others
    assert {len(row["ids"]) for row in table["neighbors"].to_pylist()} == {3}


def test_only_the_page_needs_gradio(trained: Path) -> None:
    for path in PACKAGE.glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        used = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        used |= {
            name.name
            for node in ast.walk(tree)
            if isinstance(node, ast.Import)
            for name in node.names
        }
        assert "gradio" not in used, path.name
        shows = {"vsepp_search.page", "vsepp_search.answers", "vsepp_search.cards"}
        if path.stem not in ("page", "commands", "answers"):
            assert not used & shows, path.name
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 200, path.name
    for path in (PACKAGE.parent / "vsepp").rglob("*.py"):
        assert "vsepp_search" not in path.read_text(encoding="utf-8"), path


def test_without_gradio_it_says_what_to_install(trained: Path) -> None:
    program = (
        "import sys; sys.modules['gradio'] = None; sys.argv[0] = 'search.py'\n"
        "from vsepp_search.commands import main; main()"
    )
    run = trained / "scenes" / "scenes-vse0-seed0"
    places = os.pathsep.join([str(CHECKOUT), str(CHECKOUT / "examples")])
    done = subprocess.run(
        [sys.executable, "-c", program, run, "--cpu"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": places},
    )
    assert done.returncode == 2
    assert "the page needs gradio: pip install -e '.[search]'" in done.stderr
