"""Search by Ray Data: parts of the corpus are mapped to lists, which are merged here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hardneg.extras import require
from hardneg.mining.search import Request, TopLists, merge
from hardneg.mining.searchers import Corpus, InProcess

__all__ = ["RayData"]


@dataclass(frozen=True)
class RayData(InProcess):
    """Ray Data's ``map_batches`` over the blocks of the corpus, which its workers read themselves.

    Start Ray first (``ray.init``) to say where it runs. Workers open a mapped corpus by its path, so they need
    the same file; one in memory is handed to them.

    Attributes:
        workers: how many blocks are searched at a time; None leaves it to Ray.
    """

    workers: int | None = None

    def lists(
        self, queries: Tensor, request: Request, corpus: Corpus, tick: Callable[[], None]
    ) -> TopLists:
        """See ``Searcher``."""
        require("ray", "ray", "RayData")
        data = require("ray.data", "ray", "RayData")
        parts = [{"start": part.start, "stop": part.stop} for part in corpus.parts()]
        mapped = data.from_items(parts, override_num_blocks=len(parts)).map_batches(
            Part(queries, request, corpus),
            batch_size=1,
            **({} if self.workers is None else {"concurrency": self.workers}),
        )
        lists = []
        for row in mapped.iter_rows():
            lists.append(TopLists(*(torch.tensor(row[name]) for name in TopLists._fields)))
            tick()
        return TopLists(*(x.to(queries.device) for x in reduce(merge, lists)))


@dataclass(frozen=True, eq=False)
class Part:
    """What is done with a batch of parts."""

    queries: Tensor
    request: Request
    corpus: Corpus

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        """Their lists, as one row."""
        starts, stops = batch["start"].tolist(), batch["stop"].tolist()
        parts = [slice(*part) for part in zip(starts, stops, strict=True)]
        found = self.corpus.search(self.queries, self.request, parts)
        return {name: x.cpu().numpy()[None] for name, x in found._asdict().items()}
