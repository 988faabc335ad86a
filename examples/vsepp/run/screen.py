"""What a run tells the person who waits: lines, and a progress bar on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

from vsepp.data.splits import Splits
from vsepp.data.vocabulary import Vocabulary
from vsepp.retrieval import caution


class Screen:
    """Lines and bars of one run, on one process; the others say nothing."""

    def __init__(self, name: str, speaks: bool, quiet: bool) -> None:
        self.name, self.speaks, self.quiet = name, speaks, quiet

    def say(self, message: str) -> None:
        """A line, clear of the progress bar."""
        if self.speaks:
            tqdm.write(f"[{self.name}] {message}", file=sys.stderr)

    def introduce(self, splits: Splits, words: Vocabulary, model: str) -> None:
        """What is about to be trained on what."""
        for name in ("train", "dev", "test"):
            self.say(f"{name}: {getattr(splits, name)}")
        few = caution({name: len(getattr(splits, name).images) for name in ("dev", "test")})
        if few:
            self.say(few)
        self.say(f"{len(words):,} words, split by {words.tokenizer}, from {words.made_from}")
        self.say(model)

    def bar(self, batches: Iterable[Any], epoch: int, done: int, total: int) -> tqdm:
        """The batches of an epoch with a progress bar; there is none in a pipe or a file."""
        hidden = self.quiet or not self.speaks or not sys.stderr.isatty()
        shown = {"desc": f"epoch {epoch}", "initial": done, "total": total}
        return tqdm(batches, disable=hidden, leave=False, **shown)
