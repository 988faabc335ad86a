"""A rank that is killed: the others end by themselves, at once, and say which rank it was."""

from __future__ import annotations

import os
import pickle
import re
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist
from process_groups import ProcessGroup
from shards import numbers
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from hardneg import AcrossRanks, InfoNCELoss, MemoryQueue
from hardneg.distributed import LostRankError, lost_ranks, naming_lost_ranks

PATIENCE = 60
"""Seconds after which a survivor counts as hanging; the group's own timeout is 30 minutes here."""


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def embeddings(rank: int, ring: bool) -> tuple[Any, torch.Tensor]:
    loss = AcrossRanks(InfoNCELoss(), ring=ring)
    return loss, numbers(3, 4, rank).requires_grad_()


def before_forward(rank: int, victim: int, ring: bool) -> None:
    loss, x = embeddings(rank, ring)
    loss(x, x)
    if rank == victim:
        killed()
    loss(x, x)


def before_backward(rank: int, victim: int, ring: bool) -> None:
    loss, x = embeddings(rank, ring)
    value = loss(x, x)
    if rank == victim:
        killed()
    value.backward()


def long_before_backward(rank: int, victim: int, ring: bool) -> None:
    """The others are busy elsewhere when it happens."""
    loss, x = embeddings(rank, ring)
    value = loss(x, x)
    if rank == victim:
        killed()
    time.sleep(1)
    value.backward()


def within(rank: int, victim: int, ring: bool) -> None:
    """Others wait already: in a collective, or for the neighbour in the ring."""
    loss, x = embeddings(rank, ring)
    value = loss(x, x)
    if rank == victim:
        time.sleep(1)
        killed()
    value.backward()


def queue_update(rank: int, victim: int, ring: bool) -> None:
    queue = MemoryQueue(8, 4, group=dist.group.WORLD)
    queue.update(torch.randn(2, 4), torch.arange(2))
    if rank == victim:
        killed()
    queue.update(torch.randn(2, 4), torch.arange(2))


def of_the_encoder(rank: int, victim: int, ring: bool) -> None:
    """In torch's own collective, inside the public context."""
    model = DistributedDataParallel(nn.Linear(4, 4))
    model(torch.randn(2, 4)).sum().backward()
    with naming_lost_ranks(during="a training step"):
        for _ in range(3):
            if rank == victim:
                killed()
            model(torch.randn(2, 4)).sum().backward()


WHEN = (before_forward, before_backward, long_before_backward, within)


def survive(rank: int, size: int, when: Callable[..., None], victim: int, ring: bool) -> Any:
    try:
        when(rank, victim, ring)
    except LostRankError as error:
        return error
    return None


def assert_named(size: int, when: Callable[..., None], victim: int, ring: bool = False) -> None:
    group = ProcessGroup(size, timeout=1800)
    started = time.monotonic()
    try:
        answers = group.tell(survive, when, victim, ring)
    finally:
        group.close()
    assert time.monotonic() - started < PATIENCE
    for rank, (fine, error) in enumerate(answers):
        if rank == victim:
            assert answers[rank] == (False, "died")
            continue
        assert fine, error
        assert isinstance(error, LostRankError)
        assert error.ranks == (victim,)
        assert re.search(
            rf"lost rank {victim} of the process group.* that rank {rank} ", str(error)
        )


@pytest.mark.parametrize("ring", [False, True], ids=("gathered", "ring"))
@pytest.mark.parametrize("when", WHEN, ids=lambda when: when.__name__)
def test_two_ranks(when: Callable[..., None], ring: bool) -> None:
    assert_named(2, when, victim=1, ring=ring)


@pytest.mark.parametrize("ring", [False, True], ids=("gathered", "ring"))
def test_the_right_one_of_three_is_named(ring: bool) -> None:
    assert_named(3, within, victim=1, ring=ring)


@pytest.mark.parametrize("when", [queue_update, of_the_encoder], ids=lambda when: when.__name__)
def test_other_collectives(when: Callable[..., None]) -> None:
    assert_named(2, when, victim=1)


def follow(rank: int, size: int) -> Any:
    """Rank 2 is killed, rank 0 notices and ends; rank 1, which waits for rank 0 alone, is told of rank 2."""
    x = torch.ones(1)
    dist.all_reduce(x)
    if rank == 2:
        killed()
    try:
        with naming_lost_ranks(during="a receive"):
            if rank == 0:
                dist.recv(x, src=2)
            else:
                dist.recv(x, src=0)
    except LostRankError as error:
        if rank == 0:
            os._exit(1)
        return error.ranks, lost_ranks()
    return None


def test_a_rank_that_follows_another_is_not_taken_for_the_cause() -> None:
    group = ProcessGroup(3, timeout=1800, store_apart=True)
    try:
        answers = group.tell(follow)
    finally:
        group.close()
    assert answers[1] == (True, ((2,), [0, 2]))


def unharmed(rank: int, size: int) -> None:
    """Nobody is lost: nothing is found, and errors pass as they are."""
    assert lost_ranks() == []
    for error in (KeyError("k"), RuntimeError("Connection reset by peer, of something else")):
        with pytest.raises(type(error)) as caught, naming_lost_ranks():
            raise error
        assert caught.value is error
    assert lost_ranks() == []


def test_errors_of_another_kind_pass() -> None:
    group = ProcessGroup(2)
    try:
        group(unharmed)
    finally:
        group.close()


def too_slow(rank: int, size: int) -> str:
    """Gloo's own timeout closes every connection; nobody has ended."""
    if rank == 1:
        time.sleep(3)
        return ""
    with pytest.raises(RuntimeError) as caught, naming_lost_ranks():
        dist.all_reduce(torch.ones(1))
    assert not isinstance(caught.value, LostRankError)
    return str(caught.value)


def test_a_timeout_is_not_a_lost_rank() -> None:
    group = ProcessGroup(2, timeout=1)
    try:
        assert "imed out" in group(too_slow)[0]
    finally:
        group.close()


def test_without_a_group_nobody_is_lost() -> None:
    assert lost_ranks() == []
    error = pickle.loads(pickle.dumps(LostRankError("lost rank 1", (1,))))
    assert (str(error), error.ranks) == ("lost rank 1", (1,))
