"""Words and their ids, kept as JSON with a note of how they were made."""

from __future__ import annotations

import importlib.util
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from vsepp.errors import InputError
from vsepp.files.json_files import field, of_kind, read_json
from vsepp.files.writing import write_text

PAD, START, END, UNKNOWN = range(4)
SPECIAL = ("<pad>", "<start>", "<end>", "<unk>")
CAPTIONS_LOOKED_AT = 1_000
WORD = re.compile(r"[a-z0-9]+(?:'[a-z]+)?")


def regex_words(caption: str) -> list[str]:
    """Lower-cased runs of letters and digits, with an apostrophe's ending kept on."""
    return WORD.findall(caption.lower())


def nltk_words(caption: str) -> list[str]:
    """The paper's tokens: nltk's word_tokenize on the lower-cased caption, as one line."""
    from nltk.tokenize import word_tokenize

    return word_tokenize(caption.lower(), preserve_line=True)


TOKENIZERS: dict[str, Callable[[str], list[str]]] = {"regex": regex_words, "nltk": nltk_words}


def tokenizer_named(name: str) -> str:
    """``auto`` resolved: nltk where it is installed, else the regular expression."""
    installed = importlib.util.find_spec("nltk") is not None
    if name == "auto":
        return "nltk" if installed else "regex"
    if name == "nltk" and not installed:
        raise ModuleNotFoundError(
            "the nltk tokenizer needs nltk: pip install nltk, or choose regex"
        )
    if name not in TOKENIZERS:
        raise InputError(f"unknown tokenizer {name!r}: choose auto, {', '.join(TOKENIZERS)}")
    return name


@dataclass(frozen=True)
class Vocabulary:
    """``words[i]`` has id i; the first four are padding, start, end and unknown."""

    words: tuple[str, ...]
    tokenizer: str
    made_from: str
    threshold: int = 4

    def __post_init__(self) -> None:
        if self.words[:4] != SPECIAL:
            raise InputError(
                f"a vocabulary starts with {', '.join(SPECIAL)}, but this one starts with "
                f"{', '.join(self.words[:4]) or 'nothing'}: build it again"
            )
        if len(set(self.words)) != len(self.words):
            twice = [word for word, count in Counter(self.words).items() if count > 1]
            raise InputError(f"the vocabulary holds {twice[0]!r} twice: each word has one id")
        if any("\ud800" <= sign <= "\udfff" for sign in "".join(self.words)):
            raise InputError("a word of the vocabulary holds half of a character: build it again")

    def __len__(self) -> int:
        return len(self.words)

    @cached_property
    def ids(self) -> dict[str, int]:
        """From word to id."""
        return {word: number for number, word in enumerate(self.words)}

    def encode(self, caption: str) -> list[int]:
        """Start, the words, end; a word outside the vocabulary becomes the unknown word."""
        words = TOKENIZERS[self.tokenizer](caption)
        return [START, *(self.ids.get(word, UNKNOWN) for word in words), END]

    def record(self) -> dict[str, Any]:
        """As plain values, for JSON and for checkpoints."""
        return {
            "format": "hardneg vocabulary 1",
            "tokenizer": self.tokenizer,
            "threshold": self.threshold,
            "made_from": self.made_from,
            "words": list(self.words),
        }

    @classmethod
    def from_record(cls, record: dict[str, Any], where: str) -> Vocabulary:
        """Back from plain values."""
        if not isinstance(record, dict) or record.get("format") != "hardneg vocabulary 1":
            raise InputError(
                f"{where} is not a vocabulary of ours: convert an old pickle with "
                "`vocabulary --from-pickle`, or delete it and one is built from the training "
                "captions"
            )
        words = field(record, "words", list, where)
        for number, word in enumerate(words):
            of_kind(word, str, f"{where}: word {number}")
        tokenizer = field(record, "tokenizer", str, where)
        if tokenizer not in TOKENIZERS:
            raise InputError(
                f"{where} was made by the tokenizer {tokenizer!r}: expected one of "
                f"{', '.join(TOKENIZERS)}; build it again"
            )
        tokenizer_named(tokenizer)
        made_from = field(record, "made_from", str, where)
        return cls(tuple(words), tokenizer, made_from, field(record, "threshold", int, where))

    def save(self, path: Path) -> None:
        """Write as JSON, readable and complete or not at all."""
        write_text(path, json.dumps(self.record(), ensure_ascii=False, indent=1))

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Read what ``save`` wrote."""
        remedy = "leave the option out to build one"
        return cls.from_record(read_json(path, "vocabulary", remedy), str(path))


def build_vocabulary(
    captions: Iterable[str] | Sequence[str], tokenizer: str, threshold: int, made_from: str
) -> Vocabulary:
    """The words that the captions hold at least ``threshold`` times, in order of appearance."""
    name = tokenizer_named(tokenizer)
    counts = Counter(word for caption in captions for word in TOKENIZERS[name](caption))
    kept = [word for word, count in counts.items() if count >= threshold]
    if not kept:
        raise InputError(
            f"no word occurs {threshold} times in {made_from}: lower --threshold "
            "or check that the captions are what you meant"
        )
    return Vocabulary((*SPECIAL, *kept), name, made_from, threshold)


def check_known(vocabulary: Vocabulary, captions: Sequence[str], where: str) -> None:
    """Refuse captions of which none has a word of the vocabulary: they are of another language, or
    their form is not the tokenizer's. Looks at a thousand of them.
    """
    some = captions[:: -(-len(captions) // CAPTIONS_LOOKED_AT)]
    if not any(set(vocabulary.encode(caption)) - {START, END, UNKNOWN} for caption in some):
        raise InputError(
            f"{where}: no caption holds a word of the vocabulary (from {vocabulary.made_from}, "
            f"tokenizer {vocabulary.tokenizer}), as {some[0][:60]!r}: choose the captions' own "
            "vocabulary, or another --tokenizer"
        )
