"""Gradient caching: a batch as large as the loss wants it, in the encoder memory of a small chunk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hardneg.checks import check_count, check_type
from hardneg.distributed.collectives import resolve_ranks
from hardneg.training.chunks import Chunk, chunks_of
from hardneg.training.replay import Buffers, RandomState

__all__ = ["GradCache"]


class GradCache:
    """The gradients of a loss over a whole batch, with the activations of one chunk in memory.

    A contrastive loss joins all rows of a batch, so its gradients cannot be accumulated over smaller
    batches. They can be cached at the embeddings: (1) every chunk is encoded without a graph; (2) the
    loss over all embeddings is back-propagated to them, and to parameters of its own, such as a learnt
    temperature; (3) every chunk is encoded once more, now with a graph, and back-propagates its rows of
    these gradients. The encoders' parameters receive, up to rounding, what ``loss(encoder(inputs), ...)``
    and ``backward()`` would have given, at the price of a second forward pass.

    The second pass repeats the first: torch's random generators (dropout) are set back for each chunk and
    buffers before the pass, so running statistics of a batch norm are updated once. Batch norm itself
    normalises by the statistics of a chunk then, as it does by those of a GPU's share of a batch.
    Generators of Python and NumPy are not set back: draw from torch's inside an encoder.

    Under ``DistributedDataParallel`` gradients are averaged once, with the last chunk that passes through
    the wrapped module; ranks may have different numbers of chunks. Use ``AcrossRanks`` around the loss
    for negatives of all ranks. Under autocast call it inside the autocast region: back-propagation steps
    out of it by itself.

    Args:
        encoders: modules that return a tensor, or a tuple of tensors, with one row a sample. The same
            module may stand for both sides.
        chunk_size: rows of a chunk; the last may be smaller.
        backward: how the loss is back-propagated: ``lambda loss: scaler.scale(loss).backward()`` with a
            gradient scaler, ``accelerator.backward`` with accelerate.

    Raises:
        ValueError, TypeError: naming the argument, what was expected, and what came; on every rank,
            for several chunks through a module with ``static_graph=True``.

    Source: Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup", RepL4NLP
    2021, section 3.

    Example:
        >>> images, captions = torch.nn.Linear(8, 4), torch.nn.Linear(6, 4)
        >>> cache = GradCache(images, captions, chunk_size=16)
        >>> value = cache.backward(InfoNCELoss(), torch.randn(50, 8), torch.randn(50, 6))
        >>> value.requires_grad, images.weight.grad.shape
        (False, torch.Size([4, 8]))
    """

    def __init__(
        self,
        *encoders: nn.Module,
        chunk_size: int,
        backward: Callable[[Tensor], object] = Tensor.backward,
    ) -> None:
        if not encoders:
            raise ValueError("no encoder given: pass one module a side, the same twice if shared")
        for encoder in encoders:
            check_type("an encoder", encoder, nn.Module)
        chunk_size = check_count("chunk_size", chunk_size)
        self.encoders, self.chunk_size, self.propagate = encoders, chunk_size, backward

    def backward(self, loss: Callable[..., Tensor], *inputs: Any) -> Tensor:
        """Accumulate the gradients of ``loss(*embeddings)`` in every parameter; returns its value.

        Args:
            loss: called once, with the embeddings of every encoder in order; ids, labels and options are
                bound to it: ``functools.partial(loss, query_ids=ids, candidate_ids=ids)``.
            inputs: one for each encoder: a tensor, a tuple of positional arguments or a mapping of named
                ones. Their tensors have one row a sample; plain numbers go to every chunk as they are.

        Returns:
            The loss, detached.
        """
        chunks = self.cut(inputs)
        check_static_graphs(self.encoders, chunks)
        buffers = Buffers(self.encoders)
        try:
            calls, embeddings = self.first_pass(chunks)
        finally:
            buffers.restore()
        value = loss(*[x for side in embeddings for x in side])
        check_loss(value)
        with autocast_off(embeddings):
            self.propagate(value)
        self.second_pass(calls, embeddings)
        return value.detach()

    def cut(self, inputs: tuple[Any, ...]) -> list[list[Chunk]]:
        """Each encoder's inputs in chunks."""
        if len(inputs) != len(self.encoders):
            raise ValueError(
                f"{len(self.encoders)} encoders but {len(inputs)} inputs: expected one for each; several "
                "arguments of one encoder go into a tuple"
            )
        return [
            chunks_of(f"inputs[{index}]", one, self.chunk_size) for index, one in enumerate(inputs)
        ]

    @torch.no_grad()
    def first_pass(self, chunks: list[list[Chunk]]) -> tuple[list[Call], list[list[Tensor]]]:
        """Every call of an encoder, and for each encoder its embeddings of all rows, as leaves."""
        calls: list[Call] = []
        embeddings: list[list[Tensor]] = []
        with ExitStack() as stack:
            for module in {m for encoder in self.encoders for m in find_synchronised(encoder)}:
                stack.enter_context(module.no_sync())
            for side, some in enumerate(chunks):
                found, devices = [], devices_of(self.encoders[side], some[0])
                for chunk in some:
                    calls.append(Call(side, chunk, RandomState.now(devices)))
                    found.append(self.encode(calls[-1]))
                embeddings.append([leaf(torch.cat(parts)) for parts in zip(*found, strict=True)])
        return calls, embeddings

    def second_pass(self, calls: list[Call], embeddings: list[list[Tensor]]) -> None:
        """Encode every chunk again and hand it its rows of the embeddings' gradients."""
        last = {m: call for call in calls for m in find_synchronised(self.encoders[call.side])}
        for module in last:
            # DistributedDataParallel hands out the first rank's buffers before the first forward after
            # a synchronised one; they were put back, so this pass has to begin as the first one did.
            module.require_forward_param_sync = True
        for call in calls:
            with ExitStack() as stack:
                for module in find_synchronised(self.encoders[call.side]):
                    if last[module] is not call:
                        stack.enter_context(accumulate_locally(module))
                with call.random.replay():
                    outputs = self.encode(call)
                with autocast_off(embeddings):
                    teach(outputs, embeddings[call.side], call.chunk)

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


