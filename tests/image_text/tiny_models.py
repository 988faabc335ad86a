"""Tiny models of images and texts."""

import torch

from hardneg.image_text import ImageTextModel, PictureView, TowerConfig, Vocabulary
from hardneg.image_text.vocabulary import SPECIAL

WORDS = Vocabulary(
    (*SPECIAL, *["a", "dog", "cat", "runs", "sleeps", "in", "the", "grass"]), "regex", "a test"
)
TEXTS = [
    "a dog runs",
    "the cat sleeps in the grass",
    "",
    "a zebra",
    "dog",
    "a dog in the grass runs",
]
SIZES = {"embed_dim": 8, "word_dim": 6, "hidden_dim": 5}
WIDTH = 7


def tiny(pictures: PictureView | None = None, measure: str = "cosine", **towers) -> ImageTextModel:
    """A model of features, or of pictures, with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        width = WIDTH if pictures is None else None
        return ImageTextModel(TowerConfig(**{**SIZES, **towers}), WORDS, width, pictures, measure)


def features(count: int = 5, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.rand(count, WIDTH, generator=torch.Generator().manual_seed(1), dtype=dtype)
