"""Losses with hard negatives that never build the query x candidate matrix."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

from hardneg.losses.circle import CircleLoss
from hardneg.losses.contrastive import ContrastiveLoss
from hardneg.losses.distillation import KLDistillation, MarginMSE
from hardneg.losses.info_nce import InfoNCELoss
from hardneg.losses.margin_loss import MarginLoss
from hardneg.losses.matryoshka import Matryoshka
from hardneg.losses.mining_statistics import MiningStatistics
from hardneg.losses.multi_similarity import MultiSimilarityLoss
from hardneg.losses.nt_xent import NTXentLoss
from hardneg.losses.pairwise import PairwiseContrastiveLoss
from hardneg.losses.polynomial import PolynomialLoss
from hardneg.losses.regularisers import KoLeo, SpreadOut
from hardneg.losses.scalars import Learned
from hardneg.losses.sigmoid import SigmoidLoss
from hardneg.losses.sup_con import SupConLoss
from hardneg.losses.triplet import TripletLoss
from hardneg.losses.unified import UnifiedPairLoss
from hardneg.negatives import (
    All,
    Ceiling,
    DistanceWeighted,
    Hardest,
    PositiveAware,
    Qwen3Mask,
    RandomK,
    RankWindow,
    SelectiveHardest,
    SemiHard,
    Steps,
    TopK,
    Warmup,
)
from hardneg.ops.reference import Dense
from hardneg.ops.tiled_backend import Tiled
from hardneg.penalties import Hinge, Logistic, SquaredHinge
from hardneg.positives import AllPositives, EasiestPositive, HardestPositive, Paired
from hardneg.similarities import Cosine, Dot, Euclidean, Order, SquaredEuclidean
from hardneg.softmaxes import Debiased, Decoupled, HardnessWeighted, LabelSmoothing

if TYPE_CHECKING:
    from hardneg import diagnostics as diagnostics
    from hardneg import distributed as distributed
    from hardneg import encoders as encoders
    from hardneg import functional as functional
    from hardneg import image_text as image_text
    from hardneg import integrations as integrations
    from hardneg import metrics as metrics
    from hardneg import mining as mining
    from hardneg import training as training
    from hardneg.distributed import AcrossRanks
    from hardneg.mining import Mined, mine
    from hardneg.training.grad_cache import GradCache
    from hardneg.training.memory_queue import MemoryQueue

__version__ = "0.2.0"

__all__ = [
    "AcrossRanks",
    "All",
    "AllPositives",
    "Ceiling",
    "CircleLoss",
    "ContrastiveLoss",
    "Cosine",
    "Debiased",
    "Decoupled",
    "Dense",
    "DistanceWeighted",
    "Dot",
    "EasiestPositive",
    "Euclidean",
    "GradCache",
    "Hardest",
    "HardestPositive",
    "HardnessWeighted",
    "Hinge",
    "InfoNCELoss",
    "KLDistillation",
    "KoLeo",
    "LabelSmoothing",
    "Learned",
    "Logistic",
    "MarginLoss",
    "MarginMSE",
    "Matryoshka",
    "MemoryQueue",
    "Mined",
    "MiningStatistics",
    "MultiSimilarityLoss",
    "NTXentLoss",
    "Order",
    "Paired",
    "PairwiseContrastiveLoss",
    "PolynomialLoss",
    "PositiveAware",
    "Qwen3Mask",
    "RandomK",
    "RankWindow",
    "SelectiveHardest",
    "SemiHard",
    "SigmoidLoss",
    "SpreadOut",
    "SquaredEuclidean",
    "SquaredHinge",
    "Steps",
    "SupConLoss",
    "Tiled",
    "TopK",
    "TripletLoss",
    "UnifiedPairLoss",
    "Warmup",
    "mine",
]

ON_DEMAND = {
    "AcrossRanks": "hardneg.distributed",
    "GradCache": "hardneg.training.grad_cache",
    "MemoryQueue": "hardneg.training.memory_queue",
    "Mined": "hardneg.mining",
    "mine": "hardneg.mining",
}
"""What a loss on one device does without: imported where it is named."""
MODULES = (
    "diagnostics",
    "distributed",
    "encoders",
    "functional",
    "image_text",
    "integrations",
    "metrics",
    "mining",
    "training",
)
"""Modules that are imported where they are named, as in ``hardneg.metrics.recall_at_k``."""


def __getattr__(name: str) -> object:
    if name in ON_DEMAND:
        return getattr(importlib.import_module(ON_DEMAND[name]), name)
    if name in MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    said = f"module {__name__!r} has no attribute {name!r}"
    if name.startswith("_"):
        raise AttributeError(said)
    instead = importlib.import_module("hardneg.other_names").instead_of(name)
    # ``from hardneg import ...`` drops the message of an AttributeError, hasattr() takes no other
    if instead and sys._getframe(1).f_globals.get("__name__") == "importlib._bootstrap":
        raise ImportError(f"{said}: {instead}", name=__name__, path=__file__)
    raise AttributeError(f"{said}: {instead}" if instead else said)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *MODULES})
