"""The two encoders of a run, made from its settings."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hardneg.encoders import (
    BagEncoder,
    FeatureEncoder,
    ImageEncoder,
    ResidualMLP,
    StandardScaler,
    TextEncoder,
)
from vsepp.data.splits import ImageSource
from vsepp.data.vocabulary import UNKNOWN
from vsepp.errors import InputError
from vsepp.files.inputs import reason
from vsepp.settings import Model

WIDTHS = (16, 32, 64, 128)
GRID = 4
GROUPS = 8
FITTED_AT_ONCE = 4_096


class MatchingModel(nn.Module):
    """Images and captions in, their embeddings out: one module, so that one wrapper holds both."""

    def __init__(
        self, image: FeatureEncoder | ImageEncoder, text: TextEncoder | BagEncoder
    ) -> None:
        super().__init__()
        self.image, self.text = image, text

    def forward(self, images: Tensor, words: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """``n`` images and ``n`` captions to two ``n x embed_dim`` tensors."""
        if len(lengths) == 0:
            return self.nothing(), self.nothing()
        return self.image(images), self.text(words, lengths)

    def nothing(self) -> Tensor:
        """No rows, but with a gradient of 0 for every weight: a process whose part of a batch is
        empty still takes part when gradients are averaged.
        """
        trained = [one for one in self.parameters() if one.requires_grad]
        return torch.stack([one.sum() * 0 for one in trained]).sum().expand(0, self.text.embed_dim)

    def start_epoch(self) -> None:
        """Training mode, as the image network's ``cnn_mode`` understands it."""
        self.train()
        if isinstance(self.image, ImageEncoder):
            self.image.start_epoch()

    def after_validation(self) -> None:
        """Back to training after a validation within an epoch."""
        self.train()
        if isinstance(self.image, ImageEncoder):
            self.image.after_validation()


def build_model(settings: Model, vocabulary_size: int, feature_dim: int | None) -> MatchingModel:
    """The encoders; ``feature_dim`` is the width of precomputed features, None for raw images."""
    image = build_image_encoder(settings, feature_dim)
    return MatchingModel(image, build_text_encoder(settings, vocabulary_size))


def build_text_encoder(settings: Model, vocabulary_size: int) -> TextEncoder | BagEncoder:
    """The caption tower alone."""
    sizes = vocabulary_size, settings.embed_dim, settings.word_dim
    head = residual(settings)
    if settings.text == "bow":
        return BagEncoder(
            *sizes,
            head=head,
            drop=settings.drop,
            word_drop=settings.word_drop,
            absolute=settings.absolute,
        )
    return TextEncoder(
        *sizes,
        layers=settings.text_layers,
        bidirectional=settings.text == "bigru",
        pooling=settings.pooling,
        word_drop=settings.word_drop,
        unknown_id=UNKNOWN,
        absolute=settings.absolute,
        head=head,
        drop=settings.drop,
    )


def residual(settings: Model) -> ResidualMLP:
    """The residual blocks at the end of a tower; none is the identity."""
    sizes = settings.embed_dim, settings.hidden_dim
    return ResidualMLP(*sizes, blocks=settings.blocks, drop=settings.drop)


def check_image_size(encoder: nn.Module, size: int) -> None:
    """Refuse a picture size that a network cannot take, by giving it an empty picture."""
    if not isinstance(encoder, ImageEncoder):
        return
    training = encoder.training
    try:
        with torch.inference_mode():
            encoder.eval()(torch.zeros(1, 3, size, size))
    # What a network says of a wrong size: its own assertions too.
    except (RuntimeError, ValueError, AssertionError) as error:
        raise InputError(
            f"--image-size is {size}: expected a size that the image network can take "
            f"({reason(error)}); torchvision's were trained with 224"
        ) from error
    encoder.train(training)


def build_image_encoder(settings: Model, feature_dim: int | None) -> FeatureEncoder | ImageEncoder:
    """The image tower alone."""
    if feature_dim is not None:
        scaled = settings.scale_features != "none"
        root = settings.scale_features == "sqrt"
        return FeatureEncoder(
            feature_dim,
            settings.embed_dim,
            normalize=settings.image_norm,
            absolute=settings.absolute,
            scaler=StandardScaler(feature_dim, root) if scaled else None,
            head=residual(settings),
            drop=settings.feature_drop,
        )
    small = settings.backbone == "small"
    backbone, width = small_cnn() if small else (settings.backbone, None)
    return ImageEncoder(
        backbone,
        settings.embed_dim,
        weights=None if settings.weights == "none" else settings.weights,
        feature_dim=width,
        finetune=settings.finetune,
        cnn_mode=settings.cnn_mode,
        normalize=settings.image_norm,
        absolute=settings.absolute,
    )


def fit_scaler(encoder: FeatureEncoder, images: ImageSource) -> None:
    """Let a scaler of features see the training images."""
    if isinstance(encoder.scaler, StandardScaler):
        starts = range(0, len(images), FITTED_AT_ONCE)
        rows = (range(start, min(start + FITTED_AT_ONCE, len(images))) for start in starts)
        encoder.scaler.fit(images.batch(part, None)[0] for part in rows)


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
