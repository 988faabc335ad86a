"""The ranges that several settings share."""

from __future__ import annotations

from vsepp.settings.ranges import Range

MANY = 1_000_000
LARGEST_SEED = 2**32 - 1
COUNT, POSITIVE = Range(0, MANY), Range(1, MANY)
SEED = Range(0, LARGEST_SEED)
FRACTION = Range(0, 1, below=True)
STEP_SIZE = Range(0, 1, above=True)
NORM = Range(0, 1e9, above=True)
