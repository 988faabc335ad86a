"""A part of a product of choices in which each meets each of another kind."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest

__all__ = ["covering"]


def covering(parts: int, **choices: Sequence[object]) -> pytest.MarkDecorator:
    """Parametrize by every combination; all but one in so many are ``full``.

    Of three kinds of choices or more, with at least ``parts`` of each, every pair remains.
    """
    kinds = [list(enumerate(values)) for values in choices.values()]
    cases = []
    for combination in itertools.product(*kinds):
        places, values = zip(*combination, strict=True)
        marks = () if sum(places) % parts == 0 else pytest.mark.full
        cases.append(pytest.param(*values, marks=marks))
    return pytest.mark.parametrize(tuple(choices), cases, ids=str)
