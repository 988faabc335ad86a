"""Words, ids, JSON, and the safe converter of old pickles."""

import io
import json
import pickle
import pickletools
import sys
import types
from pathlib import Path

import pytest

from vsepp.data.vocabulary import (
    END,
    START,
    UNKNOWN,
    Vocabulary,
    build_vocabulary,
    nltk_words,
    regex_words,
    tokenizer_named,
)
from vsepp.release.legacy_vocabulary import convert_vocabulary

CAPTIONS = ["A dog's ball .", "a DOG and a ball", "two dogs , one ball", "a café dog"]


def test_regex_words() -> None:
    assert regex_words("A Dog's T-shirt, no. 7!") == ["a", "dog's", "t", "shirt", "no", "7"]


def test_nltk_words_are_the_papers() -> None:
    pytest.importorskip("nltk", reason="nltk is not installed")
    assert nltk_words("The dog's ball, isn't it.") == [
        "the",
        "dog",
        "'s",
        "ball",
        ",",
        "is",
        "n't",
        "it",
        ".",
    ]


def test_special_words_come_first_and_rare_words_are_unknown() -> None:
    vocabulary = build_vocabulary(CAPTIONS, "regex", 2, "four captions")
    assert vocabulary.words == ("<pad>", "<start>", "<end>", "<unk>", "a", "ball", "dog")
    assert vocabulary.encode("A zebra, a dog") == [START, 4, UNKNOWN, 4, 6, END]
    assert vocabulary.encode("...") == [START, END]


def test_threshold_counts_occurrences() -> None:
    assert "dog" in build_vocabulary(["dog"] * 4, "regex", 4, "here").ids
    with pytest.raises(ValueError, match="no word occurs 4 times in here: lower --threshold"):
        build_vocabulary(["dog"] * 3, "regex", 4, "here")


def test_json_keeps_everything(tmp_path: Path) -> None:
    vocabulary = build_vocabulary(CAPTIONS, "regex", 1, "four captions")
    vocabulary.save(tmp_path / "words.json")
    assert Vocabulary.load(tmp_path / "words.json") == vocabulary
    record = json.loads((tmp_path / "words.json").read_text(encoding="utf-8"))
    assert (record["tokenizer"], record["threshold"]) == ("regex", 1)
    assert "caf" in record["words"]  # the expression knows a-z only, as the reference runs'


@pytest.mark.parametrize("content", ["{", "[]", '{"format": "other"}'])
def test_other_json_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "words.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"words\.json is not"):
        Vocabulary.load(path)


def test_unknown_tokenizer_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown tokenizer 'spacy': choose auto, regex, nltk"):
        tokenizer_named("spacy")


def pickled_as_the_release(words: list | dict, protocol: int) -> bytes:
    """What the release wrote: an instance of ``vocab.Vocabulary`` with its tables."""
    numbered = words if isinstance(words, dict) else dict(enumerate(words))
    module = types.ModuleType("vocab")
    kind = type("Vocabulary", (), {"__module__": "vocab"})
    module.Vocabulary = kind
    sys.modules["vocab"] = module
    try:
        instance = kind()
        instance.idx2word = numbered
        instance.word2idx = {str(word): number for number, word in numbered.items()}
        instance.idx = len(words)
        return pickle.dumps(instance, protocol)
    finally:
        del sys.modules["vocab"]


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("as_bytes", [False, True])
def test_old_pickles_convert(tmp_path: Path, protocol: int, as_bytes: bool) -> None:
    words = ["<pad>", "<start>", "<end>", "<unk>", "dog", "café"]
    stored = [word.encode("utf-8") for word in words] if as_bytes else words
    path = tmp_path / "f8k_precomp_vocab.pkl"
    path.write_bytes(pickled_as_the_release(stored, protocol))
    converted = convert_vocabulary(path, "regex")
    assert converted.words == tuple(words)
    assert converted.made_from == "converted from f8k_precomp_vocab.pkl"


class Harmful:
    """Creates a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return Path.touch, (self.target,)


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    path, target = tmp_path / "vocab.pkl", tmp_path / "harm"
    path.write_bytes(pickle.dumps(Harmful(target)))
    pickle.loads(path.read_bytes())
    assert target.exists()  # it does run under an open unpickler
    target.unlink()
    with pytest.raises(ValueError, match="was refused: it asks for"):
        convert_vocabulary(path)
    assert not target.exists()


def test_truncated_and_foreign_pickles_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "vocab.pkl"
    whole = pickled_as_the_release(["<pad>", "<start>", "<end>", "<unk>"], 2)
    pickletools.dis(io.BytesIO(whole), out=io.StringIO())
    for content in (whole[:-3], b"", pickle.dumps({"dog": 1})):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"vocab\.pkl (was refused|holds no table)"):
            convert_vocabulary(path, "regex")