@dataclass(frozen=True, eq=False)
class Call:
    """A call of an encoder on a chunk, and the random generators before it."""

    side: int
    chunk: Chunk
    random: RandomState


def devices_of(encoder: nn.Module, chunk: Chunk) -> set[torch.device]:
    """Where an encoder may draw random numbers."""
    return {x.device for x in (*encoder.parameters(), *encoder.buffers(), *chunk.tensors())}


def leaf(embeddings: Tensor) -> Tensor:
    """Embeddings that collect a gradient; whole numbers cannot."""
    return embeddings.requires_grad_(embeddings.is_floating_point())


def teach(outputs: tuple[Tensor, ...], embeddings: list[Tensor], chunk: Chunk) -> None:
    """Back-propagate the gradients of a chunk's rows, where the loss gave any."""
    pairs = [(x, y.grad) for x, y in zip(outputs, embeddings, strict=True) if x.requires_grad]
    taught = [x for x, gradient in pairs if gradient is not None]
    rows = slice(chunk.start, chunk.start + chunk.rows)
    torch.autograd.backward(taught, [g[rows] for _, g in pairs if g is not None])


def check_loss(value: object) -> None:
    """One number that can be back-propagated."""
    if not isinstance(value, Tensor) or value.dim():
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(
            f"the loss returned {shape}: expected a scalar tensor; choose a reduction, and keep "
            "statistics aside"
        )


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


def autocast_off(embeddings: list[list[Tensor]]) -> ExitStack:
    """Outside autocast, where back-propagation belongs, on the embeddings' devices."""
    stack = ExitStack()
    for kind in {x.device.type for side in embeddings for x in side}:
        stack.enter_context(torch.autocast(kind, enabled=False))
    return stack
