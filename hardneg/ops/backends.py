"""Which executor carries out a loss: the rule behind ``backend``."""

from __future__ import annotations

import torch

from hardneg.checks import check_choice
from hardneg.ops.dense import Dense
from hardneg.ops.executor import Executor
from hardneg.ops.tiled.callable_executor import CallableTiled
from hardneg.ops.tiled.executor import Tiled
from hardneg.similarities import Similarity, is_closed

__all__ = ["resolve_backend"]

BACKENDS = ("auto", "dense", "tiled", "triton")


def resolve_backend(backend: str | Executor, similarity: Similarity) -> Executor:
    """The executor of that name for that similarity; an executor object is taken as it is.

    ``"auto"`` is tiled: it needs the least memory and, even at a batch of 128, no more time than
    the dense formula.

    Raises:
        ValueError: for an unknown name; for ``"triton"``, whose kernels this version does not have;
            for a similarity with trainable parameters, which tiles cannot train.
    """
    if not isinstance(backend, str):
        if isinstance(backend, Tiled) and not is_closed(similarity):
            return CallableTiled(backend.tile)
        return backend
    check_choice("backend", backend, BACKENDS)
    if backend == "triton":
        raise ValueError(
            'backend "triton" is not available: this version of hardneg has no fused kernels; use '
            '"auto" or "tiled"'
        )
    if backend == "dense":
        return Dense()
    if is_closed(similarity):
        return Tiled()
    if isinstance(similarity, torch.nn.Module) and any(
        p.requires_grad for p in similarity.parameters()
    ):
        raise ValueError(
            f"similarity {type(similarity).__name__} has trainable parameters, which recomputed tiles "
            'cannot train: use backend="dense", or apply them to the embeddings beforehand'
        )
    return CallableTiled()
