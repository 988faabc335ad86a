"""Feature arrays as users have them: read rightly, or refused in one line before a number is used;
nothing in them is run.
"""

import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from odd_inputs import (
    COUNTS,
    LARGE_FILE_POINTER,
    NO_FILES,
    PRECOMP,
    Change,
    Harmful,
    begin,
    features,
    refused,
)

ROWS = features()
REPEATED = np.repeat(ROWS, 5, axis=0)


def saved(array: np.ndarray, version: tuple[int, int] | None = None) -> Change:
    """Writes an array; object arrays are pickled, as numpy does by itself."""

    def change(path: Path) -> None:
        with path.open("wb") as stream:
            np.lib.format.write_array(stream, array, version, allow_pickle=True)

    return change


def header(text: str, content: bytes = b"\0" * 96, version: bytes = b"\x01\0") -> Change:
    """Writes an array's file with this header."""

    def change(path: Path) -> None:
        size = (len(text) + 1).to_bytes(2 if version[0] == 1 else 4, "little")
        path.write_bytes(b"\x93NUMPY" + version + size + text.encode() + b"\n" + content)

    return change


def cut(kept: int) -> Change:
    return lambda path: path.write_bytes(path.read_bytes()[:kept])


def extended(more: bytes) -> Change:
    return lambda path: path.write_bytes(path.read_bytes() + more)


def content(what: bytes) -> Change:
    return lambda path: path.write_bytes(what)


def zipped(path: Path) -> None:
    with path.open("wb") as stream:
        np.savez(stream, x=ROWS)


def as_tensor(path: Path) -> None:
    torch.save(torch.from_numpy(ROWS), path)


def moved(to: str, how: Change) -> Change:
    """Moves the file beside the folder of data sets, and puts a link there."""

    def change(path: Path) -> None:
        target = path.parent.parent.parent / to
        os.replace(path, target)
        how(path, target)

    return change


def with_value(value: float, kind: str = "f4") -> np.ndarray:
    rows = ROWS.astype(kind)
    rows[2, 3] = value
    return rows


