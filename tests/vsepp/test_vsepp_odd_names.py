"""Names of pictures and folders, in annotation files and lists of names: any that are written so on
the disk, none that lead out of the data.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from odd_inputs import (
    PRECOMP,
    RAW,
    Images,
    annotation,
    begin,
    change_images,
    images,
    on_image,
    refused,
)
from tiny_data import write_picture


def renamed(name: str, on_disk: str | None = None) -> Callable[[Path], object]:
    """The second image under another name, which may be written otherwise on the disk."""

    def change(root: Path) -> None:
        path = images(root) / (on_disk or name)
        path.parent.mkdir(parents=True, exist_ok=True)
        (images(root) / "0001.jpg").rename(path)
        change_images(root, on_image(filename=name))

    return change


def encoded(encoding: str) -> Callable[[Path], object]:
    def change(root: Path) -> None:
        content = json.dumps(json.loads(annotation(root).read_text()), ensure_ascii=False)
        annotation(root).write_bytes(content.replace("black bird", "blåck bird").encode(encoding))

    return change


FILES: dict[str, Callable[[Path], object]] = {
    "a byte order mark": encoded("utf-8-sig"),
    "UTF-16": encoded("utf-16"),
    "UTF-32": encoded("utf-32"),
    "a name with spaces": renamed("a  b.jpg"),
    "a name with accents": renamed("caf\u00e9 \u72d7 \U0001f415.jpg"),
    "a name with no-break space": renamed("a\u202fb.jpg"),
    "a name with a backslash": renamed("a\\b.jpg"),
    "a name with dots": renamed("a..b.jpg"),
    "a name with a dot in front": renamed("./0001.jpg"),
    "a name in capitals": renamed("0001.JPG"),
    "a name without ending": renamed("0001"),
    "a folder in the name": renamed("deep/er/0001.jpg"),
}
REFUSED: dict[str, tuple[Callable[[Images], object], str]] = {
    "filename is empty": (on_image(filename=""), r"image 1: '' is no name of a picture inside"),
    "filename is a folder": (on_image(filename="."), r"1 of 4 images .*\(there is a folder\)"),
    "filename is too long": (on_image(filename="x" * 300), r"1 of 4 images are missing"),
    "a zero in filename": (on_image(filename="a\0b.jpg"), r"'a.x00b\.jpg' is no name"),
    "a line feed in filename": (on_image(filename="a\nb.jpg"), r"'a.nb\.jpg' is no name"),
    "half a character in filename": (on_image(filename="\ud83d.jpg"), r"is no name of a picture"),
    "filepath is null": (on_image(filepath=None), r"filepath is null: expected text"),
    "filepath climbs": (on_image(filepath="../.."), r"'\.\./\.\.' is no name of a picture inside"),
    "filepath is absolute": (on_image(filepath="/etc"), r"'/etc' is no name of a picture inside"),
    "filename is absolute": (
        on_image(filename="/etc/passwd"),
        r"'/etc/passwd' is no name of a pic",
    ),
    "filename climbs": (
        on_image(filename="../images/0001.jpg"),
        r"'\.\./images/0001\.jpg' is no na",
    ),
    "filename climbs late": (on_image(filename="a/../../../x.jpg"), r"is no name of a picture"),
    "filename of Windows": (on_image(filename="C:\\x.jpg"), r"is no name of a picture inside"),
    "Windows climbs": (on_image(filename="..\\..\\x.jpg"), r"is no name of a picture inside"),
    "a share of Windows": (on_image(filename="\\\\host\\x.jpg"), r"is no name of a picture"),
}


@pytest.mark.parametrize("name", FILES)
def test_it_is_read_under_any_name_and_encoding(root: Path, name: str) -> None:
    FILES[name](root)
    train = begin(root, RAW).train
    assert len(train.captions) == 20
    assert train.images.paths[1].is_file()
    assert ("blåck bird" in str(train.captions)) == name.startswith(("UTF", "a byte"))


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused(root: Path, name: str) -> None:
    change, message = REFUSED[name]
    change_images(root, change)
    refused(root, RAW, message)


@pytest.mark.parametrize(
    ("on_disk", "message"),
    [
        ("café.JPG", r"missing, the first is .*\(there is 'café\.JPG', whose name differs in case"),
        ("cafe\u0301.jpg", r"missing, the first is .*whose name differs in case or accents"),
        ("other.jpg", r"1 of 4 images are missing, the first is .*café\.jpg: unpack"),
    ],
)
def test_a_missing_picture_is_told_with_what_is_there(
    root: Path, on_disk: str, message: str
) -> None:
    renamed("café.jpg", on_disk)(root)
    refused(root, RAW, message)


def test_links_inside_the_folders_are_followed(root: Path, tmp_path: Path) -> None:
    os.replace(images(root), tmp_path / "elsewhere")
    images(root).symlink_to(tmp_path / "elsewhere")
    (images(root) / "0001.jpg").rename(images(root) / "kept.jpg")
    (images(root) / "0001.jpg").symlink_to("kept.jpg")
    (images(root) / "0002.jpg").unlink()
    (images(root) / "0002.jpg").symlink_to(root / "shared.jpg")
    write_picture(root / "shared.jpg", 2)
    begin(root, RAW)


@pytest.mark.parametrize("how", ["a picture", "a folder", "two steps"])
def test_links_that_lead_out_are_refused(root: Path, tmp_path: Path, how: str) -> None:
    write_picture(tmp_path / "secret" / "private.jpg", 3)
    path = images(root) / "0001.jpg"
    path.unlink()
    if how == "a folder":
        (images(root) / "more").symlink_to(tmp_path / "secret")
        change_images(root, on_image(filename="more/private.jpg"))
    elif how == "two steps":
        (images(root) / "step").symlink_to(tmp_path / "secret" / "private.jpg")
        path.symlink_to("step")
    else:
        path.symlink_to(tmp_path / "secret" / "private.jpg")
    refused(root, RAW, r"links to .*private\.jpg, outside .*images: it is not read; copy")


def test_pictures_of_two_splits_are_told(root: Path) -> None:
    change_images(root, lambda rows: rows[7].update(filename="0001.jpg"))
    assert "1 pictures are in test too" in str(begin(root, RAW).train)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            b"a.jpg\nb\xe9.jpg\nc.jpg\nd.jpg\n",
            r"train_names\.txt, line 2: byte 2 is not UTF-8.*iconv",
        ),
        (b"a.jpg\n", r"train_names\.txt has 1 lines for 4 images"),
        (b"a.jpg\n/etc/passwd\nc\nd\n", r"line 2: '/etc/passwd' is no name .*relative"),
        (b"a.jpg\nb/../../../x\nc\nd\n", r"line 2: 'b/\.\./.* is no name of a picture inside"),
        (b"a.jpg\nC:\\x.jpg\nc\nd\n", r"line 2: 'C:.*is no name of a picture inside"),
        (b"a.jpg\n\nc\nd\n", r"line 2: '' is no name of a picture"),
        (b"a.jpg\nb\x07.jpg\nc\nd\n", r"line 2: 'b.x07\.jpg' is no name of a picture"),
        ("a.jpg\nb\n".encode("utf-16"), r"train_names\.txt is UTF-16 text"),
        (b"", r"train_names\.txt is empty"),
    ],
)
def test_names_of_images_are_checked(folder: Path, names: bytes, message: str) -> None:
    (folder.parent / "f8k" / "images").mkdir(parents=True)
    (folder / "train_names.txt").write_bytes(names)
    refused(folder.parent, PRECOMP, message)


@pytest.mark.parametrize("name", ["../f8k_precomp", "/etc", "..", "a/../../b"])
def test_a_folder_outside_the_data_is_refused(folder: Path, name: str) -> None:
    data = type(PRECOMP)(**{**vars(PRECOMP), "precomp": name})
    refused(folder.parent, data, r"--precomp is .*expected a folder inside --data")
