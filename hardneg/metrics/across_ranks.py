"""Any metric over the queries and candidates of all ranks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor

from hardneg.checks import FLOATING, check_type
from hardneg.distributed.collectives import Ranks, resolve_ranks
from hardneg.distributed.layout import Layout
from hardneg.distributed.sharded_rows import ShardedRows
from hardneg.metrics.rank_agreement import Facts, RankInput, agree
from hardneg.metrics.relevance import entries
from hardneg.metrics.retrieval import coco_folds, retrieval_metrics
from hardneg.metrics.top_lists import top_candidates
from hardneg.metrics.work_share import WorkShare, gathered, sharing_work
from hardneg.ops.precision import has_float64
from hardneg.similarities import Given

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

__all__ = ["MetricAcrossRanks", "across_ranks", "pairing"]


def across_ranks(
    metric: Callable[..., Any],
    *,
    group: dist.ProcessGroup | None = None,
    replicated_candidates: bool = False,
) -> MetricAcrossRanks:
    """The metric over the rows of all ranks: each rank passes its own, all get the result of one process on all rows.

    The result takes what the metric takes: queries and candidates, their ids, then options. Queries are numbered one
    rank after the other, and so are candidates; values per query and ranks come in that order. Embeddings are
    gathered, memory O((n + m) d) for the n queries and m candidates of all ranks, and each rank ranks an equal part
    of the queries. Ranks may hold different numbers of rows, or none. All ranks must call it.

    Args:
        metric: of this package, such as ``ndcg``, ``ranks`` or ``retrieval_metrics``, or a function of the same
            arguments that is made of them.
        group: the process group; None for all processes.
        replicated_candidates: every rank passes all candidates, and their ids, instead of its share.

    ``relevance`` has this rank's queries and the candidates of all ranks; its entries are gathered. Without ids and
    ``relevance`` query i of a rank belongs to its candidate i, so that there are equally many;
    ``retrieval_metrics`` takes the same number of captions for every image. Each rank of given scores
    (``from_scores(across_ranks(ndcg), scores)``) passes the rows of its queries, with the ids of all candidates; no
    score is sent.

    Raises:
        RuntimeError: when called without a process group; on the other ranks, where one fails within the metric.
        ValueError, TypeError: on every rank, for what the metric raises, wrong input on any, and where ranks disagree.

    Example:
        >>> from hardneg.metrics import ndcg
        >>> shared = across_ranks(ndcg)
        >>> # under torchrun: shared(images, captions, image_ids, caption_ids, k=10)
    """
    if not callable(metric):
        raise TypeError(f"metric is {metric!r}: expected a metric, such as ndcg")
    check_type("replicated_candidates", replicated_candidates, bool)
    return MetricAcrossRanks(metric, group, replicated_candidates)


@dataclass(frozen=True)
class MetricAcrossRanks:
    """What ``across_ranks`` returns."""

    metric: Callable[..., Any]
    group: dist.ProcessGroup | None = None
    replicated_candidates: bool = False

    @torch.no_grad()
    def __call__(
        self,
        queries: Float[Tensor, "n d"],
        candidates: Float[Tensor, "m d"],
        query_ids: Int[Tensor, "n"] | None = None,
        candidate_ids: Int[Tensor, "m"] | None = None,
        *,
        relevance: Float[Tensor, "n m"] | Bool[Tensor, "n m"] | None = None,
        **options: Any,
    ) -> Any:
        """The metric's own arguments, each rank its rows."""
        ranks = ranks_of(self.group)
        scored = type(options.get("similarity")) is Given
        given = RankInput(
            queries,
            candidates,
            query_ids,
            candidate_ids,
            relevance,
            scored,
            self.replicated_candidates and not scored,
            named(self.metric),
            pairing(self.metric),
            options,
        )
        facts = agree(given, ranks)
        arguments, more = gather(given, facts, ranks)
        share = WorkShare(ranks, facts.query_rows if scored else None)
        with sharing_work(share):
            found = self.metric(*arguments, **more, **options)
        return found.to(queries.device) if is_movable(found, queries.device) else found


