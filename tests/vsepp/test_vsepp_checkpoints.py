"""Checkpoints: ours and the authors'; shapes, truncation, and pickles that would run code."""

import argparse
import json
import pickle
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from tiny_data import write_precomp
from vsepp.checkpoints import load_model, load_weights, model_file, save_model
from vsepp.data.pairs import read_splits
from vsepp.data.vocabulary import SPECIAL, Vocabulary
from vsepp.evaluate import assess, embed, load_any, rebuild
from vsepp.files.writing import write_file
from vsepp.model import build_model
from vsepp.release.authors import load_authors_checkpoint
from vsepp.run.progress import Progress
from vsepp.settings import Data, Model, Settings

GOLDEN = Path(__file__).parents[1] / "golden"
TINY = Settings(Data("flickr8k"), Model(embed_dim=8, word_dim=6))


def ninety_words() -> Vocabulary:
    return Vocabulary((*SPECIAL, "a", "dog", *(f"word{n}" for n in range(84))), "regex", "a test")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "best.pt"
    save_model(path, TINY, ninety_words(), build_model(TINY.model, 90, 12), {"rsum": 1.0})
    return path


def test_ours_come_back_whole(saved: Path) -> None:
    trained = load_model(saved)
    assert trained.settings == TINY
    assert trained.vocabulary == ninety_words()
    assert trained.metrics == {"rsum": 1.0}
    model = build_model(TINY.model, 90, 12)
    load_weights(model, trained)
    for name, value in model.state_dict().items():
        assert torch.equal(value, trained.state[name])


@pytest.mark.parametrize(
    ("settings", "words", "width", "message"),
    [
        (
            Model(embed_dim=16, word_dim=6),
            90,
            12,
            r"image\.fc\.weight: \(8, 12\) there, \(16, 12\) here",
        ),
        (
            Model(embed_dim=8, word_dim=6),
            91,
            12,
            r"text\.embed\.weight: \(90, 6\) there, \(91, 6\) here",
        ),
        (Model(embed_dim=8, word_dim=6, text="bigru"), 90, 12, "is not there"),
        (Model("small", "none", embed_dim=8, word_dim=6), 90, None, r"image\.fc\.weight"),
    ],
)
def test_another_shape_is_told(saved: Path, settings, words, width, message) -> None:
    with pytest.raises(ValueError, match=rf"best\.pt does not fit this model.*{message}"):
        load_weights(build_model(settings, words, width), load_model(saved))


def test_a_pretrained_network_may_be_absent_only_when_that_is_said(tmp_path: Path) -> None:
    settings = Model("small", "none", embed_dim=8, word_dim=6)
    whole = build_model(settings, 90, None)
    frozen = {name: v for name, v in whole.state_dict().items() if ".cnn." not in name}
    path = tmp_path / "best.pt"
    save_model(path, TINY, ninety_words(), torch.nn.Module(), {})
    trained = load_model(path)
    object.__setattr__(trained, "state", frozen)
    load_weights(build_model(settings, 90, None), trained, own_cnn=True)
    with pytest.raises(ValueError, match=r"image\.cnn\.\S+ is not there"):
        load_weights(build_model(settings, 90, None), trained)


@pytest.mark.parametrize("keep", [0, 100, -500])
def test_a_truncated_checkpoint_is_told(saved: Path, keep: int) -> None:
    saved.write_bytes(saved.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"best\.pt (cannot be read|was refused)"):
        load_model(saved)


def test_missing_and_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*absent\.pt"):
        load_model(tmp_path / "absent.pt")
    torch.save({"model": {}}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"other\.pt is not a model of ours"):
        load_model(tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"other\.pt is no checkpoint of the release"):
        load_authors_checkpoint(tmp_path / "other.pt")


