"""The towers as programs of ``torch.export``, for batches of any size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.export import Dim, ExportedProgram, export

if TYPE_CHECKING:
    from hardneg.image_text.model import ImageTextModel

__all__ = ["export_images", "export_text"]

EXAMPLES = 3
"""More than one: a program made from a single row takes single rows."""


@torch.no_grad()
def export_text(model: ImageTextModel, words: int) -> ExportedProgram:
    """The text tower over ids padded to ``words``, and lengths."""
    if words < 2:
        raise ValueError(f"words is {words}: expected at least 2, the start and the end")
    ids = torch.zeros(EXAMPLES, words, dtype=torch.int64, device=model.device)
    lengths = torch.full((EXAMPLES,), words, device=model.device)
    batch = Dim("batch", min=1)
    return export(model.text, (ids, lengths), dynamic_shapes=({0: batch}, {0: batch}))


@torch.no_grad()
def export_images(model: ImageTextModel) -> ExportedProgram:
    """The image tower over features, or over preprocessed pictures."""
    shape: tuple[int, ...] = (model.feature_dim or 0,)
    if model.pictures is not None:
        crops = (10,) if model.pictures.crop == "ten" else ()
        shape = (*crops, 3, model.pictures.size, model.pictures.size)
    images = torch.rand(EXAMPLES, *shape, dtype=model.dtype, device=model.device)
    return export(model.image, (images,), dynamic_shapes=({0: Dim("batch", min=1)},))
