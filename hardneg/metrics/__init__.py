"""Retrieval metrics: ranks, recall@k, mAP@R, NDCG and more; ties count against the model."""

from hardneg.metrics.accumulator import RetrievalAccumulator
from hardneg.metrics.across_ranks import across_ranks
from hardneg.metrics.averages import (
    mean_rank,
    mean_reciprocal_rank,
    median_rank,
    recall_at_k,
    success_at_k,
)
from hardneg.metrics.best_rank import ranks
from hardneg.metrics.cutoffs import list_recall_at_k, map_at_k, precision_at_k
from hardneg.metrics.directions import both_directions
from hardneg.metrics.given_scores import from_scores
from hardneg.metrics.lists import map_at_r, ndcg, r_precision
from hardneg.metrics.retrieval import (
    DirectionMetrics,
    RetrievalMetrics,
    coco_folds,
    retrieval_metrics,
)
from hardneg.metrics.top_lists import Retrieved, top_candidates
from hardneg.metrics.trec import write_trec_qrels, write_trec_run

__all__ = [
    "DirectionMetrics",
    "RetrievalAccumulator",
    "RetrievalMetrics",
    "Retrieved",
    "across_ranks",
    "both_directions",
    "coco_folds",
    "from_scores",
    "list_recall_at_k",
    "map_at_k",
    "map_at_r",
    "mean_rank",
    "mean_reciprocal_rank",
    "median_rank",
    "ndcg",
    "precision_at_k",
    "r_precision",
    "ranks",
    "recall_at_k",
    "retrieval_metrics",
    "success_at_k",
    "top_candidates",
    "write_trec_qrels",
    "write_trec_run",
]
