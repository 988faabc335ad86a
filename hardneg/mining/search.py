"""``search_block`` and ``merge``: the best candidates of a block of the corpus, and of two such lists.

Scores that decide are computed pair by pair in float64 and rounded once, so a list depends on neither the size nor
the order of the blocks, nor on who searched them. Products of matrices only say which pairs to look at.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from hardneg.mining.exact_scores import exact_scores, score_bounds
from hardneg.negatives import Selection
from hardneg.ops.backends import bind_large
from hardneg.ops.comparison import Comparison, Relation, Window
from hardneg.ops.requests import Search
from hardneg.ops.tiled.top_k import first_k
from hardneg.similarities import Order, score_dtype

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = ["Block", "Request", "TopLists", "best_listed", "merge", "search_block"]

SLACK = 4
"""How many more are looked at than wanted: products of matrices may exchange neighbours."""
LAST = torch.iinfo(torch.int64).max
CHUNK = 1 << 22


class TopLists(NamedTuple):
    """The best candidates of every query: the highest score first, the smallest row among equals.

    Attributes:
        indices: rows of the corpus; -1 behind the last.
        scores: their scores; -inf behind the last.
    """

    indices: Int[Tensor, "n k"]
    scores: Float[Tensor, "n k"]


class Block(NamedTuple):
    """Some rows of the corpus.

    Attributes:
        embeddings: the rows.
        rows: their numbers in the corpus, rising.
        ids: their ids, where there are any.
    """

    embeddings: Float[Tensor, "m d"]
    rows: Int[Tensor, "m"]
    ids: Int[Tensor, "m"] | None = None


@dataclass(frozen=True, eq=False)
class Request:
    """What a block of queries looks for.

    Attributes:
        k: how many candidates.
        similarity: one of the similarity objects.
        listed: rows of the corpus to leave out, -1 for none.
        ids: rows of the corpus of an equal id are left out.
        floor, ceiling: bounds on the scores, both strict.
    """

    k: int
    similarity: Any
    listed: Int[Tensor, "n e"]
    ids: Int[Tensor, "n"] | None = None
    floor: Float[Tensor, "n"] | None = None
    ceiling: Float[Tensor, "n"] | None = None

    def of(self, rows: Tensor) -> Request:
        """That of some of the queries."""
        ids, floor, ceiling = (
            None if x is None else x[rows] for x in (self.ids, self.floor, self.ceiling)
        )
        return replace(self, listed=self.listed[rows], ids=ids, floor=floor, ceiling=ceiling)


def merge(a: TopLists, b: TopLists) -> TopLists:
    """The best of both lists of every query: associative, whatever the order. The lists share no row."""
    width = max(a.indices.shape[1], b.indices.shape[1])
    indices = torch.cat([a.indices, b.indices], 1)
    scores = torch.cat([a.scores, b.scores], 1)
    return first(indices, scores, width)


def first(indices: Int[Tensor, "n c"], scores: Float[Tensor, "n c"], k: int) -> TopLists:
    """The k best of listed candidates, of which those at -inf do not count."""
    missing = scores == -torch.inf
    by_row = indices.masked_fill(missing, LAST).sort(dim=1, stable=True).indices
    order = scores.gather(1, by_row).sort(dim=1, descending=True, stable=True).indices[:, :k]
    order = by_row.gather(1, order)
    scores, indices = scores.gather(1, order), indices.gather(1, order)
    return padded(TopLists(indices.masked_fill(scores == -torch.inf, -1), scores), k)


def padded(lists: TopLists, k: int) -> TopLists:
    """Lists of k places."""
    places = k - lists.indices.shape[1]
    if places <= 0:
        return lists
    pad = torch.nn.functional.pad
    return TopLists(
        pad(lists.indices, (0, places), value=-1), pad(lists.scores, (0, places), value=-torch.inf)
    )


@torch.no_grad()
def search_block(queries: Float[Tensor, "n d"], block: Block, request: Request) -> TopLists:
    """The k best rows of a block for every query: the first part of a search, which ``merge`` puts together.

    Args:
        queries: n x d.
        block: rows of the corpus.
        request: what to look for.

    Example:
        >>> from hardneg.similarities import Cosine
        >>> queries, corpus = torch.randn(3, 8), torch.randn(100, 8)
        >>> request = Request(5, Cosine(), listed=torch.empty(3, 0, dtype=torch.long))
        >>> parts = [Block(corpus[at : at + 50], torch.arange(at, at + 50)) for at in (0, 50)]
        >>> merge(*(search_block(queries, part, request) for part in parts)).indices.shape
        torch.Size([3, 5])
    """
    if not len(block.rows):
        none = torch.empty(len(queries), 0, dtype=torch.long, device=queries.device)
        return padded(TopLists(none, none.to(score_dtype(queries))), request.k)
    request = narrowed(request, block)
    wider = min(request.k + SLACK + request.listed.shape[1], len(block.rows))
    places = candidates(queries, block, request, wider)
    lists, scores = settled(queries, block, request, places)
    doubtful = in_doubt(queries, block, request, lists, scores)
    again = doubtful.nonzero()[:, 0]
    if len(again):
        exact = search_exactly(queries[again], block, request.of(again))
        lists.indices[again], lists.scores[again] = exact
    return lists


def narrowed(request: Request, block: Block) -> Request:
    """The request with those listed rows only that may be in the block."""
    inside = (request.listed >= block.rows[0]) & (request.listed <= block.rows[-1])
    width = int(inside.sum(1).amax()) if inside.numel() else 0
    listed = request.listed.masked_fill(~inside, -1).sort(dim=1, descending=True).values
    return replace(request, listed=listed[:, :width])


def candidates(
    queries: Float[Tensor, "n d"], block: Block, request: Request, k: int
) -> Int[Tensor, "n k"]:
    """The first k places in the block, by products of matrices, in a window as wide as their rounding."""
    relation = Relation(row_offset=len(block.rows))  # no two global numbers are equal
    if request.ids is not None and block.ids is not None:
        relation = Relation(request.ids, block.ids)
    bounds = score_bounds(queries, block.embeddings, request.similarity)
    floor = None if request.floor is None else bounds(request.floor, -1)
    ceiling = None if request.ceiling is None else bounds(request.ceiling, 1)
    scores = bind_large("auto", Comparison(queries, block.embeddings, request.similarity, relation))
    search = Search(Selection("highest", k), window=Window(floor, ceiling), columns=False)
    return scores.select(search).rows


def settled(
    queries: Float[Tensor, "n d"], block: Block, request: Request, places: Int[Tensor, "n c"]
) -> tuple[TopLists, Float[Tensor, "n c"]]:
    """The k best of listed places, and the scores of all."""
    found = exact_scores(queries, block.embeddings, places, request.similarity)
    rows = torch.where(places >= 0, block.rows[places.clamp(min=0)], -1)
    return first(rows, admitted(found, rows, request), request.k), found


def admitted(
    scores: Float[Tensor, "n c"], rows: Int[Tensor, "n c"], request: Request
) -> Float[Tensor, "n c"]:
    """The scores, -inf for what is listed or outside the bounds."""
    out = rows < 0
    for j in range(request.listed.shape[1]):
        out |= rows == request.listed[:, j, None]
    if request.floor is not None:
        out |= scores <= request.floor[:, None]
    if request.ceiling is not None:
        out |= scores >= request.ceiling[:, None]
    return scores.masked_fill(out, -torch.inf)


def in_doubt(
    queries: Float[Tensor, "n d"],
    block: Block,
    request: Request,
    lists: TopLists,
    scores: Float[Tensor, "n c"],
) -> Tensor:
    """Whose last place could belong to a row that was not looked at, by the rounding of products."""
    if scores.shape[1] == len(block.rows):
        return torch.zeros(len(queries), dtype=torch.bool, device=queries.device)
    bounds = score_bounds(queries, block.embeddings, request.similarity)
    # what was not looked at scores no higher than the last looked at, each rounded once
    unseen = bounds(bounds(scores[:, -1], 1), 1)
    return (scores[:, -1] > -torch.inf) & (lists.scores[:, -1] <= unseen)


def search_exactly(queries: Float[Tensor, "n d"], block: Block, request: Request) -> TopLists:
    """The same in float64, by whole rows of scores."""
    dtype, found = score_dtype(queries), None
    width = queries.shape[1] if isinstance(request.similarity, Order) else 1
    step = max(1, CHUNK // (len(queries) * width))
    host = block.embeddings.device if block.embeddings.device.type != "mps" else "cpu"
    for start in range(0, len(block.rows), step):
        at = slice(start, start + step)
        part = Block(
            block.embeddings[at], block.rows[at], None if block.ids is None else block.ids[at]
        )
        scores = request.similarity(queries.to(host).double(), part.embeddings.to(host).double())
        scores = scores.to(dtype).to(queries.device)
        if request.ids is not None and part.ids is not None:
            scores.masked_fill_(request.ids[:, None] == part.ids[None], -torch.inf)
        wide = admitted(scores, part.rows.expand_as(scores), request)
        best = first_k(wide, min(request.k + SLACK, wide.shape[1]))[1]
        best = best.masked_fill(wide.gather(1, best) == -torch.inf, -1)
        lists = settled(queries, part, request, best)[0]
        found = lists if found is None else merge(found, lists)
    assert found is not None
    return found


@torch.no_grad()
def best_listed(
    queries: Float[Tensor, "n d"], block: Block, request: Request, places: Int[Tensor, "n c"]
) -> TopLists:
    """The k best of places of the block that an approximate index named, -1 for none, under the same filters."""
    return settled(queries, block, request, places)[0]
