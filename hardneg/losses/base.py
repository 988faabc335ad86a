"""What losses are made of: ``PairLoss`` on paired rows, ``LabelLoss`` on labelled ones, and their choices' types."""

from hardneg.losses.label_loss import LabelLoss
from hardneg.losses.loss import BackendName, Directions, HingeReduction, Loss, Reduction
from hardneg.losses.pair_loss import PairLoss

__all__ = [
    "BackendName",
    "Directions",
    "HingeReduction",
    "LabelLoss",
    "Loss",
    "PairLoss",
    "Reduction",
]