NATIVE = "{'descr': '<f4', 'fortran_order': False, 'shape': (%s), }"
BYTES = ROWS.tobytes()
READ = {
    "float32": saved(ROWS),
    "float64": saved(ROWS.astype("f8")),
    "long double": saved(ROWS.astype(np.longdouble)),
    "big end first": saved(ROWS.astype(">f4")),
    "columns first": saved(np.asfortranarray(ROWS)),
    "a view with steps": saved(np.repeat(ROWS, 2, axis=1)[:, ::2]),
    "format 2": saved(ROWS, (2, 0)),
    "header of Python 2": header(NATIVE % "4L, 6L", BYTES),
    "rows repeated": saved(REPEATED),
    "rows repeated, columns first": saved(np.asfortranarray(REPEATED)),
    "a link": moved("there.npy", lambda path, target: path.symlink_to(target)),
    "a hard link": moved("there.npy", lambda path, target: path.hardlink_to(target)),
    "read only": lambda path: path.chmod(0o400),
}
LOOSE = {
    "float16": saved(ROWS.astype("f2")),
    "a zero row": saved(np.concatenate([ROWS[:3], 0 * ROWS[3:]])),
    "a denormal row": saved(np.concatenate([ROWS[:3], 1e-40 * ROWS[3:]]).astype("f4")),
    "minus zero": saved(with_value(-0.0)),
    "large": saved(with_value(1e12)),
}
REFUSED = {
    "whole numbers": (saved(ROWS.astype(int)), r"is int64 \(4, 6\): expected floats"),
    "bytes of pixels": (saved(np.zeros((4, 8, 8, 3), "u1")), r"uint8 \(4, 8, 8, 3\): expected"),
    "truth values": (saved(ROWS > 0), r"is bool \(4, 6\): expected floats"),
    "complex": (saved(ROWS.astype(complex)), r"is complex128 .*expected floats"),
    "texts": (saved(ROWS.astype(str)), r"is <U\d+ .*expected floats"),
    "byte texts": (saved(ROWS.astype("S4")), r"is \|S4 .*expected floats"),
    "dates": (saved(ROWS.astype(int).astype("M8[s]")), r"datetime64\[s\] .*expected floats"),
    "objects": (saved(ROWS.astype(object)), r"holds Python objects .*a pickle may run code"),
    "bfloat16 in numpy": (saved(ROWS.astype("f2").view("V2")), r"has dtype \|V2: expected plain"),
    "fields": (saved(np.zeros(4, "f4,f4")), r"has dtype .*expected plain numbers"),
    "named fields": (saved(np.zeros(4, [("é", "f4")]), (3, 0)), r"format 3.0 is for structured"),
    "a number": (saved(np.float32(3)[()] * np.ones(())), r"float64 \(\): expected floats"),
    "one row of numbers": (saved(ROWS[0]), r"float32 \(6,\): expected floats, images x width"),
    "four dimensions": (saved(ROWS[:, None, None]), r"\(4, 1, 1, 6\): expected floats"),
    "no rows": (saved(ROWS[:0]), r"float32 \(0, 6\): it holds no numbers"),
    "no width": (saved(ROWS[:, :0]), r"float32 \(4, 0\): it holds no numbers"),
    "NaN": (saved(with_value(np.nan)), r"row 2 holds NaN or infinity \(1 of 6"),
    "infinity": (saved(with_value(-np.inf)), r"row 2 holds NaN or infinity"),
    "half infinity": (saved(with_value(np.inf, "f2")), r"row 2 holds NaN or infinity"),
    "beyond float32": (
        saved(with_value(1e300, "f8")),
        r"row 2 holds numbers as large as 1.0e\+300",
    ),
    "overflow in a norm": (saved(with_value(-1e30)), r"row 2 holds numbers as large as 1.0e\+30"),
    "only zeros": (saved(0 * ROWS), r"holds only zeros: extract"),
    "one row throughout": (saved(0 * ROWS + 1), r"the same numbers in all 4 rows"),
    "another width": (
        saved(features(4, 7)),
        r"dev_ims\.npy is \(2, 6\), but train_ims\.npy \(4, 7",
    ),
    "regions here only": (saved(np.repeat(ROWS[:, None], 2, 1)), r"dev_ims\.npy is \(2, 6\), but"),
    "a row too few": (saved(ROWS[:3]), r"has 3 rows and .*train_caps\.txt 20 captions: expected"),
    "a row too many": (saved(features(5)), r"has 5 rows and .*20 captions"),
    "repeated, one lacking": (saved(REPEATED[:-1]), r"has 19 rows and .*20 captions"),
    "cut in the numbers": (
        cut(150),
        r"cannot be read \(it declares .*96 bytes, and holds 22\): it",
    ),
    "one byte lost": (cut(-1), r"declares float32 \(4, 6\), 96 bytes, and holds 95\): it is trunc"),
    "cut in the header": (cut(40), r"cannot be read .*truncated or no .npy"),
    "cut in the magic": (cut(4), r"is of an unknown kind .*expected features as a numpy array"),
    "only the magic": (cut(6), r"cannot be read .*truncated or no .npy"),
    "nothing": (cut(0), r"train_ims\.npy is empty \(0 bytes\): expected features as a numpy"),
    "a byte too many": (extended(b"\0"), r"96 bytes, and holds 97: it is damaged, or two arrays"),
    "two arrays": (lambda path: extended(path.read_bytes())(path), r"two arrays were saved"),
    "a negative shape": (header(NATIVE % "-4, 6"), r"\(-4, 6\).*truncated"),
    "both negative": (header(NATIVE % "-4, -6"), r"\(-4, -6\).*truncated"),
    "a petabyte": (header(NATIVE % f"{10**9}, {10**6}"), r"bytes, and holds 96\): it is truncated"),
    "beyond any memory": (header(NATIVE % f"{10**40}, 6"), r"holds 96\): it is truncated"),
    "a header that would run": (
        header("__import__('os').system('touch harm')"),
        r"cannot be read .*no .npy",
    ),
    "a header without shape": (header("{'descr': '<f4', 'fortran_order': False}"), r"cannot be re"),
    "a header of another type": (header("[1, 2]"), r"cannot be read"),
    "a deep header": (header("[" * 9_000), r"cannot be read"),
    "a long header": (header("0" * 60_000), r"cannot be read"),
    "an unknown dtype": (header(NATIVE.replace("<f4", "<q9") % "4, 6"), r"cannot be read"),
    "format 9": (header(NATIVE % "4, 6", BYTES, b"\x09\0"), r"cannot be read \(.*9"),
    "an archive": (zipped, r"is a zip archive \(.npz, .pth, .zip\): unpack it: expected features"),
    "a tensor": (as_tensor, r"is a zip archive"),
    "a text": (content(b"0.1 0.2\n0.3 0.4\n"), r"is text that begins '0.1 0.2"),
    "a JPEG picture": (content(b"\xff\xd8\xff\xe0" + bytes(99)), r"is a JPEG picture: expected"),
    "HDF5": (content(b"\x89HDF\r\n\x1a\n" + bytes(99)), r"is an HDF5 file: expected features"),
    "Git's pointer": (content(LARGE_FILE_POINTER.encode()), r"Git LFS pointer.*git lfs pull"),
    "a web page": (content(b"\n<!DOCTYPE html><html>"), r"is a web page: the download went wrong"),
}


