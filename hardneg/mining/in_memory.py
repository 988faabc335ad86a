"""``mine``: the negatives of every query in a corpus, by any strategy, without gradients."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hardneg.checks import check_alike, check_embeddings, check_ids, check_number, check_two_sets
from hardneg.mining.index_lists import check_lists, first_kept
from hardneg.mining.other_miners import names_keywords
from hardneg.negatives import Negatives, NegativesName, Selection, resolve_negatives
from hardneg.negatives.selection import with_fallback
from hardneg.ops.backends import bind
from hardneg.ops.comparison import Comparison, Relation, Window
from hardneg.ops.mined import Mined
from hardneg.ops.requests import Search
from hardneg.ops.rounding import bounds_under, rounding_of
from hardneg.ops.scores import Backend, Scores
from hardneg.similarities import Similarity, SimilarityName, is_spherical, resolve_similarity

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = ["Mined", "mine"]


@names_keywords
@torch.no_grad()
def mine(
    queries: Float[Tensor, "n d"],
    corpus: Float[Tensor, "m d"],
    negatives: Negatives | NegativesName,
    similarity: Similarity | SimilarityName = "cosine",
    *,
    query_ids: Int[Tensor, "n"] | None = None,
    candidate_ids: Int[Tensor, "m"] | None = None,
    positives: Int[Tensor, "n p"] | None = None,
    exclude: Int[Tensor, "n e"] | None = None,
    same_set: bool = False,
    min_score: float | None = None,
    max_score: float | None = None,
    backend: str | Backend = "auto",
) -> Mined:
    """Find negatives of every query in a corpus: exactly, in O((n + m) d + n k) memory.

    For those of corpus rows among the queries exchange the first two arguments.

    Args:
        queries: n x d.
        corpus: m x d.
        negatives: a selection, by name or object: ``TopK(k)``, ``RankWindow(start, stop)``, ``"semihard"`` ...
        similarity: by name, object or callable.
        query_ids, candidate_ids: n and m integers; a row of the query's id is a positive of it, never a negative.
        positives: n x p (or n) rows of the corpus that are positives of each query, -1 for none; beside the ids, or
            instead of them.
        exclude: n x e (or n) rows of the corpus to leave out for each query, -1 for none.
        same_set: row i of both is one sample, which is no negative of itself.
        min_score, max_score: only negatives with a score strictly between.
        backend: as of the losses.

    A strategy's ceiling is that of the query's highest-scoring positive; a query without a positive has none.

    Returns:
        Indices, scores and counts. k is that of the strategy.

    Raises:
        ValueError, TypeError: naming the argument, what was expected, and what came; for strategies that take all
            negatives, and for a ceiling where nothing says which rows are positives.

    Source: positive-aware ceilings: Moreira et al., NV-Retriever, 2024.

    Example:
        >>> from hardneg import Ceiling, TopK, mine
        >>> queries, corpus = torch.randn(10, 16), torch.randn(1000, 16)
        >>> found = mine(queries, corpus, TopK(4, Ceiling(0.95)), positives=torch.arange(10))
        >>> found.indices.shape
        torch.Size([10, 4])
    """
    check_embeddings("queries", queries)
    check_embeddings("corpus", corpus)
    check_alike("queries", queries, "corpus", corpus)
    if not same_set:
        check_two_sets("queries", queries, "corpus", corpus, "pass same_set=True")
    resolved = resolve_similarity(similarity)
    strategy = check_strategy(negatives, resolved)
    n, m = queries.shape[0], corpus.shape[0]
    relation = relation_of((n, m), queries.device, query_ids, candidate_ids, same_set)
    positives = check_lists("positives", positives, n, m, queries.device)
    exclude = check_lists("exclude", exclude, n, m, queries.device)
    scores = bind(backend, Comparison(queries, corpus, resolved, relation))
    limits = limits_of(strategy, min_score, max_score)
    miner = Miner(scores, strategy, positives, exclude, limits)
    return miner.mined(with_positives=query_ids is not None)


def check_strategy(negatives: Negatives | str, similarity: Any) -> Negatives:
    """A strategy that selects."""
    strategy = resolve_negatives(negatives)
    if strategy.complete or strategy.mean_if_closer is not None:
        raise ValueError(
            f"mine does not take negatives {strategy!r}: it needs a selection, such as TopK(8)"
        )
    if strategy.needs_distance and not is_spherical(similarity):
        raise ValueError(
            f"mine does not take negatives {strategy!r} with similarity {similarity!r}: it needs distances between "
            "unit vectors; use cosine, or euclidean on normalised embeddings"
        )
    return strategy


def relation_of(
    shape: tuple[int, int],
    device: torch.device,
    query_ids: Tensor | None,
    candidate_ids: Tensor | None,
    same_set: bool,
) -> Relation:
    """Rows of equal ids are related; without ids, no two."""
    n, m = shape
    if (query_ids is None) != (candidate_ids is None):
        missing = "candidate_ids" if candidate_ids is None else "query_ids"
        raise ValueError(f"ids are given without {missing}: pass both, or neither")
    if query_ids is None or candidate_ids is None:
        # two ids that do not meet
        query_ids = torch.zeros(n, dtype=torch.long, device=device)
        candidate_ids = torch.ones(m, dtype=torch.long, device=device)
    check_ids("query_ids", query_ids, n, device)
    check_ids("candidate_ids", candidate_ids, m, device)
    if same_set and n > m:
        raise ValueError(f"same_set=True but there are {n} queries and {m} rows of the corpus")
    ids = query_ids.long().contiguous(), candidate_ids.long().contiguous()
    return Relation(*ids, same_set=same_set)


def bounds_of(
    min_score: float | None, max_score: float | None
) -> tuple[float | None, float | None]:
    """Both numbers, the smaller one first."""
    low, high = (
        None if x is None else check_number(name, x)
        for name, x in (("min_score", min_score), ("max_score", max_score))
    )
    if low is not None and high is not None and low >= high:
        raise ValueError(f"min_score is {low}, max_score {high}: nothing lies between")
    return low, high


def limits_of(
    strategy: Negatives, min_score: float | None, max_score: float | None
) -> tuple[float | None, float | None]:
    """Bounds on the scores of negatives: the narrower of these and of the strategy's own."""
    low, high = bounds_of(min_score, max_score)
    if strategy.min_score is not None:
        low = strategy.min_score if low is None else max(low, strategy.min_score)
    if strategy.max_score is not None:
        high = strategy.max_score if high is None else min(high, strategy.max_score)
    return bounds_of(low, high)


