"""The tiled backend: reductions over recomputed tiles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hardneg.checks import check_tile
from hardneg.ops import operators
from hardneg.ops.comparison import Among, Comparison
from hardneg.ops.half_precision import own_comparison, with_float32_gradients
from hardneg.ops.operators import Chosen, Counting, Pairs
from hardneg.ops.reference import weighted_total
from hardneg.ops.requests import (
    BatchAllTerms,
    Engine,
    ExponentialTerms,
    PairSearch,
    PenaltyTerms,
    Search,
    SelectedTerms,
    Wanted,
    Weights,
)
from hardneg.ops.scores import (
    BatchAll,
    LogSumExp,
    Scores,
    Selected,
    SelectedSums,
    Sums,
    Total,
)

__all__ = ["Tiled", "TiledScores"]


@dataclass(frozen=True)
class Tiled:
    """Recomputed tiles on any device: memory O((n + m) d + tile).

    Attributes:
        tile: rows and columns of a tile; None for the device's default.
    """

    tile: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "tile", check_tile(self.tile))

    def scores(self, comparison: Comparison) -> TiledScores:
        """The scores of a comparison, tile by tile."""
        return TiledScores(with_float32_gradients(comparison), Engine(self.tile or ()))


class TiledScores(Scores):
    """Reductions over tiles, each an operator.

    Attributes:
        engine: the size of the tiles, and whether kernels compute the operators that have one.
    """

    def __init__(self, comparison: Comparison, engine: Engine) -> None:
        self.comparison, self.engine = comparison, engine

    def swapped(self) -> TiledScores:
        """See ``Scores``."""
        return type(self)(self.comparison.swapped(), self.engine)

    def engine_for(self, request: Any) -> Engine:
        """What computes a request."""
        return self.engine

    def select(self, search: Search) -> Selected:
        """See ``Scores``."""
        return Selected(*operators.SELECT(self.comparison, search, self.engine_for(search)))

    def select_per_pair(self, search: PairSearch) -> Tensor:
        """See ``Scores``."""
        return operators.SELECT_PER_PAIR(self.comparison, search)[0]

    def pairs(self, rows: Tensor, columns: Tensor) -> Tensor:
        """See ``Scores``."""
        listed = Pairs(rows.reshape(-1), columns.reshape(-1))
        return operators.PAIR_SCORES(self.comparison.embeddings, listed, self.engine)[0].view(
            rows.shape
        )

    def own_scores(self, embeddings: Tensor) -> Tensor:
        """See ``Scores``."""
        n, k, _ = embeddings.shape
        compared = own_comparison(self.comparison, embeddings)
        rows = self.row_numbers().repeat_interleave(k)
        listed = Pairs(rows, torch.arange(n * k, device=self.device))
        return operators.PAIR_SCORES(compared.embeddings, listed, self.engine)[0].view(n, k)

    def magnitudes(self, rows: Tensor, columns: Tensor) -> Tensor:
        """See ``Scores``."""
        with torch.no_grad():
            return operators.MAGNITUDES(self.comparison.embeddings, Pairs(rows, columns))[0]

    def penalty_sum(self, terms: PenaltyTerms) -> Sums:
        """See ``Scores``."""
        return Sums(*operators.PENALTY_SUM(self.comparison, terms, self.engine_for(terms)))

    def penalty_total(
        self,
        terms: PenaltyTerms,
        row_weights: Tensor | None,
        column_weights: Tensor | None = None,
    ) -> Total:
        """See ``Scores``."""
        others = terms.row_thresholds, terms.column_thresholds, terms.scale
        if not self.gradients_in_one_pass(*others):
            return weighted_total(self.penalty_sum(terms), row_weights, column_weights)
        weights, engine = Weights(row_weights, column_weights), self.engine_for(terms)
        given = self.comparison, terms, engine, weights, engine.wanted(*self.wanted(terms.scale))
        return Total(*operators.PENALTY_TOTAL(*given)[:5])

    def batch_all(self, terms: BatchAllTerms) -> BatchAll:
        """See ``Scores``."""
        given = self.comparison, terms, self.engine
        if terms.total and self.gradients_in_one_pass():
            return BatchAll(*operators.BATCH_ALL_TOTAL(*given, self.wanted())[:5])
        found = BatchAll(*operators.BATCH_ALL(*given))
        return found._replace(sums=found.sums.sum()) if terms.total else found

    def selected_penalty(self, terms: SelectedTerms) -> SelectedSums:
        """See ``Scores``."""
        chosen = None
        if terms.ceiling is None:
            chosen = self.select(terms.search(self.zeros())).rows
        given = self.comparison, terms, Chosen(chosen)
        if terms.total and self.gradients_in_one_pass(terms.scale):
            found = operators.SELECTED_PENALTY_TOTAL(*given, self.wanted(terms.scale))
            return SelectedSums(*found[:5])
        sums = SelectedSums(*operators.SELECTED_PENALTY(*given))
        return sums._replace(sums=sums.sums.sum()) if terms.total else sums

    def logsumexp(self, terms: ExponentialTerms) -> LogSumExp:
        """See ``Scores``."""
        return LogSumExp(*operators.LOGSUMEXP(self.comparison, terms, self.engine_for(terms)))

    def counts(self, among: Among) -> tuple[Tensor, Tensor]:
        """See ``Scores``."""
        rows, columns = operators.COUNTS(self.comparison, Counting(among))
        return rows, columns

    def positive_pairs(self) -> tuple[Tensor, Tensor]:
        """See ``Scores``."""
        anchors, positives = operators.POSITIVE_PAIRS(self.comparison)
        return anchors, positives

    def gradients_in_one_pass(self, *others: Tensor | None) -> bool:
        """Whether the forward pass of a total computes its gradients.

        Where nothing needs a gradient the plain sums do, a third of the work.
        """
        of_others = any(x is not None and x.requires_grad for x in others)
        return torch.is_grad_enabled() and (of_others or any(self.comparison.learned))

    def wanted(self, scale: Tensor | None = None) -> Wanted:
        """The gradients that the forward pass of a total computes."""
        return Wanted(*self.comparison.learned, scale is not None and scale.requires_grad)
