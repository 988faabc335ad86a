"""Search by exact scores: what a sentence, an image or a caption comes nearest to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hardneg import TopK, mine
from hardneg.image_text import ImageTextModel
from hardneg.image_text.vocabulary import TOKENIZERS, Vocabulary
from hardneg.metrics import ranks, top_candidates
from vsepp.data.captions import shortened_caption
from vsepp.data.splits import Split
from vsepp.errors import InputError
from vsepp.evaluate import Embedded
from vsepp.retrieval import similarity_of


@dataclass(frozen=True)
class Found:
    """A row of the split (an image, or a caption), its score, and whether it belongs to the query."""

    row: int
    score: float
    belongs: bool = False


@dataclass(frozen=True)
class Standing:
    """The image of a caption: its score, and its rank from 1 among ``count`` images; ties count
    against it."""

    own: Found
    rank: int
    count: int


class Index:
    """A split's embeddings of one model. Images and captions go by their rows in the split."""

    def __init__(
        self, name: str, model: ImageTextModel, split: Split, embedded: Embedded, max_words: int
    ) -> None:
        self.name, self.model, self.split, self.embedded = name, model, split, embedded
        self.max_words = max_words
        self.similarity = similarity_of(model.measure)
        self.images_at = {row: at for at, row in enumerate(embedded.images_kept.tolist())}
        self.captions_at = {row: at for at, row in enumerate(embedded.captions_kept.tolist())}
        self.said: dict[str, set[int]] = {}
        for row, image in zip(
            embedded.captions_kept.tolist(), embedded.image_of.tolist(), strict=True
        ):
            self.said.setdefault(plain(split.captions[row]), set()).add(image)

    def search(self, text: str, count: int) -> list[Found]:
        """The images that a sentence comes nearest to, best first; among equal scores the first row.

        Images that have the very sentence as a caption belong to it.
        """
        query = self.model.embed([shortened_caption(text, self.max_words)]).float().cpu()
        best = top_candidates(
            query, self.embedded.images, count, similarity=self.similarity.swapped()
        )
        return self.images_found(best.indices[0], best.scores[0], self.said.get(plain(text), set()))

    def unknown(self, text: str) -> list[str]:
        """The words of a sentence that the model does not know."""
        words = self.model.vocabulary
        if not isinstance(words, Vocabulary):
            return []
        tokens = TOKENIZERS[words.tokenizer](text)
        return [*dict.fromkeys(token for token in tokens if token not in words.ids)]

    def captions_of(self, image: int) -> list[Found]:
        """The captions of an image, in their order."""
        at = self.place(self.images_at, image, "image")
        rows = torch.nonzero(self.embedded.image_of == at).flatten()
        scores = self.similarity(self.embedded.images[at : at + 1], self.embedded.captions[rows])
        return self.captions_found(rows, scores[0], {at})

    def nearest_images(self, image: int, count: int) -> list[Found]:
        """The other images nearest to an image by cosine, best first."""
        images, at = self.embedded.images, self.place(self.images_at, image, "image")
        best = top_candidates(images[at : at + 1].clone(), images, count + 1)
        others = best.indices[0] != at
        rows, scores = best.indices[0][others][:count], best.scores[0][others][:count]
        return self.images_found(rows, scores, set())

    def negative_captions(self, image: int, count: int) -> list[Found]:
        """The captions that score highest for an image and do not belong to it."""
        found, at = self.embedded, self.place(self.images_at, image, "image")
        mined = mine(
            found.images[at : at + 1].clone(),
            found.captions,
            TopK(count),
            self.similarity,
            query_ids=torch.tensor([at]),
            candidate_ids=found.image_of,
        )
        kept = slice(0, int(mined.counts[0]))
        return self.captions_found(mined.indices[0][kept], mined.scores[0][kept], {at})

    def negative_images(self, caption: int, count: int) -> list[Found]:
        """The images that score highest for a caption and do not belong to it."""
        found, at = self.embedded, self.place(self.captions_at, caption, "caption")
        mined = mine(
            found.captions[at : at + 1].clone(),
            found.images,
            TopK(count),
            self.similarity.swapped(),
            positives=found.image_of[at : at + 1],
        )
        kept = slice(0, int(mined.counts[0]))
        return self.images_found(
            mined.indices[0][kept], mined.scores[0][kept], {int(found.image_of[at])}
        )

    def standing(self, caption: int) -> Standing:
        """Where the image of a caption stands among all images."""
        found, at = self.embedded, self.place(self.captions_at, caption, "caption")
        query, own = found.captions[at : at + 1].clone(), found.image_of[at : at + 1]
        rank = ranks(
            query,
            found.images,
            own,
            torch.arange(len(found.images)),
            similarity=self.similarity.swapped(),
        )
        score = self.similarity(found.images[own], query)
        (image,) = self.images_found(own, score[0], {int(own)})
        return Standing(image, 1 + int(rank[0]), len(found.images))

    def place(self, places: dict[int, int], row: int, kind: str) -> int:
        """The place of a row among the embeddings."""
        if row not in places:
            raise InputError(f"{kind} {row + 1} is not in the index: it is none of the split, or its "
                             "picture could not be read")  # fmt: skip
        return places[row]

    def images_found(self, at: Tensor, scores: Tensor, own: set[int]) -> list[Found]:
        """Places of images as rows of the split."""
        return listed(self.embedded.images_kept, at, scores, lambda place: place in own)

    def captions_found(self, at: Tensor, scores: Tensor, own: set[int]) -> list[Found]:
        """Places of captions as rows of the split."""
        image_of = self.embedded.image_of
        return listed(
            self.embedded.captions_kept, at, scores, lambda place: int(image_of[place]) in own
        )


def listed(
    kept: np.ndarray, at: Tensor, scores: Tensor, belongs: Callable[[int], bool]
) -> list[Found]:
    """Places and their scores, in order."""
    both: Sequence[tuple[int, float]] = [*zip(at.tolist(), scores.tolist(), strict=True)]
    return [Found(int(kept[place]), score, belongs(place)) for place, score in both]


def plain(text: str) -> str:
    """A sentence regardless of case and spaces."""
    return " ".join(text.casefold().split())
