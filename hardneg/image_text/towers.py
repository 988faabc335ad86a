"""The two towers of a model, built from a few values that fit into JSON."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from hardneg.encoders import (
    BagEncoder,
    FeatureEncoder,
    ImageEncoder,
    Members,
    ResidualMLP,
    StandardScaler,
    SumEncoder,
    TextEncoder,
    TransformerTextEncoder,
)
from hardneg.image_text.records import check_number, check_word
from hardneg.image_text.text_network import TextNetwork
from hardneg.image_text.vocabulary import UNKNOWN, Vocabulary

__all__ = [
    "TowerConfig",
    "feature_tower",
    "picture_tower",
    "side_by_side",
    "small_cnn",
    "text_tower",
    "tower_of_words",
    "transformer_tower",
]

WIDEST = 65_536
CHOICES: dict[str, tuple[object, ...]] = {
    "text": ("gru", "bigru", "bow", "bow+gru", "bow+bigru", "transformer"),
    "pooling": ("last", "mean", "max", "gpo"),
    "scale_features": ("none", "standard", "sqrt"),
    "image_norm": (True, False),
    "absolute": (True, False),
}
COUNTS = {
    "embed_dim": (1, WIDEST),
    "word_dim": (1, WIDEST),
    "hidden_dim": (1, WIDEST),
    "text_layers": (1, 32),
    "blocks": (0, 32),
    "members": (1, 64),
}
WIDTHS = (16, 32, 64, 128)
GRID = 4
GROUPS = 8


@dataclass(frozen=True)
class TowerConfig:
    """The shape of both towers, without what only training needs.

    Args:
        backbone: a torchvision classifier, ``"timm:NAME"`` or ``"small"``, for pictures.
        embed_dim, word_dim, hidden_dim: the widths of the joint space, of word vectors, and inside residual blocks.
        text: ``"gru"``, ``"bigru"``, ``"bow"`` (a bag of words), or the sum of both, ``"bow+gru"`` and ``"bow+bigru"``;
            ``"transformer"``, a HuggingFace network.
        text_layers, pooling: of the GRU; a transformer's ``"last"`` is the mean of its states.
        image_norm: L2-normalise images. absolute: take absolute values of both (order embeddings).
        blocks: residual blocks at the end of a tower.
        scale_features: ``"none"``, ``"standard"`` or ``"sqrt"``.
        members: towers side by side, each ``embed_dim / members`` wide; of features alone.
    """

    backbone: str = "small"
    embed_dim: int = 1024
    word_dim: int = 300
    text: str = "gru"
    text_layers: int = 1
    pooling: str = "last"
    image_norm: bool = True
    absolute: bool = False
    blocks: int = 0
    hidden_dim: int = 1024
    scale_features: str = "none"
    members: int = 1

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            check_word(name, getattr(self, name), choices)
        for name, (least, most) in COUNTS.items():
            check_number(name, getattr(self, name), least, most)
        if not isinstance(self.backbone, str):
            raise ValueError(f"backbone is {self.backbone!r:.60}: expected a name")
        if self.embed_dim % self.members:
            raise ValueError(
                f"embed_dim is {self.embed_dim}: expected a multiple of members, {self.members}"
            )


def side_by_side(config: TowerConfig, build: Callable[[TowerConfig], nn.Module]) -> nn.Module:
    """What ``build`` makes of the configuration, or of each member's, side by side."""
    if config.members == 1:
        return build(config)
    one = replace(config, embed_dim=config.embed_dim // config.members, members=1)
    return Members([build(one) for _ in range(config.members)])


def tower_of_words(config: TowerConfig, words: Vocabulary | TextNetwork) -> nn.Module:
    """The tower of texts that words or tokens are for."""
    if (config.text == "transformer") != isinstance(words, TextNetwork):
        raise ValueError(
            f"text is {config.text}: a transformer goes with the tokens of a text network, the others "
            "with a vocabulary"
        )
    if not isinstance(words, TextNetwork):
        return side_by_side(config, lambda one: text_tower(one, len(words)))
    if config.members > 1:
        raise ValueError("members is above 1: expected another text than transformer")
    return transformer_tower(config, words)


def transformer_tower(
    config: TowerConfig,
    words: TextNetwork,
    *,
    network: nn.Module | None = None,
    drop: float = 0.0,
    word_drop: float = 0.0,
    finetune: bool = False,
) -> TransformerTextEncoder:
    """The tower of texts with a HuggingFace network; one with random weights unless one is given."""
    if word_drop and words.unknown is None:
        raise ValueError(f"{words.made_from} has no token that hides words: word_drop must be 0")
    return TransformerTextEncoder(
        words.network() if network is None else network,
        config.embed_dim,
        # the last state of such a network is that of a mark at the end
        pooling="mean" if config.pooling == "last" else config.pooling,
        finetune=finetune,
        word_drop=word_drop,
        unknown_id=words.unknown or 0,
        absolute=config.absolute,
        head=residual(config, drop),
        drop=drop,
    )


def text_tower(
    config: TowerConfig, vocabulary_size: int, *, drop: float = 0.0, word_drop: float = 0.0
) -> TextEncoder | BagEncoder | SumEncoder:
    """The tower of texts; the chances of dropping are for training."""
    parts, drops = config.text.split("+"), {"drop": drop, "word_drop": word_drop}
    if len(parts) == 1:
        return one_text_tower(config, vocabulary_size, absolute=config.absolute, **drops)
    towers: list[nn.Module] = [
        one_text_tower(replace(config, text=part), vocabulary_size, normalize=False, **drops)
        for part in parts
    ]
    return SumEncoder(towers, absolute=config.absolute)


def one_text_tower(
    config: TowerConfig, vocabulary_size: int, **options: Any
) -> TextEncoder | BagEncoder:
    """A bag of words or a GRU."""
    sizes = vocabulary_size, config.embed_dim, config.word_dim
    options["head"] = residual(config, options["drop"])
    if config.text == "bow":
        return BagEncoder(*sizes, **options)
    return TextEncoder(
        *sizes,
        layers=config.text_layers,
        bidirectional=config.text == "bigru",
        pooling=config.pooling,
        unknown_id=UNKNOWN,
        **options,
    )


def residual(config: TowerConfig, drop: float) -> ResidualMLP:
    """The residual blocks at the end of a tower; none is the identity."""
    return ResidualMLP(config.embed_dim, config.hidden_dim, blocks=config.blocks, drop=drop)


def feature_tower(
    config: TowerConfig, feature_dim: int, *, drop: float = 0.0, feature_drop: float = 0.0
) -> FeatureEncoder:
    """The tower of precomputed features."""
    scaler = StandardScaler(feature_dim, config.scale_features == "sqrt")
    return FeatureEncoder(
        feature_dim,
        config.embed_dim,
        normalize=config.image_norm,
        absolute=config.absolute,
        scaler=None if config.scale_features == "none" else scaler,
        head=residual(config, drop),
        drop=feature_drop,
    )


def picture_tower(
    config: TowerConfig,
    *,
    weights: str | None = None,
    finetune: bool = False,
    cnn_mode: str = "eval",
) -> ImageEncoder:
    """The tower of pictures."""
    small = config.backbone == "small"
    backbone, width = small_cnn() if small else (config.backbone, None)
    return ImageEncoder(
        backbone,
        config.embed_dim,
        weights=weights,
        feature_dim=width,
        finetune=finetune,
        cnn_mode=cnn_mode,
        normalize=config.image_norm,
        absolute=config.absolute,
    )


class ChannelsLast(nn.Module):
    """The same images, laid out so that convolutions run faster (by a third on a CPU)."""

    def forward(self, images: Tensor) -> Tensor:
        """``n x 3 x h x w`` to the same."""
        return images.contiguous(memory_format=torch.channels_last)


def small_cnn() -> tuple[nn.Module, int]:
    """A network small enough to train from scratch on a CPU: four strided convolutions down to a
    4 x 4 grid, kept as a grid so that positions survive.

    Group norm, because it is the same in training and evaluation: nothing to settle in a short run.
    """
    layers: list[nn.Module] = [ChannelsLast()]
    for inputs, outputs in zip((3, *WIDTHS[:-1]), WIDTHS, strict=True):
        layers += [
            nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False),
            nn.GroupNorm(GROUPS, outputs),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(GRID), nn.Flatten()), WIDTHS[-1] * GRID**2
