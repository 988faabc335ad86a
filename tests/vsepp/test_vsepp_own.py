"""A user's own tables and folders: what is read from them, and how they are divided."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from own_data import own_features, own_rows, write_feature_table, write_picture_table, write_table
from vsepp.data.images import Features, Photographs
from vsepp.data.pairs import read_splits
from vsepp.data.picture_check import check_pictures
from vsepp.data.splits import Split, Splits
from vsepp.settings import Data

OWN = Data("own", threshold=1, tokenizer="regex", image_size=16)
PARTS = ("train", "dev", "test")


def pairs_of(split: Split) -> set[tuple[str, str]]:
    """Every caption with a name of its image: its picture's file, or its features."""
    images = split.images
    if isinstance(images, Photographs):
        names = [path.name for path in images.paths]
    else:
        names = [str(row.tobytes()) for row in images.array]
    return {
        (names[row], caption) for row, caption in zip(split.image_of, split.captions, strict=True)
    }


def all_pairs(splits: Splits) -> set[tuple[str, str]]:
    return set().union(*(pairs_of(getattr(splits, part)) for part in PARTS))


def expected_pairs() -> set[tuple[str, str]]:
    features = own_features()
    return {(str(features[image].tobytes()), caption) for image, caption in own_rows()}


def write_jsonl(path: Path, records: list[dict]) -> Path:
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    return path


def as_jsonl(folder: Path) -> Path:
    rows = [{"caption": caption, "feature": image} for image, caption in own_rows()]
    return write_jsonl(folder / "captions.jsonl", rows)


def as_lists(folder: Path) -> Path:
    """An image a line, with all of its captions and its features."""
    features, said = own_features(), dict[int, list[str]]()
    for image, caption in own_rows():
        said.setdefault(image, []).append(caption)
    rows = [{"captions": said[i], "features": features[i].tolist()} for i in said]
    return write_jsonl(folder / "lists.jsonl", rows)


def as_parquet(folder: Path) -> Path:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    features, rows = own_features(), own_rows()
    columns = {"caption": [caption for _, caption in rows]}
    columns["feature"] = [features[image].tolist() for image, _ in rows]
    parquet.write_table(arrow.table(columns), folder / "captions.parquet")
    return folder / "captions.parquet"


def as_numbered_parquet(folder: Path) -> Path:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = own_rows()
    columns = {"feature": [image for image, _ in rows], "text": [said for _, said in rows]}
    parquet.write_table(arrow.table(columns), folder / "captions.parquet")
    return folder / "captions.parquet"


def as_tsv(folder: Path) -> Path:
    return write_table(folder / "captions.tsv", ["feature", "caption"], own_rows())


FORMS = [as_jsonl, as_lists, as_parquet, as_numbered_parquet, as_tsv]


@pytest.mark.parametrize("write", FORMS)
def test_every_form_of_table_is_the_same_data(tmp_path: Path, write) -> None:
    write_feature_table(tmp_path)
    splits = read_splits(OWN, write(tmp_path))
    assert all_pairs(splits) == expected_pairs()
    rows = [pairs_of(getattr(splits, part)) for part in PARTS]
    images = [{name for name, _ in part} for part in rows]
    assert [len(part) for part in images] == [24, 3, 3]
    assert not images[0] & images[1]
    assert not images[1] & images[2]
    assert not images[0] & images[2]


def test_the_division_is_a_seed_s_and_no_order_s(tmp_path: Path) -> None:
    table = write_feature_table(tmp_path)
    first = [pairs_of(getattr(read_splits(OWN, table), part)) for part in PARTS]
    write_table(table, ["caption", "feature"], [row[::-1] for row in reversed(own_rows())])
    assert [pairs_of(getattr(read_splits(OWN, table), part)) for part in PARTS] == first
    other = read_splits(replace(OWN, split_seed=1), table)
    assert pairs_of(other.dev) != first[1]
    larger = read_splits(replace(OWN, dev_share=0.2, test_share=0.3), table)
    assert [len(getattr(larger, part).images) for part in PARTS] == [15, 6, 9]


def test_the_division_stays_as_it_was_published(tmp_path: Path) -> None:
    """Everybody's dev and test images of seed 0: another order would be another benchmark."""
    table, features = write_feature_table(tmp_path), own_features()
    splits = read_splits(OWN, table)
    row_of = {row.tobytes(): number for number, row in enumerate(features)}
    found = [
        [row_of[row.tobytes()] for row in getattr(splits, part).images.array] for part in PARTS
    ]
    assert found[1:] == [[15, 20, 25], [4, 7, 18]]


