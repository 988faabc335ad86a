"""The released vocabularies are pickles of a class instance. This reads their words and runs no
code.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

from vsepp.data.vocabulary import Vocabulary, tokenizer_named
from vsepp.errors import InputError
from vsepp.files.inputs import reason, require_file


class PickledVocabulary:
    """Stands in for the pickled class: it takes the attributes and has no behaviour."""

    idx2word: dict[int, str | bytes]


def latin1_bytes(text: str, encoding: str) -> bytes:
    """Bytes as Python 3 writes them into Python 2's pickles."""
    return text.encode("latin1")


ALLOWED = {
    ("vocab", "Vocabulary"): PickledVocabulary,
    ("__main__", "Vocabulary"): PickledVocabulary,
    ("_codecs", "encode"): latin1_bytes,
}


class WordsOnly(pickle.Unpickler):
    """An unpickler that knows the vocabulary class and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """Answer for the vocabulary class and its bytes; refuse every other name."""
        if (module, name) in ALLOWED:
            return ALLOWED[module, name]
        raise pickle.UnpicklingError(
            f"it asks for {module}.{name}, which a vocabulary has no use for and which may run code"
        )


def convert_vocabulary(path: Path, tokenizer: str = "nltk") -> Vocabulary:
    """The words of an old ``*_vocab.pkl``, in their ids' order. Bytes of Python 2 become text."""
    require_file(path, "vocabulary pickle", "name a released *_vocab.pkl")
    with path.open("rb") as stream:
        try:
            pickled = WordsOnly(stream, encoding="utf-8").load()
        # What a broken pickle makes of its stack: KeyError, TypeError, OverflowError and others.
        except Exception as error:
            raise InputError(
                f"{path} was refused: {reason(error)}. If it is a released vocabulary, download it "
                "again"
            ) from error
    numbered = getattr(pickled, "idx2word", None)
    if not isinstance(numbered, dict) or set(numbered) != set(range(len(numbered))):
        raise InputError(f"{path} holds no table of words numbered from 0: is it a *_vocab.pkl?")
    words = tuple(as_text(numbered[number], path) for number in range(len(numbered)))
    return Vocabulary(words, tokenizer_named(tokenizer), f"converted from {path.name}")


def as_text(word: str | bytes, path: Path) -> str:
    """A word as text, whichever Python wrote it."""
    try:
        text = word.decode("utf-8") if isinstance(word, bytes) else word
    except UnicodeDecodeError:
        text = None
    if not isinstance(text, str):
        raise InputError(f"{path}: {word!r:.60} is no word: expected text in UTF-8")
    return text
