"""Features of a user's images: rows of an array beside the table, or lists in the table."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vsepp.data.own.tables import Table
from vsepp.data.precomp import check_numbers, check_variety, open_features
from vsepp.errors import InputError

LARGEST_DIGITS = 12
Feature = int | np.ndarray


def features_of(table: Table, column: str) -> list[Feature]:
    """The feature of every row: its row's number in an array, or the numbers themselves."""
    values = table.column(column)
    return [feature_of(value, table.place(row)) for row, value in enumerate(values)]


def feature_of(value: Any, place: str) -> Feature:
    """One of them."""
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, list):
        return numbers_of(value, place)
    written = value.strip() if isinstance(value, str) else str(value)
    if isinstance(value, bool) or not (written.isascii() and written.isdigit()):
        raise InputError(
            f"{place}: the feature is {value!r:.60}: expected the number of a row, counted from 0"
        )
    if len(written) > LARGEST_DIGITS:
        raise InputError(f"{place}: the feature is row {written:.60}: expected a smaller number")
    return int(written)


def numbers_of(value: list[Any], place: str) -> np.ndarray:
    """A list of numbers as an array."""
    try:
        if not value or not all(type(one) in (int, float) for one in value):
            raise ValueError
        with np.errstate(over="ignore"):
            return np.array(value, dtype=np.float64).astype(np.float32)
    except (ValueError, OverflowError) as error:
        raise InputError(
            f"{place}: the feature is {value!r:.60}: expected a list of numbers"
        ) from error


def feature_key(feature: Feature) -> str:
    """What tells features apart: the number of their row, or the numbers."""
    if isinstance(feature, int):
        return str(feature)
    return hashlib.sha256(feature.tobytes()).hexdigest()


def feature_array(
    features: Sequence[Feature], places: Sequence[str], beside: Path
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """An array, which of its rows each image has, and notes. ``places`` say where images stand, and
    ``beside`` is the array that numbers are rows of.
    """
    if all(isinstance(one, int) for one in features):
        array, rows = open_features(beside), np.array(features)
        for row, place in zip(features, places, strict=True):
            if row >= len(array):
                raise InputError(
                    f"{place}: the feature is row {row}, and {beside} has {len(array):,} rows, "
                    "counted from 0"
                )
        notes, where = check_numbers(beside, array), beside
    else:
        array, rows, where = stacked(features, places), np.arange(len(features)), Path(places[0])
        notes = check_numbers(Path("the features"), array)
    check_variety(where, array[rows])
    return array, rows, notes


def stacked(features: Sequence[Feature], places: Sequence[str]) -> np.ndarray:
    """Lists of numbers as one array."""
    first = features[0]
    for feature, place in zip(features, places, strict=True):
        if isinstance(feature, int) or isinstance(first, int) or feature.shape != first.shape:
            raise InputError(
                f"{place}: the feature is {size(feature)}, and {size(first)} at {places[0]}: "
                "expected as many numbers for every image"
            )
    array = np.stack(features)
    bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if len(bad):
        raise InputError(
            f"{places[bad[0]]}: the feature holds NaN or infinity: extract the features of that "
            "image again"
        )
    return array


def size(feature: Feature) -> str:
    """What a feature is, for a message."""
    return "a row's number" if isinstance(feature, int) else f"{len(feature)} numbers"
