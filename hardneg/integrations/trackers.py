"""Statistics of a loss for trackers of experiments: TensorBoard, W&B, trackio, whatever accelerate logs to."""

from __future__ import annotations

from typing import Any

from hardneg.checks import check_type
from hardneg.losses.mining_statistics import MiningStatistics

__all__ = ["log_statistics", "plain_numbers"]


def plain_numbers(statistics: MiningStatistics, prefix: str = "mining/") -> dict[str, float]:
    """Plain numbers by name, read from the device at once.

    Args:
        statistics: of a call with ``return_stats=True``.
        prefix: before each name.

    Example:
        >>> import torch
        >>> from hardneg import InfoNCELoss
        >>> _, stats = InfoNCELoss()(torch.eye(3), torch.eye(3), return_stats=True)
        >>> plain_numbers(stats)["mining/positive_mean"]
        1.0
    """
    check_type("statistics", statistics, MiningStatistics)
    return {prefix + name: value for name, value in statistics.as_dict().items()}


def log_statistics(
    accelerator: Any, statistics: MiningStatistics, step: int, prefix: str = "mining/"
) -> None:
    """Log them to all trackers of an ``accelerate.Accelerator``, from its main process alone.

    Waits for the device; call it every hundredth step or so, and pass ``return_stats=True`` in those alone.

    Args:
        accelerator: whose trackers ``init_trackers`` has started.
        statistics: of a call with ``return_stats=True``; across ranks they are global already.
        step: which step of training they are of.
        prefix: before each name.
    """
    if accelerator.is_main_process:
        accelerator.log(plain_numbers(statistics, prefix), step=step)
