"""The metrics as a ``torchmetrics.Metric``: rows collected batch by batch, shared by its own synchronisation.

Imported on demand: ``pip install 'hardneg[torchmetrics]'``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor

from hardneg.checks import FLOATING, check_alike, check_embeddings, check_ids, check_two_sets
from hardneg.distributed.collectives import resolve_ranks
from hardneg.extras import require
from hardneg.metrics.across_ranks import pairing
from hardneg.metrics.retrieval import RetrievalMetrics
from hardneg.ops.precision import has_float64

if TYPE_CHECKING:
    from jaxtyping import Float, Int

require("torchmetrics", "torchmetrics", "hardneg.metrics.torchmetrics")

from torchmetrics import Metric  # noqa: E402, behind the message for those who lack it
from torchmetrics.utilities.distributed import gather_all_tensors  # noqa: E402

__all__ = ["EmbeddingMetric"]

STATES = ("queries", "candidates", "query_ids", "candidate_ids")
TYPES = (*FLOATING, torch.long)


class EmbeddingMetric(Metric):
    """A metric of this package over the rows of all batches, and of all ranks.

    Rows are list states that are concatenated, one rank after the other. Metrics of one ``MetricCollection`` with the
    same updates share them.

    Args:
        metric: of this package, such as ``map_at_r``; with options as ``functools.partial(ndcg, k=10)``.
        average: what to make of its result, such as ``functools.partial(recall_at_k, k=5)`` of ``ranks``; None: the
            result itself.
        options: of ``torchmetrics.Metric``, such as ``compute_on_cpu=True``, ``process_group``.

    Example:
        >>> from functools import partial
        >>> from hardneg.metrics import ranks, recall_at_k
        >>> recall = EmbeddingMetric(ranks, partial(recall_at_k, k=1))
        >>> for ids in torch.arange(8).split(4):
        ...     recall.update(torch.eye(8)[ids], torch.eye(8)[ids], ids, ids)
        >>> recall.compute()
        tensor(1.)
    """

    is_differentiable = False
    full_state_update = False

    queries: list[Tensor] | Tensor
    candidates: list[Tensor] | Tensor
    query_ids: list[Tensor] | Tensor
    candidate_ids: list[Tensor] | Tensor

    def __init__(
        self,
        metric: Callable[..., Any],
        average: Callable[[Any], Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        for name, function in (("metric", metric), ("average", average)):
            if not callable(function) and function is not average:
                raise TypeError(f"{name} is {function!r}: expected a function, such as ndcg")
        self.metric, self.average = metric, average
        for state in STATES:
            self.add_state(state, [], dist_reduce_fx="cat")

    def update(
        self,
        queries: Float[Tensor, "n d"],
        candidates: Float[Tensor, "m d"] | None = None,
        query_ids: Int[Tensor, "n"] | None = None,
        candidate_ids: Int[Tensor, "m"] | None = None,
    ) -> None:
        """Take in a batch.

        Args:
            queries: n x d.
            candidates: m x d; None: one set, whose rows do not retrieve themselves, with query_ids as labels.
            query_ids, candidate_ids: equal ids are relevant, also of different batches. Without them query i of the
                batch belongs to its candidate i alone; for ``retrieval_metrics`` images have equally many captions.

        Raises:
            ValueError, TypeError: for rows or ids of the wrong shape or type, batches with ids after some without.
        """
        batch = {"queries": queries, "candidates": candidates}
        batch |= {"query_ids": query_ids, "candidate_ids": candidate_ids}
        check_batch(batch, pairing(self.metric))
        self.check_form(batch)
        for state, x in batch.items():
            if x is not None:
                x = x.detach().to(self.device, x.dtype if x.is_floating_point() else torch.long)
                getattr(self, state).append(x.clone())

    def check_form(self, batch: dict[str, Tensor | None]) -> None:
        """Every batch says the same about its rows."""
        if not isinstance(self.queries, list) or not self.queries:
            return
        for state, x in batch.items():
            held = getattr(self, state)
            if (x is None) != (len(held) == 0):
                now = "without" if x is None else "with"
                raise ValueError(
                    f"a batch {now} {state} after others: pass the same arguments every time"
                )
            if x is None or not x.is_floating_point():
                continue
            if (x.dtype, x.shape[1]) != (held[0].dtype, held[0].shape[1]):
                raise ValueError(
                    f"{state} are {x.dtype} of width {x.shape[1]} after {held[0].dtype} of {held[0].shape[1]}: "
                    "expected one width and type"
                )

    def compute(self) -> Any:
        """The metric of all rows: tensors in place of numbers, a dictionary of a report's values.

        Raises:
            ValueError, TypeError: as the metric.
        """
        queries, candidates, query_ids, candidate_ids = (joined(getattr(self, s)) for s in STATES)
        if queries is None:
            raise ValueError("no rows were collected: call update for every batch first")
        if candidates is None:
            found = self.metric(queries, queries, query_ids, same_set=True)
        else:
            ids = () if query_ids is None else (query_ids, candidate_ids)
            check_places(queries, candidates, query_ids, pairing(self.metric))
            found = self.metric(queries, candidates, *ids)
        return as_tensors(found if self.average is None else self.average(found), self.device)

    def _sync_dist(
        self,
        dist_sync_fn: Callable[..., Any] = gather_all_tensors,
        process_group: Any | None = None,
    ) -> None:
        """Gather the states; a rank without rows sends none of the others' width and type."""
        if dist.is_available() and dist.is_initialized():
            self.shape_empty_states(process_group or self.process_group)
        super()._sync_dist(dist_sync_fn, process_group)

    def shape_empty_states(self, group: dist.ProcessGroup | None) -> None:
        """States of which this rank has nothing.

        Raises:
            ValueError: on every rank, where ranks hold rows of different width or type, or use different arguments.
        """
        ranks = resolve_ranks(group)
        held = [joined(getattr(self, state)) for state in STATES]
        kinds = [k for x in held for k in ((-1, 0) if x is None else kind(x))]
        table = ranks.all_gather(torch.tensor([kinds], device=ranks.device)).flatten(0, 1).tolist()
        used = [row for row in table if row[0] >= 0]
        if any(row != used[0] for row in used):
            raise ValueError(
                "ranks hold rows of different types or widths, or call update with different arguments"
            )
        for state, x, at in zip(STATES, held, range(0, len(kinds), 2), strict=True):
            if x is None and used and used[0][at] >= 0:
                dtype, width = TYPES[used[0][at]], used[0][at + 1]
                shape = (0, width) if dtype.is_floating_point else (0,)
                setattr(self, state, [torch.zeros(shape, dtype=dtype, device=self.device)])


