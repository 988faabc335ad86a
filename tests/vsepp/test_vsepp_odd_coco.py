"""COCO's annotation files and id files with everything that may be odd in them."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from odd_inputs import NO_FILES, RAW, begin, refused
from test_vsepp_annotations import write_coco
from tiny_data import write_picture

COCO = replace(RAW, dataset="coco", restval=True)
Content = dict[str, Any]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_coco(tmp_path / "data", karpathy=False)
    return tmp_path / "data"


def annotations(root: Path) -> Path:
    return root / "coco" / "annotations"


def ids(root: Path) -> Path:
    return annotations(root) / "coco_train_ids.npy"


def on_note(**values: Any) -> Callable[[Content], object]:
    """Gives an annotation that the id file lists other values."""
    return lambda content: content["annotations"][1].update(values)


def on_image(**values: Any) -> Callable[[Content], object]:
    return lambda content: content["images"][-1].update(values)


def lacking(where: str, name: str) -> Callable[[Content], object]:
    return lambda content: content[where][1].pop(name)


IDS_READ: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "int32": lambda keys: keys.astype(np.int32),
    "uint64": lambda keys: keys.astype(np.uint64),
    "big end first": lambda keys: keys.astype(">i8"),
    "a column": lambda keys: keys[:, None],
    "a row": lambda keys: keys[None],
}
IDS_REFUSED: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
    "two dimensions": (
        lambda keys: keys.reshape(-1, 5),
        r"coco_train_ids\.npy is int64 \(9, 5\): expected whole numbers in one row",
    ),
    "three dimensions": (lambda keys: keys.reshape(3, 3, 5), r"is int64 \(3, 3, 5\): expected"),
    "a number": (lambda keys: keys[0] * np.ones((), int), r"lists 1 annot|is int64 \(\)"),
    "floats": (lambda keys: keys.astype(float), r"is float64 \(45,\): expected whole numbers"),
    "texts": (lambda keys: keys.astype(str), r"is <U\d+ \(45,\): expected whole numbers"),
    "truth values": (lambda keys: keys > 0, r"is bool \(45,\): expected whole numbers"),
    "objects": (lambda keys: keys.astype(object), r"holds Python objects .*a pickle may run code"),
    "none": (lambda keys: keys[:0], r"coco_train_ids\.npy is int64 \(0,\): it holds no numbers"),
    "an unknown id": (lambda keys: np.append(keys, 42), r"lists 1 annotations .* first is 42:"),
    "a negative id": (lambda keys: -keys, r"lists 45 annotations .* first is -"),
    "an endless id": (
        lambda keys: np.append(keys.astype(np.uint64), np.uint64(2**64 - 1)),
        r"lists 1 annotations .*18446744073709551615",
    ),
    "ids of images": (lambda keys: 900 - 7 * np.arange(9), r"lists 9 annotations"),
}
REFUSED: dict[str, tuple[Callable[[Content], object], str]] = {
    "a caption is null": (on_note(caption=None), r"annotation 1: caption is null: expected text"),
    "a caption is a number": (on_note(caption=3), r"annotation 1: caption is 3: expected text"),
    "a caption is empty": (on_note(caption=" "), r"caption \d+ \(of image \d+\) is empty"),
    "a caption is lacking": (lacking("annotations", "caption"), r"annotation 1 lacks caption"),
    "half a character": (on_note(caption="\udc00"), r"holds half of a character"),
    "an id is lacking": (lacking("annotations", "id"), r"annotation 1 lacks id"),
    "an id is a text": (on_note(id="5000"), r'annotation 1: id is "5000": expected a whole number'),
    "an id is a fraction": (on_note(id=5000.0), r"id is 5000.0: expected a whole number"),
    "an id is infinite": (on_note(id=float("inf")), r"id is Infinity: expected a whole number"),
    "an id is true": (on_note(id=True), r"id is true: expected a whole number"),
    "an id is a list": (on_note(id=[1]), r"id is \[1\]: expected a whole number"),
    "an id twice": (
        lambda content: content["annotations"].append(
            {**content["annotations"][0], "caption": "another"}
        ),
        r"annotation id \d+ stands for two captions",
    ),
    "an image id is a text": (on_note(image_id="900"), r'image_id is "900": expected a whole num'),
    "an image id is unknown": (on_note(image_id=1), r"is of image 1, which `images` lacks"),
    "a note is null": (
        lambda content: content["annotations"].insert(0, None),
        r"annotation 0 is null: expected an object",
    ),
    "an image is null": (
        lambda content: content["images"].insert(0, None),
        r"image 0 is null: expected an object with",
    ),
    "a file name is null": (on_image(file_name=None), r"image 8: file_name is null: expected text"),
    "a file name is lacking": (lacking("images", "file_name"), r"image 1 lacks file_name"),
    "an image's id is lacking": (lacking("images", "id"), r"image 1 lacks id"),
    "a file name is absolute": (on_image(file_name="/etc/passwd"), r"'/etc/passwd' is no name of"),
    "a file name climbs": (on_image(file_name="../../x.jpg"), r"'\.\./\.\./x\.jpg' is no name of"),
    "a file name is unknown": (on_image(file_name="x.jpg"), r"1 of \d+ images are missing.*x\.jpg"),
    "annotations are null": (
        lambda content: content.update(annotations=None),
        r"captions_train2014\.json.*: annotations is null: expected a list",
    ),
    "images are lacking": (
        lambda content: content.pop("images"),
        r"captions_train2014\.json, expected to be COCO's captions_\*\.json, lacks images",
    ),
    "instances": (
        lambda content: [note.pop("caption") for note in content["annotations"]],
        r"annotation 0 lacks caption",
    ),
}


@pytest.mark.parametrize("name", IDS_READ)
def test_ids_are_read(root: Path, name: str) -> None:
    before = begin(root, COCO).train
    np.save(ids(root), IDS_READ[name](np.load(ids(root))))
    after = begin(root, COCO).train
    assert (after.captions, after.caption_keys) == (before.captions, before.caption_keys)
    assert after.image_of.tolist() == before.image_of.tolist()


@pytest.mark.parametrize("name", IDS_REFUSED)
def test_ids_are_refused(root: Path, name: str) -> None:
    change, message = IDS_REFUSED[name]
    np.save(ids(root), change(np.load(ids(root))), allow_pickle=True)
    refused(root, COCO, message)


@pytest.mark.parametrize("name", REFUSED)
def test_annotations_are_refused(root: Path, name: str) -> None:
    change, message = REFUSED[name]
    path = annotations(root) / "captions_train2014.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    refused(root, COCO, message)


@pytest.mark.parametrize("name", NO_FILES)
def test_it_is_no_id_file(root: Path, name: str) -> None:
    change, message = NO_FILES[name]
    change(ids(root))
    refused(root, COCO, message.format(what="id file", file=r"coco_train_ids\.npy"))
    assert not (annotations(root) / "harm").exists()


@pytest.mark.parametrize("part", ["dev", "test", "restval"])
def test_every_file_of_ids_is_looked_at(root: Path, part: str) -> None:
    path = annotations(root) / f"coco_{part}_ids.npy"
    path.write_bytes(path.read_bytes()[:-8])
    refused(root, COCO, rf"coco_{part}_ids\.npy cannot be read .*it is truncated")


def test_a_caption_listed_twice_is_one_image(root: Path) -> None:
    keys = np.load(ids(root))
    np.save(ids(root), np.append(keys, keys[0]))
    train = begin(root, replace(COCO, restval=False)).train
    assert (len(train.images), train.image_of[-1]) == (9, 0)


def test_folders_of_pictures_may_be_links_and_pictures_that_lead_out_are_not_read(
    root: Path, tmp_path: Path
) -> None:
    folder = root / "coco" / "images" / "train2014"
    folder.rename(tmp_path / "disk")
    folder.symlink_to(tmp_path / "disk")
    begin(root, COCO)
    path = sorted(folder.iterdir())[0]
    write_picture(tmp_path / "private.jpg", 0)
    path.unlink()
    path.symlink_to(tmp_path / "private.jpg")
    refused(root, COCO, r"links to .*private\.jpg, outside .*images: it is not read")


def test_annotations_may_be_karpathys(tmp_path: Path) -> None:
    write_coco(tmp_path, karpathy=True)
    assert len(begin(tmp_path, COCO).train.images) == 13
    content = json.loads((tmp_path / "coco" / "dataset_coco.json").read_text())
    content["images"][0]["filepath"] = "../../other"
    (tmp_path / "coco" / "dataset_coco.json").write_text(json.dumps(content))
    refused(tmp_path, COCO, r"image 0: '\.\./\.\./other' is no name of a picture inside")
