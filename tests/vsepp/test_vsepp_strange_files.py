"""Vocabularies and checkpoints from strangers, and a few broken inputs through the real command."""

import argparse
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from forked_runs import ForkedRun
from odd_inputs import write_folder
from test_vsepp_vocabulary import pickled_as_the_release
from tiny_data import write_flickr
from vsepp.data.vocabulary import SPECIAL, Vocabulary
from vsepp.errors import InputError
from vsepp.release.authors import load_authors_checkpoint
from vsepp.release.legacy_vocabulary import convert_vocabulary

CHECKOUT = Path(__file__).parents[2]
WORDS = {
    "format": "hardneg vocabulary 1",
    "tokenizer": "regex",
    "threshold": 1,
    "made_from": "here",
    "words": [*SPECIAL, "dog"],
}
VOCABULARIES: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown tokenizer": ({"tokenizer": "bert"}, "made by the tokenizer 'bert': expected one"),
    "no tokenizer": ({"tokenizer": None}, "tokenizer is null: expected text"),
    "words are null": ({"words": None}, "words is null: expected a list"),
    "words are an object": ({"words": {"dog": 4}}, "words is .*expected a list"),
    "a word is null": ({"words": [*SPECIAL, None]}, "word 4 is null: expected text"),
    "a word is a list": ({"words": [*SPECIAL, ["a"]]}, r"word 4 is \[.a.\]: expected text"),
    "a word twice": ({"words": [*SPECIAL, "a", "a"]}, "holds 'a' twice"),
    "no special words": ({"words": ["dog"]}, "starts with <pad>"),
    "no words": ({"words": []}, "starts with nothing"),
    "half a character": ({"words": [*SPECIAL, "\ud83d"]}, "half of a character"),
    "a threshold of words": ({"threshold": "four"}, "threshold is .four.: expected a whole number"),
    "another format": ({"format": 2}, "is not a vocabulary of ours"),
}
PICKLES: dict[str, bytes] = {
    "nothing": b"",
    "text": b"dog\ncat\n",
    "cut off": pickle.dumps({"a": 1})[:-2],
    "a number": pickle.dumps(5),
    "an unhashable key": b"\x80\x02}]K\x01s.",
    "a stack too short": b"\x80\x02R.",
    "an unknown memo": b"\x80\x02h\x07.",
    "a huge text": b"\x80\x04\x8d" + b"\xff" * 8 + b".",
    "deep": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
    "an unknown extension": b"\x80\x02\x82\x07.",
    "a persistent id": b"\x80\x02K\x01Q.",
    "an old instance": b"(ios\nsystem\n.",
    "a call": b"cos\nsystem\n(S'touch harm'\ntR.",
}
PLAIN = argparse.Namespace(data_name="f8k_precomp")
CHECKPOINTS: dict[str, Any] = {
    "numbers": {"model": [1, 2], "opt": PLAIN},
    "null": {"model": None, "opt": PLAIN},
    "one model": {"model": [{}], "opt": PLAIN},
    "a weight of text": {"model": [{"fc.weight": "x"}, {}], "opt": PLAIN},
    "a name of numbers": {"model": [{1: torch.ones(1)}, {}], "opt": PLAIN},
    "no options": {"model": [{}, {}]},
    "options are null": {"model": [{}, {}], "opt": None},
    "options are an object": {"model": [{}, {}], "opt": {"embed_size": 4}},
    "a list": [1, 2],
    "a width of text": {
        "model": [{}, {}],
        "opt": argparse.Namespace(data_name="f8k_precomp", embed_size="x"),
    },
    "an endless margin": {
        "model": [{}, {}],
        "opt": argparse.Namespace(data_name="f8k_precomp", margin=float("inf")),
    },
}


@pytest.mark.parametrize("name", VOCABULARIES)
def test_a_strange_vocabulary_is_refused(tmp_path: Path, name: str) -> None:
    change, message = VOCABULARIES[name]
    (tmp_path / "words.json").write_text(json.dumps({**WORDS, **change}))
    with pytest.raises(InputError, match=message):
        Vocabulary.load(tmp_path / "words.json")


@pytest.mark.parametrize("name", sorted(WORDS))
def test_a_vocabulary_that_lacks_something_is_refused(tmp_path: Path, name: str) -> None:
    lacking = {key: value for key, value in WORDS.items() if key != name}
    (tmp_path / "words.json").write_text(json.dumps(lacking))
    with pytest.raises(InputError, match=rf"words\.json (lacks {name}|is not a vocabulary)"):
        Vocabulary.load(tmp_path / "words.json")


