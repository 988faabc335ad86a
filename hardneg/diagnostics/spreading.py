"""``spread``: how far apart the rows of a set of embeddings lie; small numbers tell a collapse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.checks import check_count, check_embeddings
from hardneg.similarities import unit, upcast

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["Spread", "spread"]

TEMPERATURE = 2.0
"""t of the uniformity, as in its paper."""


@dataclass(frozen=True)
class Spread:
    """How far apart rows lie on the unit sphere; NaN where there are fewer than two, or one is NaN.

    Attributes:
        mean_cosine: of all pairs of different rows: 1 where all point one way, near 0 where they are spread.
        effective_rank: exponential of the entropy of the singular values of a sample of rows: 1 where all lie on
            one line, at most the width or the size of the sample. RankMe of unit rows.
        uniformity: log of the mean of exp(-2 |u - v|^2) over pairs of a sample: 0 where all rows are equal, about
            -4 where they are uniform in many dimensions; lower is better.
    """

    mean_cosine: float
    effective_rank: float
    uniformity: float


@torch.no_grad()
def spread(embeddings: Float[Tensor, "n d"], sample: int = 128) -> Spread:
    """Measure the spread of embeddings on the unit sphere; time O(n d + sample^2 d).

    Args:
        embeddings: n x d.
        sample: how many rows, evenly spaced, the effective rank and the uniformity are taken of.

    Raises:
        ValueError, TypeError: naming the argument, what was expected, and what came.

    Source: effective rank: Roy and Vetterli, EUSIPCO 2007, and Garrido et al., "RankMe", ICML 2023; uniformity: Wang
    and Isola, ICML 2020, equation 2.

    Example:
        >>> spread(torch.ones(8, 4)).mean_cosine
        1.0
    """
    check_embeddings("embeddings", embeddings)
    check_count("sample", sample, at_least=2)
    u, n = unit(upcast(embeddings)), len(embeddings)
    rows = torch.arange(min(n, sample), device=u.device) * n // min(n, sample)
    few = u.index_select(0, rows)
    with torch.autocast(u.device.type, enabled=False):
        gram = few @ few.T
    known = torch.stack([mean_cosine(u), uniformity(gram)]).tolist()
    if n < 2 or known[0] != known[0]:
        return Spread(*3 * (float("nan"),))
    return Spread(known[0], effective_rank(gram), known[1])


def mean_cosine(u: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Of all pairs, by the sum of the rows: |sum|^2 counts every pair twice and every row with itself."""
    own = u.square().sum()
    return (u.sum(0).square().sum() - own) / max(1, len(u) * (len(u) - 1))


def uniformity(gram: Float[Tensor, "s s"]) -> Float[Tensor, ""]:
    """From the cosines of a sample: |u - v|^2 = 2 - 2 u.v for unit rows."""
    squared = (2 - 2 * gram).clamp(min=0)
    total = (-TEMPERATURE * squared).exp().fill_diagonal_(0).sum()
    return (total / max(1, len(gram) * (len(gram) - 1))).log()


def effective_rank(gram: Float[Tensor, "s s"]) -> float:
    """From the cosines of a sample, whose eigenvalues are the squared singular values of its rows."""
    values = torch.linalg.eigvalsh(gram.cpu().double())
    # eigenvalues below the rounding of the products are 0
    values = torch.where(values > len(gram) * torch.finfo(gram.dtype).eps, values, 0.0)
    shares = values.sqrt() / values.sqrt().sum().clamp(min=torch.finfo(values.dtype).tiny)
    return float(torch.special.entr(shares).sum().exp())
