"""Which backend carries out a loss: the rule behind ``backend``."""

from __future__ import annotations

from typing import Any

import torch

from hardneg.checks import check_choice
from hardneg.ops.callable_checks import check_callable
from hardneg.ops.comparison import Comparison
from hardneg.ops.fused_backend import Fused
from hardneg.ops.reference import Dense
from hardneg.ops.scores import Backend, Scores
from hardneg.ops.small.backend import Small, SmallScores
from hardneg.ops.small.by_kernels import takes_kernels
from hardneg.ops.tiled_backend import Tiled
from hardneg.ops.transforms import check_untransformed
from hardneg.ops.triton.support import why_never_fused, why_not_fused
from hardneg.similarities import Similarity, is_builtin

__all__ = ["bind", "bind_large", "check_backend", "for_whole_losses"]

BY_NAME: dict[str, Backend] = {"dense": Dense(), "tiled": Tiled(), "triton": Fused()}
BACKENDS = ("auto", *BY_NAME)
SMALL = {"cpu": 1 << 16, "cuda": 1 << 20}
"""Up to how many scores ``"auto"`` computes them all at once, and keeps them for the backward pass."""
WHOLE = {"cpu": 1 << 20, "cuda": 1 << 20}
"""The same where a loss is known as a whole, so that none is kept: half of a CPU's tile."""
BY_KERNELS = 1 << 24
"""The same where kernels know it, on a GPU: 64 MiB of scores, and half as much or none of their derivatives."""
COPIED = 3 << 23
"""Up to how many coordinates they copy, and add up pulls in float32: with the scores less than 256 MiB."""


def bind(backend: str | Backend, comparison: Comparison) -> Scores:
    """The scores of a comparison by the backend of that name; a backend object is taken as it is.

    ``"auto"``: where all scores fit one small tile (256 x 256 on a CPU, 1024 x 1024 elsewhere) they are
    computed once, which takes the least time; losses that are known as a whole are so up to 1024 x 1024,
    by the kernels of small batches up to 4096 x 4096 (``for_whole_losses``). Larger ones are never held:
    fused kernels where they can run (Triton, an NVIDIA GPU of compute capability 8.0 or later, a similarity
    that is not a callable, float32, float16 or bfloat16; selections of more than 32 run tiled there), else
    recomputed tiles.

    Raises:
        ValueError: as ``check_backend`` and ``check_callable``; for ``"triton"`` where the kernels cannot
            run, with the reason.
        RuntimeError: as ``check_untransformed``, but for ``"dense"``.
    """
    dense = isinstance(backend, Dense) or backend == "dense"
    if not dense:
        check_untransformed()
    if not is_builtin(comparison.similarity):
        check_backend(backend, comparison.similarity)
        check_callable(comparison.similarity, comparison.queries, in_tiles=not dense)
    if backend == "auto" and is_builtin(comparison.similarity) and is_small(comparison):
        return Small().scores(comparison)
    return bind_large(backend, comparison)


def bind_large(backend: str | Backend, comparison: Comparison) -> Scores:
    """The same without the exception for small comparisons."""
    check_backend(backend, comparison.similarity)
    if isinstance(backend, Fused) or backend == "triton":
        check_fused(why_not_fused(comparison))
    if not isinstance(backend, str):
        return backend.scores(comparison)
    if backend == "auto":
        fused = comparison.queries.is_cuda and why_not_fused(comparison) is None
        return (Fused(or_tiled=True) if fused else Tiled()).scores(comparison)
    return BY_NAME[backend].scores(comparison)


def for_whole_losses(backend: str | Backend, comparison: Comparison) -> SmallScores | None:
    """The scores of a comparison that may know a loss as a whole; None where it is too large for that.

    Raises:
        RuntimeError: as ``check_untransformed``.
    """
    if isinstance(backend, Small):
        check_untransformed()
        return backend.scores(comparison)
    if backend != "auto" or not is_builtin(comparison.similarity):
        return None
    kernels = comparison.queries.is_cuda and is_small_for_kernels(comparison)
    others = is_small(comparison, WHOLE)
    if not kernels and not others:
        return None
    check_untransformed()
    return Small(kernels, others).scores(comparison)


def is_small_for_kernels(comparison: Comparison) -> bool:
    """Whether the kernels of small batches take a comparison."""
    (n, width), m = comparison.queries.shape, comparison.candidates.shape[0]
    return n * m <= BY_KERNELS and (n + m) * width <= COPIED and takes_kernels(comparison)


def is_small(comparison: Comparison, limits: dict[str, int] = SMALL) -> bool:
    """Whether all scores fit one small tile."""
    queries, candidates = comparison.queries, comparison.candidates
    kind = "cpu" if queries.device.type == "cpu" else "cuda"
    return queries.shape[0] * candidates.shape[0] <= limits[kind]


def check_backend(backend: Any, similarity: Similarity) -> None:
    """A backend and a similarity that go together, as far as they tell without embeddings.

    Raises:
        TypeError: for what is neither a name nor a backend object.
        ValueError: for an unknown name; for ``"triton"`` where no kernel can run; for a similarity with
            trainable parameters, which tiles cannot train.
    """
    if isinstance(backend, str):
        check_choice("backend", backend, BACKENDS)
    elif isinstance(backend, type) or not hasattr(backend, "scores"):
        raise TypeError(
            f"backend is {backend!r}: expected one of {', '.join(BACKENDS)}, or a backend object such as "
            "Tiled()"
        )
    if isinstance(backend, Fused) or backend == "triton":
        check_fused(why_never_fused(similarity))
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
