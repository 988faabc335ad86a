"""Modules that average gradients between ranks: when they do, and when they only add up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from hardneg.distributed.collectives import resolve_ranks
from hardneg.training.chunks import Chunk

__all__ = ["Synchronisation", "accumulate_locally", "check_static_graphs", "find_synchronised"]


class Synchronisation:
    """What a step is to do at the modules that average gradients, as they stood when it began.

    Within ``no_sync`` of the caller they do not average; outside of it with the last call of a module.
    """

    def __init__(self, encoders: tuple[nn.Module, ...]) -> None:
        modules = dict.fromkeys(m for encoder in encoders for m in find_synchronised(encoder))
        self.averages = {m: getattr(m, "require_backward_grad_sync", True) for m in modules}
        self.hands_out = {m: getattr(m, "require_forward_param_sync", True) for m in modules}

    def begin_again(self) -> None:
        """Let a second pass begin as the first one did.

        DistributedDataParallel hands out the first rank's buffers before the first forward after a synchronised
        one; they were put back.
        """
        for module, before in self.hands_out.items():
            module.require_forward_param_sync = before

    @contextmanager
    def of(self, module: Any, last: bool) -> Iterator[None]:
        """One call of a module."""
        averages = self.averages[module]
        if not last or not averages:
            with accumulate_locally(module):
                yield
            return
        before = getattr(module, "require_backward_grad_sync", True)
        module.require_backward_grad_sync = True
        try:
            yield
        finally:
            module.require_backward_grad_sync = before


def find_synchronised(module: nn.Module) -> list[Any]:
    """The outermost modules that average gradients between ranks, as DistributedDataParallel does."""
    if hasattr(module, "no_sync"):
        return [module]
    return [found for part in module.children() for found in find_synchronised(part)]


SINK_IN_PLACE = "_static_graph_delay_allreduce_enqueued"


def check_static_graphs(encoders: tuple[nn.Module, ...], chunks: list[list[Chunk]]) -> None:
    """A static graph that ranks share is called once a step: torch mixes up later averages, without a word."""
    calls = [
        (m, len(some))
        for e, some in zip(encoders, chunks, strict=True)
        for m in find_synchronised(e)
    ]
    for module in dict.fromkeys(module for module, _ in calls):
        if getattr(module, "static_graph", False):
            ranks, count = (
                resolve_ranks(module.process_group),
                sum(n for m, n in calls if m is module),
            )
            most = int(ranks.max(torch.tensor(count, device=ranks.device)))
            if most > 1 and ranks.size > 1:
                raise ValueError(
                    f"DistributedDataParallel(..., static_graph=True) would be called {most} times in this "
                    "step, once a chunk, but torch averages the gradients of a static graph rightly only if "
                    "it is called once: leave static_graph out"
                )


@contextmanager
def accumulate_locally(module: Any) -> Iterator[None]:
    """Gradients are added up and not averaged.

    The first forward with a static graph appends a node that has its backward end in an average, also
    within ``no_sync``, and torch fails over that. It belongs to the call that averages.
    """
    awaited = getattr(module, "static_graph", False) and not getattr(module, SINK_IN_PLACE, True)
    if awaited:
        setattr(module, SINK_IN_PLACE, True)
    try:
        with module.no_sync():
            yield
    finally:
        if awaited:
            setattr(module, SINK_IN_PLACE, False)
