"""Karpathy's annotation files with everything that may be odd in them, and names that lead
elsewhere.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from odd_inputs import (
    COUNTS,
    LARGE_FILE_POINTER,
    NO_FILES,
    RAW,
    Images,
    annotation,
    begin,
    change_images,
    on_image,
    refused,
)


def on_sentence(**values: Any) -> Callable[[Images], object]:
    return lambda rows: rows[1]["sentences"][2].update(values)


def without(name: str) -> Callable[[Images], object]:
    return lambda rows: rows[1].pop(name)


def tokens_only(rows: Images) -> None:
    for row in rows:
        for sentence in row["sentences"]:
            sentence["tokens"] = sentence.pop("raw").split()


def only_texts(rows: Images) -> None:
    for row in rows:
        row["sentences"] = [sentence["raw"] for sentence in row["sentences"]]


def without_sentids(rows: Images) -> None:
    for row in rows:
        row["cocoid"] = 7
        for sentence in row["sentences"]:
            sentence.pop("sentid")


def named_dev(rows: Images) -> None:
    for row in rows:
        row["split"] = {"val": "dev"}.get(row["split"], row["split"])


CHANGES: dict[str, Callable[[Images], object]] = {
    "tokens, no raw": tokens_only,
    "sentences are texts": only_texts,
    "dev instead of val": named_dev,
    "a sixth sentence": lambda rows: rows[1]["sentences"].append({"raw": "six"}),
    "raw and broken tokens": on_sentence(tokens=None),
    "spaces around": on_sentence(raw="  The green cat runs\n"),
    "a cocoid without sentids": without_sentids,
    "a cocoid of null": on_image(cocoid=None),
    "an endless cocoid": on_image(cocoid=10**300),
    "other fields": on_image(extra={"deep": [1, {"x": None}]}),
    "an unused split": lambda rows: rows.append({**rows[0], "split": "unused"}),
    "splits mixed": lambda rows: rows.reverse() or rows.reverse(),
}
REFUSED: dict[str, tuple[Callable[[Images], object], str]] = {
    "raw is null": (on_sentence(raw=None), r"image 1, sentence 2: raw is null: expected text"),
    "raw is a number": (on_sentence(raw=5), r"sentence 2: raw is 5: expected text"),
    "raw is a list": (on_sentence(raw=["a"]), r'sentence 2: raw is \["a"\]: expected text'),
    "raw is empty": (on_sentence(raw=""), r"\(train\): caption 8 \(of image 2\) is empty"),
    "half a character": (on_sentence(raw="a \ud83d dog"), r"caption 8 .*half of a character"),
    "a sentence is null": (
        lambda rows: rows[1]["sentences"].insert(0, None),
        r"sentence 0 is null: expected an object",
    ),
    "a sentence is a number": (
        lambda rows: rows[1]["sentences"].insert(0, 7),
        r"sentence 0 is 7: expected an object",
    ),
    "a sentence is empty": (
        lambda rows: rows[1]["sentences"].insert(0, {}),
        r"image 1, sentence 0 lacks raw",
    ),
    "tokens are null": (
        lambda rows: rows[1]["sentences"].insert(0, {"tokens": None}),
        r"sentence 0: tokens is null: expected a list",
    ),
    "a token is null": (
        lambda rows: rows[1]["sentences"].insert(0, {"tokens": ["a", None]}),
        r"sentence 0: a token is null: expected text",
    ),
    "no tokens": (
        lambda rows: rows[1]["sentences"].insert(0, {"tokens": []}),
        r"caption 6 \(of image 2\) is empty",
    ),
    "sentences are null": (on_image(sentences=None), r"image 1: sentences is null: expected a li"),
    "sentences are one text": (on_image(sentences="a dog"), r"sentences is .a dog.: expected a li"),
    "sentences are an object": (on_image(sentences={"raw": "a"}), r"sentences is .*expected a li"),
    "no sentences": (on_image(sentences=[]), r"0001\.jpg has no sentences"),
    "sentences missing": (without("sentences"), r"image 1 lacks sentences"),
    "split missing": (without("split"), r"image 1 lacks split"),
    "split is a list": (on_image(split=["train"]), r'split is \["train"\]: expected text'),
    "split is null": (on_image(split=None), r"image 1: split is null: expected text"),
    "filename missing": (without("filename"), r"image 1 lacks filename"),
    "filename is a number": (on_image(filename=5), r"filename is 5: expected text"),
    "filename is null": (on_image(filename=None), r"filename is null: expected text"),
    "an image is null": (lambda rows: rows.insert(1, None), r"image 1 is null: expected an object"),
    "an image is a list": (lambda rows: rows.insert(1, []), r"image 1 is \[\]: expected an object"),
    "an image is a name": (lambda rows: rows.insert(1, "a"), r'image 1 is "a": expected an object'),
    "no images": (lambda rows: rows.clear(), r"has no list `images`: expected Karpathy's"),
    "no test": (
        lambda rows: rows.__delitem__(slice(6, 9)),
        r"no images of split test: is it compl",
    ),
    "no dev": (lambda rows: rows.__delitem__(slice(4, 6)), r"split dev: .*It has train, test"),
    "val and dev": (on_image(split="dev"), r"has both a split val and a split dev"),
    "other names of splits": (
        lambda rows: [row.update(split=row["split"].upper()) for row in rows],
        r"no images of split train, dev, test: .*It has TRAIN, VAL, TEST; expected train",
    ),
    "captions of another language": (
        lambda rows: (
            [one.update(raw="狗") for one in rows[-1]["sentences"]]
            and [one.update(raw="猫") for row in rows[6:8] for one in row["sentences"]]
        ),
        r"\(test\): no caption holds a word of the vocabulary",
    ),
}
WHOLE = '{"images": [{"split": "train", "filename": "a", "sentences": [{"raw": "a"}], %s}]}'
CONTENTS: dict[str, tuple[str | bytes, str]] = {
    "nothing": ("", r"is not complete JSON .*it is empty \(0 bytes\)"),
    "cut off": ('{"images": [{"split": "tr', r"is not complete JSON .*it is truncated"),
    "two documents": ("{}{}", r"is not complete JSON \(Extra data"),
    "a list": ("[1]", r"has no list `images`"),
    "null": ("null", r"has no list `images`"),
    "a number": ("1e999", r"has no list `images`"),
    "images is null": ('{"images": null}', r"has no list `images`"),
    "images is an object": ('{"images": {"a": 1}}', r"images is .*expected a list"),
    "images is a text": ('{"images": "all"}', r'images is "all": expected a list'),
    "a key twice": ('{"images": [], "images": [1]}', r"has the key 'images' twice"),
    "a deep key twice": (WHOLE % '"split": "test"', r"has the key 'split' twice"),
    "an endless number": (WHOLE % f'"imgid": {"9" * 5_000}', r"is not JSON as expected .*limit"),
    "endless nesting": ("[" * 200_000, r"is not JSON as expected|is not complete JSON"),
    "Latin-1": ('{"images": "é"}'.encode("latin-1"), r"byte 13 is not UTF-8: convert .*iconv"),
    "comments": (
        '// ours\n{"images": []}',
        r"is not complete JSON .*it is text that begins '// ou",
    ),
    "Python": ("{'images': []}", r"is not complete JSON"),
    "a web page": ("<!doctype html>", r"it is a web page: the download went wrong"),
    "Git's pointer": (LARGE_FILE_POINTER, r"it is a Git LFS pointer"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_it_is_read(root: Path, name: str) -> None:
    before = begin(root, RAW)
    change_images(root, CHANGES[name])
    after = begin(root, RAW)
    for part in COUNTS:
        assert getattr(after, part).captions == getattr(before, part).captions
        assert getattr(after, part).images.paths == getattr(before, part).images.paths
        assert getattr(after, part).image_keys == ()


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused(root: Path, name: str) -> None:
    change, message = REFUSED[name]
    change_images(root, change)
    refused(root, RAW, message)


@pytest.mark.parametrize("name", CONTENTS)
def test_it_is_no_annotation_file(root: Path, name: str) -> None:
    content, message = CONTENTS[name]
    annotation(root).write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(root, RAW, message)


@pytest.mark.parametrize("name", NO_FILES)
def test_it_is_no_file_of_annotations(root: Path, name: str) -> None:
    change, message = NO_FILES[name]
    change(annotation(root))
    told = message.format(what="annotation file", file=r"dataset_flickr8k\.json")
    if name in ("compressed", "a pickle"):
        told = r"dataset_flickr8k\.json: byte \d is not UTF-8"
    refused(root, RAW, told)
    assert not (root / "f8k" / "harm").exists()


def test_restval_belongs_to_coco(root: Path) -> None:
    data = type(RAW)(**{**vars(RAW), "restval": True})
    refused(root, data, r"--restval: .* only COCO has one")
