"""Retrieval metrics: ranks, recall@k, mAP@R, NDCG and more; ties count against the model."""

from hardneg.metrics.accumulator import RetrievalAccumulator
from hardneg.metrics.averages import (
    mean_rank,
    mean_reciprocal_rank,
    median_rank,
    recall_at_k,
)
from hardneg.metrics.best_rank import ranks
from hardneg.metrics.lists import map_at_r, ndcg, r_precision
from hardneg.metrics.retrieval import (
    DirectionMetrics,
    RetrievalMetrics,
    coco_folds,
    retrieval_metrics,
)

__all__ = [
    "DirectionMetrics",
    "RetrievalAccumulator",
    "RetrievalMetrics",
    "coco_folds",
    "map_at_r",
    "mean_rank",
    "mean_reciprocal_rank",
    "median_rank",
    "ndcg",
    "r_precision",
    "ranks",
    "recall_at_k",
    "retrieval_metrics",
]
