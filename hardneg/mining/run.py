"""A run: block after block of queries, each written when it is finished."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hardneg.extras import require
from hardneg.mining.belonging import Belonging, Kin
from hardneg.mining.exact_scores import exact_scores, under_positives
from hardneg.mining.folder import RunFolder
from hardneg.mining.rows import Rows
from hardneg.mining.search import Request, TopLists, first
from hardneg.mining.searchers import Corpus, Searcher
from hardneg.negatives import Ceiling, Selection

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = ["Options", "Rescore", "Run"]

Rescore = Callable[[list[tuple[int, int]]], Any]
"""Scores of (query row, corpus row) pairs, such as a cross-encoder's."""

PAIRS = 1 << 21
"""How many coordinates of positives are read at a time."""


class Options(NamedTuple):
    """What a run is told.

    Attributes:
        selection: what to select.
        ceiling: of the negatives, relative to the positive.
        similarity: an object.
        limits: bounds on the scores themselves.
        rescore: a function, and how many candidates of a query it scores.
        searcher: who searches.
        progress: whether a bar is shown.
    """

    selection: Selection
    ceiling: Ceiling | None
    similarity: Any
    limits: tuple[float | None, float | None]
    rescore: tuple[Rescore, int] | None
    searcher: Searcher
    progress: bool

    @property
    def places(self) -> int:
        """How many candidates of a query are looked for."""
        return self.selection.k if self.rescore is None else self.rescore[1]


