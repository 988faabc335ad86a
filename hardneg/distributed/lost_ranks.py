"""Which rank has ended while the others wait for it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

import torch
import torch.distributed as dist

__all__ = ["LostRankError", "lost_ranks", "naming_lost_ranks", "raise_naming_lost_ranks"]

CLOSED = re.compile(r"by peer|broken pipe", re.IGNORECASE)
"""What gloo says of a connection that the process at its other end has left; not of its own timeouts."""

PROBE = 0x6C6F7374
"""A tag that nobody sends anything under."""

FIRST_FOUND = "hardneg/first_lost"


class LostRankError(RuntimeError):
    """A rank of the process group has ended, so that the others cannot go on.

    Attributes:
        ranks: the global numbers of the ranks that were lost.
    """

    def __init__(self, message: str, ranks: tuple[int, ...] = ()) -> None:
        super().__init__(message)
        self.ranks = ranks

    def __reduce__(self) -> tuple[type[LostRankError], tuple[str, tuple[int, ...]]]:
        """Whole, also through the queue of a parent process."""
        return type(self), (str(self), self.ranks)


def lost_ranks(group: dist.ProcessGroup | None = None) -> list[int]:
    """The global numbers of the ranks that have ended, from the state of this rank's connections.

    Nothing is sent and nobody is waited for. It is meant for the time after a collective has failed:
    it leaves a receive pending to every other rank. Empty where the group has no gloo backend: NCCL's
    watchdog reports on its own.
    """
    if not dist.is_available() or not dist.is_initialized() or "gloo" not in on_cpu(group):
        return []
    ranks, own = dist.get_process_group_ranks(group or dist.group.WORLD), dist.get_rank(group)
    return [one for place, one in enumerate(ranks) if place != own and has_closed(place, group)]


def on_cpu(group: dist.ProcessGroup | None) -> str:
    """The backend that carries tensors of the CPU."""
    config = str(dist.get_backend_config(group))  # "cpu:gloo,cuda:nccl"
    return next((shard for shard in config.split(",") if shard.startswith("cpu:")), "")


def has_closed(place: int, group: dist.ProcessGroup | None) -> bool:
    """Whether the connection to a rank of the group is closed at its end: then a receive fails at once."""
    try:
        dist.irecv(torch.empty(1, device="cpu"), group=group, group_src=place, tag=PROBE)
    except RuntimeError as error:
        return bool(CLOSED.search(str(error)))
    return False


def first_found(found: list[int], group: dist.ProcessGroup | None) -> list[int]:
    """What the first rank to notice has found.

    A rank that steps over it closes its own connections, and must not be taken for the cause by those
    that waited for it. The store forgets it with the group; without a store everybody tells what it sees.
    """
    told = ",".join(map(str, found))
    shared: Any = group or dist.group.WORLD
    with suppress(
        RuntimeError, AttributeError
    ):  # the store may have ended with the rank that held it
        told = shared.get_group_store().compare_set(FIRST_FOUND, "", told).decode()
    return [int(one) for one in told.split(",")]


def raise_naming_lost_ranks(
    error: RuntimeError, group: dist.ProcessGroup | None, during: str
) -> NoReturn:
    """Raise ``LostRankError`` from an error of a collective, or the error itself where all ranks are there."""
    if isinstance(error, LostRankError) or not (found := lost_ranks(group)):
        raise error
    lost = first_found(found, group)
    those = ("rank " if len(lost) == 1 else "ranks ") + ", ".join(map(str, lost))
    raise LostRankError(
        f"lost {those} of the process group, which ended before or during {during} that rank {dist.get_rank()} "
        f"takes shard in; the output of {those} says why",
        tuple(lost),
    ) from error


@contextmanager
def naming_lost_ranks(
    group: dist.ProcessGroup | None = None, during: str = "a collective"
) -> Iterator[None]:
    """Turn the error of a collective within the block into one that names the rank that has ended.

    For collectives of others than this library's, which name it by themselves: put a training step or
    a whole training loop inside. Costs nothing until an error is raised. Every error that has another
    cause passes as it is.

    Raises:
        LostRankError: naming the ranks that have ended.

    Example:
        >>> with naming_lost_ranks(during="training"):
        ...     pass  # loss.backward() and optimiser.step() of a DistributedDataParallel model
    """
    try:
        yield
    except RuntimeError as error:
        raise_naming_lost_ranks(error, group, during)
