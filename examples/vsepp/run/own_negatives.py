"""Negatives of every training pair, mined among all training images and captions before an epoch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hardneg import Ceiling, TopK, mine
from vsepp.data.pairs import Own, Pairs
from vsepp.evaluate import Embedded
from vsepp.retrieval import similarity_of
from vsepp.settings import Loss


class OwnNegatives(nn.Module):
    """The hardest captions for the image of every pair, and the hardest images for its caption.

    ``captions`` and ``images`` are rows of the training split, ``pairs x count``; a place without a
    negative holds the pair's own, which the loss leaves out by its id. They are part of a checkpoint,
    as a run that is resumed within an epoch cannot mine them again.
    """

    def __init__(self, image_of: Tensor, settings: Loss) -> None:
        super().__init__()
        self.settings, self.image_of = settings, image_of
        own = torch.arange(len(image_of)).unsqueeze(1).repeat(1, settings.own_negatives)
        self.register_buffer("captions", own)
        self.register_buffer("images", image_of[own])
        self.register_buffer("mined", torch.tensor(False))

    def mine(self, embedded: Embedded) -> None:
        """Mine all pairs anew, by the embeddings of the whole training split."""
        images, captions, image_of = embedded.images, embedded.captions, embedded.image_of
        ceiling = Ceiling(self.settings.ceiling) if self.settings.ceiling else None
        strategy = TopK(self.settings.own_negatives, ceiling)
        similarity = similarity_of(self.settings.measure)
        numbers = torch.arange(len(images))
        of_images = mine(
            images, captions, strategy, similarity, query_ids=numbers, candidate_ids=image_of
        ).indices[image_of]
        of_captions = mine(
            captions,
            images,
            strategy,
            similarity.swapped(),
            query_ids=image_of,
            candidate_ids=numbers,
        ).indices
        pairs = torch.arange(len(captions)).unsqueeze(1)
        self.captions.copy_(torch.where(of_images >= 0, of_images, pairs))
        self.images.copy_(torch.where(of_captions >= 0, of_captions, image_of.unsqueeze(1)))
        self.mined.fill_(True)

    def of(self, picks: Sequence[int]) -> Own | None:
        """Captions and images for these pairs, one row after the other, and the images' numbers of
        both, ``2 x pairs x count``; None before the first mining.
        """
        if not self.mined:
            return None
        chosen = list(picks)
        captions, images = self.captions[chosen], self.images[chosen]
        ids = torch.stack([self.image_of[captions], images])
        return captions.flatten(), images.flatten(), ids


def own_negatives_of(pairs: Pairs, settings: Loss) -> OwnNegatives | None:
    """Own negatives that the pairs hand out with their batches; None where none are asked for."""
    if not settings.own_negatives:
        return None
    own = OwnNegatives(torch.from_numpy(pairs.split.image_of.astype("int64")), settings)
    pairs.own_of = own.of
    return own