@dataclass(frozen=True, eq=False)
class Run:
    """A run in a folder.

    Attributes:
        place: the folder, with its manifest.
        queries: the embeddings.
        corpus: what is searched.
        belonging: which rows belong to which query.
        options: what to do.
        block_rows: queries in a block.
    """

    place: RunFolder
    queries: Rows
    corpus: Corpus
    belonging: Belonging
    options: Options
    block_rows: int

    def finish(self) -> None:
        """Compute and write the blocks that are not there."""
        told, n = self.options.searcher.told, len(self.queries)
        starts = range(0, n, self.block_rows)
        missing = told(lambda: [b for b in range(len(starts)) if self.place.block(b) is None])
        with bar(self.options.progress, len(missing) * len(self.corpus.parts())) as tick:
            for b in missing:
                arrays = self.block(slice(starts[b], min(starts[b] + self.block_rows, n)), tick)
                told(partial(self.place.write, b, arrays))

    def block(self, rows: slice, tick: Callable[[], None]) -> dict[str, np.ndarray]:
        """The result of some queries."""
        kin = self.belonging.of(rows)
        queries = self.queries.read(rows, self.corpus.device)
        positive_scores, ceiling = self.positives(queries, kin, rows)
        low, high = self.options.limits
        floor = None if low is None else torch.full_like(queries[:, 0], low)
        if high is not None:
            most = torch.full_like(queries[:, 0], high)
            ceiling = most if ceiling is None else ceiling.minimum(most)
        lists = self.lists(queries, kin, (floor, ceiling), rows, tick)
        return arrays_of(lists, self.options.selection.skip, kin, positive_scores)

    def lists(
        self,
        queries: Float[Tensor, "n d"],
        kin: Kin,
        bounds: tuple[Tensor | None, Tensor | None],
        rows: slice,
        tick: Callable[[], None],
    ) -> TopLists:
        """The best of every query, rescored where that is asked for."""
        options, device = self.options, self.corpus.device
        ids = None if kin.ids is None else kin.ids.to(device)
        inside = bounds if options.rescore is None else (None, None)
        listed = kin.listed.to(device)
        request = Request(options.places, options.similarity, listed, ids, *inside)
        found = options.searcher.lists(queries, request, self.corpus, tick)
        if options.rescore is None:
            return found
        return self.rescored(found, bounds, rows)

    def rescored(
        self, lists: TopLists, bounds: tuple[Tensor | None, Tensor | None], rows: slice
    ) -> TopLists:
        """The k best by the function's scores, within the bounds on them."""
        query, place = (lists.indices >= 0).nonzero(as_tuple=True)
        scores = torch.full_like(lists.scores, -torch.inf)
        scores[query, place] = self.scored(query + rows.start, lists.indices[query, place]).to(
            scores
        )
        floor, ceiling = bounds
        if floor is not None:
            scores[scores <= floor[:, None]] = -torch.inf
        if ceiling is not None:
            scores[scores >= ceiling[:, None]] = -torch.inf
        return first(lists.indices, scores, self.options.selection.k)

    def scored(self, queries: Int[Tensor, "t"], rows: Int[Tensor, "t"]) -> Float[Tensor, "t"]:
        """What the function says of pairs.

        Raises:
            ValueError: unless it returns a finite number for each.
        """
        assert self.options.rescore is not None
        rescore, _ = self.options.rescore
        pairs = list(zip(queries.tolist(), rows.tolist(), strict=True))
        if not pairs:
            return torch.empty(0)
        found = self.options.searcher.told(lambda: rescore(pairs))
        scores = torch.as_tensor(found).detach().cpu().reshape(-1)
        if len(scores) != len(pairs) or not bool(scores.isfinite().all()):
            raise ValueError(
                f"rescore returned shape {tuple(torch.as_tensor(found).shape)} for {len(pairs)} pairs, or what is not "
                "finite: expected one finite number a pair"
            )
        return scores

    def positives(
        self, queries: Float[Tensor, "n d"], kin: Kin, rows: slice
    ) -> tuple[Float[Tensor, "t"], Float[Tensor, "n"] | None]:
        """Scores of the positives, and the bound under the highest-scoring one of each query."""
        ceiling = self.options.ceiling
        found = [torch.empty(0, dtype=queries.dtype)]
        bounds = [torch.empty(0, dtype=queries.dtype)]
        step = max(1, PAIRS // queries.shape[1])
        for start in range(0, len(kin.rows), step):
            at = slice(start, start + step)
            scores, below = self.positive_scores(
                queries[kin.queries[at].to(queries.device)], kin.rows[at]
            )
            found.append(scores.cpu())
            bounds.append(below.cpu())
        scores, below = torch.cat(found), torch.cat(bounds)
        if self.options.rescore is not None:
            scores = self.scored(kin.queries + rows.start, kin.rows).to(scores)
            below = scores if ceiling is None else ceiling(scores)
        if ceiling is None:
            return scores, None
        return scores, highest_bound(scores, below, kin.queries, len(queries)).to(queries.device)

    def positive_scores(
        self, queries: Float[Tensor, "t d"], rows: Int[Tensor, "t"]
    ) -> tuple[Float[Tensor, "t"], Float[Tensor, "t"]]:
        """Scores of listed pairs, and the bounds under them."""
        similarity, ceiling = self.options.similarity, self.options.ceiling
        positives = self.corpus.rows.take(rows, self.corpus.device)
        places = torch.arange(len(rows), device=queries.device)[:, None]
        scores = exact_scores(queries, positives, places, similarity)[:, 0]
        if ceiling is None:
            return scores, scores
        return scores, under_positives(ceiling, queries, positives, scores, similarity)


def highest_bound(
    scores: Float[Tensor, "t"], bounds: Float[Tensor, "t"], queries: Int[Tensor, "t"], n: int
) -> Float[Tensor, "n"]:
    """The bound of the highest-scoring positive of each query; inf without one."""
    found = bounds.new_full((n,), torch.inf)
    order = scores.sort(stable=True).indices
    for_query, back = queries[order], order
    # the last of a query's places is its highest-scoring positive
    by_query = for_query.sort(stable=True)
    last = torch.ones_like(by_query.values, dtype=torch.bool)
    last[:-1] = by_query.values[1:] != by_query.values[:-1]
    chosen = back[by_query.indices[last]]
    found[queries[chosen]] = bounds[chosen]
    return found


def arrays_of(
    lists: TopLists, skip: int, kin: Kin, positive_scores: Float[Tensor, "t"]
) -> dict[str, np.ndarray]:
    """What a block's file holds; the positives of query i are those from ``offsets[i]`` to ``offsets[i + 1]``."""
    indices, scores = lists.indices[:, skip:].cpu(), lists.scores[:, skip:].cpu()
    counts = torch.bincount(kin.queries, minlength=len(indices))
    offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    tensors = {
        "indices": indices,
        "scores": scores,
        "counts": (indices >= 0).sum(1),
        "offsets": offsets,
        "positives": kin.rows,
        "positive_scores": positive_scores,
    }
    return {name: x.contiguous().numpy() for name, x in tensors.items()}


@contextmanager
def bar(shown: bool, total: int) -> Iterator[Callable[[], None]]:
    """What to call as parts are done."""
    if not shown:
        yield lambda: None
        return
    tqdm = require("tqdm", "mining", "a progress bar").tqdm
    with tqdm(total=total, desc="mining", unit="block") as found:
        yield lambda: found.update(1)
