"""Words and their ids, and how a text becomes words."""

from __future__ import annotations

import importlib.util
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

__all__ = [
    "END",
    "PAD",
    "SPECIAL",
    "START",
    "TOKENIZERS",
    "UNKNOWN",
    "Vocabulary",
    "tokenizer_named",
]

PAD, START, END, UNKNOWN = range(4)
SPECIAL = ("<pad>", "<start>", "<end>", "<unk>")
FORMAT = "hardneg vocabulary 1"
WORD = re.compile(r"[a-z0-9]+(?:'[a-z]+)?")


def regex_words(text: str) -> list[str]:
    """Lower-cased runs of letters and digits, with an apostrophe's ending kept on."""
    return WORD.findall(text.lower())


def nltk_words(text: str) -> list[str]:
    """The paper's tokens: nltk's word_tokenize on the lower-cased text, as one line."""
    words: list[str] = importlib.import_module("nltk.tokenize").word_tokenize(
        text.lower(), preserve_line=True
    )
    return words


TOKENIZERS: dict[str, Callable[[str], list[str]]] = {"regex": regex_words, "nltk": nltk_words}


def tokenizer_named(name: str) -> str:
    """``auto`` resolved: nltk where it is installed, else the regular expression.

    Raises:
        ModuleNotFoundError: where nltk is asked for and is not installed.
        ValueError: for an unknown name.
    """
    installed = importlib.util.find_spec("nltk") is not None
    if name == "auto":
        return "nltk" if installed else "regex"
    if name == "nltk" and not installed:
        raise ModuleNotFoundError(
            "the nltk tokenizer needs nltk: pip install nltk, or choose regex"
        )
    if name not in TOKENIZERS:
        raise ValueError(f"unknown tokenizer {name!r}: choose auto, {', '.join(TOKENIZERS)}")
    return name


@dataclass(frozen=True)
class Vocabulary:
    """``words[i]`` has id i; the first four are padding, start, end and unknown.

    Args:
        words: all of them.
        tokenizer: ``"regex"`` or ``"nltk"``.
        made_from: which texts the words are of, for people to read.
        threshold: how often a word had to occur.
    """

    words: tuple[str, ...]
    tokenizer: str
    made_from: str
    threshold: int = 4

    def __post_init__(self) -> None:
        if self.words[:4] != SPECIAL:
            raise ValueError(
                f"a vocabulary starts with {', '.join(SPECIAL)}, but this one starts with "
                f"{', '.join(self.words[:4]) or 'nothing'}: build it again"
            )
        if len(set(self.words)) != len(self.words):
            twice = [word for word, count in Counter(self.words).items() if count > 1]
            raise ValueError(f"the vocabulary holds {twice[0]!r} twice: each word has one id")
        if any("\ud800" <= sign <= "\udfff" for sign in "".join(self.words)):
            raise ValueError("a word of the vocabulary holds half of a character: build it again")

    def __len__(self) -> int:
        return len(self.words)

    @cached_property
    def ids(self) -> dict[str, int]:
        """From word to id."""
        return {word: number for number, word in enumerate(self.words)}

    def encode(self, text: str) -> list[int]:
        """Start, the words, end; a word outside the vocabulary becomes the unknown word."""
        words = TOKENIZERS[self.tokenizer](text)
        return [START, *(self.ids.get(word, UNKNOWN) for word in words), END]

    def record(self) -> dict[str, Any]:
        """As plain values, for JSON and for checkpoints."""
        return {
            "format": FORMAT,
            "tokenizer": self.tokenizer,
            "threshold": self.threshold,
            "made_from": self.made_from,
            "words": list(self.words),
        }

    @classmethod
    def from_record(cls, record: Any, where: str) -> Vocabulary:
        """Back from plain values, which may be a stranger's; ``where`` they stand is for messages."""
        if not isinstance(record, dict) or record.get("format") != FORMAT:
            raise ValueError(f"{where} is not a vocabulary of ours (format {FORMAT!r})")
        kinds = {"words": list, "tokenizer": str, "made_from": str, "threshold": int}
        for name, kind in kinds.items():
            if name not in record:
                raise ValueError(f"{where} lacks {name}")
            if not isinstance(record[name], kind) or isinstance(record[name], bool):
                raise ValueError(f"{where}: {name} is no {kind.__name__}")
        if not all(isinstance(word, str) for word in record["words"]):
            raise ValueError(f"{where}: a word is no text")
        if record["tokenizer"] not in TOKENIZERS:
            raise ValueError(
                f"{where} was made by the tokenizer {record['tokenizer']!r:.60}: expected one of "
                f"{', '.join(TOKENIZERS)}; build it again"
            )
        tokenizer_named(record["tokenizer"])
        values = {name: record[name] for name in kinds}
        return cls(**{**values, "words": tuple(record["words"])})
