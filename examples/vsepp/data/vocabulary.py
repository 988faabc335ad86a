"""Words and their ids, kept as JSON with a note of how they were made.

How a caption becomes words is hardneg's (``hardneg.image_text``), so that a model which has left the
trainer reads them as it did; here are the files, and the errors of a user's files.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hardneg.image_text import TextNetwork, text_network
from hardneg.image_text import vocabulary as words
from hardneg.image_text.vocabulary import (
    END,
    PAD,
    SPECIAL,
    START,
    TOKENIZERS,
    UNKNOWN,
    nltk_words,
    regex_words,
)
from vsepp.errors import InputError
from vsepp.files.json_files import field, of_kind, read_json
from vsepp.files.writing import write_text
from vsepp.settings import Model

__all__ = ["END", "PAD", "SPECIAL", "START", "UNKNOWN", "Vocabulary", "nltk_words", "regex_words"]

CAPTIONS_LOOKED_AT = 1_000
REBUILD = (
    "convert an old pickle with `vocabulary --from-pickle`, or delete it and one is built from the "
    "training captions"
)


@contextmanager
def told() -> Iterator[None]:
    """A wrong value in a user's file is told as such."""
    try:
        yield
    except InputError:
        raise
    except ValueError as error:
        raise InputError(str(error)) from error


def tokenizer_named(name: str) -> str:
    """``auto`` resolved: nltk where it is installed, else the regular expression."""
    with told():
        return words.tokenizer_named(name)


class Vocabulary(words.Vocabulary):
    """A vocabulary in a file of its own."""

    def __post_init__(self) -> None:
        with told():
            super().__post_init__()

    @classmethod
    def from_record(cls, record: Any, where: str) -> Vocabulary:
        """Back from plain values."""
        if not isinstance(record, dict) or record.get("format") != words.FORMAT:
            raise InputError(f"{where} is not a vocabulary of ours: {REBUILD}")
        for number, word in enumerate(field(record, "words", list, where)):
            of_kind(word, str, f"{where}: word {number}")
        for name, kind in (("tokenizer", str), ("made_from", str), ("threshold", int)):
            field(record, name, kind, where)
        with told():
            return super().from_record(record, where)

    def save(self, path: Path) -> None:
        """Write as JSON, readable and complete or not at all."""
        write_text(path, json.dumps(self.record(), ensure_ascii=False, indent=1))

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Read what ``save`` wrote."""
        remedy = "leave the option out to build one"
        return cls.from_record(read_json(path, "vocabulary", remedy), str(path))


def read_words(record: Any, where: str) -> Vocabulary | TextNetwork:
    """A vocabulary from plain values, or the text network that stands in its place."""
    if isinstance(record, dict) and record.get("format") == text_network.FORMAT:
        with told():
            return TextNetwork.from_record(record, where)
    return Vocabulary.from_record(record, where)


def text_network_named(settings: Model) -> TextNetwork | None:
    """The HuggingFace network that reads captions, where there is one."""
    name = settings.network_of_text
    with told():
        return None if name is None else TextNetwork.named(name)


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
