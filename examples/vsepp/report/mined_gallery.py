"""The negatives that mining found while a run was under way, with captions and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vsepp.data.splits import Split
from vsepp.report.gallery import picture_at
from vsepp.report.run_schema import number

SHOWN_EPOCHS = (1, 5)
"""Epochs whose mined negatives are kept to look at, with those of the last."""


def mined_gallery(history: Sequence[dict[str, Any]], dev: Split) -> list[dict[str, Any]]:
    """For the first, the fifth and the last epoch: anchors, and their hardest negatives."""
    last = history[-1]["epoch"]
    rows = {row["epoch"]: row["mined"] for row in history if "mined" in row}
    return [
        {"epoch": epoch, "anchors": [anchor(one, dev) for one in rows[epoch]]}
        for epoch in dict.fromkeys((*SHOWN_EPOCHS, last))
        if epoch in rows
    ]


def anchor(pairs: Sequence[Sequence[Any]], dev: Split) -> dict[str, Any]:
    """An image with its caption, and the captions of other images that come nearest to it."""
    own, *others = [pair(one, dev) for one in pairs]
    return {**own, "negatives": others}


def pair(found: Sequence[Any], dev: Split) -> dict[str, Any]:
    """A pair of the dev split, and the score of its caption; a state from elsewhere may name one
    that is not there.
    """
    row, score = found
    there = number(row) and isinstance(row, int) and 0 <= row < len(dev.captions)
    if not there or not number(score):
        raise ValueError(f"the state's mined negatives name pair {row!r}, which {dev.where} lacks")
    image = int(dev.image_of[row])
    return {"caption": dev.captions[row], "picture": picture_at(dev, image), "score": score}
