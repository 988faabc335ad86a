"""Corpora that tests of mining share."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hardneg import Mined, RankWindow, TopK, mine
from hardneg.mining import CorpusMiner, MinedRows
from hardneg.negatives import Ceiling

SMALL = 10_240
"""Bytes: blocks of 4 queries and 26 rows at width 8 and 4 places."""


class Problem(NamedTuple):
    """Queries, a corpus with rows that repeat, and what is known of both."""

    queries: Tensor
    corpus: Tensor
    known: dict[str, Any]


def problem(seed: int = 0, n: int = 37, m: int = 211, width: int = 8) -> Problem:
    """Repeated rows stand far apart, so ties cross blocks."""
    g = torch.Generator().manual_seed(seed)
    queries = torch.randn(n, width, generator=g)
    corpus = torch.randn(m, width, generator=g)
    for query in range(0, n, 4):  # rows that repeat near the top of some lists
        copies = torch.randperm(m, generator=g)[: 2 + query % 9]
        corpus[copies] = queries[query] + 0.6 * torch.randn(width, generator=g)
    known = {
        "positives": torch.randint(-1, m, (n, 2), generator=g),
        "exclude": torch.randint(-1, m, (n, 3), generator=g),
        "query_ids": torch.arange(n) % 5,
        "candidate_ids": torch.arange(m) % 11,
    }
    return Problem(queries, corpus, known)


STRATEGIES = (TopK(4), TopK(3, Ceiling(0.95)), RankWindow(2, 7), RankWindow(1, 4, Ceiling()))


def in_memory(given: Problem, negatives: Any, similarity: str = "cosine", **options: Any) -> Mined:
    return mine(given.queries, given.corpus, negatives, similarity, **given.known, **options)


def files(folder: Path) -> dict[str, bytes]:
    """The finished blocks of a run."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.npz"))}


def run(given: Problem, folder: Path, **options: Any) -> MinedRows:
    """A run of many blocks."""
    miner = CorpusMiner(TopK(4, Ceiling(0.95)), memory=SMALL, **options)
    return miner(given.queries, given.corpus, folder, **given.known)
