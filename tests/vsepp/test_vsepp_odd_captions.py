"""Caption files as users have them: read as they mean, or refused in one line, never trained on
as they are.
"""

import json
from pathlib import Path

import pytest

from odd_inputs import (
    COUNTS,
    LARGE_FILE_POINTER,
    LINES,
    NO_FILES,
    PRECOMP,
    begin,
    lines_of,
    refused,
    write_folder,
    write_text,
)

NAMES = [f"10{number // 5}_ab.jpg" for number in range(len(LINES))]
NUMBERED = list(enumerate(LINES))
TOKENS = [line.split() for line in LINES]


def replaced(number: int, line: str) -> list[str]:
    return [*LINES[:number], line, *LINES[number + 1 :]]


PLAIN = {
    "plain": LINES,
    "without a last line feed": "\n".join(LINES),
    "blank lines at the end": [*LINES, "", "  ", ""],
    "CRLF": "\r\n".join(LINES) + "\r\n",
    "old Mac line ends": "\r".join(LINES) + "\r",
    "a byte order mark": b"\xef\xbb\xbf" + "\n".join(LINES).encode(),
    "spaces around": [f"  {line} \t " for line in LINES],
}
FORMS = {
    "bytes, single quotes": [repr(line.encode()) for line in LINES],
    "bytes, double quotes": [f'b"{line}"' for line in LINES],
    "bytes with their line feed": [repr(f"{line}\n".encode()) for line in LINES],
    "text of Python 2": [f"u{line!r}" for line in LINES],
    "token lists": [repr(words) for words in TOKENS],
    "token lists in JSON": [json.dumps(words) for words in TOKENS],
    "token lists of bytes": [repr([word.encode() for word in words]) for words in TOKENS],
    "token tuples": [repr(tuple(words)) for words in TOKENS],
    "JSON strings": [json.dumps(line) for line in LINES],
    "single quotes": [f"'{line}'" for line in LINES],
    "image ids": [f"{number // 5}\t{line}" for number, line in NUMBERED],
    "caption ids": [f"{number + 1000}\t{line}" for number, line in NUMBERED],
    "Flickr's names#k": [f"{NAMES[j]}#{j % 5}\t{line}" for j, line in NUMBERED],
    "name, number, caption": [f"{NAMES[j]}\t{j % 5}\t{line}" for j, line in NUMBERED],
    "name,caption": [f"{NAMES[j]},{line}" for j, line in NUMBERED],
    "name,quoted caption": [f'{NAMES[j]},"{line}"' for j, line in NUMBERED],
    "name| number| caption": [f"{NAMES[j]}| {j % 5}| {line}" for j, line in NUMBERED],
    "ids and bytes": [f"{j}\t{line.encode()!r}" for j, line in NUMBERED],
}
REFUSED = {
    "empty": (b"", r"train_caps\.txt is empty"),
    "only line ends": ("\n\r\n\n", r"train_caps\.txt is empty"),
    "a blank line": (replaced(3, ""), r"line 4: the caption is empty"),
    "a line of spaces": (replaced(3, " \t "), r"line 4: the caption is empty"),
    "a line of no-break spaces": (replaced(3, "\u00a0\u3000"), r"line 4: the caption is empty"),
    "Latin-1": ("\n".join(replaced(6, "a café")).encode("latin-1"), r"line 7: byte 6 .*iconv"),
    "Windows quotes": ("\n".join(replaced(6, "a “dog”")).encode("cp1252"), r"line 7: byte 3"),
    "half a character": (replaced(0, "x")[0].encode() + b"\xed\xa0\xbd\n", r"line 1: byte 2 is"),
    "UTF-16": ("\n".join(LINES).encode("utf-16"), r"is UTF-16 text: .*iconv"),
    "UTF-16, big end first": (b"\xfe\xff" + "\n".join(LINES).encode("utf-16-be"), r"is UTF-16"),
    "UTF-16 without a mark": ("\n".join(LINES).encode("utf-16-le"), r"zero bytes: .*UTF-16"),
    "a zero byte": (replaced(2, "a \0 dog"), r"holds zero bytes"),
    "Git's pointer": (LARGE_FILE_POINTER, r"4 rows and .*3 captions"),
    "a web page": ("<!DOCTYPE html>\n<html>404</html>", r"4 rows and .*2 captions"),
    "a JSON list": (json.dumps(LINES), r"4 rows and .*1 captions"),
    "JSON objects": ([json.dumps({"caption": one}) for one in LINES], r"holds JSON objects"),
    "lists of numbers": ([str([1, 7, 2])] * 20, r"holds numbers or signs alone \('\[1, 7, 2\]'"),
    "numbers": (["4 17 2"] * 20, r"holds numbers"),
    "words as numpy prints them": (["['a' 'dog']"] * 20, r"holds lists of tokens"),
    "two captions a line": ([f"{one}\t{one}" for one in LINES], r"fields separated by tabs"),
    "bytes in one line": (replaced(5, "b'a dog'"), r"1 of 20 lines is .*line 6 is \"b'a dog'\""),
    "bytes but in one line": (
        [repr(one.encode()) for one in LINES[:-1]] + ["a dog"],
        r"19 of 20 lines are .*bytes.*line 20 is not: 'a dog'",
    ),
    "tokens in one line": (replaced(5, "['a', 'dog']"), r"lists of tokens, but line 6 is"),
    "bytes of no UTF-8": ([r"b'caf\xe9'"] * 20, r"text of Python bytes"),
    "broken bytes": ([*[repr(one.encode()) for one in LINES[1:]], "b'a' + b'c'"], r"line 20"),
    "empty bytes": (["b''", *[repr(b"a dog")] * 19], r"line 1: .*empty"),
    "a heading": (["image,caption", *FORMS["name,caption"][1:]], r"line 1 is not: 'image,caption'"),
    "an id without caption": ([*FORMS["image ids"][:-1], "3\t"], r"line 20 is not: '3'"),
    "images in turns": ([f"{j % 4}\t{one}" for j, one in NUMBERED], r"line 2 belongs to '1'"),
    "four captions of one": ([f"{j // 4}\t{one}" for j, one in NUMBERED], r"line 5 belongs to"),
    "one too few": (LINES[:-1], r"4 rows and .*19 captions: expected 5 captions a row"),
    "one too many": ([*LINES, "a dog"], r"4 rows and .*21 captions"),
    "no words at all": (["狗在草地上"] * 20, r"no word occurs 1 times in training captions"),
}


