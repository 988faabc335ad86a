"""Any loss over the rows of all ranks."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from hardneg.checks import check_type
from hardneg.distributed.agreement import IDS, OWN, Given, agree
from hardneg.distributed.all_gather import AllGather
from hardneg.distributed.autograd import average_gradient, scale_gradient
from hardneg.distributed.collectives import Ranks, resolve_ranks
from hardneg.distributed.group_reference import GroupReference
from hardneg.distributed.layout import Layout, check_partners, check_same_rows
from hardneg.distributed.ring import Ring
from hardneg.distributed.scores_agreement import COLUMN_IDS, GivenScoreRows, columns_of
from hardneg.distributed.sharded_rows import ShardedRows
from hardneg.losses.base import Loss
from hardneg.losses.mining_statistics import MiningStatistics
from hardneg.losses.terms.reduction import Output
from hardneg.positives import AllPositives

__all__ = ["AcrossRanks"]


class AcrossRanks(nn.Module):
    """A loss over the global batch: every rank passes its rows, every rank gets the loss of all.

    The value on every rank is that of the loss in one process on all rows: queries one rank after the other,
    candidates and ids likewise. Ranks may hold different numbers of rows, or none. The
    gradients are such that the average over ranks, which ``DistributedDataParallel`` takes, is the
    gradient of that value; a learned temperature, which every rank holds, has its whole gradient on every
    rank, inside DDP or not. All ranks must call the loss, and its backward, in the same order.

    Each rank scores its own queries against all candidates, n x N in all, and sends no score:
    only the candidates are gather_from_ranks, and results of one number a row. See docs/scaling.md.

    **Order of candidates.** Where row i of queries and candidates belong together, each rank needs as many
    candidates as queries, or more. The further ones (a queue, mined documents) stand behind the
    paired ones of all ranks, by rank; pass each of them on one rank only (``MemoryQueue.extend_share``).
    So does a reference with ``same_set=True``, whose first rows are the embeddings. With
    ``positives="all"``, and for any other reference, candidates follow one another by rank.

    **Masks** hold this rank's rows and the global columns: ``n_local x M``, in that order.

    **Own negatives** stay on the rank of their query: n_local x k x d, k alike on all ranks; only their scores
    are sent. Weights are those of this rank's anchors.

    **Randomness** takes its seed from the generator of the first rank.

    ``torch.compile`` leaves it out (one graph break): collectives need the lengths of all ranks first.

    Args:
        loss: any loss module of this library. Its parameters are shared with this module.
        group: the process group; None for all processes.
        ring: pass the candidates from rank to rank instead of gathering them, where all of them do not fit:
            no more than three ranks' at once, sent about twice as often in training; no batch-all, and
            no ceilings for each (anchor, positive) pair.

    Raises:
        RuntimeError: when called without a process group.
        LostRankError: on the ranks that are left, where one has ended.
        ValueError, TypeError: on every rank, for what the loss raises, and where ranks disagree about
            loss, options, width, type or whether gradients are wanted.
        NotImplementedError: on every rank, for what a ring cannot do.

    Example:
        >>> loss = AcrossRanks(ContrastiveLoss())
        >>> # under torchrun: value = loss(images, captions); value.backward()
    """

    def __init__(
        self, loss: nn.Module, group: dist.ProcessGroup | None = None, ring: bool = False
    ) -> None:
        super().__init__()
        check_type("ring", ring, bool)
        check_loss(loss)
        # a copy that shares the parameters, so that the loss itself still works in one process
        mine: Any = copy.copy(loss)
        mine.backend = (Ring if ring else AllGather)(mine.backend)
        self.loss: Any = mine
        self.shared_by = GroupReference.to(group)
        self.signature = inspect.signature(loss.forward)

    @property
    def group(self) -> dist.ProcessGroup | None:
        """The process group; copies share it, pickles leave it out."""
        return self.shared_by.resolve()

    @group.setter
    def group(self, group: dist.ProcessGroup | None) -> None:
        self.shared_by = GroupReference.to(group)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, *args: Any, **options: Any) -> Output:
        """The loss's own arguments, each rank its rows.

        Returns:
            What the loss returns for the global batch, the same on every rank; statistics are global.
        """
        ranks = resolve_ranks(self.group)
        given = Given.of(dict(self.signature.bind(*args, **options).arguments))
        everyone = agree(self.loss, given, ranks)
        layouts = self.layouts(given, everyone)
        whole: dict[str, Any] = {**given.options, **given.ids}
        for name, x in given.embeddings.items():
            whole[name] = ShardedRows(scale_gradient(x, ranks), layouts[name], ranks)
            if IDS[name] in given.ids:
                whole[IDS[name]] = all_ids(given.ids[IDS[name]], layouts[name], ranks)
        if given.guide:
            sides = zip(given.guide, ("queries", "candidates"), strict=True)
            whole["guide"] = tuple(ShardedRows(x, layouts[name], ranks) for x, name in sides)
        for name, x in given.own.items():
            rows = next(iter(layouts.values()))
            own = ShardedRows(scale_gradient(x, ranks), rows, ranks) if name == OWN else None
            whole[name] = all_ids(x, rows, ranks) if own is None else own
        for name, mask in given.masks.items():
            check_columns(name, everyone, layouts)
            whole[name] = ShardedRows(mask, next(iter(layouts.values())), ranks)
        found: Output = average_all(self.loss(**whole), ranks)
        return found

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def from_scores(self, *args: Any, **options: Any) -> Output:
        """The arguments of the loss's own ``from_scores``, each rank the scores of its queries with all candidates.

        Columns are in the order of candidates above, ids and labels those of the rows and candidates that this rank
        holds, masks and weights of its rows. Nothing tells which candidates a rank holds where there are no ids.

        Returns:
            As the call; the gradient goes to this rank's scores, such that the average over ranks is right.

        Raises:
            NotImplementedError: on every rank, with ``ring=True``.
            ValueError, TypeError: on every rank, for what the loss raises, and where ranks disagree.
        """
        if isinstance(self.loss.backend, Ring):
            raise NotImplementedError(
                "AcrossRanks(ring=True).from_scores: a ring sends candidates, of which there are none here; use "
                "AcrossRanks(loss).from_scores, which sends none either"
            )
        ranks, bound = resolve_ranks(self.group), inspect.signature(self.loss.from_scores)
        given = GivenScoreRows.of(dict(bound.bind(*args, **options).arguments))
        everyone = agree(self.loss, given, ranks)
        lengths = tuple(everyone["rows of scores"])
        rows, columns = Layout(lengths, lengths), columns_of(self.loss, given, everyone)
        whole = {
            **given.options,
            "scores": ShardedRows(scale_gradient(given.scores, ranks), rows, ranks),
        }
        for name, x in {**given.ids, **given.own}.items():
            whole[name] = all_ids(x, columns if name in COLUMN_IDS else rows, ranks)
        whole |= {name: ShardedRows(mask, rows, ranks) for name, mask in given.masks.items()}
        found: Output = average_all(self.loss.from_scores(**whole), ranks)
        return found

    def layouts(self, given: Given, everyone: dict[str, list[int]]) -> dict[str, Layout]:
        """The global order of the rows of each side."""
        lengths = {name: tuple(everyone[f"rows of {name}"]) for name in given.embeddings}
        layouts = {name: Layout(rows, rows) for name, rows in lengths.items()}
        paired = not isinstance(getattr(self.loss, "positives", None), AllPositives)
        if "candidates" in lengths and paired:
            check_partners(lengths["queries"], lengths["candidates"])
            layouts["candidates"] = Layout(lengths["candidates"], lengths["queries"])
        if "reference" in lengths and given.options.get("same_set"):
            check_same_rows(lengths["embeddings"], lengths["reference"])
            layouts["reference"] = Layout(lengths["reference"], lengths["embeddings"])
        return layouts


def average_all(output: Any, ranks: Ranks) -> Any:
    """A loss's output whose values have a backward that all ranks share; statistics as they are."""
    if isinstance(output, tuple):
        return tuple(average_all(shard, ranks) for shard in output)
    if isinstance(output, MiningStatistics) or not output.requires_grad:
        return output
    return average_gradient(output, ranks)