class Harmful:
    """Creates a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("load", [load_model, load_authors_checkpoint])
def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path, load) -> None:
    path, target = tmp_path / "model.pth.tar", tmp_path / "harm"
    torch.save({"model": [{}, {}], "opt": Harmful(target)}, path)
    with pytest.raises(ValueError, match=r"model\.pth\.tar was refused, nothing in it was run"):
        load(path)
    path.write_bytes(pickle.dumps(Harmful(target), protocol=2))
    with pytest.raises(ValueError, match=r"model\.pth\.tar (was refused|cannot be read)"):
        load(path)
    assert not target.exists()


@pytest.mark.parametrize(
    ("name", "measure", "absolute"), [("vse++", "cosine", False), ("order0", "order", True)]
)
def test_the_authors_weights_are_the_ones_that_training_ended_with(name, measure, absolute) -> None:
    trained = load_authors_checkpoint(GOLDEN / f"{name}.pth.tar")
    with np.load(GOLDEN / "vsepp_training.npz") as stored:
        for tower, ours in (("img", "image"), ("txt", "text")):
            start = f"{name}|final|{tower}|"
            keys = [key.removeprefix(start) for key in stored.files if key.startswith(start)]
            for key in keys:
                assert np.array_equal(trained.state[f"{ours}.{key}"].numpy(), stored[start + key])
    assert trained.settings.loss.measure == measure
    assert trained.settings.model.absolute is absolute
    assert (trained.settings.model.embed_dim, trained.settings.model.word_dim) == (48, 24)


def test_the_authors_checkpoint_evaluates(tmp_path: Path) -> None:
    write_precomp(tmp_path / "data" / "f8k_precomp", width=40)
    ninety_words().save(tmp_path / "words.json")
    path = GOLDEN / "vse++.pth.tar"
    trained = load_any(path, tmp_path / "words.json")
    found = assess(trained, trained.settings.data, tmp_path / "data", "test")
    split = read_splits(trained.settings.data, tmp_path / "data").test
    model = rebuild(trained, split)
    embedded = embed(model, split, ninety_words())
    features, _ = split.images.batch([2], None)
    weight, bias = trained.state["image.fc.weight"], trained.state["image.fc.bias"]
    expected = torch.nn.functional.normalize(features @ weight.T + bias, dim=1)[0]
    torch.testing.assert_close(embedded.images[2], expected)
    assert 0 < found["test"]["image_to_text"]["mean_rank"] <= 60
    with pytest.raises(ValueError, match=r"holds no vocabulary: pass --vocabulary"):
        load_any(path, None)


def test_data_parallel_names_and_numpy_scores_of_raw_checkpoints(tmp_path: Path) -> None:
    """A file as the release writes it for a fine-tuned CNN under DataParallel."""
    settings = Model("resnet18", "none", embed_dim=8, word_dim=6, finetune=True)
    model = build_model(settings, 90, None)
    image = {
        name.removeprefix("image.").replace("cnn.", "cnn.module."): value
        for name, value in model.state_dict().items()
        if name.startswith("image.") and not name.endswith("num_batches_tracked")
    }
    text = {
        name.removeprefix("text."): value
        for name, value in model.state_dict().items()
        if name.startswith("text.")
    }
    opt = argparse.Namespace(
        data_name="coco",
        cnn_type="resnet18",
        embed_size=8,
        word_dim=6,
        finetune=True,
        max_violation=True,
    )
    content = {
        "epoch": 3,
        "model": [image, text],
        "best_rsum": np.float64(12.5),
        "opt": opt,
        "Eiters": 9,
    }
    torch.save(content, tmp_path / "model.pth.tar")
    trained = load_authors_checkpoint(tmp_path / "model.pth.tar")
    assert trained.metrics == {"rsum": 12.5, "epoch": 3}
    assert (trained.settings.data.dataset, trained.settings.data.layout) == ("coco", "raw")
    other = build_model(settings, 90, None)
    load_weights(other, trained)
    for name, value in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name


def test_vggs_layers_of_the_first_releases_are_found(tmp_path: Path) -> None:
    """The release keeps a branch for files in which dropout still stood before each layer."""
    weights = {f"cnn.classifier.{number}.weight": torch.zeros(1) for number in (1, 4)}
    content = {"model": [{**weights, "cnn.features.module.0.bias": torch.zeros(1)}, {}]}
    torch.save({**content, "opt": argparse.Namespace()}, tmp_path / "old.pth.tar")
    assert list(load_authors_checkpoint(tmp_path / "old.pth.tar").state) == [
        "image.cnn.classifier.0.weight",
        "image.cnn.classifier.3.weight",
        "image.cnn.features.0.bias",
    ]


def test_a_run_before_its_first_validation_has_no_model_yet(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no checkpoint: name a run's folder"):
        model_file(tmp_path)
    state = tmp_path / "state-000000500"
    state.mkdir()
    (state / "progress.json").write_text(json.dumps(asdict(Progress(step=500))))
    with pytest.raises(FileNotFoundError, match="holds no model yet: its first validation"):
        model_file(tmp_path)


def test_settings_records_refuse_unknown_names() -> None:
    record = json.loads(json.dumps(TINY.record()))
    assert Settings.from_record(record) == TINY
    record["loss"]["max_violation"] = True
    with pytest.raises(ValueError, match=r"does not know: loss\.max_violation"):
        Settings.from_record(record)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_file(path, lambda unfinished: unfinished.write_text("old"))

    def break_off(unfinished: Path) -> None:
        unfinished.write_text("ne")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_file(path, break_off)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