@pytest.mark.parametrize("name", PICKLES)
def test_a_strange_pickle_is_refused(tmp_path: Path, name: str, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vocab.pkl").write_bytes(PICKLES[name])
    with pytest.raises(InputError, match=r"vocab\.pkl (was refused: |holds no table of words)"):
        convert_vocabulary(tmp_path / "vocab.pkl", "regex")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("words", [{0: 5}, {0: b"\xff"}, {0: None}, {0: ["a"]}, {"a": 0, 1: 2}])
def test_words_that_are_none_are_refused(tmp_path: Path, words: dict) -> None:
    (tmp_path / "vocab.pkl").write_bytes(pickled_as_the_release(words, 2))
    with pytest.raises(InputError, match=r"vocab\.pkl(: .* is no word| holds no table of words)"):
        convert_vocabulary(tmp_path / "vocab.pkl", "regex")


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_strange_checkpoint_of_the_release_is_refused(tmp_path: Path, name: str) -> None:
    torch.save(CHECKPOINTS[name], tmp_path / "m.pth.tar")
    expected = r"m\.pth\.tar (is no checkpoint of the release|was trained with options that cannot)"
    with pytest.raises(InputError, match=expected):
        load_authors_checkpoint(tmp_path / "m.pth.tar")


QUICK = [
    *["--threshold", "1", "--embed-dim", "16", "--word-dim", "8", "--epochs", "1"],
    *["--batch-size", "8", "--quiet", "--cpu", "--no-tensorboard", "--tokenizer", "regex", "--out"],
]
PRECOMP = ["--recipe", "flickr8k-256-vse++", *QUICK]
RAW = ["--recipe", "flickr8k-small-vse0", "--image-size", "32", *QUICK]


def forked(*given: object) -> subprocess.CompletedProcess[str]:
    """The trainer in a process of its own."""
    one = ForkedRun([*map(str, given)])
    told = one.communicate(timeout=300)
    return subprocess.CompletedProcess(given, one.returncode, *told)


def run(*given: object) -> subprocess.CompletedProcess[str]:
    """The trainer as a user starts it."""
    return subprocess.run(
        [sys.executable, CHECKOUT / "examples" / "vsepp_flickr8k.py", *map(str, given)],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_command_prints_one_line_and_leaves_no_run(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "f8k_precomp")
    np.save(folder / "test_ims.npy", np.ones((3, 7), np.float32) * np.arange(3)[:, None])
    done = run("--data", tmp_path, *PRECOMP, tmp_path / "runs")
    error, hint = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (2, "")
    assert error.startswith("error: ")
    assert "test_ims.npy is (3, 7), but train_ims.npy (4, 6)" in error
    assert "VSEPP_TRACEBACK" in hint
    assert not (tmp_path / "runs").exists()


def test_the_command_trains_on_captions_of_another_form_and_says_so(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "f8k_precomp")
    lines = (folder / "train_caps.txt").read_text().splitlines()
    (folder / "train_caps.txt").write_text("".join(f"{line.encode()!r}\n" for line in lines))
    done = forked("--data", tmp_path, *PRECOMP, tmp_path / "runs")
    assert done.returncode == 0, done.stderr
    assert "captions were read from the text of Python bytes" in done.stderr


@pytest.mark.parametrize("workers", [0, 1])
def test_the_command_leaves_out_what_is_corrupt_and_counts_it(tmp_path: Path, workers: int) -> None:
    write_flickr(tmp_path, counts={"train": 4, "dev": 2, "test": 3})
    images = tmp_path / "f8k" / "images"
    given = ("--data", tmp_path, *RAW, tmp_path / "runs", "--workers", workers, "--skip-corrupt")
    for number in (1, 7):
        (images / f"{number:04d}.jpg").write_bytes(b"x")
    done = forked(*given)
    assert done.returncode == 0, done.stderr
    assert "1 of 4 pictures of" in done.stderr
    assert "1 of 3 pictures of" in done.stderr
    result = json.loads(next((tmp_path / "runs").rglob("result.json")).read_text())
    assert (result["skipped_pairs"], result["skipped_test_images"]) == (5, 1)


def test_the_command_refuses_a_split_without_pictures(tmp_path: Path) -> None:
    write_flickr(tmp_path, counts={"train": 4, "dev": 2, "test": 3})
    for number in range(4):
        (tmp_path / "f8k" / "images" / f"{number:04d}.jpg").write_bytes(b"x")
    done = forked("--data", tmp_path, *RAW, tmp_path / "runs", "--skip-corrupt")
    assert done.returncode == 2
    assert "4 of 4 pictures of" in done.stderr.splitlines()[-2]
    assert "epoch" not in done.stderr
