"""Observations in TensorBoard, by the user's own writer."""

from __future__ import annotations

from typing import Any, Protocol

from hardneg.diagnostics.histogram import Histogram
from hardneg.diagnostics.observation import Observation

__all__ = ["Writer", "check_writer", "write_observation"]


class Writer(Protocol):
    """What is used of a ``torch.utils.tensorboard.SummaryWriter``."""

    def add_scalar(self, tag: str, scalar_value: Any, global_step: Any = None) -> Any:
        """Write a number."""

    def add_histogram(self, tag: str, values: Any, global_step: Any = None, bins: Any = ...) -> Any:
        """Write a histogram."""

    def add_figure(self, tag: str, figure: Any, global_step: Any = None) -> Any:
        """Write a picture of a matplotlib figure."""


def check_writer(writer: Any) -> Any:
    """A writer, or None.

    Raises:
        TypeError: for what writes no numbers and histograms.
    """
    wanted = ("add_scalar", "add_histogram")
    if writer is not None and not all(hasattr(writer, name) for name in wanted):
        raise TypeError(
            f"writer is {writer!r}: expected a torch.utils.tensorboard.SummaryWriter, or an object with its "
            f"{' and '.join(wanted)}"
        )
    return writer


def write_observation(writer: Writer, seen: Observation, tag: str) -> None:
    """Write every number, and both histograms."""
    for name, value in seen.as_dict().items():
        writer.add_scalar(f"{tag}/{name}", value, seen.step)
    for name, counted in (("positives", seen.positives), ("negatives", seen.negatives)):
        if int(counted.counts.sum()):
            write_histogram(writer, f"{tag}/scores/{name}", counted, seen.step)


def write_histogram(writer: Writer, name: str, counted: Histogram, step: int) -> None:
    """Write the counts: the middle of every bin as often as it was counted, in the same bins."""
    middles = (counted.edges[1:] + counted.edges[:-1]) / 2
    values = middles.repeat_interleave(counted.counts)
    writer.add_histogram(name, values.numpy(), step, bins=counted.edges.numpy())