@pytest.mark.parametrize("name", READ)
def test_it_is_read_rightly(folder: Path, name: str) -> None:
    READ[name](folder / "train_ims.npy")
    train = begin(folder.parent, PRECOMP).train
    assert len(train.images) == COUNTS["train"]
    assert train.image_of.tolist() == [image for image in range(4) for _ in range(5)]
    read, _ = train.images.batch(range(4), None)
    torch.testing.assert_close(read.reshape(4, -1), torch.from_numpy(ROWS), rtol=0, atol=0)
    assert train.notes == ()


@pytest.mark.parametrize("name", LOOSE)
def test_it_is_read_with_what_there_is_to_say(folder: Path, name: str) -> None:
    LOOSE[name](folder / "train_ims.npy")
    train = begin(folder.parent, PRECOMP).train
    read, _ = train.images.batch([0, 1], None)
    torch.testing.assert_close(read, torch.from_numpy(ROWS[:2]), rtol=1e-3, atol=1e-3)
    zero = "1 of 4 rows hold only zeros"
    assert train.notes == ((zero,) if name in ("a zero row", "a denormal row") else ())


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused(folder: Path, name: str) -> None:
    change, message = REFUSED[name]
    change(folder / "train_ims.npy")
    refused(folder.parent, PRECOMP, message)
    assert not Path("harm").exists()


@pytest.mark.parametrize("name", NO_FILES)
def test_it_is_no_array(folder: Path, name: str) -> None:
    change, message = NO_FILES[name]
    change(folder / "train_ims.npy")
    refused(folder.parent, PRECOMP, message.format(what="features", file=r"train_ims\.npy"))
    assert not (folder / "harm").exists()


def test_objects_are_not_unpickled(folder: Path, tmp_path: Path) -> None:
    rows = np.empty((4, 6), dtype=object)
    rows[:] = Harmful(tmp_path / "harm")
    saved(rows)(folder / "train_ims.npy")
    refused(folder.parent, PRECOMP, "holds Python objects")
    assert not (tmp_path / "harm").exists()
    np.load(io.BytesIO((folder / "train_ims.npy").read_bytes()), allow_pickle=True)
    assert (tmp_path / "harm").exists()  # it does run where pickles are allowed


@pytest.mark.parametrize("times", [1, 5])
def test_regions_are_read(folder: Path, times: int) -> None:
    for part, count in COUNTS.items():
        regions = np.stack([features(count), features(count) + 1], axis=1)
        np.save(folder / f"{part}_ims.npy", np.repeat(regions, times, axis=0))
    train = begin(folder.parent, PRECOMP).train
    read, _ = train.images.batch([3], None)
    torch.testing.assert_close(read, torch.from_numpy(np.stack([ROWS[3], ROWS[3] + 1])[None]))
    assert len(train.images) == COUNTS["train"]


def test_rows_that_repeat_but_for_one_are_told(folder: Path) -> None:
    rows = REPEATED.copy()
    rows[1] += 1
    saved(rows)(folder / "train_ims.npy")
    train = begin(folder.parent, PRECOMP).train
    assert len(train.images) == 20
    assert "3 of 4 groups of 5 rows are repeated, not all" in str(train)


@pytest.mark.parametrize("part", ["dev", "test"])
@pytest.mark.parametrize(
    ("array", "message"),
    [
        (features(3, 7), r"_ims\.npy is \(3, 7\), but train_ims\.npy \(4, 6\): expected features"),
        (np.full((3, 6), np.nan, "f4"), r"_ims\.npy(, row 0 holds NaN| has 3 rows)"),
        (features(1), r"_ims\.npy has 1 rows and"),
    ],
)
def test_every_split_is_looked_at(folder: Path, part: str, array: np.ndarray, message: str) -> None:
    np.save(folder / f"{part}_ims.npy", array)
    refused(folder.parent, PRECOMP, part + message)
