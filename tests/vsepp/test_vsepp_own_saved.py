"""Folders in the layout of the ``datasets`` library, which pyarrow reads alone."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from own_data import own_rows, write_feature_table, write_picture_table
from test_vsepp_own import OWN, PARTS, all_pairs, expected_pairs
from vsepp.data.pairs import read_splits
from vsepp.data.picture_check import check_pictures
from vsepp.errors import InputError

arrow = pytest.importorskip("pyarrow")


def write_saved(folder: Path, columns: dict[str, list], files: int = 1) -> Path:
    """What ``Dataset.save_to_disk`` of datasets 5.2 writes: streams, and a state that names them."""
    folder.mkdir(parents=True)
    table, names = arrow.table(columns), []
    for one in range(files):
        names.append(f"data-{one:05d}-of-{files:05d}.arrow")
        first, last = (table.num_rows * number // files for number in (one, one + 1))
        with arrow.ipc.new_stream(str(folder / names[-1]), table.schema) as stream:
            stream.write_table(table.slice(first, last - first), max_chunksize=7)
    state = {"_data_files": [{"filename": name} for name in names], "_format_type": None}
    (folder / "state.json").write_text(json.dumps(state), encoding="utf-8")
    (folder / "dataset_info.json").write_text("{}", encoding="utf-8")
    return folder


def columns(rows: list[list[object]]) -> dict[str, list]:
    return {"feature": [image for image, _ in rows], "caption": [said for _, said in rows]}


def test_rows_of_one_folder_and_of_a_folder_for_each_split(tmp_path: Path) -> None:
    write_feature_table(tmp_path)
    rows, data = own_rows(), replace(OWN, features=str(tmp_path / "captions.npy"))
    write_saved(tmp_path / "saved", columns(rows), files=3)
    assert all_pairs(read_splits(data, tmp_path / "saved")) == expected_pairs()
    cut = next(row for row, (image, _) in enumerate(rows) if image == 20)
    write_saved(tmp_path / "parts" / "train", columns(rows[:cut]))
    write_saved(tmp_path / "parts" / "test", columns(rows[cut:]))
    (tmp_path / "parts" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    splits = read_splits(data, tmp_path / "parts")
    assert [len(getattr(splits, part).images) for part in PARTS] == [18, 2, 10]
    assert all_pairs(splits) == expected_pairs()


def test_pictures_inside(tmp_path: Path) -> None:
    table = write_picture_table(tmp_path, 12)
    content = [(tmp_path / "images" / f"{image}.png").read_bytes() for image in range(12)]
    stored = [{"bytes": one, "path": None} for one in content]
    captions = [[said for one, said in own_rows(12) if one == image] for image in range(12)]
    write_saved(tmp_path / "saved", {"image": stored, "caption": captions}, files=2)
    found = check_pictures(read_splits(OWN, tmp_path / "saved"))
    expected = read_splits(OWN, table)
    for splits in (found, expected):
        assert sum(len(getattr(splits, part).images) for part in PARTS) == 12
    said = found.train.captions[3]
    row = expected.train.captions.index(said)
    batches = (
        one.images.batch([int(one.image_of[at])], None)[0]
        for one, at in ((found.train, 3), (expected.train, row))
    )
    assert torch.equal(*batches)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("state.json", lambda _: '{"_data_files": [{"filename": "../x.arrow"}]}', "no name in this"),
        ("state.json", lambda _: '{"_data_files": [{"filename": "/etc/x"}]}', "no name in this"),
        ("state.json", lambda _: '{"_data_files": [{"filename": 3}]}', "expected text"),
        ("state.json", lambda _: '{"_data_files": []}', "names no files"),
        ("state.json", lambda _: '{"_data_files": [{}]}', "lacks filename"),
        ("state.json", lambda _: "[1]", "lacks|expected an object"),
        ("state.json", lambda text: text.replace("00001.arrow", "00007.arrow"), "no table at"),
        ("state.json", lambda text: text[:-1] + ', "_indices_data_files": [{}]}', "older layout"),
        ("dataset_dict.json", lambda _: '{"splits": [".."]}', "no name in this"),
        ("dataset_dict.json", lambda _: '{"splits": ["train", "train"]}', "something twice"),
        ("dataset_dict.json", lambda _: '{"splits": ["absent"]}', "no state of a data set at"),
        ("data-00000-of-00001.arrow", lambda _: "", "cannot be read as an Arrow stream .*empty"),
        ("data-00000-of-00001.arrow", lambda _: "PK\x03\x04 and so on", "zip archive"),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path: Path, file: str, change, message: str) -> None:
    folder = write_saved(tmp_path / "saved", columns(own_rows()))
    path = folder / file
    before = path.read_text() if path.suffix == ".json" and path.exists() else ""
    path.write_text(change(before))
    with pytest.raises(InputError, match=message) as refused:
        read_splits(OWN, folder)
    assert "\n" not in str(refused.value)


def test_flipped_bytes_are_refused_or_read(tmp_path: Path) -> None:
    """Offsets out of bounds are noticed before anything follows them."""
    write_feature_table(tmp_path)
    folder = write_saved(tmp_path / "saved", columns(own_rows()))
    data = replace(OWN, features=str(tmp_path / "captions.npy"))
    path = folder / "data-00000-of-00001.arrow"
    whole, refused = path.read_bytes(), 0
    for place in range(0, len(whole), len(whole) // 60):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xF0]) + whole[place + 1 :])
        try:
            read_splits(data, folder)
        except InputError:
            refused += 1
    assert refused > 10
