"""Image networks by name, without their heads: torchvision's, and timm's behind ``timm:``."""

from __future__ import annotations

import difflib
import importlib
import re
from typing import Any, NamedTuple
from urllib.error import URLError

from torch import nn

__all__ = ["TIMM", "TimmView", "named_network", "timm_view"]

TIMM = "timm:"
TIMM_NAME = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)?")
TIMM_WEIGHTS = ("pretrained", "IMAGENET1K_V1")
"""The second is the default of encoders; timm's names say which weights there are."""


class TimmView(NamedTuple):
    """The pictures that a timm network was trained with."""

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


def named_network(name: str, weights: str | None) -> tuple[nn.Module, int]:
    """A network without its last layer, and the width of what comes out."""
    if name.startswith(TIMM):
        return timm_network(name.removeprefix(TIMM), weights)
    network = torchvision_network(name, weights)
    linear = [(path, part) for path, part in network.named_modules() if isinstance(part, nn.Linear)]
    if not linear:
        raise ValueError(
            f"torchvision's {name} has no linear head to remove: choose vgg19, resnet152 or "
            "another network that ends in one, or pass a module and feature_dim"
        )
    path, head = linear[-1]
    parent, _, leaf = path.rpartition(".")
    setattr(network.get_submodule(parent), leaf, nn.Identity())
    return network, head.in_features


def timm_network(name: str, weights: str | None) -> tuple[nn.Module, int]:
    """A timm network that ends in its pooled features, and their width."""
    timm = timm_named(name)
    if weights is not None and weights not in TIMM_WEIGHTS:
        raise ValueError(
            f"weights are {weights!r} of timm:{name}: expected pretrained or none; timm's name says "
            "which, as in timm:resnet50.a1_in1k"
        )
    try:
        network: Any = timm.create_model(name, pretrained=weights is not None, num_classes=0)
    except (RuntimeError, OSError) as error:
        said = next(iter(str(error).splitlines()), type(error).__name__)
        kind = ConnectionError if isinstance(error, OSError) else ValueError
        raise kind(
            f"timm:{name} cannot be had ({said:.120}): weights none are random ones"
        ) from error
    return network, getattr(network, "head_hidden_size", None) or network.num_features


def timm_view(name: str) -> TimmView:
    """The size, mean and deviation of a timm network's pictures; nothing is downloaded."""
    timm = timm_named(name)
    found: Any = timm.get_pretrained_cfg(name) or timm.models.PretrainedCfg()
    return TimmView(int(found.input_size[-1]), tuple(found.mean), tuple(found.std))


def timm_named(name: str) -> Any:
    """The library, which must know the name; no repository and no folder is asked."""
    try:
        timm = importlib.import_module("timm")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"the network timm:{name} needs timm: pip install 'hardneg[timm]'"
        ) from error
    if not TIMM_NAME.fullmatch(name) or not timm.is_model(name):
        near = difflib.get_close_matches(name.partition(".")[0], timm.list_models()) or ["resnet50"]
        raise ValueError(
            f"timm knows no network {name!r:.60}: choose {' or '.join(near)}, or another of timm.list_models()"
        )
    return timm


def torchvision_network(name: str, weights: str | None) -> nn.Module:
    """The network of that name; says which names, or which weights, there are."""
    models = torchvision_models()
    known = models.list_models()
    if name.lower() not in known:
        near = difflib.get_close_matches(name, known) or ["vgg19", "resnet152"]
        raise ValueError(
            f"torchvision knows no network {name!r}: choose {' or '.join(near)}, or another of "
            "torchvision.models.list_models()"
        )
    named = models.get_model_weights(name).__members__
    if weights is not None and weights.rpartition(".")[2] not in named:
        raise ValueError(
            f"torchvision's {name} has no weights {weights!r}: choose one of {', '.join(named)}, "
            "or none for random ones"
        )
    try:
        network: nn.Module = models.get_model(name, weights=weights)
    except URLError as error:
        raise ConnectionError(
            f"the weights {weights} of {name} cannot be downloaded ({error.reason}): put the file "
            "into torch.hub's folder (TORCH_HOME), or take random weights (weights=None; --weights none)"
        ) from error
    return network


def torchvision_models() -> Any:
    """torchvision.models, or an error that says how to install it."""
    try:
        return importlib.import_module("torchvision.models")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "a named backbone needs torchvision: pip install 'hardneg[serving]', "
            "or pass a module of your own and feature_dim"
        ) from error
