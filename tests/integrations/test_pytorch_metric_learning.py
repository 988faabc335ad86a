"""Strategies as its miners, losses in its trainers: against its own miners and losses."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from hardneg import (
    Ceiling,
    ContrastiveLoss,
    Hardest,
    MultiSimilarityLoss,
    NTXentLoss,
    SemiHard,
    TopK,
    TripletLoss,
)

pytest.importorskip(
    "pytorch_metric_learning",
    reason="the adapter is for those who have it: hardneg[pytorch-metric-learning]",
)

from pytorch_metric_learning import distances, losses, miners, reducers, trainers

from hardneg.integrations.pytorch_metric_learning import HardNegLoss, HardNegMiner


def batch(n: int = 24, classes: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, 6, generator=g).double(), torch.randint(0, classes, (n,), generator=g)


def as_set(triplets: tuple[Tensor, ...]) -> set[tuple[int, ...]]:
    rows = torch.stack(list(triplets), 1).tolist()
    found = {tuple(row) for row in rows}
    assert len(found) == len(rows)
    return found


def test_batch_hard_is_its_miner() -> None:
    x, y = batch()
    assert as_set(HardNegMiner("hardest", "hardest")(x, y)) == as_set(
        miners.BatchHardMiner(distance=distances.CosineSimilarity())(x, y)
    )


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("k", [1, 3])
def test_every_positive_with_the_negatives_of_its_anchor(same: bool, k: int) -> None:
    x, y = batch()
    r, r_labels = (x, y) if same else batch(17, 6, 1)
    found = HardNegMiner(TopK(k))(x, y) if same else HardNegMiner(TopK(k))(x, y, r, r_labels)
    unit = torch.nn.functional.normalize
    scores = unit(x) @ unit(r).T
    expected = set()
    for a in range(len(x)):
        related = y[a] == r_labels
        top = scores[a].masked_fill(related, -2).topk(k).indices.tolist()
        positives = [p for p in related.nonzero().flatten().tolist() if not (same and p == a)]
        expected |= {(a, p, n) for p in positives for n in top}
    assert as_set(found) == expected


def test_negatives_below_each_positive() -> None:
    x, y = batch()
    unit = torch.nn.functional.normalize(x)
    scores = unit @ unit.T
    expected = set()
    for a in range(len(x)):
        for p in (y == y[a]).nonzero().flatten().tolist():
            some = [n for n in range(len(x)) if y[n] != y[a] and scores[a, n] < scores[a, p]]
            if p != a and some:
                expected.add((a, p, max(some, key=lambda n: float(scores[a, n]))))
    assert as_set(HardNegMiner(SemiHard(fallback="none"))(x, y)) == expected
    assert as_set(HardNegMiner(Hardest(Ceiling(), fallback="none"))(x, y)) == expected


def test_anchors_without_a_positive_or_a_negative() -> None:
    x = torch.randn(5, 4)
    for labels in ([0, 1, 2, 3, 4], [0, 0, 0, 0, 0]):
        for positives in ("all", "hardest"):
            found = HardNegMiner("hardest", positives)(x, torch.tensor(labels))
            assert [len(part) for part in found] == [0, 0, 0]
    found = HardNegMiner("hardest")(x, torch.tensor([0, 0, 1, 2, 3]))
    assert set(found[0].tolist()) == {0, 1}


def test_a_miner_for_its_losses_and_its_miners_for_ours() -> None:
    x, y = batch()
    own = losses.TripletMarginLoss(
        margin=0.2, distance=distances.CosineSimilarity(), reducer=reducers.MeanReducer()
    )
    loss = HardNegLoss(TripletLoss(0.2))
    for miner in (
        HardNegMiner(TopK(2)),
        miners.TripletMarginMiner(0.2, "all", distance=distances.CosineSimilarity()),
        miners.MultiSimilarityMiner(0.2),
    ):
        chosen = miner(x, y)
        torch.testing.assert_close(loss(x, y, chosen), own(x, y, chosen))


@pytest.mark.parametrize(
    "given", [NTXentLoss(), MultiSimilarityLoss(), TripletLoss()], ids=lambda x: type(x).__name__
)
def test_calls_of_its_form(given: Any) -> None:
    x, y = batch()
    r, r_labels = batch(17, 6, 1)
    loss = HardNegLoss(given)
    torch.testing.assert_close(loss(x, y), given(x, y))
    expected = given(x, y, r, r_labels)
    torch.testing.assert_close(loss(x, y, ref_emb=r, ref_labels=r_labels), expected)
    pairs = miners.MultiSimilarityMiner(0.3)(x, y, r, r_labels)
    found = loss(x, y, pairs, r, r_labels)
    if not given.takes_triplets:
        torch.testing.assert_close(found, given.from_pairs(x, *pairs, reference=r))
    triplets = HardNegMiner("hardest")(x, y, r, r_labels)
    expected = given.from_triplets(x, *triplets, reference=r)
    torch.testing.assert_close(loss(x, y, triplets, r, r_labels), expected)


@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad=True")
def test_its_trainer_trains() -> None:
    x, y = batch(32, 4)
    data = [(row.float(), int(label)) for row, label in zip(x, y, strict=True)]
    torch.manual_seed(0)
    model = torch.nn.Linear(6, 3)
    before = model.weight.detach().clone()
    trainer = trainers.MetricLossOnly(
        models={"trunk": model},
        optimizers={"trunk_optimizer": torch.optim.SGD(model.parameters(), lr=0.1)},
        batch_size=16,
        loss_funcs={"metric_loss": HardNegLoss(TripletLoss())},
        mining_funcs={"tuple_miner": HardNegMiner("semihard")},
        dataset=data,
        dataloader_num_workers=0,
        data_device=torch.device("cpu"),
    )
    trainer.train(num_epochs=1)
    assert not torch.equal(model.weight, before)


def test_what_they_do_not_take() -> None:
    with pytest.raises(ValueError, match=r"a miner needs a selection, such as TopK"):
        HardNegMiner("all")
    with pytest.raises(TypeError, match="loss"):
        HardNegLoss(ContrastiveLoss())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="has 2 lists"):
        HardNegLoss(TripletLoss())(*batch(), (torch.arange(2), torch.arange(2)))


def test_the_message_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_metric_learning", None)
    monkeypatch.delitem(sys.modules, "hardneg.integrations.pytorch_metric_learning")
    with pytest.raises(ImportError, match=r"pip install 'hardneg\[pytorch-metric-learning\]'"):
        import hardneg.integrations.pytorch_metric_learning  # noqa: F401
