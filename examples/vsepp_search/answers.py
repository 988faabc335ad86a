"""What the page shows for a sentence, an image or a caption, of one model or of two."""

from __future__ import annotations

import re
from collections.abc import Sequence

from vsepp.errors import InputError
from vsepp_search.arguments import MOST_SHOWN
from vsepp_search.cards import Cards
from vsepp_search.index import Index

LONGEST = 1_000
SHOWN_CAPTIONS = 8
LOOK = re.compile(r"(image|caption) (\d{1,9})(?: \d{1,20})?", re.ASCII)


class Answers:
    """HTML for what people ask. All indexes are over the same images and captions."""

    def __init__(self, indexes: Sequence[Index]) -> None:
        self.indexes, self.split = indexes, indexes[0].split
        self.cards = Cards(self.split)

    def title(self) -> str:
        """The names of the models."""
        return " and ".join(index.name for index in self.indexes)

    def examples(self) -> list[str]:
        """A few captions of the split, evenly spread."""
        captions = self.split.captions
        picks = [len(captions) * (2 * number + 1) // 6 for number in range(3)]
        return [*dict.fromkeys(captions[pick][:LONGEST] for pick in picks)]

    def find(self, text: str, count: float) -> str:
        """The images that a sentence comes nearest to."""
        if not isinstance(text, str) or not text.strip():
            raise InputError("write a sentence first")
        text, shown = text[:LONGEST], amount(count)
        models = [
            {
                "name": index.name,
                "unknown": index.unknown(text),
                "images": index.search(text, shown),
            }
            for index in self.indexes
        ]
        return self.cards.page("results.html.j2", models=models)

    def look(self, chosen: str, count: float) -> str:
        """What there is to say of ``image ROW`` or ``caption ROW``; a third number is left out."""
        match = LOOK.fullmatch(chosen) if isinstance(chosen, str) else None
        if match is None:
            raise InputError("expected 'image ROW' or 'caption ROW'")
        row, shown = int(match[2]), amount(count)
        return self.image(row, shown) if match[1] == "image" else self.caption(row, shown)

    def image(self, row: int, count: int) -> str:
        """An image with its captions, its hardest negative captions and its nearest images."""
        models = [
            {
                "name": index.name,
                "own": index.captions_of(row),
                "negatives": index.negative_captions(row, SHOWN_CAPTIONS),
                "nearest": index.nearest_images(row, count),
            }
            for index in self.indexes
        ]
        return self.cards.page("image.html.j2", row=row, models=models)

    def caption(self, row: int, count: int) -> str:
        """A caption with its image, and what a model takes for its own."""
        models = []
        for index in self.indexes:
            standing, images = index.standing(row), index.negative_images(row, count)
            models.append(
                {
                    "name": index.name,
                    "standing": standing,
                    "ahead": ahead(standing.own.score, [one.score for one in images]),
                    "images": images,
                    "captions": index.negative_captions(standing.own.row, SHOWN_CAPTIONS),
                }
            )
        return self.cards.page("caption.html.j2", row=row, models=models)


def amount(count: float) -> int:
    """How many to show; a slider gives whole numbers, a stranger's request may not."""
    if isinstance(count, bool) or not isinstance(count, int | float):
        raise InputError("the number to show is no number")
    if not 1 <= count <= MOST_SHOWN:
        raise InputError(f"the number to show is {count}: expected 1 to {MOST_SHOWN}")
    return int(count)


def ahead(own: float, others: Sequence[float]) -> str:
    """By how much a caption's image scores above its hardest negative."""
    if not others:
        return "there is no other"
    gap = own - others[0]
    way = "above" if gap > 0 else "below"
    return f"scores {abs(gap):.3f} {way} the hardest negative"
