"""Configurations beside those of the table, to be measured."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from benchmarks.gpu.place import Place

LOSS_OF = {"best": "hardest", "dense": "InfoNCE", "weigh": "all (hinge)"}
"""A case that launches this entry of the table, with 16-bit embeddings (InfoNCE launches ``"weigh"`` too)."""

SIZES = (
    (64, 64, 64, 4, 3),
    (128, 64, 64, 8, 3),
    (128, 128, 64, 8, 3),
    (128, 128, 64, 8, 4),
    (128, 128, 64, 4, 4),
    (128, 256, 64, 8, 3),
    (128, 256, 64, 8, 4),
    (64, 128, 64, 4, 4),
    (64, 256, 64, 8, 4),
    (128, 128, 128, 8, 2),
)
"""Rows, columns, depth, warps, stages."""


def alternatives(kernel: str, place: Place) -> Iterator[tuple[tuple[str, str, str], object]]:
    """Keys of the table with configurations to try, the table's own first."""
    from hardneg.ops.triton.launch import architecture
    from hardneg.ops.triton.tuning import Configuration, configuration

    key = (kernel, "product16", architecture(torch.device(place.device)))
    own = configuration(*key)
    yield key, own
    if place.small:
        return
    for size in SIZES:
        if Configuration(*size) != own:
            yield key, Configuration(*size)
