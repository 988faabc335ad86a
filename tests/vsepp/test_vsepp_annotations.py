"""Raw layouts: Karpathy's JSON, COCO with the released ids, and real annotation files."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tiny_data import SPLITS, caption, karpathy_entry, write_flickr, write_picture
from vsepp.data.annotations import read_karpathy
from vsepp.data.pairs import read_splits
from vsepp.settings import Data

COCO = {"train": 9, "restval": 4, "dev": 5, "test": 6}


def write_coco(root: Path, *, karpathy: bool) -> None:
    """COCO as released: images by year, annotations, and either id files or Karpathy's JSON.

    Image ids are out of order and some images have a sixth caption, as in the real files.
    """
    folder, images, number = root / "coco", [], 0
    notes: dict[str, dict] = {
        part: {"images": [], "annotations": []} for part in ("train2014", "val2014")
    }
    ids: dict[str, list[int]] = {split: [] for split in COCO}
    for split, count in COCO.items():
        part = "train2014" if split == "train" else "val2014"
        for _ in range(count):
            image_id, name = 900 - 7 * number, f"COCO_{part}_{900 - 7 * number:012d}.jpg"
            write_picture(folder / "images" / part / name, number)
            notes[part]["images"].append({"id": image_id, "file_name": name})
            for k in range(5 + number % 2):
                note = {
                    "id": 5_000 + 10 * number + k,
                    "image_id": image_id,
                    "caption": caption(number, k % 5),
                }
                notes[part]["annotations"].insert(0, note)
                ids[split] += [note["id"]] if k < 5 else []
            entry = karpathy_entry("val" if split == "dev" else split, number, name, 5 + number % 2)
            images.append({**entry, "filepath": part, "cocoid": image_id})
            number += 1
    (folder / "annotations").mkdir()
    for part, content in notes.items():
        (folder / "annotations" / f"captions_{part}.json").write_text(json.dumps(content))
    if karpathy:
        (folder / "dataset_coco.json").write_text(json.dumps({"images": images, "dataset": "coco"}))
    else:
        for split, keys in ids.items():
            np.save(folder / "annotations" / f"coco_{split}_ids.npy", np.array(keys))


@pytest.mark.parametrize("karpathy", [False, True])
@pytest.mark.parametrize("restval", [False, True])
def test_coco_with_either_annotation(tmp_path: Path, karpathy: bool, restval: bool) -> None:
    write_coco(tmp_path, karpathy=karpathy)
    splits = read_splits(Data("coco", "raw", restval=restval, image_size=32), tmp_path)
    expected = COCO["train"] + (COCO["restval"] if restval else 0)
    assert len(splits.train.images) == expected
    assert len(splits.train.captions) == 5 * expected
    assert (len(splits.dev.images), len(splits.test.images)) == (COCO["dev"], COCO["test"])
    first = sum(COCO.values()) - COCO["test"]
    assert splits.test.captions[:5] == tuple(caption(first, number).strip() for number in range(5))
    assert splits.test.image_keys[0] == 900 - 7 * first
    assert len(set(splits.test.caption_keys)) == 5 * COCO["test"]
    if restval:
        assert splits.train.image_of[-1] == expected - 1
        assert "val2014" in str(splits.train.images.paths[-1])
    images, _ = splits.train.images.batch([0, expected - 1], [1, 2])
    assert images.shape == (2, 3, 32, 32)


@pytest.mark.parametrize(("dataset", "folder"), [("flickr8k", "f8k"), ("flickr30k", "f30k")])
def test_flickr(tmp_path: Path, dataset: str, folder: str) -> None:
    root = write_flickr(tmp_path, folder)
    splits = read_splits(Data(dataset, "raw", image_size=32), root)
    assert [len(one.images) for one in (splits.train, splits.dev, splits.test)] == [
        *SPLITS.values()
    ]
    assert splits.dev.captions[1] == caption(SPLITS["train"], 1)
    assert splits.dev.images.paths[0].name == f"{SPLITS['train']:04d}.jpg"


def test_random_crops_follow_the_seed_and_leave_torchs_generator_alone(flickr_root: Path) -> None:
    images = read_splits(Data("flickr8k", "raw", image_size=32), flickr_root).train.images
    state = torch.random.get_rng_state()
    first, _ = images.batch([0, 0], [1, 2])
    again, _ = images.batch([0, 0], [1, 2])
    assert torch.equal(first, again)
    assert not torch.equal(first[0], first[1])
    assert torch.equal(torch.random.get_rng_state(), state)


def test_centre_and_ten_crops(flickr_root: Path) -> None:
    centre = read_splits(Data("flickr8k", "raw", crop="1c", image_size=28), flickr_root)
    one, _ = centre.train.images.batch([0], [1])
    same, _ = centre.train.images.batch([0], None)
    assert torch.equal(one, same)
    ten = read_splits(Data("flickr8k", "raw", crop="10c", image_size=28), flickr_root)
    crops, _ = ten.test.images.batch([0], None)
    assert crops.shape == (1, 10, 3, 28, 28)
    torch.testing.assert_close(crops[0, 4], centre.test.images.batch([0], None)[0][0])
    torch.testing.assert_close(crops[0, 5:], crops[0, [1, 0, 3, 2, 4]].flip(-1))


def test_missing_pieces_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="flickr8k needs --data DIR"):
        read_splits(Data("flickr8k"), None)
    with pytest.raises(FileNotFoundError, match=r"no folder .*absent: --data is"):
        read_splits(Data("flickr8k"), tmp_path / "absent")
    with pytest.raises(
        FileNotFoundError, match=r"no folder .*f8k: --data is .*Expected .*dataset_flickr8k\.json"
    ):
        read_splits(Data("flickr8k", "raw"), tmp_path)
    write_coco(tmp_path, karpathy=False)
    (tmp_path / "coco" / "annotations" / "coco_dev_ids.npy").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"no id file at .*coco_dev_ids\.npy: take the released"
    ):
        read_splits(Data("coco", "raw"), tmp_path)


def test_ids_of_another_release_are_told(tmp_path: Path) -> None:
    write_coco(tmp_path, karpathy=False)
    path = tmp_path / "coco" / "annotations" / "coco_test_ids.npy"
    np.save(path, np.append(np.load(path), 42))
    with pytest.raises(ValueError, match=r"lists 1 annotations .* the first is 42.*COCO 2014"):
        read_splits(Data("coco", "raw"), tmp_path)


def test_a_missing_image_is_named_and_counted(flickr_root: Path) -> None:
    (flickr_root / "f8k" / "images" / "0003.jpg").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"1 of 40 images are missing, the first is .*0003\.jpg"
    ):
        read_splits(Data("flickr8k", "raw"), flickr_root)


def test_broken_annotation_files(tmp_path: Path) -> None:
    path = tmp_path / "dataset_flickr8k.json"
    for content, message in [
        (b'{"images": [', "is not complete JSON.*truncated"),
        (b'{"images": "\xff"}', "byte 13 is not UTF-8"),
        (b'{"images": []}', "no list `images`"),
        (b'{"images": [{"split": "train"}]}', "image 0 lacks filename, sentences"),
        (
            b'{"images": [{"split": "train", "filename": "a.jpg", "sentences": []}]}',
            "a.jpg has no sentences",
        ),
    ]:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            read_karpathy(path, tmp_path)
    with pytest.raises(
        FileNotFoundError, match=r"no annotation file at .*absent\.json: put .*there"
    ):
        read_karpathy(tmp_path / "absent.json", tmp_path)
    (tmp_path / "coco").mkdir()
    with pytest.raises(
        FileNotFoundError, match=r"captions_train2014\.json: .*or put .*dataset_coco"
    ):
        read_splits(Data("coco", "raw"), tmp_path)


def test_an_empty_sentence_is_refused(flickr_root: Path) -> None:
    path = flickr_root / "f8k" / "dataset_flickr8k.json"
    content = json.loads(path.read_text())
    content["images"][2]["sentences"][1]["raw"] = " "
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"\(train\): caption 12 \(of image 3\) is empty"):
        read_splits(Data("flickr8k", "raw"), flickr_root)


def test_real_flickr8k_annotations_are_complete(real_data: Path) -> None:
    parts = read_karpathy(real_data / "f8k" / "dataset_flickr8k.json", real_data / "f8k" / "images")
    counts = {name: (len(part.paths), len(part.captions)) for name, part in parts.items()}
    assert counts == {"train": (6_000, 30_000), "val": (1_000, 5_000), "test": (1_000, 5_000)}


def test_real_coco_annotations_and_pictures(real_data: Path, tmp_path: Path) -> None:
    """Real COCO files under the names of the 2014 release, with ids chosen from them."""
    source, folder = real_data / "coco_small", tmp_path / "coco"
    if not source.is_dir():
        pytest.skip(f"no real COCO sample in {source}")
    (folder / "annotations").mkdir(parents=True)
    (folder / "images").mkdir()
    for part in ("train", "val"):
        (folder / "images" / f"{part}2014").symlink_to(source / "images" / f"{part}2017")
        path = folder / "annotations" / f"captions_{part}2014.json"
        path.symlink_to(source / "annotations" / f"captions_{part}2017.json")
    by_image: dict[str, dict[int, list[int]]] = {"train": {}, "val": {}}
    for part, images in by_image.items():
        notes = json.loads((folder / "annotations" / f"captions_{part}2014.json").read_text())
        for note in notes["annotations"]:
            images.setdefault(note["image_id"], []).append(note["id"])
    val = [keys[:5] for keys in by_image["val"].values()]
    chosen = {
        "train": [keys[:5] for keys in by_image["train"].values()],
        "restval": val[:10],
        "dev": val[10:20],
        "test": val[20:40],
    }
    for split, keys in chosen.items():
        flat = np.array([key for five in keys for key in five])
        np.save(folder / "annotations" / f"coco_{split}_ids.npy", flat)
    splits = read_splits(Data("coco", "raw", restval=True, image_size=64), tmp_path)
    assert len(splits.train.images) == len(chosen["train"]) + 10
    assert len(splits.test.images) == 20
    images, kept = splits.test.images.batch(range(20), None)
    assert images.shape == (20, 3, 64, 64)
    assert len(kept) == 20
