"""A trained model as a folder that travels: safetensors and config.json, used through ``hardneg``."""

from __future__ import annotations

from pathlib import Path

import torch

from hardneg.image_text import ImageTextModel, PictureView
from vsepp.checkpoints import Trained, load_weights
from vsepp.errors import InputError
from vsepp.files.writing import whole_folder
from vsepp.model import tower_config

SCENES = ((0.5,) * 3, (0.5,) * 3)
"""Mean and deviation that take drawn scenes to [-1, 1]."""


def export_model(trained: Trained, out: Path) -> ImageTextModel:
    """Write a model of ours, or the authors', into a new folder; whole or not at all."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is there already: name a new folder")
    model = travelling(trained)
    with whole_folder(out) as unfinished:
        model.save_pretrained(unfinished)
    return model


def travelling(trained: Trained) -> ImageTextModel:
    """The model with its words and its view of pictures."""
    assert trained.vocabulary is not None
    of_pictures = any(name.startswith("image.cnn.") for name in trained.state)
    width = None if of_pictures else feature_width(trained)
    with torch.random.fork_rng(devices=[]):
        model = ImageTextModel(
            tower_config(trained.settings.model),
            trained.vocabulary,
            width,
            picture_view(trained) if of_pictures else None,
            trained.settings.loss.measure,
        )
    load_weights(model, trained)
    return model.eval()


def feature_width(trained: Trained) -> int:
    """The width of the features that a model sees."""
    projection = trained.state.get(
        "image.fc.weight", trained.state.get("image.encoders.0.fc.weight")
    )
    if projection is None or projection.dim() != 2:
        raise InputError(f"{trained.where} has no projection of features (image.fc.weight)")
    return projection.shape[1]


def picture_view(trained: Trained) -> PictureView:
    """How the model looked at pictures of dev and test."""
    data = trained.settings.data
    if data.dataset == "scenes":
        return PictureView(data.image_size, "whole", *SCENES)
    crop = "ten" if data.crop == "10c" else "centre"
    return PictureView(data.image_size, crop, *data.colour_scale())
