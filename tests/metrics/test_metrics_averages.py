"""Averages."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hardneg.metrics import (
    mean_rank,
    mean_reciprocal_rank,
    median_rank,
    recall_at_k,
)


def test_averages_by_hand():
    found = torch.tensor([0, 4, -1, 2, 9, 0, -1])
    assert [recall_at_k(found, k) for k in (1, 3, 5, 10)] == [0.4, 0.6, 0.8, 1.0]
    assert median_rank(found) == 3
    assert median_rank(torch.tensor([1, 4])) == 3
    assert median_rank(torch.tensor([1, 1, 2, 6])) == 2
    assert mean_rank(found) == 4.0
    expected = (1 + 1 / 5 + 1 / 3 + 1 / 10 + 1) / 5
    assert mean_reciprocal_rank(found) == pytest.approx(expected, abs=1e-15)


@settings(deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 1000), min_size=1, max_size=40))
def test_median_and_mean_as_the_authors_compute_them(values):
    found = torch.tensor(values)
    assert median_rank(found) == np.floor(np.median(values)) + 1
    assert mean_rank(found) == pytest.approx(np.mean(values) + 1)
