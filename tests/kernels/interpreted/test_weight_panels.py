"""How large the panels of weights are: wide where embeddings are many, never more than their room."""

from __future__ import annotations

import pytest
import torch
from dense_case import case
from test_logsumexp import check

from hardneg.ops.comparison import Relation
from hardneg.ops.energies import Linear
from hardneg.ops.triton import sweep
from hardneg.similarities import Cosine


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sizes of a GPU, which the interpreter does not take."""
    for name, value in {"WEIGHTS": (8192, 4096), "WIDEST": 16384, "ALIGNED": 128}.items():
        monkeypatch.setattr(sweep, name, value)


def panel(n: int, m: int, width: int, size: int) -> tuple[int, int]:
    return sweep.weight_panel((n, m), (n + m) * width * (size + 4), size)


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("n", [1, 300, 8192, 65536])
@pytest.mark.parametrize("width", [1, 64, 1024])
def test_panels_fit_into_their_room(n: int, width: int, size: int) -> None:
    for m in (1, 4096, 20000, 10**6):
        rows, columns = panel(n, m, width, size)
        weights = min(n, rows) * columns * (size + 1)
        smallest = min(n, 8192) * 4096 * (size + 1)
        assert rows == 8192
        assert 4096 <= columns <= 16384
        assert columns % 128 == 0
        assert weights <= max(smallest, min(256 << 20, (n + m) * width * (size + 4)))


@pytest.mark.usefixtures("large")
def test_many_embeddings_take_few_panels() -> None:
    """65,536 x 65,536: 8 x 7 panels of 16-bit weights where 4,096 columns make 8 x 16."""
    assert panel(65536, 65536, 1024, 2)[1] >= 10240
    assert panel(65536, 65536, 1024, 4)[1] > 4096
    assert panel(256, 10**6, 64, 2)[1] == 16384
    assert panel(8192, 8192, 64, 2)[1] == 4096


def test_gradients_from_panels_of_another_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "WIDEST", 200)
    monkeypatch.setattr(sweep, "WEIGHTS", (40, 24))
    one = case(
        3, similarity=Cosine(), dtype=torch.bfloat16, shape=(41, 73, 21), relation=Relation()
    )
    check(one, Linear())
