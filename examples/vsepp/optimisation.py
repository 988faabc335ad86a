"""The optimiser, its learning rate by step, and an average of the weights."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from hardneg.encoders import ImageEncoder, TransformerTextEncoder
from vsepp.settings import Schedule

DECAY = 0.1


def build_optimiser(modules: Iterable[nn.Module], schedule: Schedule) -> torch.optim.Optimizer:
    """Adam or AdamW over what is trained. Only matrices of linear layers and the like decay."""
    modules = list(modules)
    slow = pretrained(modules) if schedule.backbone_rate != 1 else set()
    found: dict[tuple[bool, bool], list[nn.Parameter]] = {
        (slower, decays): [] for slower in (False, True) for decays in (True, False)
    }
    for module in (part for whole in modules for part in whole.modules()):
        for weight in module.parameters(recurse=False):
            if weight.requires_grad:
                matrix = weight.dim() > 1 and not isinstance(module, nn.Embedding)
                found[weight in slow, bool(matrix and schedule.weight_decay)].append(weight)
    groups = [
        {
            "params": weights,
            "weight_decay": schedule.weight_decay if decays else 0.0,
            "share": schedule.backbone_rate if slower else 1.0,
        }
        for (slower, decays), weights in found.items()
        if weights
    ]
    kind = torch.optim.AdamW if schedule.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, schedule.learning_rate, fused=True)


def pretrained(modules: Iterable[nn.Module]) -> set[nn.Parameter]:
    """The weights of networks that were trained before: behind pictures, behind captions."""
    parts = [part for whole in modules for part in whole.modules()]
    networks = [part.cnn for part in parts if isinstance(part, ImageEncoder)]
    networks += [part.backbone for part in parts if isinstance(part, TransformerTextEncoder)]
    return {weight for network in networks for weight in network.parameters()}


def learning_rate(schedule: Schedule, step: int, steps_per_epoch: int) -> float:
    """The learning rate of a step, counted from 0."""
    risen = min(1.0, (step + 1) / schedule.rise) if schedule.rise else 1.0
    if schedule.decay == "cosine":
        done = step / (schedule.epochs * steps_per_epoch)
        left = (1 + math.cos(math.pi * min(1.0, done))) / 2
    else:
        left = DECAY ** (step // steps_per_epoch // schedule.decay_after)
    return schedule.learning_rate * risen * left


def set_learning_rate(
    optimiser: torch.optim.Optimizer, schedule: Schedule, step: int, steps_per_epoch: int
) -> None:
    """Put the learning rate of a step into an optimiser."""
    for group in optimiser.param_groups:
        group["lr"] = learning_rate(schedule, step, steps_per_epoch) * group.get("share", 1.0)


def averaged(model: nn.Module, schedule: Schedule) -> AveragedModel | None:
    """An exponential moving average of a model's weights, where the settings ask for one."""
    if not schedule.ema:
        return None
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(schedule.ema)).eval()
