"""Statistics as plain numbers, read at once, in an accelerate tracker and in TensorBoard's files."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from hardneg import InfoNCELoss, MiningStatistics
from hardneg.integrations.trackers import log_statistics, plain_numbers


def statistics() -> MiningStatistics:
    torch.manual_seed(0)
    _, found = InfoNCELoss()(torch.randn(8, 4), torch.randn(8, 4), return_stats=True)
    return replace(found, masked_count=torch.tensor(2**40 + 1))


class Reads(TorchDispatchMode):
    """Counts what brings a number to Python."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_numbers_are_plain_and_exact() -> None:
    stats = statistics()
    found = plain_numbers(stats, prefix="train/")
    assert {type(x) for x in found.values()} == {float}
    for f in fields(stats):
        assert found[f"train/{f.name}"] == float(getattr(stats, f.name))
    assert found["train/masked_count"] == 2**40 + 1
    with pytest.raises(TypeError, match="statistics"):
        plain_numbers({"gap": 1.0})  # type: ignore[arg-type]


def test_no_number_is_read_by_itself() -> None:
    stats = statistics()
    with Reads() as reads:
        plain_numbers(stats)
        assert reads.count == 0
        float(stats.gap)
        assert reads.count == 1


def test_an_accelerator_logs_them(tmp_path: Path) -> None:
    accelerate = pytest.importorskip("accelerate", reason="what logs them: hardneg[demo]")
    pytest.importorskip("tensorboard", reason="the tracker that is tested: hardneg[vsepp]")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    stats = statistics()
    accelerator = accelerate.Accelerator(cpu=True, log_with="tensorboard", project_dir=tmp_path)
    accelerator.init_trackers("run")
    log_statistics(accelerator, stats, step=30)
    accelerator.end_training()
    events = EventAccumulator(str(tmp_path / "run")).Reload()
    (event,) = events.Scalars("mining/gap")
    assert (event.step, event.value) == (30, pytest.approx(float(stats.gap)))
    assert len(events.Tags()["scalars"]) == len(fields(stats))
