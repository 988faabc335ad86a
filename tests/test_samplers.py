"""Batch samplers: what every batch holds, exact resume, and ranks that share one batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from hardneg import TopK, mine
from hardneg.training import ClassBatches, EpochBatches, NeighbourBatches, UniqueIdBatches

LABELS = torch.tensor([i // 5 for i in range(60)] + [99] * 2 + [98])
NEAR = mine(torch.randn(50, 4), torch.randn(50, 4), TopK(3)).indices


def samplers(**options: Any) -> list[EpochBatches]:
    return [
        ClassBatches(LABELS, 3, 4, **options),
        UniqueIdBatches(LABELS, 6, **options),
        UniqueIdBatches(LABELS, 6, drop_last=False, **options),
        NeighbourBatches(NEAR, 8, 5, **options),
    ]


def test_classes_and_rows() -> None:
    sampler = ClassBatches(LABELS, 4, 3, batches=50)
    seen = torch.zeros(len(LABELS))
    for batch in sampler:
        labels = LABELS[batch].view(4, 3)
        assert (labels == labels[:, :1]).all()
        assert len(labels[:, 0].unique()) == 4
        for label, rows in zip(labels[:, 0], torch.tensor(batch).view(4, 3), strict=True):
            assert len(rows.unique()) == min(3, int((label == LABELS).sum()))
        seen += torch.bincount(torch.tensor(batch), minlength=len(LABELS))
    assert (seen > 0).all()
    counts = torch.tensor([seen[label == LABELS].sum() for label in LABELS.unique()])
    assert counts.max() - counts.min() <= 2 * 3
    assert len(sampler) == 50


@pytest.mark.parametrize("seed", range(5))
def test_no_id_twice_and_every_row_once(seed: int) -> None:
    for drop in (True, False):
        batches = list(UniqueIdBatches(LABELS, 6, drop_last=drop, seed=seed))
        rows = [row for batch in batches for row in batch]
        assert len(rows) == len(set(rows))
        for batch in batches:
            assert len(LABELS[batch].unique()) == len(batch)
        if not drop:
            assert sorted(rows) == list(range(len(LABELS)))
        else:
            assert all(len(batch) == 6 for batch in batches)


def test_neighbours_share_a_batch() -> None:
    """Two far groups of four: with clusters of four each batch holds one group."""
    near = torch.tensor([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])
    near = torch.cat([near, near + 4])
    for seed in range(5):
        found = {tuple(sorted(batch)) for batch in NeighbourBatches(near, 4, 4, seed=seed)}
        assert found == {(0, 1, 2, 3), (4, 5, 6, 7)}
    rows = [row for batch in NeighbourBatches(NEAR, 8, 5) for row in batch]
    assert sorted(rows) == list(range(50))


@pytest.mark.parametrize("which", range(4))
def test_goes_on_exactly(which: int) -> None:
    whole = samplers(seed=3)[which]
    epochs = [list(whole) for _ in range(3)]
    assert epochs[0] != epochs[1]
    for stop in (0, 1, len(epochs[1]) - 1):
        first = samplers(seed=3)[which]
        assert list(first) == epochs[0]
        running = iter(first)
        taken = [next(running) for _ in range(stop)]
        later = samplers(seed=3)[which]
        later.load_state_dict(first.state_dict())
        assert taken + list(later) == epochs[1]
        assert list(later) == epochs[2]
    prefetched = samplers(seed=3)[which]
    list(zip(range(2), prefetched, strict=False))
    behind = samplers(seed=3)[which]
    behind.load_state_dict(prefetched.state_dict(trained=1))
    assert list(behind) == epochs[0][1:]
    behind.set_epoch(2)
    assert list(behind) == epochs[2]


@pytest.mark.parametrize("which", range(4))
def test_ranks_share_a_batch(which: int) -> None:
    parts = [list(samplers(seed=1, rank=r, ranks=2)[which]) for r in range(2)]
    assert len(parts[0]) == len(parts[1])
    for first, second in zip(*parts, strict=True):
        assert len(first) - len(second) in (0, 1)
        assert not set(first) & set(second)
        if which == 0:
            assert not set(LABELS[first].tolist()) & set(LABELS[second].tolist())
        if which in (1, 2):
            both = LABELS[first + second]
            assert len(both.unique()) == len(both)


def test_in_a_data_loader() -> None:
    data = TensorDataset(torch.arange(len(LABELS)), LABELS)
    sampler = ClassBatches(LABELS, 3, 2)
    expected = [LABELS[batch] for batch in ClassBatches(LABELS, 3, 2)]
    for (_, labels), right in zip(DataLoader(data, batch_sampler=sampler), expected, strict=True):
        assert labels.equal(right)


MISTAKES: list[tuple[Any, str]] = [
    (lambda: ClassBatches(LABELS, 20, 2), "there are 14"),
    (lambda: ClassBatches(LABELS.float(), 2, 2), "integer tensor"),
    (lambda: ClassBatches(LABELS, 0, 2), "classes is 0"),
    (lambda: UniqueIdBatches(LABELS, 15), "no batch can be filled"),
    (lambda: UniqueIdBatches(LABELS[:0], 1), "none empty"),
    (lambda: UniqueIdBatches(LABELS, 2, rank=2, ranks=2), "rank is 2 of 2"),
    (lambda: NeighbourBatches(LABELS, 2), "2 dimensions"),
    (lambda: NeighbourBatches(torch.tensor([[5]]), 2), "row 5 of 1"),
]


@pytest.mark.parametrize(("call", "message"), MISTAKES)
def test_mistakes(call: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        call()
