"""Where a run stands: the numbers that a state keeps besides tensors."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vsepp.files.writing import read_json

FILE = "progress.json"
BEST = re.compile(r"best-\d{9,}\.pt")


@dataclass
class Progress:
    """Where a run stands: enough to go on as if nothing had happened."""

    epoch: int = 0
    """Epochs that are complete. What users see counts from 1: history, messages, files."""
    done: int = 0
    """Batches of the epoch under way that have been trained on."""
    step: int = 0
    loss_total: float = 0.0
    """Sum of this epoch's losses, and of its seconds of training."""
    seconds: float = 0.0
    best_rsum: float = -1.0
    best_epoch: int = 0
    """The epoch of the best validation, from 1; 0 before the first."""
    best_file: str = ""
    best_sha256: str = ""
    collapse_streak: int = 0
    collapse_steps: list[int] = field(default_factory=list)
    skipped: int = 0
    """Pairs left out because their image could not be read; of which in this epoch."""
    skipped_in_epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    processes: int = 1
    loss_scale: dict[str, float] = field(default_factory=dict)
    """The state of the loss scaler of fp16."""
    changes: list[str] = field(default_factory=list)
    """Settings that were changed when the run was resumed, and at which step."""

    def text(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self))

    def told(self, row: dict[str, Any]) -> str:
        """A row of the history in words."""
        left_out = f", {self.skipped:,} pairs left out so far" if self.skipped else ""
        trained = f"loss {row['loss']:.2f}, {row['seconds']:.1f} s{left_out}"
        return f"epoch {row['epoch']}: {trained}"

    def go_on(self, epochs: int, changed: list[str], folder: Path) -> list[str]:
        """Take up training up to so many epochs, with these settings changed; what to say of it."""
        if self.epoch > epochs:
            raise ValueError(
                f"{folder} has trained {self.epoch} epochs already: --epochs {epochs} would be fewer"
            )
        self.changes += [f"after step {self.step}: {one}" for one in changed]
        said = [f"resuming in epoch {self.epoch + 1}, after step {self.step}"]
        if changed:
            said.append(f"with other settings from here on (before, now): {'; '.join(changed)}")
        return said


def read_progress(state: Path) -> Progress:
    """The progress that a state folder records; the name of its best model is one inside the
    run's folder.
    """
    path = state / FILE
    values = read_json(path)
    try:
        progress = Progress(**values)
        known = progress.best_file == "" or BEST.fullmatch(progress.best_file) is not None
    except TypeError as error:
        raise ValueError(f"{path} is not the progress of a run: {error}") from error
    if not known:
        raise ValueError(f"{path} names {progress.best_file!r} as its best model: refused")
    return progress
