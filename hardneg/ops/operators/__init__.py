"""The tiled reductions as PyTorch operators ``torch.ops.hardneg.*``: one file a reduction.

Registered with shapes for the compiler (fake implementations) and backwards, so that
``torch.compile(fullgraph=True)`` and ``torch.library.opcheck`` treat them as built-in operators.
"""

from hardneg.ops.operators import (
    logsumexp,
    magnitudes,
    pair_scores,
    penalty_sum,
    positives_penalty,
    relation,
    scores,
    select,
    selected_penalty,
)

__all__ = [
    "logsumexp",
    "magnitudes",
    "pair_scores",
    "penalty_sum",
    "positives_penalty",
    "relation",
    "scores",
    "select",
    "selected_penalty",
]
