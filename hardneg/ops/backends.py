"""Which executor carries out a loss: the rule behind ``backend``."""

from __future__ import annotations

import torch

from hardneg.checks import check_choice
from hardneg.ops.dense import Dense
from hardneg.ops.description import Comparison
from hardneg.ops.executor import Executor
from hardneg.ops.single_tile import SingleTile
from hardneg.ops.tiled.callable_executor import CallableTiled
from hardneg.ops.tiled.executor import Tiled
from hardneg.similarities import Similarity, is_closed

__all__ = ["check_backend", "resolve_backend"]

BACKENDS = ("auto", "dense", "tiled", "triton")


SINGLE_TILE_SCORES = {"cpu": 1 << 16, "cuda": 1 << 20}
"""Up to how many scores ``"auto"`` computes them all at once."""


def resolve_backend(backend: str | Executor, comparison: Comparison) -> Executor:
    """The executor of that name for that comparison; an executor object is taken as it is.

    ``"auto"`` is tiled, which needs the least memory. Where all scores fit one small tile (256 x 256
    on a CPU, 1024 x 1024 elsewhere) they are computed once, which takes the least time.

    Raises:
        ValueError: see ``check_backend``.
    """
    check_backend(backend, comparison.similarity)
    if not isinstance(backend, str):
        if isinstance(backend, Tiled) and not is_closed(comparison.similarity):
            return CallableTiled(backend.tile)
        return backend
    if backend == "dense":
        return Dense()
    if not is_closed(comparison.similarity):
        return CallableTiled()
    return SingleTile() if backend == "auto" and is_small(comparison) else Tiled()


def is_small(comparison: Comparison) -> bool:
    """Whether all scores fit one small tile."""
    queries, candidates = comparison.queries, comparison.candidates
    kind = "cpu" if queries.device.type == "cpu" else "cuda"
    return queries.shape[0] * candidates.shape[0] <= SINGLE_TILE_SCORES[kind]


def check_backend(backend: str | Executor, similarity: Similarity) -> None:
    """A backend and a similarity that go together, as far as they tell without embeddings.

    Raises:
        TypeError: for what is neither a name nor an executor.
        ValueError: for an unknown name; for ``"triton"``, whose kernels this version does not have;
            for a similarity with trainable parameters, which tiles cannot train.
    """
    if isinstance(backend, type) or not isinstance(backend, str | Executor):
        raise TypeError(
            f"backend is {backend!r}: expected one of {', '.join(BACKENDS)}, or an executor such as "
            "Tiled()"
        )
    if isinstance(backend, str):
        check_choice("backend", backend, BACKENDS)
    if backend == "triton":
        raise ValueError(
            'backend "triton" is not available: this version of hardneg has no fused kernels; use '
            '"auto" or "tiled"'
        )
    if backend in ("auto", "tiled") or isinstance(backend, Tiled):
        check_fixed(similarity)


def check_fixed(similarity: Similarity) -> None:
    """Nothing to train in the similarity itself."""
    if isinstance(similarity, torch.nn.Module) and any(
        p.requires_grad for p in similarity.parameters()
    ):
        raise ValueError(
            f"similarity {type(similarity).__name__} has trainable parameters, which recomputed tiles "
            'cannot train: use backend="dense", or apply them to the embeddings beforehand'
        )
