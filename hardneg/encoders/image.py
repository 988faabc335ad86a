"""Images, or their precomputed features, projected into the joint space."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hardneg.encoders.joint_space import finish, projection
from hardneg.encoders.networks import named_network
from hardneg.encoders.pooling import pooling_named

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["FeatureEncoder", "ImageEncoder"]

CNN_MODES = ("eval", "train", "legacy")


class FeatureEncoder(nn.Module):
    """A linear projection of precomputed features: ``normalize(fc(features))``.

    Args:
        feature_dim: the width of the features (VGG19 fc7: 4096, ResNet152: 2048).
        embed_dim: the width of the joint space.
        normalize: L2-normalise the result (VSE0 as released does not).
        absolute: take the absolute value at the end (Order0).
        pooling: how region features ``n x r x feature_dim`` become one vector after the projection.
        feature_drop: the chance that a training step drops a region (VSE-infinity drops 20 %).
        scaler: a module before everything else, such as ``StandardScaler(feature_dim)``.
        head: a module behind projection and pooling, such as ``ResidualMLP(embed_dim)``.
        drop: the chance that a training step drops a number of the features.

    The projection starts Xavier-uniform with bias 0, as the paper's.

    Example:
        >>> FeatureEncoder(feature_dim=8, embed_dim=4)(torch.rand(3, 8)).norm(dim=1).round()
        tensor([1., 1., 1.], grad_fn=<RoundBackward0>)
    """

    def __init__(
        self,
        feature_dim: int,
        embed_dim: int = 1024,
        *,
        normalize: bool = True,
        absolute: bool = False,
        pooling: str | nn.Module = "mean",
        feature_drop: float = 0.0,
        scaler: nn.Module | None = None,
        head: nn.Module | None = None,
        drop: float = 0.0,
    ) -> None:
        super().__init__()
        self.feature_dim, self.embed_dim = feature_dim, embed_dim
        self.scaler = nn.Identity() if scaler is None else scaler
        self.head, self.drop = nn.Identity() if head is None else head, nn.Dropout(drop)
        self.normalize, self.absolute = normalize, absolute
        self.feature_drop = feature_drop
        self.fc = projection(feature_dim, embed_dim)
        self.pool = pooling_named(pooling)

    def forward(
        self, features: Float[Tensor, "n f"] | Float[Tensor, "n r f"]
    ) -> Float[Tensor, "n d"]:
        """Embed ``n x feature_dim`` features, or ``n x regions x feature_dim``."""
        if features.ndim not in (2, 3) or features.shape[-1] != self.feature_dim:
            raise ValueError(
                f"features are {tuple(features.shape)}: expected (n, {self.feature_dim}) "
                f"or (n, regions, {self.feature_dim})"
            )
        embedded = self.fc(self.drop(self.scaler(features)))
        if features.ndim == 3:
            embedded = self.pool_regions(embedded)
        return finish(self.head(embedded), self.normalize, self.absolute)

    def pool_regions(self, regions: Float[Tensor, "n r d"]) -> Float[Tensor, "n d"]:
        """One vector an image; while training, dropped regions are moved behind the kept ones."""
        n, count, _ = regions.shape
        lengths = torch.full((n,), count, device=regions.device)
        if self.training and self.feature_drop > 0.0:
            dropped = torch.rand(n, count, device=regions.device) < self.feature_drop
            dropped[:, 0] &= ~dropped.all(1)
            order = dropped.long().argsort(dim=1, stable=True).unsqueeze(2)
            regions = regions.gather(1, order.expand_as(regions))
            lengths = count - dropped.sum(1)
        found: Tensor = self.pool(regions, lengths)
        return found


class ImageEncoder(nn.Module):
    """A torchvision network, an L2 norm, a projection: the image tower of VSE++ (section 3.1).

    ``normalize(fc(normalize(cnn(images))))``: the network's last linear layer is replaced by the
    identity, so VGG19 gives fc7 (4096) and ResNet152 its pooled 2048 numbers.

    Args:
        backbone: the name of a torchvision classification model, ``timm:NAME`` for one of timm's, or a
            module that maps images to ``n x features``.
        embed_dim: the width of the joint space.
        weights: a name of torchvision's multi-weight API (``"IMAGENET1K_V1"``, as the paper), or
            None for random; of timm's ``"pretrained"``.
        feature_dim: the width of the network's output; needed only with a module of your own.
        finetune: train the network too; otherwise its parameters are frozen.
        cnn_mode: ``"eval"`` keeps the network in evaluation mode while training (running
            statistics, no dropout); ``"train"`` lets it follow ``.train()``; ``"legacy"`` follows
            ``.train()`` until ``after_validation()`` and then stays in evaluation mode until
            ``start_epoch()``, as the released code did within each epoch.
        normalize, absolute: as in ``FeatureEncoder``.

    Example:
        >>> tiny = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten())
        >>> encoder = ImageEncoder(tiny, embed_dim=4, feature_dim=12)
        >>> encoder(torch.rand(2, 3, 8, 8)).shape
        torch.Size([2, 4])
    """

    def __init__(
        self,
        backbone: str | nn.Module,
        embed_dim: int = 1024,
        *,
        weights: str | None = "IMAGENET1K_V1",
        feature_dim: int | None = None,
        finetune: bool = False,
        cnn_mode: str = "eval",
        normalize: bool = True,
        absolute: bool = False,
    ) -> None:
        super().__init__()
        if cnn_mode not in CNN_MODES:
            raise ValueError(f"unknown cnn_mode {cnn_mode!r}: choose one of {', '.join(CNN_MODES)}")
        self.embed_dim, self.cnn_mode, self.finetune = embed_dim, cnn_mode, finetune
        self.normalize, self.absolute = normalize, absolute
        self.validated = False
        if isinstance(backbone, str):
            self.cnn, feature_dim = named_network(backbone, weights)
        else:
            self.cnn, feature_dim = backbone, required_width(feature_dim)
        self.fc = projection(feature_dim, embed_dim)
        self.cnn.requires_grad_(finetune)
        self.train()

    def forward(
        self, images: Float[Tensor, "n 3 h w"] | Float[Tensor, "n crops 3 h w"]
    ) -> Float[Tensor, "n d"]:
        """Embed ``n`` images, already scaled and centred as the network expects."""
        return finish(self.fc(self.features(images)), self.normalize, self.absolute)

    def features(
        self, images: Float[Tensor, "n 3 h w"] | Float[Tensor, "n crops 3 h w"]
    ) -> Float[Tensor, "n f"]:
        """The network's L2-normalised output before the projection; of several crops, the mean
        output.
        """
        if images.ndim not in (4, 5):
            raise ValueError(
                f"images are {tuple(images.shape)}: expected (n, 3, height, width) "
                "or (n, crops, 3, height, width)"
            )
        crops = images.flatten(0, -4)
        with torch.set_grad_enabled(self.finetune and torch.is_grad_enabled()):
            outputs = self.cnn(crops).reshape(images.shape[0], -1, self.fc.in_features)
            return F.normalize(outputs.mean(1), dim=1)

    def train(self, mode: bool = True) -> ImageEncoder:
        """Switch to training; ``cnn_mode`` decides whether the network follows."""
        super().train(mode)
        follows = self.cnn_mode == "train" or (self.cnn_mode == "legacy" and not self.validated)
        self.cnn.train(mode and follows)
        return self

    def start_epoch(self) -> None:
        """Begin an epoch: under ``cnn_mode="legacy"`` the network trains again."""
        self.validated = False
        self.train()

    def after_validation(self) -> None:
        """Return to training after a validation; under ``"legacy"`` the network stays in
        evaluation mode.
        """
        self.validated = True
        self.train()


def required_width(feature_dim: int | None) -> int:
    """The width that must accompany a backbone of the caller's own."""
    if feature_dim is None:
        raise ValueError("feature_dim is missing: say how wide the output of your backbone is")
    return feature_dim
