"""All settings of a run, and how it runs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

from vsepp.errors import InputError
from vsepp.settings.data import Data
from vsepp.settings.limits import POSITIVE
from vsepp.settings.loss import Loss
from vsepp.settings.model import Model
from vsepp.settings.ranges import Range, check_options
from vsepp.settings.schedule import Schedule


@dataclass(frozen=True)
class Settings:
    """One training run."""

    data: Data = field(default_factory=Data)
    model: Model = field(default_factory=Model)
    loss: Loss = field(default_factory=Loss)
    schedule: Schedule = field(default_factory=Schedule)

    def __post_init__(self) -> None:
        if self.schedule.batch_size < 2 and not self.loss.queue:
            raise InputError(
                f"--batch-size is {self.schedule.batch_size}: expected at least 2, because the "
                "negatives of a pair are the others of its batch"
            )
        if self.model.members > 1 and (self.data.layout == "raw" or self.loss.queue):
            raise InputError(
                f"--members is {self.model.members}: expected precomputed features and no --queue"
            )
        if self.loss.own_negatives and self.data.layout == "raw":
            raise InputError(
                "--own-negatives are of precomputed features: see the features command"
            )
        if self.loss.soft_targets and not self.schedule.ema:
            raise InputError(
                "--soft-targets are those of the averaged model: pass --ema too, 0.99 say"
            )

        if self.model.network_of_text is not None and self.data.vocabulary:
            raise InputError(
                f"--vocabulary does not go with --text {self.model.text}: it has its own"
            )

    def record(self) -> dict[str, Any]:
        """The settings as plain values, for a checkpoint or a log."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Settings:
        """Back from plain values; names that this version does not know are refused."""
        parts = {"data": Data, "model": Model, "loss": Loss, "schedule": Schedule}
        if not isinstance(record, dict) or not all(
            isinstance(record.get(part), dict) for part in parts
        ):
            raise InputError(f"the record lacks settings: expected {', '.join(parts)}")
        unknown = [
            f"{part}.{name}"
            for part, kind in parts.items()
            for name in set(record[part]) - {one.name for one in fields(kind)}
        ]
        if unknown:
            raise InputError(
                "the record has settings that this version does not know: "
                f"{', '.join(sorted(unknown))}"
            )
        return cls(**{part: kind(**record[part]) for part, kind in parts.items()})

    def differences(self, other: Settings) -> list[str]:
        """The settings in which two runs differ, as ``part.name: ours, theirs``."""
        ours, theirs = self.record(), other.record()
        return [
            f"{part}.{name}: {ours[part][name]!r}, {theirs[part][name]!r}"
            for part in ours
            for name in ours[part]
            if ours[part][name] != theirs[part][name]
        ]


@dataclass(frozen=True)
class Options:
    """How to run, as opposed to what: but for --start-from, none of these changes the result by more
    than rounding.
    """

    resume: bool = False
    """Go on from the newest checkpoint in the run's folder; start afresh if there is none."""
    overwrite: bool = False
    """Replace a run that is already in the folder, once the new one has a checkpoint."""
    start_from: Path | None = None
    """Start from this model's weights with a fresh optimiser (the paper's second stage)."""
    checkpoint_every: Annotated[int, POSITIVE] = 500
    """Steps between checkpoints; there is one after every validation as well."""
    workers: Annotated[int, Range(0, 256)] | None = None
    """Processes that decode images; None chooses from the cores (features need none)."""
    tensorboard: bool = True
    """Write TensorBoard logs into the run's folder, if tensorboard is installed."""
    compile: bool = False
    """Compile the image network (torch.compile): the first steps take a minute or more, the others
    less; equal to rounding.
    """
    cpu: bool = False
    """Stay on the CPU even if there is a GPU."""
    quiet: bool = False
    """No progress bar; there is none either where the output is no terminal."""

    def __post_init__(self) -> None:
        check_options(self)
