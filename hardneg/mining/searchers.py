"""Who searches the corpus for a block of queries: this process, ranks, or an approximate index."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from hardneg.mining.exact_scores import unit
from hardneg.mining.rows import Rows
from hardneg.mining.search import Block, Request, TopLists, best_listed, merge, search_block
from hardneg.similarities import Cosine

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = ["AcrossProcesses", "ApproximateIndex", "Corpus", "InProcess", "Searcher"]

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Corpus:
    """Rows of a corpus, and what search asks of them.

    Attributes:
        rows: the embeddings.
        block_rows: how many are searched at a time.
        ids: of the rows, where there are any.
        first: the row that stands for each row; None where each stands for itself.
        device: where it is searched.
    """

    rows: Rows
    block_rows: int
    ids: Int[Tensor, "m"] | None = None
    first: Int[Tensor, "m"] | None = None
    device: str = "cpu"

    def parts(self, among: range | None = None) -> list[slice]:
        """The blocks of some rows, or of all."""
        among = range(len(self.rows)) if among is None else among
        starts = range(among.start, among.stop, self.block_rows)
        return [slice(start, min(start + self.block_rows, among.stop)) for start in starts]

    def block(self, part: slice) -> Block:
        """The rows of a part that stand for themselves."""
        rows = torch.arange(part.start, part.stop)
        embeddings = self.rows.read(part)
        if self.first is not None:
            kept = self.first[part] == rows
            rows, embeddings = rows[kept], embeddings[kept]
        ids = None if self.ids is None else self.ids[rows].to(self.device)
        return Block(embeddings.to(self.device), rows.to(self.device), ids)

    def search(
        self, queries: Float[Tensor, "n d"], request: Request, parts: Iterator[slice] | list[slice]
    ) -> TopLists:
        """The best of these parts."""
        lists = (search_block(queries, self.block(part), request) for part in parts)
        return reduce(merge, lists)


class Searcher(Protocol):
    """Who finds the best lists.

    Attributes:
        name: what a manifest calls what it finds.
    """

    @property
    def name(self) -> str:
        """See the class."""

    def lists(
        self,
        queries: Float[Tensor, "n d"],
        request: Request,
        corpus: Corpus,
        tick: Callable[[], None],
    ) -> TopLists:
        """The best of the whole corpus; ``tick`` is called as parts are done."""

    def told(self, function: Callable[[], T]) -> T:
        """What the leading process's ``function`` returns, in every process; its error is raised in all."""


@dataclass(frozen=True)
class InProcess:
    """This process, block after block."""

    @property
    def name(self) -> str:
        """See ``Searcher``."""
        return "exact"

    def lists(
        self, queries: Tensor, request: Request, corpus: Corpus, tick: Callable[[], None]
    ) -> TopLists:
        """See ``Searcher``."""

        def ticked() -> Iterator[slice]:
            for part in corpus.parts():
                yield part
                tick()

        return corpus.search(queries, request, ticked())

    def told(self, function: Callable[[], T]) -> T:
        """See ``Searcher``."""
        return function()


@dataclass(frozen=True)
class AcrossProcesses:
    """The ranks of a process group, each a part of the corpus; rank 0 writes.

    Every rank calls the miner with the same arguments, and reads its own part only.

    Attributes:
        group: the process group; None for the default one.
    """

    group: Any = None

    @property
    def name(self) -> str:
        """See ``Searcher``."""
        return "exact"

    def lists(
        self, queries: Tensor, request: Request, corpus: Corpus, tick: Callable[[], None]
    ) -> TopLists:
        """See ``Searcher``."""
        rank, size, m = dist.get_rank(self.group), dist.get_world_size(self.group), len(corpus.rows)
        mine = range(m * rank // size, m * (rank + 1) // size)
        # a rank without rows searches no row
        parts = corpus.parts(mine) or [slice(0, 0)]
        found = corpus.search(queries, request, parts)
        gathered = [[torch.empty_like(x) for _ in range(size)] for x in found]
        for one, others in zip(found, gathered, strict=True):
            dist.all_gather(others, one.contiguous(), group=self.group)
        for _ in corpus.parts():
            tick()
        return reduce(merge, (TopLists(*x) for x in zip(*gathered, strict=True)))

    def told(self, function: Callable[[], T]) -> T:
        """See ``Searcher``."""
        answer: list[Any] = [None, None]
        if dist.get_rank(self.group) == 0:
            try:
                answer[0] = function()
            except Exception as error:
                answer[1] = error
        source = 0 if self.group is None else dist.get_global_rank(self.group, 0)
        dist.broadcast_object_list(answer, src=source, group=self.group)
        if answer[1] is not None:
            raise answer[1]
        found: T = answer[0]
        return found


@dataclass(frozen=True)
class ApproximateIndex(InProcess):
    """An index of faiss, or any object whose ``search(x, k)`` returns scores and rows, -1 for none.

    What it names is scored and filtered like the rows of an exact search; what it does not name is not found.

    Attributes:
        index: of all rows of the corpus in their order; under cosine, of rows of length 1.
        looked_at: how many it is asked for; None for 4 times as many as wanted, and those that may be left out.
    """

    index: Any = None
    looked_at: int | None = None

    @property
    def name(self) -> str:
        """See ``Searcher``."""
        return (
            f"{type(self.index).__name__} of {getattr(self.index, 'ntotal', '?')}, {self.looked_at}"
        )

    def lists(
        self, queries: Tensor, request: Request, corpus: Corpus, tick: Callable[[], None]
    ) -> TopLists:
        """See ``Searcher``."""
        x = unit(queries) if isinstance(request.similarity, Cosine) else queries
        wanted = self.looked_at or 4 * request.k + request.listed.shape[1]
        rows = np.asarray(self.index.search(x.cpu().float().numpy(), wanted)[1])
        named, back = np.unique(rows, return_inverse=True)
        places = torch.from_numpy(back.reshape(rows.shape))
        found = self.block(corpus, torch.from_numpy(named[named >= 0]).long())
        places = (places - int((named < 0).sum())).clamp(min=-1).to(queries.device)
        out = self.left_out(corpus, found, request, places)
        for _ in corpus.parts():
            tick()
        return best_listed(queries, found, request, places.masked_fill(out, -1))

    def block(self, corpus: Corpus, rows: Int[Tensor, "t"]) -> Block:
        """The rows that it named."""
        ids = None if corpus.ids is None else corpus.ids[rows].to(corpus.device)
        return Block(corpus.rows.take(rows, corpus.device), rows.to(corpus.device), ids)

    def left_out(
        self, corpus: Corpus, found: Block, request: Request, places: Int[Tensor, "n c"]
    ) -> Tensor:
        """Places of positives by id, and of rows for which others stand."""
        at, out = places.clamp(min=0), torch.zeros_like(places, dtype=torch.bool)
        if not len(found.rows):
            return ~out
        if corpus.first is not None:
            stands = corpus.first.to(found.rows.device)[found.rows] == found.rows
            out |= ~stands[at]
        if request.ids is not None and found.ids is not None:
            out |= found.ids[at] == request.ids[:, None]
        return out