@dataclass(frozen=True, eq=False, repr=False)
class Miner:
    """One call of ``mine``.

    Attributes:
        scores: of the queries with the corpus.
        strategy: what to select.
        positives, exclude: listed rows of the corpus for each query.
        limits: bounds on the scores themselves.
    """

    scores: Scores
    strategy: Negatives
    positives: Int[Tensor, "n p"]
    exclude: Int[Tensor, "n e"]
    limits: tuple[float | None, float | None]

    def mined(self, *, with_positives: bool) -> Mined:
        """The negatives; ``with_positives``: ids tell positives too."""
        scores, window = self.scores, self.window(with_positives)
        selection = self.strategy.selection(scores.width)
        assert selection is not None
        plain = replace(selection, skip=0, fallback="none")
        chosen = self.first(plain, window)[:, selection.skip :]
        if selection.fallback != "none":
            order = "lowest" if selection.fallback == "easiest" else "highest"
            chosen = with_fallback(chosen, self.first(Selection(order, 1), Window()))
        rows = scores.row_numbers()[:, None].expand_as(chosen)
        there = chosen >= 0
        found = torch.where(there, scores.pairs(rows, chosen), -torch.inf)
        return Mined(chosen, found, there.sum(1))

    def first(self, selection: Selection, window: Window) -> Int[Tensor, "n k"]:
        """The first k that are not listed: as many more are looked for as are listed."""
        listed = torch.cat([self.positives, self.exclude], dim=1)
        wider = replace(selection, k=selection.k + listed.shape[1])
        seed = torch.randint(2**31 - 1, (), device=self.scores.device) if selection.random else None
        search = Search(wider, "negatives", window, seed, columns=False)
        return first_kept(self.scores.select(search).rows, listed, selection.k)

    def window(self, with_positives: bool) -> Window:
        """Bounds on the scores of each query's negatives."""
        low, high = self.limits
        floor, ceiling = (
            None if x is None else torch.full_like(self.scores.zeros(), x) for x in (low, high)
        )
        if self.strategy.ceiling is not None:
            bound = self.under_positives(with_positives)
            ceiling = bound if ceiling is None else torch.minimum(bound, ceiling)
        return Window(row_floor=floor, row_ceiling=ceiling)

    def under_positives(self, with_positives: bool) -> Float[Tensor, "n"]:
        """The bound of every query's highest-scoring positive; inf without one."""
        scores, lists = self.scores, [self.positives]
        assert self.strategy.ceiling is not None
        if with_positives:
            highest = Search(Selection("highest", 1), "positives", columns=False)
            lists.append(scores.select(highest).rows)
        elif not self.positives.shape[1]:
            raise ValueError(
                f"negatives {self.strategy!r} have a ceiling relative to the positive: pass positives, or query_ids "
                "and candidate_ids"
            )
        index = torch.cat(lists, dim=1)
        rows = scores.row_numbers()[:, None].expand_as(index)
        found = torch.where(index >= 0, scores.pairs(rows, index), -torch.inf)
        p, place = found.max(dim=1)
        column, row = index.gather(1, place[:, None])[:, 0], scores.row_numbers()
        safe = torch.where(column >= 0, p, 0.0)
        rounding = rounding_of(scores.comparison, safe, lambda: scores.magnitudes(row, column))
        bound = bounds_under(self.strategy.ceiling, safe, rounding)
        return torch.where(column >= 0, bound, torch.inf)