@pytest.mark.parametrize("name", [*PLAIN, *FORMS])
def test_it_is_read_as_it_is_meant(tmp_path: Path, name: str) -> None:
    folder = write_folder(tmp_path / "f8k_precomp")
    write_text(folder / "train_caps.txt", PLAIN.get(name) or FORMS[name])
    train = begin(tmp_path, PRECOMP).train
    assert list(train.captions) == LINES
    assert bool(train.notes) == (name in FORMS)
    assert all("captions were read from" in note for note in train.notes)


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused(tmp_path: Path, name: str) -> None:
    folder = write_folder(tmp_path / "f8k_precomp")
    content, message = REFUSED[name]
    write_text(folder / "train_caps.txt", content)
    refused(tmp_path, PRECOMP, message)


@pytest.mark.parametrize("name", NO_FILES)
def test_it_is_no_file_of_captions(tmp_path: Path, name: str) -> None:
    folder = write_folder(tmp_path / "f8k_precomp")
    change, message = NO_FILES[name]
    change(folder / "train_caps.txt")
    refused(tmp_path, PRECOMP, message.format(what="captions", file=r"train_caps\.txt"))
    assert not (folder / "harm").exists()


@pytest.mark.parametrize("part", ["dev", "test"])
def test_every_split_is_looked_at(tmp_path: Path, part: str) -> None:
    folder = write_folder(tmp_path / "f8k_precomp")
    path = folder / f"{part}_caps.txt"
    for content, message in [
        (["b'a dog'", *lines_of(COUNTS[part])[1:]], rf"{part}_caps\.txt: 1 of"),
        (["chien"] * 5 * COUNTS[part], rf"{part}_ims\.npy: no caption holds a word of"),
        (b"\xff", rf"{part}_caps\.txt, line 1: byte 1 is not UTF-8"),
    ]:
        write_text(path, content)
        refused(tmp_path, PRECOMP, message)


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("dog " * 100_000, " ".join(["dog"] * 256)),
        ("dog," * 100_000, "dog," * 128),
        ("x" * 10_000_000, "x" * 64 * 256),
        (". " * 300, " ".join(["."] * 256)),
        ("dog " * 256, " ".join(["dog"] * 256)),
    ],
    ids=["words", "commas", "one word", "dots", "just short enough"],
)
def test_long_captions_are_cut_and_counted(tmp_path: Path, line: str, kept: str) -> None:
    folder = write_folder(tmp_path / "f8k_precomp")
    write_text(folder / "test_caps.txt", [line, *lines_of(COUNTS["test"])[1:]])
    test = begin(tmp_path, PRECOMP).test
    assert test.captions[0] == kept
    cut = "1 captions are longer than 256 words and are cut there (--max-words)"
    assert test.notes == ((cut,) if len(line.strip()) > len(kept) else ())
    assert (cut in str(test)) == bool(test.notes)
