"""What the rounding of scores is proportional to, as an operator."""

from __future__ import annotations

import torch
from torch import Tensor

from hardneg import similarities
from hardneg.ops.description import Comparison, Relation
from hardneg.ops.operators.registration import Arguments, operator
from hardneg.ops.rounding import Magnitudes
from hardneg.similarities import working_type

__all__ = ["ListedPairs", "magnitudes"]


class ListedPairs(Arguments):
    """Arguments of ``magnitudes``."""

    queries: Tensor
    candidates: Tensor
    rows: Tensor
    columns: Tensor
    similarity: str


@operator(
    "magnitudes",
    ListedPairs,
    1,
    lambda a: a.queries.new_empty(a.rows.shape, dtype=working_type(a.queries)),
)
def run(a: ListedPairs) -> Tensor:
    """See ``Executor``."""
    similarity = similarities.BY_CODE[a.similarity]
    compared = Comparison(a.queries, a.candidates, similarity, Relation())
    return Magnitudes(compared).of_pairs(a.rows, a.columns)


def magnitudes(comparison: Comparison, rows: Tensor, columns: Tensor) -> Tensor:
    """The operator, of a comparison."""
    embeddings = comparison.queries.detach(), comparison.candidates.detach()
    found: Tensor = torch.ops.hardneg.magnitudes(
        *embeddings, rows, columns, comparison.similarity.code
    )
    return found
