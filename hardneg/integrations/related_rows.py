"""Which rows of (anchor, positive) texts are related: those that share a text, directly or through other rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.distributed.collectives import Ranks
from hardneg.distributed.layout import Layout

if TYPE_CHECKING:
    from jaxtyping import Int

__all__ = ["RelatedRows"]


@dataclass(frozen=True, eq=False, repr=False)
class RelatedRows:
    """Ids of rows and of texts, made without reading from the device in one process.

    Attributes:
        rows: the id of each row of this process, below ``total``.
        total: how many rows there are in all processes.
        texts: the texts of all rows by number, sorted; empty where repeated ones do not matter.
        ids: the id of each of them.
    """

    rows: Int[Tensor, "n"]
    total: int
    texts: Int[Tensor, "t"]
    ids: Int[Tensor, "t"]

    @classmethod
    def of_texts(
        cls, anchors: Int[Tensor, "n"], positives: Int[Tensor, "n"], ranks: Ranks | None = None
    ) -> RelatedRows:
        """Rows are related where an anchor or positive of one is an anchor or positive of the other.

        Args:
            anchors, positives: numbers of the texts of this process's rows.
            ranks: with the rows of whom; all must call.
        """
        pairs, own = torch.stack([anchors, positives], 1), slice(0, len(anchors))
        if ranks is not None:
            layout = layout_of(len(anchors), ranks)
            pairs = layout.joined(ranks.all_gather(layout.padded(pairs)))
            start = layout.start(ranks.rank)
            own = slice(start, start + len(anchors))
        texts = pairs.flatten().sort().values
        places = torch.searchsorted(texts, pairs)
        labels = joined_labels(places)
        ids = smallest_by_text(places, labels)
        return cls(labels[own], len(pairs), texts, ids)

    @classmethod
    def of_places(cls, rows: int, device: torch.device, ranks: Ranks | None = None) -> RelatedRows:
        """Every row is related to itself alone."""
        layout = Layout((rows,), (rows,)) if ranks is None else layout_of(rows, ranks)
        start = layout.start(0 if ranks is None else ranks.rank)
        none = torch.empty(0, dtype=torch.long, device=device)
        return cls(torch.arange(start, start + rows, device=device), layout.total, none, none)

    def of(self, texts: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
        """The ids of other texts: of the rows that have the same one, else a number that no row has."""
        if not len(self.texts):
            return torch.full_like(texts, self.total)
        places = torch.searchsorted(self.texts, texts).clamp(max=len(self.texts) - 1)
        return torch.where(self.texts[places] == texts, self.ids[places], self.total)


def layout_of(rows: int, ranks: Ranks) -> Layout:
    """Which rows every rank holds."""
    told = ranks.all_gather(torch.tensor([rows], device=ranks.device)).flatten().tolist()
    return Layout(tuple(told), tuple(told))


def joined_labels(places: Int[Tensor, "n 2"]) -> Int[Tensor, "n"]:
    """For each row the smallest number among the rows that it is joined to through common texts.

    Every round takes the smallest label of the rows with a common text, hands it to the row that the label names, and
    follows labels by one step (Zhang et al., "FastSV", 2020): the longest chains halve, so that the number of rounds
    is known beforehand.
    """
    n = len(places)
    labels = torch.arange(n, device=places.device)
    for _ in range(2 * n.bit_length()):
        smallest = smallest_by_text(places, labels)[places].amin(1)
        labels = torch.minimum(labels.scatter_reduce(0, labels, smallest, "amin"), smallest)
        labels = labels[labels]
    return labels


def smallest_by_text(places: Int[Tensor, "n 2"], labels: Int[Tensor, "n"]) -> Int[Tensor, "t"]:
    """The smallest label of the rows with each text."""
    none = labels.new_full((places.numel(),), len(labels))
    return none.scatter_reduce(0, places.flatten(), labels.repeat_interleave(2), "amin")
