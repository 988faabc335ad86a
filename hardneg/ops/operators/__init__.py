"""The reductions as operators of PyTorch, ``torch.ops.hardneg.*``: one file each."""

from hardneg.ops.operators.batch_all import BATCH_ALL, BATCH_ALL_TOTAL
from hardneg.ops.operators.logsumexp import LOGSUMEXP
from hardneg.ops.operators.magnitudes import MAGNITUDES
from hardneg.ops.operators.pair_scores import PAIR_SCORES, Pairs
from hardneg.ops.operators.penalty_sum import PENALTY_SUM, PENALTY_TOTAL
from hardneg.ops.operators.relation import COUNTS, POSITIVE_PAIRS, Counting
from hardneg.ops.operators.score_matrix import SCORE_MATRIX
from hardneg.ops.operators.select import SELECT, SELECT_PER_PAIR
from hardneg.ops.operators.selected_penalty import SELECTED_PENALTY, SELECTED_PENALTY_TOTAL, Chosen

__all__ = [
    "BATCH_ALL",
    "BATCH_ALL_TOTAL",
    "COUNTS",
    "LOGSUMEXP",
    "MAGNITUDES",
    "PAIR_SCORES",
    "PENALTY_SUM",
    "PENALTY_TOTAL",
    "POSITIVE_PAIRS",
    "SCORE_MATRIX",
    "SELECT",
    "SELECTED_PENALTY",
    "SELECTED_PENALTY_TOTAL",
    "SELECT_PER_PAIR",
    "Chosen",
    "Counting",
    "Pairs",
]
