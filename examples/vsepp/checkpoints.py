"""Models on disk, ours and any: written whole or not at all, read without running anything.

A run's folder holds ``state-<step>/`` (``state_folder.py``: everything that training goes on from),
``best-<step>.pt`` (the best model with its settings and vocabulary), and, at the end,
``result.json``. A state names its best model.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vsepp.data.vocabulary import Vocabulary, read_words
from vsepp.errors import InputError, MissingInputError
from vsepp.files.writing import write_bytes
from vsepp.run.progress import read_progress
from vsepp.run.state_folder import check_sum, newest_state
from vsepp.settings import Settings

FORMAT = "hardneg vsepp 1"


@dataclass(frozen=True)
class Trained:
    """A model from disk with all that is needed to use it."""

    settings: Settings
    vocabulary: Vocabulary | None
    state: dict[str, torch.Tensor]
    metrics: dict[str, Any]
    where: str


def save_model(
    path: Path,
    settings: Settings,
    vocabulary: Vocabulary,
    model: nn.Module,
    metrics: dict[str, Any],
) -> str:
    """Write a model with its settings and vocabulary, complete or not at all; returns the file's
    SHA-256.
    """
    content = {
        "format": FORMAT,
        "settings": settings.record(),
        "vocabulary": vocabulary.record(),
        "model": model.state_dict(),
        "metrics": metrics,
    }
    stream = io.BytesIO()
    torch.save(content, stream)
    write_bytes(path, stream.getbuffer())
    return hashlib.sha256(stream.getbuffer()).hexdigest()


def load_model(path: Path) -> Trained:
    """Read what ``save_model`` wrote; nothing in the file is run."""
    content = read_tensors(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(
            f"{path} is not a model of ours (format {FORMAT!r}): "
            "the authors' files end in .pth.tar, a run's folder can be named instead of a file"
        )
    try:
        settings = Settings.from_record(content["settings"])
        vocabulary = read_words(content["vocabulary"], str(path))
        weights, metrics = plain_weights(content["model"], path), content["metrics"]
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} lacks what a model needs ({error!r}): it is damaged") from error
    except InputError as error:
        raise InputError(f"{path} holds what no model can have: {error}") from error
    return Trained(settings, vocabulary, weights, metrics, str(path))


def plain_weights(weights: dict[str, torch.Tensor], path: Path) -> dict[str, torch.Tensor]:
    """The weights without gradients; an error if one is no ordinary array of real numbers."""
    found = {name: weight.detach() for name, weight in weights.items()}
    for name, weight in found.items():
        odd = weight.is_meta or weight.is_complex() or weight.is_quantized
        if odd or weight.layout != torch.strided:
            raise InputError(
                f"{path}: {name} is {weight.dtype}, {weight.layout} on {weight.device}: expected a "
                "plain tensor of real numbers"
            )
    return found


def model_file(path: Path) -> Path:
    """The model of a run's folder, or the file itself."""
    if not path.is_dir():
        return path
    state = newest_state(path)
    if state is None:
        raise MissingInputError(
            f"{path} holds no checkpoint: name a run's folder, as runs/<recipe>-seed<seed>, whose "
            "training has begun"
        )
    progress = read_progress(state)
    if not progress.best_file:
        raise MissingInputError(f"{path} holds no model yet: its first validation is still to come")
    check_sum(path / progress.best_file, progress.best_sha256)
    return path / progress.best_file


def read_tensors(path: Path) -> Any:
    """``torch.load`` with weights only, and messages for a missing, truncated or harmful file."""
    if not path.is_file():
        raise MissingInputError(
            f"no checkpoint at {path}: name a run's folder, a .pt file or the authors' .pth.tar"
        )
    try:
        check_archive(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} was refused, nothing in it was run: {first_line(error)}. "
            "A checkpoint needs tensors and plain values only; do not load this one by other means "
            "unless you trust who wrote it"
        ) from error
    # Reading broken bytes raises whatever it meets: RuntimeError, EOFError, IndexError and more.
    except Exception as error:
        raise InputError(
            f"{path} cannot be read ({first_line(error)}): it is truncated or no checkpoint; "
            "copy it again"
        ) from error


def check_archive(path: Path) -> None:
    """Refuse an archive with a damaged part, which ``torch.load`` reads as it is."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"the checksum of its part {damaged} is wrong")


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
        raise InputError(
            f"{trained.where} does not fit this model ({'; '.join(faults[:3])}): use the encoders, "
            "the --embed-dim and the vocabulary that it was trained with"
        )
    model.load_state_dict(theirs, strict=False)


def optional(name: str, own_cnn: bool) -> bool:
    """Whether a weight may be absent: batch counters, which old files lack, and a pretrained
    network.
    """
    return name.endswith("num_batches_tracked") or (own_cnn and name.startswith("image.cnn."))
