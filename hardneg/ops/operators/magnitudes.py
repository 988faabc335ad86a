"""What the rounding of scores is proportional to, as an operator."""

from __future__ import annotations

from torch import Tensor

from hardneg.ops.comparison import Embeddings
from hardneg.ops.operators.pair_scores import Pairs
from hardneg.ops.operators.registration import Operator
from hardneg.ops.rounding import Magnitudes
from hardneg.similarities import score_dtype

__all__ = ["MAGNITUDES"]


def run(embeddings: Embeddings, pairs: Pairs) -> tuple[Tensor]:
    """See ``Scores.magnitudes``."""
    return (Magnitudes(embeddings).of_pairs(pairs.rows, pairs.columns),)


def shapes(embeddings: Embeddings, pairs: Pairs) -> tuple[Tensor]:
    """A number for each pair."""
    queries = embeddings.queries
    return (queries.new_empty(pairs.rows.shape, dtype=score_dtype(queries)),)


MAGNITUDES = Operator("magnitudes", (Embeddings, Pairs), 1, run, shapes)