def test_a_column_of_splits_decides(tmp_path: Path) -> None:
    names = ["train", "Val ", "test", "train", "validation", "train"]
    rows = [[image, said, names[image % 6]] for image, said in own_rows()]
    write_feature_table(tmp_path)
    table = write_table(tmp_path / "captions.csv", ["row", "said", "part"], rows)
    named = {"feature_column": "row", "caption_column": "said", "split_column": "part"}
    splits = read_splits(replace(OWN, **named), table)
    assert [len(getattr(splits, part).images) for part in PARTS] == [15, 10, 5]
    assert all_pairs(splits) == expected_pairs()
    rows = [[image, said, "test" if image < 5 else "train"] for image, said in own_rows()]
    table = write_table(tmp_path / "captions.csv", ["feature", "caption", "split"], rows)
    splits = read_splits(OWN, table)
    assert [len(getattr(splits, part).images) for part in PARTS] == [23, 2, 5]
    assert "dev is 2 of 25 images" in str(splits.train)


def test_pictures_in_a_folder_beside_the_table(tmp_path: Path) -> None:
    table = write_picture_table(tmp_path / "a")
    splits = check_pictures(read_splits(OWN, table))
    expected = {(f"{image}.png", said) for image, said in own_rows()}
    assert all_pairs(splits) == expected
    images, kept = splits.train.images.batch([0, 3], seeds=[1, 2])
    assert images.shape == (2, 3, 16, 16)
    assert kept == [0, 1]
    shutil.move(tmp_path / "a" / "images", tmp_path / "elsewhere")
    moved = read_splits(replace(OWN, images=str(tmp_path / "elsewhere")), table)
    assert [pairs_of(getattr(moved, part)) for part in PARTS] == [
        pairs_of(getattr(splits, part)) for part in PARTS
    ]
    shutil.move(table, tmp_path / "elsewhere" / "captions.csv")
    assert all_pairs(read_splits(OWN, tmp_path / "elsewhere" / "captions.csv")) == expected


def test_features_keep_their_pictures_for_the_report(tmp_path: Path) -> None:
    write_picture_table(tmp_path)
    np.save(tmp_path / "captions.npy", own_features())
    rows = [[image, f"{image}.png", said] for image, said in own_rows()]
    table = write_table(tmp_path / "captions.csv", ["feature", "image", "caption"], rows)
    splits = read_splits(OWN, table)
    assert isinstance(splits.dev.images, Features)
    assert all_pairs(splits) == expected_pairs()
    assert splits.dev.images.thumbnail(0)
    shutil.rmtree(tmp_path / "images")
    again = read_splits(OWN, table)
    assert again.dev.images.thumbnail(0) is None
    assert np.array_equal(again.dev.images.array, splits.dev.images.array)


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_a_folder_of_pictures_with_metadata(tmp_path: Path, name: str) -> None:
    """``imagefolder``: a folder for each split, the same names in all of them."""
    root, counts = tmp_path / "data", {"train": 6, "validation": 3, "test": 2}
    for part, count in counts.items():
        write_picture_table(root / part, count)
        rows = [[f"images/{image}.png", f"{said} {part}"] for image, said in own_rows(count)]
        (root / part / "captions.csv").unlink()
        if name.endswith("csv"):
            write_table(root / part / name, ["file_name", "text"], rows)
        else:
            write_jsonl(root / part / name, [{"file_name": a, "text": b} for a, b in rows])
    splits = check_pictures(read_splits(OWN, root))
    assert [len(getattr(splits, part).images) for part in PARTS] == [6, 3, 2]
    folders = {path.parts[-3] for path in splits.dev.images.paths}
    assert folders == {"validation"}
    assert splits.dev.captions[0].endswith("validation")


def test_pictures_inside_a_parquet_file(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = write_picture_table(tmp_path)
    expected = read_splits(replace(OWN, dev_share=0.2), table)
    content = [(tmp_path / "images" / f"{image}.png").read_bytes() for image, _ in own_rows()]
    captions = [said for _, said in own_rows()]
    pictures = [{"bytes": one, "path": "x.png"} for one in content]
    for column in (pictures, content):
        path = tmp_path / "stored.parquet"
        parquet.write_table(arrow.table({"image": column, "caption": captions}), path)
        splits = check_pictures(read_splits(OWN, path))
        assert sum(len(getattr(splits, part).captions) for part in PARTS) == len(captions)
        row = splits.train.captions.index(captions[40])
        same = expected.train.captions.index(captions[40])
        for source, at in ((splits.train, row), (expected.train, same)):
            images, kept = source.images.batch([int(source.image_of[at])], None)
            assert kept == [0]
            if source is splits.train:
                found = images
        assert torch.equal(found, images)
