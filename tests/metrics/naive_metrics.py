"""Retrieval metrics by loops in float64: what the library is held to."""

from __future__ import annotations

import math

import numpy as np
import torch

from hardneg.similarities import Cosine, Dot, Euclidean, Order, SquaredEuclidean


def label(value: object) -> str:
    """A test's name that is the same in every process."""
    return getattr(value, "__name__", None) or str(value)


SIMILARITIES = [
    Cosine(),
    Dot(),
    Euclidean(),
    SquaredEuclidean(),
    Order(),
    Order("queries"),
    lambda q, c: q @ c.T - 0.1 * c.sum(1),
]


DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


def naive_score(similarity, q, c) -> float:
    """One score in float64, from its definition."""
    if isinstance(similarity, Cosine):
        length = math.sqrt(float(q @ q)) * math.sqrt(float(c @ c))
        return float(q @ c) / length if length else 0.0
    if isinstance(similarity, Dot):
        return float(q @ c)
    if isinstance(similarity, Euclidean | SquaredEuclidean):
        squared = float(((q - c) ** 2).sum())
        return -math.sqrt(squared) if isinstance(similarity, Euclidean) else -squared
    if isinstance(similarity, Order):
        excess = c - q if similarity.general == "candidates" else q - c
        return -math.sqrt(float((np.maximum(excess, 0) ** 2).sum()))
    pair = torch.from_numpy(q)[None], torch.from_numpy(c)[None]
    return float(similarity(*pair))


def naive_scores(similarity, queries, candidates) -> np.ndarray:
    q, c = queries.double().numpy(), candidates.double().numpy()
    return np.array([[naive_score(similarity, a, b) for b in c] for a in q])


def naive_ranks(scores, query_ids, candidate_ids, same_set=False) -> list[int]:
    """Loops over the definition; exact ties count."""
    found = []
    for i, row in enumerate(scores):
        others = [j for j in range(len(row)) if not (same_set and i == j)]
        kin = [j for j in others if candidate_ids[j] == query_ids[i]]
        rivals = [j for j in others if candidate_ids[j] != query_ids[i]]
        if not kin:
            found.append(-1)
            continue
        best = max(row[j] for j in kin)
        found.append(sum(row[j] >= best for j in rivals))
    return found


def naive_order(row, gains, own=None) -> list[int]:
    """Candidates in the order of retrieval: falling score, the least gain first among equals."""
    others = [j for j in range(len(row)) if j != own]
    return sorted(others, key=lambda j: (-row[j], gains[j]))


def naive_lists(scores, gains, same_set=False, k=None) -> tuple[float, float, float]:
    """mAP@R, R-precision and NDCG of an n x m matrix of gains."""
    aps, precisions, ndcgs = [], [], []
    for i, row in enumerate(scores):
        own = i if same_set else None
        order = naive_order(row, gains[i], own)
        hits = [gains[i][j] > 0 for j in order]
        r = sum(hits)
        if r == 0:
            continue
        aps.append(sum(sum(hits[: t + 1]) / (t + 1) for t in range(r) if hits[t]) / r)
        precisions.append(sum(hits[:r]) / r)
        cut = len(order) if k is None else k
        got = sum(gains[i][j] / math.log2(t + 2) for t, j in enumerate(order[:cut]))
        ideal = sorted((gains[i][j] for j in order), reverse=True)[:cut]
        ndcgs.append(got / sum(g / math.log2(t + 2) for t, g in enumerate(ideal)))
    return float(np.mean(aps)), float(np.mean(precisions)), float(np.mean(ndcgs))


def sets(n, m, d, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    q, c = (torch.randn(rows, d, generator=generator).to(dtype) for rows in (n, m))
    ids = [torch.randint(-4, 5, (rows,), generator=generator) * 10**12 for rows in (n, m)]
    return q, c, *ids
