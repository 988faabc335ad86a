"""What cannot be used of a user's own data is refused in a line that says where it stands."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from own_data import own_features, own_rows, write_feature_table, write_picture_table, write_table
from vsepp.data.pairs import read_splits
from vsepp.data.picture_check import check_pictures
from vsepp.errors import InputError
from vsepp.settings import Data

OWN = Data("own", threshold=1, tokenizer="regex", image_size=16)
HEADER = ["feature", "caption", "split"]


def refusal(place: Path | None, data: Data = OWN) -> str:
    with pytest.raises(InputError) as refused:
        check_pictures(read_splits(data, place))
    assert "\n" not in str(refused.value)
    return str(refused.value)


def spoilt(folder: Path, row: int, column: int, value: object, header=HEADER) -> Path:
    """A table of features with one field changed; the row's line is ``row + 2``."""
    write_feature_table(folder)
    rows = [[image, said, "test" if image < 5 else "train"] for image, said in own_rows()]
    rows[row][column] = value
    return write_table(folder / "captions.csv", header, rows)


FIELDS = [
    (7, 1, "", "line 9: the caption is empty"),
    (7, 1, "  ", "line 9: the caption is empty"),
    (7, 2, "trian", "line 9: the split is 'trian': expected train, dev (or val, validation)"),
    (1, 2, "train", "line 4: the image '1' is in test, and in train at "),
    (7, 0, "30", "line 9: the feature is row 30, and "),
    (7, 0, "-1", "line 9: the feature is '-1': expected the number of a row"),
    (7, 0, "3.0", "line 9: the feature is '3.0': expected the number of a row"),
    (7, 0, "9" * 40, "line 9: the feature is row 99"),
    (7, 0, "\u0663", "line 9: the feature is "),
]


@pytest.mark.parametrize(("row", "column", "value", "message"), FIELDS)
def test_fields(tmp_path: Path, row: int, column: int, value: object, message: str) -> None:
    assert message in refusal(spoilt(tmp_path, row, column, value))


@pytest.mark.parametrize(("options", "message"), [
    ({"image_column": "photo"}, "no column 'photo' (--image-column): it has the columns 'feature',"),
    ({"caption_column": "photo"}, "no column 'photo' (--caption-column)"),
    ({"mirror": True}, "--mirror is for other data sets"),
    ({"restval": True}, "--restval is for other data sets"),
    ({"features": "nowhere.npy"}, "no features at nowhere.npy"),
])  # fmt: skip
def test_options(tmp_path: Path, options: dict, message: str) -> None:
    assert message in refusal(write_feature_table(tmp_path), replace(OWN, **options))


def test_columns_that_are_missing(tmp_path: Path) -> None:
    table = write_table(tmp_path / "a.csv", ["photo", "caption"], [["1.jpg", "a dog"]])
    assert "no column of images: it has the columns 'photo', 'caption'; name it by" in refusal(
        table
    )
    table = write_table(tmp_path / "a.csv", ["image", "said"], [["1.jpg", "a dog"]])
    assert "no column of captions" in refusal(table)
    table = write_table(tmp_path / "a.csv", ["image", "image"], [["1.jpg", "a dog"]])
    assert 'names the column "image" twice' in refusal(table)
    assert "holds no rows" in refusal(write_table(tmp_path / "a.csv", ["image", "caption"], []))


CONTENTS = [
    ("a.csv", b"image,caption\n1.jpg,a caf\xe9\n", "line 2: byte 12 is not UTF-8"),
    ("a.csv", b"image,caption\n1.jpg,a dog, running\n", "line 2 has 3 fields, the header 2"),
    ("a.csv", b'image,caption\n1.jpg,"a dog\n', "is no CSV (unexpected end of data)"),
    ("a.csv", b"", "is empty"),
    ("a.csv", "image,caption\n".encode("utf-16"), "UTF-16"),
    ("a.csv", b"image,caption\n1.jpg,a\0dog\n", "holds zero bytes"),
    ("a.jsonl", b'{"image": "1.jpg", "caption": "a"}\n{"image": ', "line 2 is not JSON"),
    ("a.jsonl", b'["1.jpg", "a dog"]\n', "line 1 is [\"1.jpg\", \"a dog\"]: expected an object"),
    ("a.jsonl", b'{"image": 1.5, "caption": "a"}\n', "line 1: the image is 1.5"),
    ("a.jsonl", b'{"image": "1.jpg", "caption": 7}\n', "line 1: the caption is 7"),
    ("a.jsonl", b'{"image": "1.jpg"}\n{"caption": "a"}\n', "line 2: the image is None"),
    ("a.jsonl", b'{"feature": [1, NaN], "caption": "a"}\n{"feature": [1, 2], "caption": "b"}\n'
     b'{"feature": [3, 2], "caption": "b"}\n', "line 1: the feature holds NaN or infinity"),
    ("a.jsonl", b"".join(b'{"feature": [%d, 1e999], "caption": "a"}\n' % i for i in range(3)), "NaN or infinity"),
    ("a.jsonl", b'{"feature": [1, "x"], "caption": "a"}\n', "expected a list of numbers"),
    ("a.jsonl", b'{"feature": [1, 1' + b"0" * 400 + b'], "caption": "a"}\n', "a list of numbers"),
    ("a.jsonl", b'{"feature": [1], "caption": "a"}\n{"feature": [1, 2], "caption": "a"}\n'
     b'{"feature": [3], "caption": "a"}\n', "line 2: the feature is 2 numbers, and 1 numbers at"),
    ("a.parquet", b"PAR1 and no more", "cannot be read as parquet"),
    ("a.parquet", b"", "cannot be read as parquet"),
    ("a.xlsx", b"PK\3\4", "ends in .xlsx: expected .csv, .tsv, .jsonl, .parquet"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "message"), CONTENTS)
