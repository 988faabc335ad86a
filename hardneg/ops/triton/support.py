"""Where the kernels can run, told without importing Triton."""

from __future__ import annotations

import importlib.util
import os

import torch

from hardneg.ops.comparison import Comparison
from hardneg.similarities import Given, Similarity, is_builtin

__all__ = ["why_never_fused", "why_not_fused"]

HAS_TRITON = importlib.util.find_spec("triton") is not None
INTERPRETED = os.environ.get("TRITON_INTERPRET", "0") == "1"
CAPABILITY = (8, 0)
FUSED_TYPES = (torch.float32, torch.float16, torch.bfloat16)


def why_never_fused(similarity: Similarity) -> str | None:
    """Why the kernels cannot run whatever the inputs, if they cannot."""
    if not HAS_TRITON:
        return "Triton is not installed"
    if type(similarity) is Given:
        return "the scores are given, so there is nothing to fuse"
    if not is_builtin(similarity):
        return f"it has no kernel for the callable similarity {similarity!r}"
    return None


def why_not_fused(comparison: Comparison) -> str | None:
    """Why the kernels cannot run on these inputs, if they cannot."""
    reason = why_never_fused(comparison.similarity)
    if reason is not None:
        return reason
    if comparison.relation.guide.rows is not None:
        return "it has no kernel that looks at a guide"
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
