"""In which number formats the kernels are checked, and how large an error may be.

The rule: an error against float64 is at most twice the error of plain PyTorch in the same number format,
plus the rounding of the result. Values of 16-bit embeddings are held to plain PyTorch in float32, since
scores promise to be accumulated there; gradients come back in the embeddings' type and are held to that.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Arithmetic:
    """A number format: the embeddings' type and, for float32, how products are formed."""

    dtype: torch.dtype
    products: str = "highest"

    def __str__(self) -> str:
        name = str(self.dtype).removeprefix("torch.")
        return f"{name} {self.products}" if self.dtype == torch.float32 else name

    @contextmanager
    def chosen(self) -> Iterator[None]:
        """Form float32 products this way inside."""
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision(self.products)
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)


IEEE = Arithmetic(torch.float32)
BFLOAT16 = Arithmetic(torch.bfloat16)
UNITS = 16
"""Units of float32's rounding that a result may be off by."""

ARITHMETICS = (
    IEEE,
    Arithmetic(torch.float32, "high"),
    Arithmetic(torch.float32, "medium"),
    Arithmetic(torch.float16),
    BFLOAT16,
)


@dataclass(frozen=True)
class OwnPrecision:
    """A similarity computed in the embeddings' own type, as plain PyTorch does in 16 bits."""

    similarity: Any
    dtype: torch.dtype

    def __call__(self, queries: Tensor, candidates: Tensor) -> Tensor:
        """Scores in that type."""
        q, c = queries.to(self.dtype), candidates.to(self.dtype)
        code = self.similarity.code
        if code == "dot":
            return q @ c.T
        if code == "cosine":
            return torch.nn.functional.normalize(q) @ torch.nn.functional.normalize(c).T
        if code.startswith("order"):
            sign = 1 if self.similarity.general == "candidates" else -1
            excess = (sign * (c[None] - q[:, None])).clamp(min=0)
            return -root(excess.square().sum(-1))
        squared = (q * q).sum(1)[:, None] + (c * c).sum(1)[None] - 2 * (q @ c.T)
        return -squared.clamp(min=0) if code == "squared_euclidean" else -root(squared)


def root(x: Tensor) -> Tensor:
    """Square root; what is clamped passes no gradient."""
    return x.clamp(min=torch.finfo(x.dtype).tiny).sqrt()


@dataclass(frozen=True)
class Verdict:
    """An error beside what was allowed."""

    what: str
    error: float
    eager: float
    allowed: float

    @property
    def passed(self) -> bool:
        """False for NaN too, and where anything would be allowed."""
        return self.error <= self.allowed < float("inf")

    def with_terms_of(self, size: float) -> Verdict:
        """The same for a sum of terms whose magnitudes sum to ``size``."""
        return replace(self, allowed=self.allowed + UNITS * torch.finfo(torch.float32).eps * size)

    def row(self) -> dict[str, object]:
        """For the results file."""
        return {
            "what": self.what,
            "error": self.error,
            "eager_error": self.eager,
            "allowed": self.allowed,
            "passed": self.passed,
        }


def distance(found: Tensor, exact: Tensor) -> float:
    """Largest difference, infinite entries being equal to themselves; NaN where shapes or infinities differ."""
    if found.shape != exact.shape:
        return float("nan")
    found, exact = found.detach().double(), exact.detach().double()
    infinite = exact.isinf()
    if not torch.equal(found[infinite], exact[infinite]):
        return float("nan")
    differences = (found - exact)[~infinite].abs()
    return float(differences.max()) if differences.numel() else 0.0


def judged(what: str, found: Tensor, eager: Tensor, exact: Tensor, dtype: torch.dtype) -> Verdict:
    """A result beside plain PyTorch's and float64's; ``dtype`` is the type in which it is returned."""
    size = exact.detach().double()
    size = size[size.isfinite()].abs()
    largest = float(size.max()) if size.numel() else 0.0
    single = torch.finfo(torch.float32).eps
    rounding = UNITS * single * (1 + largest)
    if dtype != torch.float32:
        rounding += torch.finfo(dtype).eps * largest + torch.finfo(dtype).tiny
    plain = distance(eager, exact)
    return Verdict(what, distance(found, exact), plain, 2 * plain + rounding)
