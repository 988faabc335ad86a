"""Which executor carries out a loss: the rule behind ``backend``."""

from __future__ import annotations

from typing import Any

import torch

from hardneg.checks import check_choice
from hardneg.ops.callable_checks import check_callable
from hardneg.ops.dense import Dense
from hardneg.ops.description import Comparison
from hardneg.ops.executor import Executor
from hardneg.ops.half_precision import in_float32, with_wide_gradients
from hardneg.ops.single_tile import SingleTile
from hardneg.ops.tiled.callable_executor import CallableTiled
from hardneg.ops.tiled.executor import Tiled
from hardneg.ops.transforms import check_untransformed
from hardneg.ops.triton.executor import Fused
from hardneg.ops.triton.support import unfused, unfused_ever
from hardneg.similarities import Similarity, is_closed

__all__ = ["carried_out", "check_backend", "recomputing", "resolve_backend"]

BACKENDS = ("auto", "dense", "tiled", "triton")
SINGLE_TILE_SCORES = {"cpu": 1 << 16, "cuda": 1 << 20}
"""Up to how many scores ``"auto"`` computes them all at once."""


def resolve_backend(backend: str | Executor, comparison: Comparison) -> Executor:
    """The executor of that name for that comparison; an executor object is taken as it is.

    ``"auto"``: where all scores fit one small tile (256 x 256 on a CPU, 1024 x 1024 elsewhere) they are
    computed once, which takes the least time. Larger ones are never held: fused kernels where they can
    run (Triton, an NVIDIA GPU of compute capability 8.0 or later, a similarity that is not a callable,
    float32, float16 or bfloat16; selections of more than 32 run tiled there), else recomputed tiles.

    Raises:
        ValueError: as ``check_backend`` and ``check_callable``; for ``"triton"`` where the kernels cannot
            run, with the reason.
        RuntimeError: as ``check_untransformed``, but for ``"dense"``.
    """
    dense = isinstance(backend, Dense) or backend == "dense"
    if not dense:
        check_untransformed()
    if not is_closed(comparison.similarity):
        check_backend(backend, comparison.similarity)
        check_callable(comparison.similarity, comparison.queries, in_tiles=not dense)
    if backend == "auto" and is_closed(comparison.similarity) and is_small(comparison):
        return SingleTile()
    return recomputing(backend, comparison)


def carried_out(backend: str | Executor, comparison: Comparison) -> tuple[Executor, Comparison]:
    """The executor, and the comparison as it takes it: gradients of 16-bit embeddings add up in float32."""
    executor = resolve_backend(backend, comparison)
    if isinstance(executor, Dense | CallableTiled):
        return executor, in_float32(comparison)
    if isinstance(executor, SingleTile | Tiled):
        return executor, with_wide_gradients(comparison)
    return executor, comparison


def recomputing(backend: str | Executor, comparison: Comparison) -> Executor:
    """The same without the exception for small comparisons."""
    similarity = comparison.similarity
    check_backend(backend, similarity)
    if isinstance(backend, Fused) or backend == "triton":
        check_fused(unfused(comparison))
        return Fused() if isinstance(backend, str) else backend
    if isinstance(backend, Tiled):
        return tiled(similarity, backend.tile)
    if isinstance(backend, Dense) or backend == "dense":
        return Dense()
    if not isinstance(backend, str):
        return backend
    if backend == "auto" and comparison.queries.is_cuda and unfused(comparison) is None:
        return Fused(wide=Tiled())
    return tiled(similarity, None)


def is_small(comparison: Comparison) -> bool:
    """Whether all scores fit one small tile."""
    queries, candidates = comparison.queries, comparison.candidates
    kind = "cpu" if queries.device.type == "cpu" else "cuda"
    return queries.shape[0] * candidates.shape[0] <= SINGLE_TILE_SCORES[kind]


def tiled(similarity: Similarity, tile: tuple[int, int] | None) -> Executor:
    """The tiled executor that fits the similarity."""
    return Tiled(tile) if is_closed(similarity) else CallableTiled(tile)


def check_backend(backend: Any, similarity: Similarity) -> None:
    """A backend and a similarity that go together, as far as they tell without embeddings.

    Raises:
        TypeError: for what is neither a name nor an executor.
        ValueError: for an unknown name; for ``"triton"`` where no kernel can run; for a similarity with
            trainable parameters, which tiles cannot train.
    """
    if isinstance(backend, str):
        check_choice("backend", backend, BACKENDS)
    elif isinstance(backend, type) or not hasattr(backend, "penalty_total"):
        raise TypeError(
            f"backend is {backend!r}: expected one of {', '.join(BACKENDS)}, or an executor such as "
            "Tiled()"
        )
    if isinstance(backend, Fused) or backend == "triton":
        check_fused(unfused_ever(similarity))
    elif backend in ("auto", "tiled") or isinstance(backend, Tiled):
        check_fixed(similarity)


def check_fused(reason: str | None) -> None:
    """Nothing keeps the kernels from running."""
    if reason is not None:
        raise ValueError(f'backend "triton" is not available: {reason}; use "auto" or "tiled"')


def check_fixed(similarity: Similarity) -> None:
    """Nothing to train in the similarity itself."""
    if isinstance(similarity, torch.nn.Module) and any(
        p.requires_grad for p in similarity.parameters()
    ):
        raise ValueError(
            f"similarity {type(similarity).__name__} has trainable parameters, which recomputed tiles "
            'cannot train: use backend="dense", or apply them to the embeddings beforehand'
        )
