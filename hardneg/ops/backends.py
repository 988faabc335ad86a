"""Which executor carries out a loss: the rule behind ``backend``."""

from __future__ import annotations

import importlib.util
import os
from typing import Any, cast

import torch

from hardneg.checks import check_choice
from hardneg.ops.dense import Dense
from hardneg.ops.description import Comparison
from hardneg.ops.executor import Executor
from hardneg.ops.tiled.callable_executor import CallableTiled
from hardneg.ops.tiled.executor import Tiled
from hardneg.ops.triton.executor import Fused
from hardneg.similarities import Similarity, is_closed

__all__ = ["check_backend", "resolve_backend"]

BACKENDS = ("auto", "dense", "tiled", "triton")

HAS_TRITON = importlib.util.find_spec("triton") is not None
INTERPRETED = os.environ.get("TRITON_INTERPRET", "0") == "1"
CAPABILITY = (8, 0)
FUSED_TYPES = (torch.float32, torch.float16, torch.bfloat16)


def resolve_backend(backend: str | Executor, comparison: Comparison) -> Executor:
    """The executor of that name for these inputs; an executor object is taken as it is.

    ``"auto"`` takes the fused kernels where they can run: Triton installed, an NVIDIA GPU of compute capability
    8.0 or later, a similarity that is not a callable, float32, float16 or bfloat16; selections of more than 32
    run tiled there. Elsewhere it is tiled: that needs the least memory and, even at a batch of 128, no more
    time than the dense formula.

    Raises:
        ValueError: for an unknown name; for ``"triton"`` where the kernels cannot run, with the reason; for
            a similarity with trainable parameters, which tiles cannot train.
    """
    similarity = comparison.similarity
    check_backend(backend, similarity)
    if isinstance(backend, Fused) or backend == "triton":
        reason = unfused(comparison)
        if reason is not None:
            raise ValueError(f'backend "triton" is not available: {reason}; use "auto" or "tiled"')
        return Fused() if isinstance(backend, str) else cast(Executor, backend)
    if isinstance(backend, Tiled):
        return tiled(similarity, backend.tile)
    if not isinstance(backend, str):
        return backend
    if backend == "auto" and comparison.queries.is_cuda and unfused(comparison) is None:
        return Fused(wide=Tiled())
    return Dense() if backend == "dense" else tiled(similarity, None)


def check_backend(backend: Any, similarity: Similarity) -> None:
    """What can be said before there are inputs; raises as ``resolve_backend`` does."""
    if not isinstance(backend, str):
        check_executor(backend)
    else:
        check_choice("backend", backend, BACKENDS)
    if isinstance(backend, Fused) or backend == "triton":
        reason = unfused_ever(similarity)
        if reason is not None:
            raise ValueError(f'backend "triton" is not available: {reason}; use "auto" or "tiled"')
    if backend in ("auto", "tiled") or isinstance(backend, Tiled):
        tiled(similarity, None)


def unfused_ever(similarity: Similarity) -> str | None:
    """Why the kernels cannot run whatever the inputs, if they cannot."""
    if not HAS_TRITON:
        return "Triton is not installed"
    if not is_closed(similarity):
        return f"it has no kernel for the callable similarity {similarity!r}"
    return None


def unfused(comparison: Comparison) -> str | None:
    """Why the kernels cannot run on these inputs, if they cannot."""
    reason = unfused_ever(comparison.similarity)
    if reason is not None:
        return reason
    x = comparison.queries
    if x.dtype not in FUSED_TYPES:
        return f"the embeddings are {x.dtype}, and it takes float32, float16 and bfloat16"
    if INTERPRETED:
        return None
    if not x.is_cuda:
        return f"the embeddings are on {x.device}, and it runs on CUDA devices"
    found = capability(x.device)
    if found < CAPABILITY:
        return f"{x.device} has compute capability {found[0]}.{found[1]}, and it needs 8.0 or later"
    return None


def capability(device: torch.device) -> tuple[int, int]:
    """The compute capability; (0, 0) where it is not an NVIDIA GPU."""
    if torch.version.hip:
        return 0, 0
    # unlike get_device_capability, the compiler takes this for a constant
    properties = torch.cuda.get_device_properties(device)
    return properties.major, properties.minor


def check_executor(backend: Any) -> None:
    """An executor given as an object."""
    if isinstance(backend, type) or not hasattr(backend, "penalty_total"):
        raise TypeError(
            f"backend is {backend!r}: expected one of {', '.join(BACKENDS)}, or an executor such as "
            "Tiled()"
        )


def tiled(similarity: Similarity, tile: tuple[int, int] | None) -> Executor:
    """The tiled executor that fits the similarity."""
    if is_closed(similarity):
        return Tiled(tile)
    if isinstance(similarity, torch.nn.Module) and any(
        p.requires_grad for p in similarity.parameters()
    ):
        raise ValueError(
            f"similarity {type(similarity).__name__} has trainable parameters, which recomputed tiles "
            'cannot train: use backend="dense", or apply them to the embeddings beforehand'
        )
    return CallableTiled(tile)