def test_files(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    (tmp_path / name).write_bytes(content)
    assert message in refusal(tmp_path / name)


def test_places(tmp_path: Path) -> None:
    assert "your own data need --data, a table" in refusal(None)
    assert f"no table at {tmp_path / 'x.csv'}" in refusal(tmp_path / "x.csv")
    assert "has no file metadata.csv" in refusal(tmp_path)
    for name in ("metadata.csv", "metadata.jsonl"):
        (tmp_path / name).write_text("file_name,text\n")
    assert "has several files metadata.csv" in refusal(tmp_path)


def test_too_few_images(tmp_path: Path) -> None:
    assert "which leaves none to train on" in refusal(write_feature_table(tmp_path, images=2))


def test_only_dev_and_test(tmp_path: Path) -> None:
    write_feature_table(tmp_path)
    rows = [[image, said, "val"] for image, said in own_rows()]
    table = write_table(tmp_path / "captions.csv", HEADER, rows)
    assert "no row of split train: it has dev" in refusal(table)


def test_features_that_cannot_be_trained_on(tmp_path: Path) -> None:
    table, features = write_feature_table(tmp_path), own_features()
    features[4, 2] = np.nan
    np.save(tmp_path / "captions.npy", features)
    assert "captions.npy, row 4 holds NaN or infinity" in refusal(table)
    np.save(tmp_path / "captions.npy", np.ones((30, 4), np.float32))
    assert "holds the same numbers in all 30 rows" in refusal(table)
    np.save(tmp_path / "captions.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert "a pickle may run code" in refusal(table)


def test_rows_that_differ_about_an_image(tmp_path: Path) -> None:
    write_feature_table(tmp_path)
    rows = [[image, f"photo {image}", said] for image, said in own_rows()]
    rows[2][0] = 7
    table = write_table(tmp_path / "captions.csv", ["feature", "image", "caption"], rows)
    assert "the image 'photo 1' has other features than at" in refusal(table)


def test_pictures_that_are_missing_or_lead_out(tmp_path: Path) -> None:
    table = write_picture_table(tmp_path / "mine")
    (tmp_path / "mine" / "images" / "7.png").unlink()
    assert "1 of " in (said := refusal(table))
    assert "7.png" in said
    assert "--images" in said
    (tmp_path / "secret.png").write_bytes((tmp_path / "mine" / "images" / "8.png").read_bytes())
    (tmp_path / "mine" / "images" / "7.png").symlink_to(tmp_path / "secret.png")
    assert "outside" in refusal(table)
    write_table(
        table, ["image", "caption"], [["x" * 300 + ".png", "a"], ["2.png", "b"], ["3.png", "c"]]
    )
    assert "images are missing" in refusal(table)
    for name in ("../../secret.png", str(tmp_path / "secret.png"), "..\\secret.png"):
        write_table(table, ["image", "caption"], [["1.png", "a"], [name, "b"], ["2.png", "c"]])
        assert "line 3" in (said := refusal(table))
        assert "expected a relative name" in said


def test_a_broken_picture_inside_a_table(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    write_picture_table(tmp_path)
    content = [(tmp_path / "images" / f"{image}.png").read_bytes() for image, _ in own_rows()]
    captions = [said for _, said in own_rows()]

    def written(row: int, value: bytes | None) -> Path:
        changed = [*content[:row], value, *content[row + 1 :]]
        table = arrow.table({"image": changed, "caption": captions})
        parquet.write_table(table, tmp_path / "stored.parquet")
        return tmp_path / "stored.parquet"

    said = refusal(written(9, content[9][:60]))
    assert "column image, row 9 cannot be decoded" in said
    assert "--skip-corrupt" in said
    splits = check_pictures(read_splits(replace(OWN, skip_corrupt=True), written(9, b"%PDF-1")))
    assert "1 of " in str(splits.train) + str(splits.dev) + str(splits.test)
    assert "row 9: the table does not hold the picture" in refusal(written(9, None))


def test_parquet_features_of_several_lengths(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    for features in ([[1.0, 2.0], [1.0]], [[1.0, None], [1.0, 2.0]], [[1.0], None], [[], []],
                     [[[1.0]], [[2.0]]]):  # fmt: skip
        table = arrow.table({"feature": features, "caption": ["a", "b"]})
        parquet.write_table(table, tmp_path / "a.parquet")
        assert "expected features, as many numbers in every row" in refusal(tmp_path / "a.parquet")
    table = arrow.table({"image": [1.5, 2.5], "caption": ["a", "b"]})
    parquet.write_table(table, tmp_path / "a.parquet")
    assert "column image holds double: expected texts" in refusal(tmp_path / "a.parquet")