def kind(x: Tensor) -> tuple[int, int]:
    """Numbers for the type and the width."""
    return TYPES.index(x.dtype), x.shape[1] if x.dim() == 2 else 0


def joined(state: list[Tensor] | Tensor) -> Tensor | None:
    """The rows of a state, a list of batches or already concatenated; None without any."""
    if isinstance(state, Tensor):
        return state if state.numel() else None
    return torch.cat(state) if state else None


def check_batch(batch: dict[str, Any], pairs: str) -> None:
    """Rows and ids of a batch."""
    queries, candidates, query_ids, candidate_ids = batch.values()
    check_embeddings("queries", queries)
    if query_ids is not None:
        check_ids("query_ids", query_ids, len(queries), queries.device)
    if candidates is None:
        if query_ids is None or candidate_ids is not None:
            raise ValueError("one set, without candidates, needs query_ids (labels) only")
        return
    check_embeddings("candidates", candidates)
    check_alike("queries", queries, "candidates", candidates)
    check_two_sets("queries", queries, "candidates", candidates, "leave out candidates for one set")
    if candidate_ids is not None:
        check_ids("candidate_ids", candidate_ids, len(candidates), candidates.device)
    if (query_ids is None) != (candidate_ids is None):
        raise ValueError("ids of one side only: pass both or neither")
    check_places(queries, candidates, query_ids, pairs)


def check_places(queries: Tensor, candidates: Tensor, query_ids: Any, pairs: str) -> None:
    """Without ids as many candidates as queries, but for captions."""
    if query_ids is None and pairs != "captions" and len(queries) != len(candidates):
        raise ValueError(
            f"{len(queries)} queries and {len(candidates)} candidates without ids, where query i of a batch belongs "
            "to its candidate i: pass query_ids and candidate_ids"
        )


def as_tensors(found: Any, device: torch.device) -> Any:
    """Numbers as tensors on a device, float64 where it has it, reports by the names of their values."""
    if isinstance(found, RetrievalMetrics):
        found = found.as_dict()
    if isinstance(found, dict):
        return {name: as_tensors(value, device) for name, value in found.items()}
    if isinstance(found, Tensor):
        lacking = found.dtype == torch.float64 and not has_float64(device)
        return found.to(device, torch.float32 if lacking else found.dtype)
    return torch.tensor(found, device=device) if isinstance(found, int | float) else found
