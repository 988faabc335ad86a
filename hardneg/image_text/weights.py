"""Weights written to a safetensors file, and read from one into a model that has no memory yet.

The file's list of shapes is compared with the model's before a number is read, so that neither can ask for
memory that the other does not fill.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from hardneg.image_text.files import WEIGHTS
from hardneg.writing import write_file

__all__ = ["model_with_weights", "save_weights"]

M = TypeVar("M", bound=nn.Module)
FLOATS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
WHOLE = {"I64": "int64"}
SHOWN = 3


def save_weights(model: nn.Module, save_directory: Path) -> None:
    """Write ``model.safetensors`` into a folder, whole or not at all, for the readers that the umask allows."""
    from safetensors.torch import save_model

    write_file(save_directory / WEIGHTS, lambda path: save_model(model, str(path)))


def model_with_weights(make: Callable[[], M], path: Path, device: str | torch.device) -> M:
    """A model with the weights of a file, made without memory first.

    One that holds more than its state (tables that it makes itself) is made again with memory once the file has
    what the model needs.

    Raises:
        ValueError: where the file is no safetensors file, or does not hold exactly the weights of the model.
    """
    with torch.device("meta"):
        model = make()
    tensors = read_weights(model, path, device)
    if {name for name, _ in model.named_buffers()} - model.state_dict().keys():
        with torch.random.fork_rng(devices=[]):
            model = make().to(device)
    model.load_state_dict(tensors, assign=True)
    return model


def read_weights(model: nn.Module, path: Path, device: str | torch.device) -> dict[str, Tensor]:
    """The weights of a file, which are exactly those of a model."""
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    try:
        with safe_open(path, framework="pt") as content:
            slices = {name: content.get_slice(name) for name in content.keys()}  # noqa: SIM118
            found = {
                name: (tuple(one.get_shape()), one.get_dtype()) for name, one in slices.items()
            }
        check_shapes(model, found, path)
        return load_file(path, device=str(device))
    except (SafetensorError, OSError, RuntimeError) as error:
        said = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(
            f"{path} cannot be read as safetensors ({said:.120}): it is damaged or something else; "
            "nothing in it was run"
        ) from error


def check_shapes(
    model: nn.Module, found: dict[str, tuple[tuple[int, ...], Any]], path: Path
) -> None:
    """Refuse weights of other names, shapes or types than the model's."""
    ours = model.state_dict()
    faults = [f"{name} is not there" for name in ours if name not in found]
    faults += [f"{name[:80]!r} has no place" for name in found if name not in ours]
    for name in ours.keys() & found.keys():
        shape, kind = found[name]
        if shape != tuple(ours[name].shape):
            faults.append(f"{name}: {shape} there, {tuple(ours[name].shape)} here")
        elif kind not in (FLOATS if ours[name].is_floating_point() else WHOLE):
            faults.append(f"{name} is {kind}")
    kinds = {kind for _, kind in found.values() if kind in FLOATS}
    if len(kinds) > 1:
        faults.append(f"numbers are {' and '.join(sorted(FLOATS[one] for one in kinds))}")
    if faults:
        raise ValueError(
            f"{path} does not fit its config.json ({'; '.join(sorted(faults)[:SHOWN])}): expected the "
            "weights that were saved with it"
        )
