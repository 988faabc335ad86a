"""What a run leaves on disk, written so that a kill at any moment leaves a whole checkpoint behind.

A run's folder holds ``state-<step>/`` (accelerate's state: model, optimiser, random generators;
and our ``progress.json``), ``best-<step>.pt`` (the best model with its settings and vocabulary),
and, at the end, ``result.json``. A state folder gets its name only when it is complete, and names
its best model.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from vsepp.files import to_disk, write_file
from vsepp.settings import Settings
from vsepp.vocabulary import Vocabulary

FORMAT = "hardneg vsepp 1"


@dataclass
class Progress:
    """Where a run stands: enough to go on as if nothing had happened."""

    epoch: int = 0
    done: int = 0
    """Batches of this epoch that have been trained on."""
    step: int = 0
    loss_total: float = 0.0
    """Sum of this epoch's losses, and of its seconds of training."""
    seconds: float = 0.0
    best_rsum: float = -1.0
    best_epoch: int = -1
    best_file: str = ""
    collapse_streak: int = 0
    collapse_steps: list[int] = field(default_factory=list)
    skipped: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Trained:
    """A model from disk with all that is needed to use it."""

    settings: Settings
    vocabulary: Vocabulary | None
    state: dict[str, torch.Tensor]
    metrics: dict[str, Any]
    where: str


def save_state(accelerator: Accelerator, folder: Path, progress: Progress) -> None:
    """Write a new state folder and remove the older ones, in that order."""
    final = folder / f"state-{progress.step:09d}"
    unfinished = folder / f".{final.name}.unfinished"
    if accelerator.is_main_process:
        shutil.rmtree(unfinished, ignore_errors=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(unfinished))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        (unfinished / "progress.json").write_text(json.dumps(asdict(progress)), encoding="utf-8")
        for path in unfinished.rglob("*"):
            to_disk(path)
        to_disk(unfinished)
        os.replace(unfinished, final)
        to_disk(folder)
        remove_older(folder, final, progress.best_file)
    accelerator.wait_for_everyone()


def remove_older(folder: Path, state: Path, best_file: str) -> None:
    """Remove states and models that the newest state does not need."""
    for path in folder.glob("state-*"):
        if path != state:
            shutil.rmtree(path)
    for path in folder.glob("best-*.pt"):
        if path.name != best_file:
            path.unlink()


def newest_state(folder: Path) -> Path | None:
    """The newest complete state of a run, if it has one."""
    return max(folder.glob("state-*"), default=None)


def load_progress(state: Path) -> Progress:
    """The progress that a state folder records."""
    return Progress(**json.loads((state / "progress.json").read_text(encoding="utf-8")))


def save_model(
    path: Path,
    settings: Settings,
    vocabulary: Vocabulary,
    model: nn.Module,
    metrics: dict[str, Any],
) -> None:
    """Write a model with its settings and vocabulary, complete or not at all."""
    content = {
        "format": FORMAT,
        "settings": settings.record(),
        "vocabulary": vocabulary.record(),
        "model": model.state_dict(),
        "metrics": metrics,
    }
    write_file(path, lambda unfinished: torch.save(content, unfinished))


def load_model(path: Path) -> Trained:
    """Read what ``save_model`` wrote; nothing in the file is run."""
    content = read_tensors(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(
            f"{path} is not a model of ours (format {FORMAT!r}): "
            "the authors' files end in .pth.tar, a run's folder can be named instead of a file"
        )
    return Trained(
        Settings.from_record(content["settings"]),
        Vocabulary.from_record(content["vocabulary"], str(path)),
        content["model"],
        content["metrics"],
        str(path),
    )


def model_file(path: Path) -> Path:
    """The model of a run's folder, or the file itself."""
    if not path.is_dir():
        return path
    state = newest_state(path)
    if state is None:
        raise FileNotFoundError(
            f"{path} holds no checkpoint: name a run's folder, as runs/<recipe>-seed<seed>, whose "
            "training has begun"
        )
    best = load_progress(state).best_file
    if not best:
        raise FileNotFoundError(f"{path} holds no model yet: its first validation is still to come")
    return path / best


def read_tensors(path: Path) -> Any:
    """``torch.load`` with weights only, and messages for a missing, truncated or harmful file."""
    if not path.is_file():
        raise FileNotFoundError(
            f"no checkpoint at {path}: name a run's folder, a .pt file or the authors' .pth.tar"
        )
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} was refused, nothing in it was run: {first_line(error)}. "
            "A checkpoint needs tensors and plain values only; do not load this one by other means "
            "unless you trust who wrote it"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"{path} cannot be read ({first_line(error)}): it is truncated or no checkpoint; "
            "copy it again"
        ) from error


def first_line(error: Exception) -> str:
    """What went wrong, without the advice that follows it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "GLOBAL" in line or "Unsupported" in line]
    said = (telling or lines or [type(error).__name__])[0]
    return said.partition(" Please use")[0]


def load_weights(model: nn.Module, trained: Trained, own_cnn: bool = False) -> None:
    """Put weights into a model of the same shape; with ``own_cnn`` the image network may keep
    its own.
    """
    ours, theirs = model.state_dict(), trained.state
    faults = [
        f"{name}: {tuple(theirs[name].shape)} there, {tuple(ours[name].shape)} here"
        for name in ours
        if name in theirs and theirs[name].shape != ours[name].shape
    ]
    faults += [
        f"{name} is not there"
        for name in ours
        if name not in theirs and not optional(name, own_cnn)
    ]
    faults += [f"{name} has no place here" for name in theirs if name not in ours]
    if faults:
        raise ValueError(
            f"{trained.where} does not fit this model ({'; '.join(faults[:3])}): use the encoders, "
            "the --embed-dim and the vocabulary that it was trained with"
        )
    model.load_state_dict(theirs, strict=False)


def optional(name: str, own_cnn: bool) -> bool:
    """Whether a weight may be absent: batch counters, which old files lack, and a pretrained
    network.
    """
    return name.endswith("num_batches_tracked") or (own_cnn and name.startswith("image.cnn."))
