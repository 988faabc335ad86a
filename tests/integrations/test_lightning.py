"""The module of Lightning: as a plain loop, with statistics at logged steps, caching, a learned temperature."""

from __future__ import annotations

import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from hardneg import InfoNCELoss, Learned, Matryoshka, MiningStatistics, TripletLoss

OPTIMIZER = partial(torch.optim.SGD, lr=0.5)
NOISE = [
    "ignore:The .*dataloader.* does not have many workers",
    "ignore:The number of training batches",
    "ignore:GPU available",
]
pytestmark = [
    # imported by the tests themselves, since it takes long
    pytest.mark.skipif(
        find_spec("lightning") is None,
        reason="the module is for those who have it: hardneg[lightning]",
    ),
    *[pytest.mark.filterwarnings(line) for line in NOISE],
]


def data() -> list[Tensor]:
    g = torch.Generator().manual_seed(0)
    first, second = (torch.randn(24, width, generator=g) for width in (5, 6))
    return [first, second, torch.arange(24) // 2]


def encoders() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    return nn.Linear(5, 4), nn.Linear(6, 4)


def contrastive_module(*arguments: Any, **options: Any) -> Any:
    from hardneg.integrations.lightning import ContrastiveModule

    return ContrastiveModule(*arguments, **options)


def fitted(out: Path, loss: nn.Module, **options: Any) -> tuple[Any, list[dict[str, str]]]:
    """Three steps of the real trainer, and what it logged."""
    from lightning.pytorch import Trainer
    from lightning.pytorch.loggers import CSVLogger

    module = contrastive_module(*encoders(), loss, optimizer=OPTIMIZER, **options)
    loader = DataLoader(TensorDataset(*data()), batch_size=8)
    trainer = Trainer(
        accelerator="cpu", max_epochs=1, log_every_n_steps=2, enable_progress_bar=False,
        logger=CSVLogger(out), enable_checkpointing=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, loader, loader)
    lines = (Path(trainer.logger.log_dir) / "metrics.csv").read_text().splitlines()
    names = lines[0].split(",")
    return module, [dict(zip(names, line.split(","), strict=True)) for line in lines[1:]]


def by_hand(
    loss: nn.Module,
) -> tuple[list[nn.Module], list[float], list[MiningStatistics]]:
    modules = [*encoders(), loss]
    optimizer = OPTIMIZER([p for m in modules for p in m.parameters()])
    values, found = [], []
    for first, second, ids in zip(*(x.split(8) for x in data()), strict=True):
        optimizer.zero_grad()
        embeddings = modules[0](first), modules[1](second)
        value, stats = loss(*embeddings, query_ids=ids, candidate_ids=ids, return_stats=True)
        value.backward()
        optimizer.step()
        values.append(value.item())
        found.append(stats)
    return modules, values, found


@pytest.mark.parametrize("chunk", [None, 3])
@pytest.mark.parametrize("wrapped", [False, True], ids=["plain", "Matryoshka"])
def test_equals_a_plain_loop(tmp_path: Path, chunk: int | None, wrapped: bool) -> None:
    def loss() -> nn.Module:
        inner = InfoNCELoss(Learned(0.2), "hardest")
        return Matryoshka(inner, (4, 2)) if wrapped else inner

    modules, values, stats = by_hand(loss())
    module, logged = fitted(tmp_path, loss(), chunk_size=chunk)
    for ours, plain in zip((module.first, module.second, module.loss), modules, strict=True):
        for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(a, b)
    (row,) = [row for row in logged if row.get("train/loss")]
    assert float(row["train/loss"]) == pytest.approx(values[1], rel=1e-5)
    for name, number in stats[1].as_dict().items():
        assert float(row[f"mining/{name}"]) == pytest.approx(number, rel=1e-4, abs=1e-6)
    assert any(row.get("val/loss") for row in logged)


def test_statistics_are_left_out_if_not_asked_for(tmp_path: Path) -> None:
    _, logged = fitted(tmp_path, InfoNCELoss(), log_statistics=False)
    assert not any("mining/gap" in row for row in logged)


def test_inputs_by_place_and_by_name() -> None:
    class Sum(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return a + 2 * b

    module, (a, b) = (
        contrastive_module(Sum(), Sum(), InfoNCELoss()),
        torch.randn(2, 6, 4),
    )
    plain, _, rows = module.loss_of(((a, b), {"b": b, "a": a}), False)
    torch.testing.assert_close(plain, InfoNCELoss()(a + 2 * b, a + 2 * b, query_ids=torch.arange(6),
                                                    candidate_ids=torch.arange(6)))  # fmt: skip

    assert rows == 6


def test_what_it_does_not_take() -> None:
    for loss in (TripletLoss(), nn.MSELoss()):
        with pytest.raises(TypeError, match="loss"):
            contrastive_module(*encoders(), loss)
    with pytest.raises(ValueError, match="chunk_size"):
        contrastive_module(*encoders(), InfoNCELoss(), chunk_size=0)


def test_the_message_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightning", None)
    monkeypatch.delitem(sys.modules, "hardneg.integrations.lightning", raising=False)
    with pytest.raises(ImportError, match=r"pip install 'hardneg\[lightning\]'"):
        import hardneg.integrations.lightning  # noqa: F401
