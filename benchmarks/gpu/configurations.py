"""Configurations beside those of the table, to be measured."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import astuple, replace
from typing import Any

import torch

from benchmarks.gpu.place import Place

Key = tuple[Any, ...]

SIZES = (
    (128, 128, 64, 4, 3),  # two programs a multiprocessor
    (128, 256, 64, 8, 3),
    (128, 256, 64, 8, 4),
    (128, 128, 64, 8, 3),
    (128, 128, 64, 8, 4),
    (128, 64, 64, 8, 3),
    (128, 64, 64, 4, 4),
    (64, 128, 64, 4, 4),
    (64, 64, 64, 4, 3),
    (64, 256, 64, 8, 4),
    (128, 128, 128, 8, 2),
)
"""Rows, columns, depth, warps, stages."""


VARIANTS = {"dense": "light16", "weigh": "light16", "top": "short16"}
"""Entries of their own that the measured losses take: light terms, lists of up to eight."""


def alternatives(kernel: str, width: int, place: Place) -> Iterator[tuple[Key, Any]]:
    """Keys of the table with configurations to try, the table's own first."""
    from hardneg.ops.triton.launch import architecture
    from hardneg.ops.triton.tuning import NARROW, TABLE, Configuration, configuration

    at = architecture(torch.device(place.device))
    special = (kernel, VARIANTS.get(kernel, "product16"), at)
    if kernel not in VARIANTS and width <= NARROW:
        special = (kernel, "narrow16", at)
    key = special if special in TABLE else (kernel, "product16", at)
    own = configuration(*key)
    yield key, own
    if place.small:
        yield key, replace(own, rows=2 * own.rows)
        return
    for size in SIZES:
        if Configuration(*size) != own:
            yield key, Configuration(*size)


def table_line(key: Key, configuration: Any) -> str:
    """An entry as it stands in ``tuning.TABLE``."""
    where = ", ".join(json.dumps(part) for part in key)
    return f"TABLE[{where}] = {type(configuration).__name__}{astuple(configuration)}"