def ranks_of(group: dist.ProcessGroup | None) -> Ranks:
    """The process group.

    Raises:
        RuntimeError: where there is none.
    """
    if not dist.is_available() or not dist.is_initialized():
        raise RuntimeError(
            "across_ranks needs a process group and there is none: start the script with torchrun and call "
            "torch.distributed.init_process_group(...) first, or call the metric itself"
        )
    return resolve_ranks(group)


def named(metric: Callable[..., Any]) -> str:
    """A name that is the same in every process."""
    return getattr(metric, "__qualname__", None) or repr(metric)


def pairing(metric: Callable[..., Any]) -> str:
    """Which rows belong together without ids: of one place, captions of an image in order, or none."""
    metric = getattr(metric, "func", metric)
    if metric in (retrieval_metrics, coco_folds):
        return "captions"
    return "none" if metric is top_candidates else "rows"


def is_movable(found: Any, device: torch.device) -> bool:
    """Whether a result is a tensor that the device can hold."""
    return isinstance(found, Tensor) and (found.dtype != torch.float64 or has_float64(device))


def gather(
    given: RankInput, facts: Facts, ranks: Ranks
) -> tuple[tuple[Tensor | None, ...], dict[str, Tensor]]:
    """The arguments of the metric, positional and named, from those of all ranks."""
    rows = Layout(facts.query_rows, facts.query_rows)
    device = given.queries.device
    device = device if has_float64(device) else torch.device("cpu")
    queries, candidates = sides(given, facts, ranks, device)
    ids = [given.query_ids, given.candidate_ids]
    whole = given.replicated or given.scored
    layouts = (rows, None if whole else Layout(facts.candidate_rows, facts.candidate_rows))
    for place, (x, layout) in enumerate(zip(ids, layouts, strict=True)):
        if x is not None:
            x = x.long().to(device)
            ids[place] = x if layout is None else gathered(x, layout, ranks)
    more = {}
    if given.relevance is not None:
        shape = rows.total, max(facts.columns)
        more["relevance"] = all_entries(given.relevance.to(device), shape, rows, ranks)
    positional = (queries, candidates) if ids == [None, None] else (queries, candidates, *ids)
    return positional, more


def sides(
    given: RankInput, facts: Facts, ranks: Ranks, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Queries and candidates of all ranks; one tensor twice where every rank passed one."""
    rows, columns = facts.query_rows, facts.candidate_rows
    if given.scored:
        matrix = shaped(given.queries, facts.query_width, facts.query_dtype).to(device)
        spread = ShardedRows(matrix, Layout(rows, rows), ranks)
        return spread, spread.T
    queries = shaped(given.queries, facts.query_width, facts.query_dtype).to(device)
    queries = gathered(queries, Layout(rows, rows), ranks)
    if any(facts.one) and rows == columns and (ranks.size == 1 or not given.replicated):
        return queries, queries
    candidates = shaped(given.candidates, facts.candidate_width, facts.candidate_dtype).to(device)
    if given.replicated:
        return queries, candidates
    return queries, gathered(candidates, Layout(columns, columns), ranks)


def shaped(x: Tensor, widths: tuple[int, ...], dtypes: tuple[int, ...]) -> Tensor:
    """The rows; of a rank without any, none of the others' width and type."""
    if len(x) or max(widths) < 0:
        return x.detach()
    return x.new_zeros(0, max(widths), dtype=FLOATING[max(dtypes)])


def all_entries(
    relevance: Tensor, shape: tuple[int, int], rows: Layout, ranks: Ranks
) -> Float[Tensor, "n m"]:
    """The relevance of all ranks' queries, sparse: what is sent is the entries."""
    row, column, gain = entries(relevance)
    place = torch.stack([row + rows.start(ranks.rank), column], 1)
    here = torch.tensor([len(gain)], device=ranks.device)
    lengths = tuple(ranks.all_gather(here).flatten().tolist())
    layout = Layout(lengths, lengths)
    place, gain = gathered(place, layout, ranks), gathered(gain, layout, ranks)
    with torch.sparse.check_sparse_tensor_invariants():  # torch 2.11 warns unless told
        return torch.sparse_coo_tensor(place.T, gain, shape)
