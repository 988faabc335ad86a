"""``SmallScores``: a matrix no larger than a tile, computed once by one operator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hardneg.ops import operators
from hardneg.ops.comparison import Comparison
from hardneg.ops.half_precision import with_float32_gradients
from hardneg.ops.operators import Engine
from hardneg.ops.reference import DenseScores
from hardneg.ops.requests import BatchAllTerms
from hardneg.ops.scores import BatchAll
from hardneg.ops.tiled_backend import TiledScores

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

__all__ = ["Small", "SmallScores"]


@dataclass(frozen=True)
class Small:
    """What ``"auto"`` takes where all scores fit one small tile."""

    def scores(self, comparison: Comparison) -> SmallScores:
        """The whole matrix, when it is first read."""
        return SmallScores(with_float32_gradients(comparison))


class SmallScores(DenseScores):
    """The definitions over scores that one operator computed.

    Batch-all runs tiled: by its definition it needs a matrix for every anchor.
    """

    def compute(self) -> Float[Tensor, "n m"]:
        """All scores, with a hand-written backward."""
        return operators.SCORE_MATRIX(self.comparison.embeddings)[0]

    def batch_all(self, terms: BatchAllTerms) -> BatchAll:
        """See ``DenseScores``."""
        return TiledScores(self.comparison, Engine()).batch_all(terms)
