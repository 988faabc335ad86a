"""What does not fit the data is refused as soon as they are read: no picture is decoded, no word counted,
no network made and no weights fetched.
"""

from pathlib import Path

import pytest

import vsepp.features
import vsepp.model
import vsepp.train
from own_data import write_feature_table, write_picture_table
from test_vsepp_annotations import write_coco
from tiny_data import write_flickr, write_precomp
from vsepp.commands import main

RUN = ["--cpu", "--quiet", "--no-tensorboard", "--epochs", "1", "--threshold", "1"]
LATER = ["check_pictures", "load_model", "text_network_named", "vocabulary_of", "build_model"]


def own_pictures(base: Path) -> tuple[str, list[str]]:
    return "own", ["--data", str(write_picture_table(base, 16))]


def own_features(base: Path) -> tuple[str, list[str]]:
    return "own", ["--data", str(write_feature_table(base))]


def flickr_features(base: Path) -> tuple[str, list[str]]:
    write_precomp(base / "f8k_precomp")
    return "flickr8k", ["--data", str(base), "--recipe", "flickr8k-256-vse++"]


def flickr_pictures(base: Path) -> tuple[str, list[str]]:
    write_flickr(base)
    return "flickr8k", ["--data", str(base), "--recipe", "flickr8k-small-vse0"]


def coco_pictures(base: Path) -> tuple[str, list[str]]:
    write_coco(base, karpathy=False)
    return "coco", ["--data", str(base), "--recipe", "coco-resnet152-rc-rv-vse++"]


def scenes(base: Path) -> tuple[str, list[str]]:
    return "coco", ["--train-images", "12", "--recipe", "scenes-vse0"]


OF_FEATURES, OF_PICTURES = [own_features, flickr_features], [own_pictures, coco_pictures]
EVERY = [*OF_FEATURES, *OF_PICTURES, flickr_pictures, scenes]
CASES = [
    *((data, ["--batch-size", "512"], "--batch-size is 512: expected at most") for data in EVERY),
    *(
        (data, ["--batch-size", "8", "--captions-each", "9"], "--captions-each is 9: expected at")
        for data in (own_features, own_pictures)
    ),
    *((data, ["--compile", "--batch-size", "8"], "--compile is for the image") for data in OF_FEATURES),
    (own_pictures, ["--own-negatives", "2", "--batch-size", "8"], "--own-negatives are of"),
    (own_pictures, ["--members", "2", "--batch-size", "8"], "--members is 2: expected precomputed"),
    (scenes, ["--ceiling", "0.9", "--negatives", "selective", "--batch-size", "8"], "--ceiling does"),
    (scenes, ["--negatives", "topk:0", "--batch-size", "8"], "--negatives is topk:0: "),
    (scenes, ["--more-text", "nowhere.txt", "--batch-size", "8"], "no captions at nowhere.txt"),
    (flickr_features, ["--queue", "9", "--strict-parity"], "--queue tells earlier captions"),
]  # fmt: skip


def refused(name: str, given: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(name, given)
    assert stopped.value.code == 2
    return " ".join(capsys.readouterr().err.replace("│", " ").split())


@pytest.mark.parametrize(("data", "more", "message"), CASES)
def test_before_anything_is_made(
    tmp_path: Path, capsys, monkeypatch, data, more: list[str], message: str
) -> None:
    name, given = data(tmp_path / "data")
    for later in LATER:
        monkeypatch.setattr(vsepp.train, later, lambda *_, what=later: pytest.fail(what))
    said = refused(name, [*given, *RUN, "--out", str(tmp_path / "out"), *more], capsys)
    assert message in said
    assert not list(tmp_path.glob("out/*/*.json"))


def test_features_are_refused_before_their_network_is_made(
    flickr_root: Path, tmp_path: Path, capsys, monkeypatch
) -> None:
    monkeypatch.setattr(vsepp.features, "ImageEncoder", lambda *_, **__: pytest.fail("made"))
    (flickr_root / "f8k" / "images").rename(flickr_root / "elsewhere")
    given = ["features", "--data", str(flickr_root), "--dataset", "flickr8k", "--cpu"]
    said = refused("flickr8k", [*given, "--out", str(tmp_path / "out")], capsys)
    assert "images are missing" in said or "no folder" in said
