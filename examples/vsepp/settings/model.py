"""The encoders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from vsepp.errors import InputError
from vsepp.settings.limits import FRACTION
from vsepp.settings.ranges import Range, check_options

TEXTS = ("gru", "bigru", "bow", "bow+gru", "bow+bigru")
HF = "hf:"


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
    text: str = "gru"
    """Caption encoder: gru, bigru, bow (a bag of words), bow+gru or bow+bigru (the sum of both before
    normalisation), or hf:NAME_OR_PATH, a HuggingFace network with its own tokens, frozen unless
    --finetune-text.
    """
    finetune_text: bool = False
    """Train the HuggingFace network too (with --backbone-rate 0.1, say)."""
    text_layers: Annotated[int, Range(1, 32)] = 1
    """Layers of the caption encoder's GRU."""
    pooling: Literal["last", "mean", "max", "gpo"] = "last"
    """How the states of the GRU become one vector; of a HuggingFace network last means their mean."""
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
        if self.text not in TEXTS and self.network_of_text in ("", None):
            known = ", ".join([*TEXTS, "hf:NAME_OR_PATH"])
            raise InputError(f"--text is {self.text}: expected one of {known}")
        if self.network_of_text is not None and self.word_vectors != "random":
            raise InputError(
                f"--word-vectors {self.word_vectors} does not go with --text {self.text}"
            )
        if self.network_of_text is not None and self.members > 1:
            raise InputError(f"--members {self.members} does not go with --text {self.text}")
        if self.embed_dim % self.members:
            raise InputError(
                f"--embed-dim is {self.embed_dim}: expected a multiple of --members, {self.members}"
            )

    @property
    def network_of_text(self) -> str | None:
        """The name or the folder of the HuggingFace network, where captions are read by one."""
        return self.text.removeprefix(HF) if self.text.startswith(HF) else None
