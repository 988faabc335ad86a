"""The encoders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from vsepp.errors import InputError
from vsepp.settings.limits import FRACTION
from vsepp.settings.ranges import Range, check_options


@dataclass(frozen=True)
class Model:
    """The two encoders."""

    backbone: str = "resnet152"
    """Image network for raw images: any torchvision classifier, timm:NAME (with timm's own size, mean
    and deviation of pictures), or "small" (four layers, from scratch).
    """
    weights: str = "IMAGENET1K_V1"
    """Its pretrained weights in torchvision's naming (timm's are in its names: any other word than
    "none" takes them); "none" starts from random ones.
    """
    finetune: bool = False
    """Train the image network too."""
    cnn_mode: Literal["eval", "train", "legacy"] = "eval"
    """Mode of the image network while training; legacy is train up to an epoch's first
    validation.
    """
    embed_dim: Annotated[int, Range(1, 65_536)] = 1024
    """Width of the joint space."""
    word_dim: Annotated[int, Range(1, 65_536)] = 300
    """Width of the word vectors."""
    word_vectors: Literal["random", "captions"] = "random"
    """Word vectors at the start: random, or from which words occur with the same images in the
    training captions (and in --more-text).
    """
    text: Literal["gru", "bigru", "bow", "bow+gru", "bow+bigru"] = "gru"
    """Caption encoder; bow is a bag of words, bow+gru the sum of both before normalisation."""
    text_layers: Annotated[int, Range(1, 32)] = 1
    """Layers of the caption encoder's GRU."""
    pooling: Literal["last", "mean", "max", "gpo"] = "last"
    """How the states of the GRU become one vector."""
    word_drop: Annotated[float, FRACTION] = 0.0
    """Chance that a training step hides a word (VSE-infinity: 0.2)."""
    image_norm: bool = True
    """L2-normalise image embeddings; the released VSE0 does not."""
    absolute: bool = False
    """Absolute values of both embeddings (Order0)."""
    blocks: Annotated[int, Range(0, 32)] = 0
    """Residual blocks behind the projection of either encoder: layer norm, two linear layers."""
    hidden_dim: Annotated[int, Range(1, 65_536)] = 1024
    """Width inside of a residual block."""
    drop: Annotated[float, FRACTION] = 0.0
    """Dropout of word vectors, and inside of residual blocks."""
    feature_drop: Annotated[float, FRACTION] = 0.0
    """Dropout of the numbers of precomputed features."""
    scale_features: Literal["none", "standard", "sqrt"] = "none"
    """Precomputed features less their mean over the training images, divided by their standard
    deviation; sqrt takes (signed) square roots before. Features that are all positive are nearly
    parallel without it.
    """

    members: Annotated[int, Range(1, 64)] = 1
    """Encoders of either kind side by side, each --embed-dim / --members wide, with a loss of its
    own: an ensemble in one model. Of precomputed features alone.
    """

    def __post_init__(self) -> None:
        check_options(self)
        if self.embed_dim % self.members:
            raise InputError(
                f"--embed-dim is {self.embed_dim}: expected a multiple of --members, {self.members}"
            )
