"""The two passes of gradient caching: every chunk without a graph, then every chunk once more with one."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hardneg.training.chunks import Chunk
from hardneg.training.replay import Autocast, Buffers, RandomState
from hardneg.training.synchronised import Synchronisation, find_synchronised

__all__ = ["Gradients", "Step"]

Gradients = list[list[Tensor | None]]
"""For each encoder the gradients of its outputs, of all rows; None for what the loss does not use."""


@dataclass(frozen=True, eq=False)
class Call:
    """A call of an encoder on a chunk, and the random generators before it."""

    side: int
    chunk: Chunk
    random: RandomState


class Step:
    """One step over the chunks of all encoders' inputs.

    Attributes:
        embeddings: for each encoder its outputs for all rows, without a graph.
    """

    def __init__(self, encoders: tuple[nn.Module, ...], chunks: list[list[Chunk]]) -> None:
        self.encoders, self.calls = encoders, list[Call]()
        self.synchronisation = Synchronisation(encoders)
        self.embeddings: list[list[Tensor]] = []
        self.first_pass(chunks)
        kinds = {x.device.type for side in self.embeddings for x in side}
        self.autocast = Autocast.now(kinds)

    def first_pass(self, chunks: list[list[Chunk]]) -> None:
        """Encode every chunk; where a second pass is to come, buffers are as they were before."""
        buffers = Buffers(self.encoders) if torch.is_grad_enabled() else None
        try:
            with torch.no_grad(), ExitStack() as stack:
                for module in self.synchronisation.averages:
                    stack.enter_context(module.no_sync())
                for side, some in enumerate(chunks):
                    found, devices = [], devices_of(self.encoders[side], some[0])
                    for chunk in some:
                        self.calls.append(Call(side, chunk, RandomState.now(devices)))
                        found.append(self.encode(self.calls[-1]))
                    self.embeddings.append([torch.cat(parts) for parts in zip(*found, strict=True)])
        finally:
            if buffers is not None:
                buffers.restore()

    def second_pass(self, gradients: Gradients, collected: Collected | None = None) -> None:
        """Encode every chunk again and hand it its rows of the gradients.

        Args:
            gradients: of the embeddings.
            collected: takes the gradients of the leaves that it names; those of all others go to ``.grad``.
        """
        last = {m: call for call in self.calls for m in find_synchronised(self.encoders[call.side])}
        self.synchronisation.begin_again()
        for call in self.calls:
            encoder = self.encoders[call.side]
            with ExitStack() as stack:
                for module in find_synchronised(encoder):
                    stack.enter_context(self.synchronisation.of(module, last[module] is call))
                with torch.enable_grad(), call.random.replay(), self.autocast.entered():
                    outputs = self.encode(call)
                with self.autocast.left():
                    taught = teachable(outputs, gradients[call.side], call.chunk)
                    if collected is not None and collected.takes[call.side]:
                        collected.add(*taught)
                    else:
                        torch.autograd.backward(*taught)

    def encode(self, call: Call) -> tuple[Tensor, ...]:
        """What the encoder makes of a chunk, checked."""
        chunk = call.chunk
        found = self.encoders[call.side](*chunk.positional, **chunk.named)
        outputs = (found,) if isinstance(found, Tensor) else found
        if not isinstance(outputs, tuple) or not all(isinstance(x, Tensor) for x in outputs):
            raise TypeError(
                f"encoder {call.side} returned a {type(found).__name__}: expected a tensor, or a tuple of "
                "tensors; wrap it in a module that picks the embeddings"
            )
        for x in outputs:
            if x.shape[:1] != (chunk.rows,):
                raise ValueError(
                    f"encoder {call.side} returned shape {tuple(x.shape)} for a chunk of {chunk.rows} rows: "
                    "expected one row a sample"
                )
        return outputs


class Collected:
    """Gradients of parameters and inputs, added up over chunks so that each is handed on once.

    A wrapper around the whole step, such as DistributedDataParallel around a module that holds encoders and loss,
    expects one gradient a parameter. Encoders that are wrapped or sharded themselves are left to their wrappers.

    Attributes:
        leaves: parameters of the encoders, and tensors among the inputs, that want a gradient.
        takes: which encoders they belong to.
    """

    def __init__(self, encoders: tuple[nn.Module, ...], inputs: list[list[Tensor]]) -> None:
        self.takes = [not synchronises_itself(encoder) for encoder in encoders]
        found = [
            x
            for taken, encoder, some in zip(self.takes, encoders, inputs, strict=True)
            for x in (*encoder.parameters(), *some)
            if taken and x.requires_grad
        ]
        self.leaves = list(dict.fromkeys(found))
        self.sums: list[Tensor | None] = [None] * len(self.leaves)

    def add(self, outputs: list[Tensor], gradients: list[Tensor]) -> None:
        """The gradients of one chunk."""
        if not outputs or not self.leaves:
            return
        found = torch.autograd.grad(outputs, self.leaves, gradients, allow_unused=True)
        pairs = zip(self.sums, found, strict=True)
        self.sums = [a if b is None else b if a is None else a + b for a, b in pairs]

    def take(self) -> list[Tensor | None]:
        """The sums, which are empty again afterwards."""
        found, self.sums = self.sums, [None] * len(self.leaves)
        return found


def synchronises_itself(encoder: nn.Module) -> bool:
    """Whether wrappers inside of an encoder average or share out its gradients."""
    # of FSDP2, whose parameters look like ordinary ones between forward and backward
    sharded = any(hasattr(part, "unshard") for part in encoder.modules())
    return sharded or bool(find_synchronised(encoder))


def devices_of(encoder: nn.Module, chunk: Chunk) -> set[torch.device]:
    """Where an encoder may draw random numbers."""
    return {x.device for x in (*encoder.parameters(), *encoder.buffers(), *chunk.tensors())}


def teachable(
    outputs: tuple[Tensor, ...], gradients: list[Tensor | None], chunk: Chunk
) -> tuple[list[Tensor], list[Tensor]]:
    """A chunk's outputs that learn, and their rows of the gradients."""
    rows = slice(chunk.start, chunk.start + chunk.rows)
    pairs: list[tuple[Tensor, Any]] = [
        (x, g[rows])
        for x, g in zip(outputs, gradients, strict=True)
        if x.requires_grad and g is not None
    ]
    return [x for x, _ in pairs], [g for _, g in pairs]
