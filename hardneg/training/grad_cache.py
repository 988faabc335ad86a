"""Gradient caching: a batch as large as the loss wants it, in the encoder memory of a small chunk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from hardneg.checks import check_count, check_type
from hardneg.training.chunks import Chunk, chunks_of, tensors_of
from hardneg.training.deferred import deferred
from hardneg.training.passes import Collected, Step
from hardneg.training.synchronised import check_static_graphs

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

    Two forms: ``cache.backward(loss, *inputs)`` does all of it and returns the value; ``cache(loss, *inputs)`` returns
    a loss that is still to be back-propagated, as Lightning and the Trainer of transformers expect it, with their
    scaling and accumulation. There a module around encoders and loss may be wrapped in
    ``DistributedDataParallel`` as a whole.

    Args:
        encoders: modules that return a tensor, or a tuple of tensors, with one row a sample. The same
            module may stand for both sides.
        chunk_size: rows of a chunk; the last may be smaller.
        backward: how ``cache.backward`` back-propagates the loss: ``lambda loss: scaler.scale(loss).backward()`` with a
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
        >>> cache(InfoNCELoss(), torch.randn(50, 8), torch.randn(50, 6)).backward()
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

    def __call__(self, loss: Callable[..., Tensor], *inputs: Any) -> Tensor:
        """Compute ``loss(*embeddings)`` as a tensor to be back-propagated by whoever trains.

        ``backward()`` of what is returned, or of anything made of it (scaled, divided, added to other losses), runs
        the second pass. Without gradients (``torch.no_grad()``) there is no second pass.

        Args:
            loss, inputs: as in ``backward``.

        Returns:
            The loss. Until its backward pass running statistics have not moved.
        """
        chunks = self.cut(loss, inputs, "cache")
        check_static_graphs(self.encoders, chunks)
        step = Step(self.encoders, chunks)
        if not torch.is_grad_enabled():
            return checked(loss(*[x for side in step.embeddings for x in side]))
        collected = Collected(self.encoders, [tensors_of(one) for one in inputs])
        return checked(loss(*deferred(step, collected)))

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
        chunks = self.cut(loss, inputs, "cache.backward")
        check_static_graphs(self.encoders, chunks)
        step = Step(self.encoders, chunks)
        embeddings = [[leaf(x) for x in side] for side in step.embeddings]
        value = checked(loss(*[x for side in embeddings for x in side]))
        with step.autocast.left():
            self.propagate(value)
        step.second_pass([[x.grad for x in side] for side in embeddings])
        return value.detach()

    def cut(self, loss: Any, inputs: tuple[Any, ...], call: str) -> list[list[Chunk]]:
        """Each encoder's inputs in chunks, behind a loss."""
        check_callable(loss, call)
        if len(inputs) != len(self.encoders):
            raise ValueError(
                f"{len(self.encoders)} encoders but {len(inputs)} inputs: expected one for each; several "
                "arguments of one encoder go into a tuple"
            )
        return [
            chunks_of(f"inputs[{index}]", one, self.chunk_size) for index, one in enumerate(inputs)
        ]


def check_callable(loss: Any, call: str) -> None:
    """A loss that is called with the embeddings: neither its value, nor its class, nor an input in its place."""
    if isinstance(loss, type) or not callable(loss):
        given = f"a {type(loss).__name__}"
        if isinstance(loss, type):
            given = f"the class {loss.__name__} (make an object of it, {loss.__name__}())"
        raise TypeError(
            f"the first argument is {given}: expected the loss, a callable of the embeddings, as in {call}(loss, "
            "images, captions)"
        )


def leaf(embeddings: Tensor) -> Tensor:
    """Embeddings that collect a gradient; whole numbers cannot."""
    return embeddings.requires_grad_(embeddings.is_floating_point())


def checked(value: object) -> Tensor:
    """A loss that is one number."""
    if not isinstance(value, Tensor) or value.dim():
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(
            f"the loss returned {shape}: expected a scalar tensor; choose a reduction, and keep "
            "statistics aside"
        )
    return value
