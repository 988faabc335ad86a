"""The optimisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from vsepp.settings.limits import COUNT, FRACTION, NORM, POSITIVE, SEED, STEP_SIZE
from vsepp.settings.ranges import Range, check_options


@dataclass(frozen=True)
class Schedule:
    """The optimisation."""

    epochs: Annotated[int, POSITIVE] = 30
    """Passes over the training captions."""
    batch_size: Annotated[int, POSITIVE] = 128
    """Pairs in a step, over all processes together; each process takes an equal part of them."""
    chunk: Annotated[int, COUNT] = 0
    """Encode a process's pairs this many at a time (64, say) and keep no more in memory: the same
    gradients with a large --batch-size on a small GPU, for one more forward pass. 0: all at once.
    """
    learning_rate: Annotated[float, STEP_SIZE] = 2e-4
    """The optimiser's step size."""
    backbone_rate: Annotated[float, STEP_SIZE] = 1.0
    """Learning rate of pretrained networks that are trained too, as a share of --learning-rate."""
    decay_after: Annotated[int, POSITIVE] = 15
    """Divide the learning rate by ten after every so many epochs (--decay step)."""
    clip: Annotated[float, NORM] = 2.0
    """Largest global norm of the gradient."""
    validate_every: Annotated[int, COUNT] = 0
    """Validate every so many steps within an epoch too (the released code: 500). 0: after each
    epoch.
    """
    seed: Annotated[int, SEED] = 0
    """Seed of the weights, the order of the captions and the random crops. Several (--seed 0 1 2)
    train every recipe with each of them, in a folder each.
    """
    precision: Literal["no", "bf16", "fp16"] = "no"
    """Mixed precision."""
    optimizer: Literal["adam", "adamw"] = "adam"
    """adamw takes the weight decay off the weights themselves."""
    weight_decay: Annotated[float, Range(0, 10)] = 0.0
    """Weight decay of matrices; word vectors, norms and biases have none."""
    decay: Literal["step", "cosine"] = "step"
    """How the learning rate falls: by ten every --decay-after epochs, or along a cosine to 0 over
    all epochs.
    """
    rise: Annotated[int, COUNT] = 0
    """Steps over which the learning rate first rises from 0."""
    ema: Annotated[float, FRACTION] = 0.0
    """Validate and keep an exponential moving average of the weights, of which each step takes
    over this share (0.99, say). 0: the weights themselves.
    """
    captions_each: Annotated[int, COUNT] = 0
    """Batches of distinct images, with so many captions of each. 0: captions in any order, as the
    released code.
    """

    def __post_init__(self) -> None:
        check_options(self)
