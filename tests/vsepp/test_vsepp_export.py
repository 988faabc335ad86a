"""Runs, and the authors' checkpoints, as folders that travel."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hardneg.image_text import ImageTextModel
from own_data import write_feature_table, write_picture_table
from vsepp.checkpoints import load_model, model_file
from vsepp.commands import main
from vsepp.data.pairs import read_splits
from vsepp.data.vocabulary import SPECIAL, Vocabulary
from vsepp.evaluate import embed, load_any, rebuild

GOLDEN = Path(__file__).parents[3] / "shared" / "golden"
SMALL = ["--cpu", "--no-tensorboard", "--quiet", "--threshold", "1", "--epochs", "1"]
SMALL += ["--embed-dim", "8", "--word-dim", "6", "--batch-size", "8", "--hidden-dim", "8"]
PICTURES = ["--backbone", "small", "--weights", "none", "--image-size", "32", "--text", "gru"]


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """A run on features, one on pictures, and both as folders."""
    base = tmp_path_factory.mktemp("export")
    tables = {
        "features": write_feature_table(base / "f"),
        "pictures": write_picture_table(base / "p"),
    }
    more = {
        "features": ["--blocks", "1", "--ema", "0.5", "--text", "bow+gru", "--members", "2"],
        "pictures": PICTURES,
    }
    for name, table in tables.items():
        out = base / f"runs-{name}"
        main("own", ["--data", str(table), "--out", str(out), *SMALL, *more[name]])
        main("own", ["export", str(out / "own-seed0"), str(base / name)])
    return base


@pytest.mark.parametrize("name", ["features", "pictures"])
def test_it_embeds_as_the_trainer_does(base: Path, name: str) -> None:
    """To the last bit: the same batches of the same texts and images."""
    trained = load_model(model_file(base / f"runs-{name}" / "own-seed0"))
    split = read_splits(trained.settings.data, base / name[0] / "captions.csv").test
    expected = embed(rebuild(trained, split), split, trained.vocabulary)
    model = ImageTextModel.from_pretrained(base / name)
    assert model.vocabulary.record() == trained.vocabulary.record()
    assert torch.equal(model.embed(split.captions), expected.captions)
    if name == "features":
        images = split.images.array
    else:
        images = [Image.open(path) for path in split.images.paths]
    assert torch.equal(model.embed_images(images), expected.images)


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640)])
def test_a_server_of_another_user_reads_it(base: Path, tmp_path: Path, umask, mode) -> None:
    before = os.umask(umask)
    try:
        main("own", ["export", str(base / "runs-features" / "own-seed0"), str(tmp_path / "out")])
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "out").iterdir()}
    assert modes == dict.fromkeys(modes, mode)
    assert {"model.safetensors", "config.json"} <= modes.keys()


def test_scenes_are_looked_at_as_they_were_drawn(tmp_path: Path) -> None:
    given = ["--recipe", "scenes-vse0", "--train-images", "12", "--out", str(tmp_path)]
    main("coco", [*given, *SMALL, "--image-size", "16"])
    main("coco", ["export", str(tmp_path / "scenes-vse0-seed0"), str(tmp_path / "out")])
    trained = load_model(model_file(tmp_path / "scenes-vse0-seed0"))
    split = read_splits(trained.settings.data, None).test.first(4)
    model = ImageTextModel.from_pretrained(tmp_path / "out")
    drawn = [Image.fromarray(one.permute(1, 2, 0).numpy()) for one in split.images.pictures]
    expected, _ = split.images.batch(range(4), None)
    torch.testing.assert_close(model.preprocess(drawn), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("name", "measure", "absolute"), [
    ("vse0", "cosine", False), ("vse++", "cosine", False), ("order++", "order", False),
    ("order0", "order", True),
])  # fmt: skip
def test_the_authors_checkpoints(tmp_path: Path, capsys, name, measure, absolute) -> None:
    if not GOLDEN.is_dir():
        pytest.skip(f"no reference runs in {GOLDEN}")
    words = Vocabulary((*SPECIAL, *(f"w{number}" for number in range(86))), "regex", "a test")
    words.save(tmp_path / "words.json")
    path, given = GOLDEN / f"{name}.pth.tar", ["--vocabulary", str(tmp_path / "words.json")]
    main("flickr8k", ["export", str(path), str(tmp_path / "out"), *given])
    assert "features 40 wide, 90 words" in capsys.readouterr().out
    model = ImageTextModel.from_pretrained(tmp_path / "out")
    assert (model.measure, model.towers.absolute) == (measure, absolute)
    trained = load_any(path, tmp_path / "words.json")
    for key, value in trained.state.items():
        assert torch.equal(model.state_dict()[key], value), key
    images = torch.from_numpy(np.random.default_rng(0).random((3, 40), np.float32))
    scores = model.similarity(model.embed_images(images), model.embed(["w3 w7", "w1"]))
    assert scores.shape == (3, 2)
    assert scores.isfinite().all()


def refused(given: list[str], capsys) -> str:
    with pytest.raises(SystemExit) as stopped:
        main("own", ["export", *given])
    assert stopped.value.code == 2
    return capsys.readouterr().err


def test_refusals(base: Path, tmp_path: Path, capsys) -> None:
    run = str(base / "runs-features" / "own-seed0")
    assert "is there already: name a new folder" in refused([run, str(base / "features")], capsys)
    (tmp_path / "file").write_text("years of work")
    assert "is there already" in refused([run, str(tmp_path / "file")], capsys)
    assert "holds no checkpoint" in refused([str(tmp_path), str(tmp_path / "out")], capsys)
    assert (tmp_path / "file").read_text() == "years of work"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    (tmp_path / "empty").mkdir()
    main("own", ["export", run, str(tmp_path / "empty")])
    config = json.loads((tmp_path / "empty" / "config.json").read_text())
    assert config == json.loads((base / "features" / "config.json").read_text())
