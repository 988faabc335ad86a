"""Rows and noisy copies of them, asymmetric, always the same."""

from __future__ import annotations

import torch
from torch import Tensor


def pairs(n: int = 60, m: int = 60, d: int = 24, noise: float = 1.0) -> tuple[Tensor, Tensor]:
    made = torch.Generator().manual_seed(n + m + d)
    queries, further = (torch.randn(k, d, generator=made) for k in (n, m))
    candidates = further.clone()
    both = min(n, m)
    candidates[:both] = queries[:both] + noise * further[:both]
    return queries, candidates
