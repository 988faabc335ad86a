"""``SmallScores``: a matrix no larger than a tile, computed once, and whole losses over it in one step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.ops import operators
from hardneg.ops.comparison import Comparison
from hardneg.ops.half_precision import with_float32_gradients
from hardneg.ops.loss_requests import LossRequest
from hardneg.ops.own import OwnNegatives
from hardneg.ops.reference import DenseScores
from hardneg.ops.requests import BatchAllTerms, Engine
from hardneg.ops.scores import BatchAll
from hardneg.ops.small.by_kernels import has_kernels, kernel_loss
from hardneg.ops.small.loss import is_known, whole_loss
from hardneg.ops.small.own import beside_own, takes_own
from hardneg.ops.tiled_backend import TiledScores

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["Small", "SmallScores"]


@dataclass(frozen=True)
class Small:
    """What ``"auto"`` takes where all scores fit one small tile.

    Attributes:
        kernels: whether losses that have kernels are computed by them.
        others: whether other losses are known as a whole too.
    """

    kernels: bool = False
    others: bool = True

    def scores(self, comparison: Comparison) -> SmallScores:
        """The whole matrix, when it is first read."""
        return SmallScores(comparison, knows=self)


class SmallScores(DenseScores):
    """The definitions over scores that one operator computed.

    A loss that it knows as a whole takes one step, with derivatives by hand: of few rows the operations cost
    more than what they compute. Batch-all runs tiled: by its definition it needs a matrix for every anchor.
    """

    def __init__(
        self, comparison: Comparison, matrix: Tensor | None = None, knows: Small | None = None
    ) -> None:
        super().__init__(comparison, matrix)
        self.prepared: Comparison | None = None
        # an object as a default is refused by the compiler of torch 2.11
        self.knows = Small() if knows is None else knows

    @property
    def for_operators(self) -> Comparison:
        """The comparison with gradients in float32, prepared when a reduction is first asked for."""
        if self.prepared is None:
            with torch.set_grad_enabled(self.differentiable):
                self.prepared = with_float32_gradients(self.comparison)
        return self.prepared

    def compute(self) -> Float[Tensor, "n m"]:
        """All scores, with a hand-written backward."""
        return operators.SCORE_MATRIX(self.for_operators.embeddings)[0]

    def swapped(self) -> SmallScores:
        """The transposed matrix."""
        with torch.set_grad_enabled(self.differentiable):
            return SmallScores(self.for_operators.swapped(), self.matrix.T)

    def own_scores(self, embeddings: Tensor) -> Tensor:
        """See ``DenseScores``."""
        return TiledScores(self.for_operators, Engine()).own_scores(embeddings)

    def batch_all(self, terms: BatchAllTerms) -> BatchAll:
        """See ``DenseScores``."""
        return TiledScores(self.for_operators, Engine()).batch_all(terms)

    def loss_beside(self, own: OwnNegatives, request: LossRequest) -> Float[Tensor, ""] | None:
        """The loss with own negatives of the queries; None for one that is not known as a whole."""
        exempt = own.exempt and request.negatives.ceiling is not None
        if exempt or not self.knows.others or not takes_own(self.comparison, own):
            return None
        beside = beside_own(self.comparison, own)
        known = is_known(request, beside)
        return whole_loss(beside, request, own.embeddings) if known else None

    def loss(self, request: LossRequest) -> Float[Tensor, ""] | None:
        """The loss; None for one that is not known as a whole."""
        if self.knows.kernels and has_kernels(request, self.comparison):
            return kernel_loss(self.comparison, request)
        known = self.knows.others and is_known(request, self.comparison)
        return whole_loss(self.comparison, request) if known else None
