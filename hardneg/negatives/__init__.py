"""Which negatives of an anchor count: strategies, ceilings and schedules."""

from hardneg.negatives.by_name import NegativesName, resolve_negatives
from hardneg.negatives.ceiling import Ceiling, PositiveAware, Qwen3Mask
from hardneg.negatives.schedules import Steps, Warmup
from hardneg.negatives.selection import Selection
from hardneg.negatives.strategies import (
    All,
    DistanceWeighted,
    Hardest,
    Negatives,
    RandomK,
    RankWindow,
    SelectiveHardest,
    SemiHard,
    TopK,
)

__all__ = [
    "All",
    "Ceiling",
    "DistanceWeighted",
    "Hardest",
    "Negatives",
    "NegativesName",
    "PositiveAware",
    "Qwen3Mask",
    "RandomK",
    "RankWindow",
    "Selection",
    "SelectiveHardest",
    "SemiHard",
    "Steps",
    "TopK",
    "Warmup",
    "resolve_negatives",
]
