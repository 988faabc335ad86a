"""The two encoders of a run, made from its settings."""

from __future__ import annotations

from dataclasses import fields
from functools import partial

import torch
from torch import Tensor, nn

from hardneg.encoders import (
    BagEncoder,
    FeatureEncoder,
    ImageEncoder,
    Members,
    StandardScaler,
    SumEncoder,
    TextEncoder,
    TransformerTextEncoder,
)
from hardneg.image_text.text_network import TextNetwork
from hardneg.image_text.towers import (
    TowerConfig,
    feature_tower,
    picture_tower,
    side_by_side,
    text_tower,
    transformer_tower,
)
from vsepp.data.splits import Split
from vsepp.data.vocabulary import Vocabulary
from vsepp.data.word_vectors import by_image, read_more_text, start_vectors, word_vectors
from vsepp.errors import InputError
from vsepp.files.inputs import reason
from vsepp.settings import Model, Settings
from vsepp.settings.model import HF

FITTED_AT_ONCE = 4_096


class MatchingModel(nn.Module):
    """Images and captions in, their embeddings out: one module, so that one wrapper holds both."""

    def __init__(
        self,
        image: FeatureEncoder | ImageEncoder | Members,
        text: TextEncoder | BagEncoder | SumEncoder | TransformerTextEncoder | Members,
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


def build_model(
    settings: Model,
    vocabulary_size: int,
    feature_dim: int | None,
    words: Vocabulary | TextNetwork | None = None,
    pretrained: bool = False,
) -> MatchingModel:
    """The encoders; ``feature_dim`` is the width of precomputed features, None for raw images.

    A HuggingFace network comes with ``words``, and has random weights unless the ``pretrained`` are asked for.
    """
    if words is not None and isinstance(words, TextNetwork) != settings.text.startswith(HF):
        raise InputError(
            f"--text is {settings.text}, but the words are of another caption encoder: use that of the "
            "model that the run starts from"
        )
    image = build_image_encoder(settings, feature_dim)
    if isinstance(words, TextNetwork):
        return MatchingModel(image, build_transformer(settings, words, pretrained))
    return MatchingModel(image, build_text_encoder(settings, vocabulary_size))


def build_transformer(settings: Model, words: TextNetwork, pretrained: bool) -> nn.Module:
    """A caption tower with a HuggingFace network, which is tried on two tokens."""
    drops = {"drop": settings.drop, "word_drop": settings.word_drop}
    try:
        network = words.pretrained() if pretrained else words.network()
        options = {"network": network, "finetune": settings.finetune_text}
        tower = transformer_tower(tower_config(settings), words, **options, **drops)
        training = tower.training
        with torch.inference_mode():
            tower.eval()(torch.zeros(1, 2, dtype=torch.int64), torch.tensor([2]))
    # What a network of another kind says of tokens alone, or lacks.
    except (ValueError, OSError, AttributeError, TypeError, RuntimeError) as error:
        raise InputError(f"--text hf:{words.made_from}: {reason(error)}") from error
    return tower.train(training)


def build_text_encoder(settings: Model, vocabulary_size: int) -> nn.Module:
    """The caption tower alone."""
    drops = {"drop": settings.drop, "word_drop": settings.word_drop}
    build = partial(text_tower, vocabulary_size=vocabulary_size, **drops)
    return side_by_side(tower_config(settings), build)


def tower_config(settings: Model) -> TowerConfig:
    """The shape of the towers, without what only training needs."""
    values = {one.name: getattr(settings, one.name) for one in fields(TowerConfig)}
    if settings.network_of_text is not None:
        values["text"] = "transformer"
    return TowerConfig(**values)


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


def build_image_encoder(settings: Model, feature_dim: int | None) -> nn.Module:
    """The image tower alone."""
    config = tower_config(settings)
    if feature_dim is not None:
        drops = {"drop": settings.drop, "feature_drop": settings.feature_drop}
        build = partial(feature_tower, feature_dim=feature_dim, **drops)
        return side_by_side(config, build)
    if settings.members > 1:
        raise InputError(
            f"--members is {settings.members}: expected precomputed features, not pictures"
        )
    weights = None if settings.weights == "none" else settings.weights
    modes = {"finetune": settings.finetune, "cnn_mode": settings.cnn_mode}
    return picture_tower(config, weights=weights, **modes)


def make_fast(image: nn.Module, device: torch.device, compiled: bool) -> None:
    """Lay out the image network as convolutions on a GPU want it, and compile it; features have none."""
    if not isinstance(image, ImageEncoder):
        return
    if device.type == "cuda":
        image.cnn.to(memory_format=torch.channels_last)
    if compiled:
        image.cnn.compile()


def know_training_set(
    model: MatchingModel, settings: Settings, train: Split, vocabulary: Vocabulary
) -> None:
    """Let a new model see the training set: the scale of its features, the company of its words."""
    images = train.images
    scalers = [one for one in model.image.modules() if isinstance(one, StandardScaler)]
    for scaler in scalers:
        starts = range(0, len(images), FITTED_AT_ONCE)
        rows = (range(start, min(start + FITTED_AT_ONCE, len(images))) for start in starts)
        scaler.fit(images.batch(part, None)[0] for part in rows)
    if settings.model.word_vectors == "captions":
        groups = [*by_image(train), *read_more_text(settings.data.more_text)]
        vectors = word_vectors(groups, vocabulary, settings.model.word_dim)
        for module in model.text.modules():
            if isinstance(module, nn.Embedding):
                start_vectors(module.weight, vectors)