def all_ids(ids: Tensor, layout: Layout, ranks: Ranks) -> Tensor:
    """The ids, marks or weights of all rows."""
    given = ids.detach() if ids.is_floating_point() else ids.long()
    found = layout.joined(ranks.all_gather(layout.padded(given)))
    return found.bool() if ids.dtype == torch.bool else found


def check_loss(loss: Any) -> None:
    """A module of this library, without trainable parameters inside a tile."""
    if not isinstance(loss, Loss):
        made = (
            f", a class (make an object of it, {loss.__name__}())" if isinstance(loss, type) else ""
        )
        raise TypeError(
            f"loss is {loss!r}{made}: expected a loss module of hardneg, such as ContrastiveLoss()"
        )
    similarity = getattr(loss, "similarity", None)
    if isinstance(similarity, nn.Module) and any(p.requires_grad for p in similarity.parameters()):
        raise ValueError(
            f"similarity {type(similarity).__name__} has trainable parameters, whose gradient would stay "
            "on one rank: apply them to the embeddings beforehand"
        )


def check_columns(name: str, everyone: dict[str, list[int]], layouts: dict[str, Layout]) -> None:
    """A mask of the rank's rows and the global columns, on every rank."""
    rows, columns = next(iter(layouts.values())), list(layouts.values())[-1].total
    for rank, n in enumerate(rows.lengths):
        found = everyone[f"rows of {name}"][rank], everyone[f"columns of {name}"][rank]
        if found != (n, columns):
            raise ValueError(
                f"{name} has shape {found} on rank {rank}: expected ({n}, {columns}), that rank's rows by the "
                "candidates of all ranks"
            )
