"""Options of the authors' ``train.py`` that have another name here, or none (docs/migrating.md)."""

from __future__ import annotations

from collections.abc import Sequence

from vsepp.errors import InputError

RENAMED = {
    "data_path": "--data",
    "data_name": "the script of the data set, and --layout or --precomp",
    "vocab_path": "--vocabulary",
    "num_epochs": "--epochs",
    "embed_size": "--embed-dim",
    "grad_clip": "--clip",
    "crop_size": "--image-size",
    "num_layers": "--text-layers",
    "lr_update": "--decay-after",
    "log_step": "needless",
    "val_step": "--validate-every",
    "logger_name": "--out",
    "max_violation": "--negatives hardest",
    "img_dim": "needless",
    "cnn_type": "--backbone",
    "use_restval": "--restval",
    "use_abs": "--absolute",
    "no_imgnorm": "--no-image-norm",
    "reset_train": "--cnn-mode train",
}


def check_names(given: Sequence[str]) -> None:
    """Refuse options that only the authors' code has, and say what to write instead."""
    names = [one.partition("=")[0].removeprefix("--") for one in given if one.startswith("--")]
    theirs = [one for one in names if one.replace("-", "_") in RENAMED]
    if theirs:
        told = "; ".join(f"--{one} is {RENAMED[one.replace('-', '_')]}" for one in theirs)
        raise InputError(f"options of the VSE++ authors' code have other names here: {told}")
