"""What mining is compared with finds the same."""

from __future__ import annotations

import pytest
import torch

from benchmarks.mining import CONTENDERS, Mined


@pytest.mark.parametrize("name", CONTENDERS)
@pytest.mark.parametrize("k", [2, 9])
def test_contenders_find_the_same(name: str, k: int) -> None:
    mined = Mined.of(30, 20_000, 16)
    scores = mined.queries.double() @ mined.candidates.double().T
    if "ids" in name or "ceiling" in name:
        scores.fill_diagonal_(-2)
    if "ceiling" in name:
        own = (mined.queries * mined.candidates[:30]).sum(1, keepdim=True)
        scores[scores >= own - 1e-5] = -2
    expected = scores.topk(k, dim=1).values
    torch.testing.assert_close(
        scores.gather(1, CONTENDERS[name](mined, k)), expected, rtol=0, atol=1e-6
    )
