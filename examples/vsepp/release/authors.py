"""Checkpoints of the authors' release (``*.pth.tar``), loaded without running anything in them."""

from __future__ import annotations

import argparse
from _codecs import encode
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vsepp.checkpoints import Trained, read_tensors
from vsepp.errors import InputError
from vsepp.settings import Data, Loss, Model, Settings

# What a numpy number is unpickled by; numpy 2 moved it.
SCALAR = np.float64(0).__reduce__()[0]
# What a released file holds besides tensors: its options, and a recall as a numpy number.
ALLOWED = [
    argparse.Namespace,
    (SCALAR, "numpy.core.multiarray.scalar"),
    (SCALAR, "numpy._core.multiarray.scalar"),
    np.dtype,
    np.dtypes.Float64DType,
    (encode, "_codecs.encode"),
]
DATASETS = {"coco": "coco", "10crop": "coco", "f30k": "flickr30k", "f8k": "flickr8k"}


def load_authors_checkpoint(path: Path) -> Trained:
    """The weights under our names, and the settings that the file's options amount to."""
    with torch.serialization.safe_globals(ALLOWED):
        content = read_tensors(path)
    check_content(path, content)
    image, text = content["model"]
    state = {**renamed("image", image), **renamed("text", text)}
    rsum = content.get("best_rsum")
    metrics = {
        "rsum": float(rsum) if isinstance(rsum, float | int) else 0.0,
        "epoch": content.get("epoch"),
    }
    try:
        settings = settings_of(content["opt"])
    except InputError as error:
        raise InputError(f"{path} was trained with options that cannot be: {error}") from error
    return Trained(settings, None, state, metrics, str(path))


def check_content(path: Path, content: Any) -> None:
    """Refuse a file without the weights of two encoders and the options they were trained with."""
    of_release = isinstance(content, dict) and isinstance(content.get("opt"), argparse.Namespace)
    models = content.get("model") if of_release else None
    if not isinstance(models, list | tuple) or len(models) != 2 or not all(map(is_state, models)):
        raise InputError(
            f"{path} is no checkpoint of the release: expected model (image and text weights) "
            "and opt"
        )


def is_state(weights: Any) -> bool:
    """Whether these are the weights of a network by name."""
    return isinstance(weights, dict) and all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in weights.items()
    )


OLD_CLASSIFIER = {
    "cnn.classifier.1.": "cnn.classifier.0.",
    "cnn.classifier.4.": "cnn.classifier.3.",
}
"""Where VGG's linear layers stood in the first torchvision releases, and where they stand now."""


def renamed(tower: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our names: the tower in front, DataParallel's ``module`` dropped, VGG's layers in place."""
    names = {name: name for name in weights}
    if "cnn.classifier.1.weight" in weights:
        for old, new in OLD_CLASSIFIER.items():
            names = {name: now.replace(old, new) for name, now in names.items()}
    return {
        ".".join([tower, *(part for part in names[name].split(".") if part != "module")]): value
        for name, value in weights.items()
    }


def settings_of(opt: argparse.Namespace) -> Settings:
    """The released options in our terms. Options that older files lack take the release's
    defaults.
    """

    def option(name: str, default: Any) -> Any:
        return getattr(opt, name, default)

    name = str(option("data_name", "precomp"))
    precomputed = name.endswith("_precomp")
    dataset = DATASETS.get(name.removesuffix("_precomp"), "coco")
    return Settings(
        Data(dataset, "precomp" if precomputed else "raw", precomp=name if precomputed else ""),
        Model(
            backbone=option("cnn_type", "vgg19"),
            weights="none",
            finetune=option("finetune", False),
            embed_dim=option("embed_size", 1024),
            word_dim=option("word_dim", 300),
            text_layers=option("num_layers", 1),
            image_norm=not option("no_imgnorm", False),
            absolute=option("use_abs", False),
        ),
        Loss(
            "hardest" if option("max_violation", False) else "all",
            option("measure", "cosine"),
            option("margin", 0.2),
            strict_parity=True,
        ),
    )
