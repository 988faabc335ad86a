"""Rows made ready for products: divided by their length, or measured from an origin near them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

__all__ = [
    "NearRows",
    "central_row",
    "near_rows",
    "one_origin",
    "unit_rows",
]

SAMPLE = 32
"""How many rows are asked for a central one."""

WORTH = 0.5
"""How much nearer, in the mean of the logarithms of squares, a row must lie than zero."""

GOLDEN = 0.618034
"""Multiples of it, modulo 1, spread evenly and keep no step with rows that repeat in a pattern."""


def unit_rows(x: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n"]]:
    """Every row divided by its L2 norm, and 1 / norm; both are 0 for a zero row.

    Rows whose squares leave the range of floats are divided by their largest entry first. On a CPU
    that is done only where such rows exist; elsewhere asking would synchronise.
    """
    info = torch.finfo(x.dtype)
    if x.device.type == "cpu":
        norm = torch.linalg.vector_norm(x, dim=1)
        least, largest = torch.aminmax(norm)
        if float(least) > info.tiny**0.5 * 1e3 and float(largest) < info.max**0.5 * 1e-3:
            inverse = 1 / norm
            return x * inverse[:, None], inverse
    # a zero row, whose inverse is infinite, is meant to pass no gradient
    largest = torch.linalg.vector_norm(x, torch.inf, dim=1, keepdim=True)
    scaled = x / largest.clamp(min=info.tiny)
    length = torch.linalg.vector_norm(scaled, dim=1, keepdim=True)
    inverse = (length * largest)[:, 0].reciprocal().nan_to_num_(posinf=0.0)
    return scaled / length.clamp(min=info.tiny), inverse


def central_row(x: Float[Tensor, "m d"]) -> Float[Tensor, "d"]:
    """The one among 32 sampled rows that lies nearest to the others; zero where zero lies about as near.

    Every other sampled row counts by the logarithm of its distance, relative to its length and at most
    1: a far row moves a mean, but not this choice, and rows near zero have no say. It is one of the
    rows, so what lies on a grid, such as integers, stays on it when the row is subtracted.
    """
    m = len(x)
    if m < 2:
        return x.sum(0).nan_to_num_(0.0, 0.0, 0.0)
    if m > SAMPLE:
        place = torch.arange(SAMPLE, dtype=torch.float32, device=x.device).mul_(GOLDEN).frac_()
        x = x.index_select(0, place.mul_(m).long().clamp_(max=m - 1))
    products = x @ x.T
    squares = products.diagonal()[:, None]
    nearer = squares + squares.T
    nearer.sub_(products, alpha=2).div_(squares).nan_to_num_(1.0)
    nearer.clamp_(torch.finfo(x.dtype).eps, 1.0).fill_diagonal_(1.0).log_()
    gain, best = nearer.mean(0).min(0, keepdim=True)
    row = x.index_select(0, best)[0].nan_to_num_(0.0, 0.0, 0.0)
    return row.mul_(gain < -WORTH)


@dataclass(frozen=True, eq=False)
class NearRows:
    """Rows measured from the nearer one of two origins: zero, and a centre.

    A squared distance as a sum of products, |q|^2 + |c|^2 - 2 q.c, is rounded relative to the lengths,
    and rows measured from a near origin are short. Two rows with one origin keep their difference; for
    two rows with different origins the terms make up for it. So every distance is rounded at most a few
    times as much as by products of the rows themselves, and far less between rows near the centre,
    wherever all others lie.

    Attributes:
        rows: the rows less their origins.
        squares: their squared lengths.
        along: 2 x.centre of the rows x themselves.
        moved: whether a row is measured from the centre.
        centre: of the candidates; the same for both sides.
        share: which part of the rows has moved, where that is 0 or 1 and known; else None.
    """

    rows: Float[Tensor, "n d"]
    squares: Float[Tensor, "n"]
    along: Float[Tensor, "n"]
    moved: Bool[Tensor, "n"]
    centre: Float[Tensor, "d"]
    share: int | None

    def terms(self) -> Float[Tensor, "n 4"]:
        """Twice the product of the rows and that of the terms add up to the negated squared distances.

        The first two are ``origins()``. The terms of candidates have their halves exchanged.
        """
        minus = -self.squares
        from_zero = minus - (self.along - torch.dot(self.centre, self.centre)) * self.moved
        from_centre = torch.where(self.moved, minus, minus + self.along)
        # 0 times the square of a very long row, which is inf, would be NaN
        terms = torch.stack((~self.moved, self.moved, from_zero, from_centre), 1)
        return terms.nan_to_num_(0.0, neginf=torch.finfo(terms.dtype).min)

    def origins(self) -> Float[Tensor, "n 2"]:
        """(1, 0) for a row measured from zero, (0, 1) for one measured from the centre."""
        return torch.stack((~self.moved, self.moved), 1).to(self.rows.dtype)

    def pulled(
        self, total: Float[Tensor, "n d"], sums: Float[Tensor, "n o"]
    ) -> Float[Tensor, "n d"]:
        """``sum_j weights[i, j] * (others[j] - rows[i])``, in place of ``total``.

        Args:
            total: ``weights @ others.rows``.
            sums: ``weights @ others.origins()``, or sums of the weights where all have one origin.
        """
        total.addcmul_(self.rows, sums.sum(1, keepdim=True), value=-1)
        if sums.shape[1] == 1:
            return total
        across = torch.where(self.moved, -sums[:, 0], sums[:, 1])
        return total.addcmul_(across[:, None], self.centre)


def near_rows(x: Float[Tensor, "n d"], centre: Float[Tensor, "d"]) -> NearRows:
    """The rows measured from zero or from the centre, whichever is nearer."""
    along = torch.mv(x, centre).mul_(2)
    moved = along > torch.dot(centre, centre)
    share = None
    if x.device.type == "cpu":  # elsewhere asking would synchronise
        count = int(moved.sum())
        share = 0 if count == 0 else 1 if count == len(x) else None
    rows = x
    if share != 0:
        rows = torch.addcmul(x, moved[:, None].to(x.dtype), centre, value=-1)
    return NearRows(rows, torch.linalg.vecdot(rows, rows), along, moved, centre, share)


def one_origin(queries: NearRows, candidates: NearRows) -> bool:
    """Whether all rows are known to be measured from the same origin."""
    return queries.share is not None and queries.share == candidates.share
