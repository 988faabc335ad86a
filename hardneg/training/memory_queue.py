"""A queue of past embeddings: more negatives than a batch holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from hardneg.checks import FLOATING, check_count, check_embeddings, check_ids, check_type
from hardneg.distributed.gather_rows import rows_of_ranks
from hardneg.distributed.group_reference import GroupReference
from hardneg.training.other_queues import BesideTheLoss

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

__all__ = ["FixedRows", "MemoryQueue"]


class FixedRows(NamedTuple):
    """Candidates whose number never changes; ``ignore_mask`` hides the slots that hold nothing yet."""

    candidates: Float[Tensor, "m+s d"]
    ids: Int[Tensor, "m+s"]
    ignore_mask: Bool[Tensor, "n m+s"]


class MemoryQueue(BesideTheLoss):
    """The last embeddings of earlier batches, as further candidates of any loss.

    Lengthen the candidates before the loss, and put the batch in after it, once a step; nothing else
    changes the queue, however often the loss is computed. Entries carry no gradient. Ids are global
    numbers of samples (their place in the data set, or the image of a caption): equal ids are never
    negatives, so a sample that is met again while an older embedding of it is queued is not its own
    negative. No id value is reserved. Losses over labels take the queue as their reference, whose columns have no
    gradient, the batch's own neither::

        reference = queue.extend(embeddings.detach(), labels)
        value = loss(embeddings, labels, *reference, same_set=True)
        queue.update(embeddings, labels)

    All of the state is in ``state_dict``, so a run that is resumed goes on exactly. Keep the queue outside
    of what ``DistributedDataParallel`` wraps, which would send the first rank's entries to all before
    every forward pass.

    Args:
        size: how many entries it holds; the oldest leave first.
        width: the embeddings' width.
        warmup: it stays unused until so many rows have been put in, over all updates; beyond ``size``
            that is a number of steps times the rows of a step.
        group: the ranks that share the queue (``torch.distributed.group.WORLD``): every update takes
            the rows of all of them in the order of ranks, so that all hold the same entries. Each rank
            then updates at every step, with 0 rows if it has none. None: a queue of this process.
        dtype: of the stored embeddings; half precision halves the memory.
        device: where they are stored, which may be another device than the losses'.

    Raises:
        ValueError, TypeError: naming the argument, what was expected, and what came.

    Source: Wang et al., "Cross-Batch Memory for Embedding Learning" (XBM), CVPR 2020, algorithm 1; He et al.,
    "Momentum Contrast" (MoCo), CVPR 2020, where the entries come from a momentum encoder.

    Example:
        >>> loss, queue = ContrastiveLoss(), MemoryQueue(size=6, width=4)
        >>> for step in range(3):
        ...     images, captions = torch.randn(4, 4), torch.randn(4, 4)
        ...     ids = 4 * step + torch.arange(4)
        ...     candidates, candidate_ids = queue.extend(captions, ids)
        ...     value = loss(images, candidates, query_ids=ids, candidate_ids=candidate_ids)
        ...     queue.update(captions, ids)
        >>> queue.entries()[1]
        tensor([ 6,  7,  8,  9, 10, 11])
    """

    embeddings: Tensor
    ids: Tensor
    seen: Tensor

    def __init__(
        self,
        size: int,
        width: int,
        *,
        warmup: int = 0,
        group: dist.ProcessGroup | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        size = check_count("size", size)
        width = check_count("width", width)
        warmup = check_count("warmup", warmup, at_least=0)
        if dtype not in FLOATING:
            kinds = ", ".join(str(kind) for kind in FLOATING)
            raise TypeError(f"dtype is {dtype}: expected a type of embeddings, one of {kinds}")
        self.size, self.width, self.warmup = size, width, warmup
        self.shared_by = GroupReference.to(group)
        self.register_buffer("embeddings", torch.zeros(size, width, dtype=dtype, device=device))
        self.register_buffer("ids", torch.zeros(size, dtype=torch.long, device=device))
        # Rows ever put in: the next slot is seen % size, the entries held are min(seen, size).
        self.register_buffer("seen", torch.zeros((), dtype=torch.long, device=device))

    @property
    def group(self) -> dist.ProcessGroup | None:
        """The ranks that share it; copies share them too, pickles leave them out."""
        return self.shared_by.resolve()

    @group.setter
    def group(self, group: dist.ProcessGroup | None) -> None:
        self.shared_by = GroupReference.to(group)

    @torch.no_grad()
    def update(self, embeddings: Float[Tensor, "m d"], ids: Int[Tensor, "m"]) -> None:
        """Put a batch in, the oldest entries out. Call it once a step, after the loss.

        A batch beyond the queue's size leaves its last rows. 0 rows change nothing.
        """
        self.check_rows("embeddings", embeddings, ids)
        rows = [embeddings.detach().to(self.embeddings.dtype), ids.long()]
        new, numbers = rows if self.group is None else rows_of_ranks(rows, self.group)
        count, device = len(new), self.ids.device
        kept = min(count, self.size)
        slots = (self.seen + torch.arange(count - kept, count, device=device)) % self.size
        self.embeddings.index_copy_(0, slots, new[count - kept :].to(device))
        self.ids.index_copy_(0, slots, numbers[count - kept :].to(device))
        self.seen += count

    def entries(self) -> tuple[Float[Tensor, "s d"], Int[Tensor, "s"]]:
        """The embeddings and their ids, oldest first; none before the warm-up is over.

        They are copies, so that a later update does not reach into a loss that is still to be
        back-propagated. How many there are is read from the device.
        """
        by_age = self.by_age()
        rows = torch.cat([self.embeddings[slots] for slots in by_age])
        return rows, torch.cat([self.ids[slots] for slots in by_age])

    @property
    def count(self) -> int:
        """How many entries ``extend`` adds; 0 before the warm-up is over. Read from the device."""
        return sum(slots.stop - (slots.start or 0) for slots in self.by_age())

    def by_age(self) -> tuple[slice, slice]:
        """The slots in use, oldest first: up to the end of the memory, then from its beginning."""
        seen = int(self.seen)
        if seen < self.warmup:
            return slice(0), slice(0)
        next_slot = seen % self.size if seen > self.size else 0
        return slice(next_slot, min(seen, self.size)), slice(next_slot)

    def extend(
        self, candidates: Float[Tensor, "m d"], ids: Int[Tensor, "m"]
    ) -> tuple[Float[Tensor, "m+s d"], Int[Tensor, "m+s"]]:
        """The candidates, then the entries, in the candidates' dtype and on their device."""
        self.check_rows("candidates", candidates, ids)
        by_age = self.by_age()
        return (
            append_rows(candidates, [self.embeddings[slots] for slots in by_age]),
            append_rows(ids.long(), [self.ids[slots] for slots in by_age]),
        )

    def extend_share(
        self, candidates: Float[Tensor, "m d"], ids: Int[Tensor, "m"]
    ) -> tuple[Float[Tensor, "m+s d"], Int[Tensor, "m+s"]]:
        """The candidates, then this rank's share of the entries, for a loss under ``AcrossRanks``.

        That loss compares with the candidates of all ranks: with the whole queue from each, every
        entry would count once a rank.
        """
        if self.group is None:
            raise ValueError(
                "extend_share needs a queue that ranks share: "
                "MemoryQueue(..., group=torch.distributed.group.WORLD); use extend otherwise"
            )
        self.check_rows("candidates", candidates, ids)
        entries, numbers = self.entries()
        rank, ranks = dist.get_rank(self.group), dist.get_world_size(self.group)
        share = slice(len(numbers) * rank // ranks, len(numbers) * (rank + 1) // ranks)
        return append_rows(candidates, [entries[share]]), append_rows(ids.long(), [numbers[share]])

    def extend_fixed(
        self, candidates: Float[Tensor, "m d"], ids: Int[Tensor, "m"], queries: int
    ) -> FixedRows:
        """The candidates, then every slot, so that shapes stay the same from the first step on.

        For ``torch.compile`` and CUDA graphs; nothing is read from the device. Pass ``ignore_mask`` to the
        loss: it is True for slots without an entry and takes m + s bytes, as the ``queries`` rows of it
        are views of one. Slots are not in the order of age.
        """
        self.check_rows("candidates", candidates, ids)
        rows = append_rows(candidates, [self.embeddings])
        numbers = append_rows(ids.long(), [self.ids])
        held = torch.where(self.seen >= self.warmup, self.seen, 0).to(ids.device)
        slots = torch.arange(-len(ids), self.size, device=ids.device)
        return FixedRows(rows, numbers, (slots >= held).expand(queries, -1))

    def check_rows(self, argument: str, rows: Tensor, ids: Tensor) -> None:
        """Embeddings of the queue's width, with an id each. There may be none of them."""
        check_type(argument, rows, Tensor)
        if rows.shape[:1] != (0,):
            check_embeddings(argument, rows)
        if rows.dim() != 2 or rows.shape[1] != self.width:
            raise ValueError(
                f"{argument} have shape {tuple(rows.shape)}: expected (rows, {self.width}), the width "
                "that the queue was made for"
            )
        check_ids("ids", ids, rows.shape[0], rows.device)

    def extra_repr(self) -> str:
        """The choices."""
        shared = "" if not self.shared_by.name else ", shared by ranks"
        return f"size={self.size}, width={self.width}, warmup={self.warmup}{shared}"


def append_rows(rows: Tensor, entries: list[Tensor]) -> Tensor:
    """Rows, then entries, in the rows' dtype and on their device."""
    return torch.cat([rows, *(one.to(rows) for one in entries)])
