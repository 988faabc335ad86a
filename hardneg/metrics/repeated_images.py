"""Image embeddings that occur once for each of their captions, as caption data sets yield them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.metrics.ranking import ROWS_AT_ONCE, collapse_radius
from hardneg.ops.grid import chunks

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

__all__ = ["check_each_once", "without_copies"]

MOST = 20
"""Captions an image, at most: more equal rows than that are a collapsed model."""


def check_each_once(
    images: Float[Tensor, "n d"], captions: Float[Tensor, "m d"], by_ids: bool = False
) -> None:
    """Without ids every row is an image of its own; with ids every row whose copies have left.

    Copies that stand together, or that all occur equally often, are repeated images. Equal embeddings
    of different images, as a collapsed model has them, do neither.

    Raises:
        ValueError: for repeated images.
    """
    n, m = len(images), len(captions)
    different = standing_together(images) or equally_often(images)
    if different is None or not 2 * different <= n <= MOST * different:
        return
    times = n / different
    in_order = n % different == 0 and every(images, n // different)
    some = f"images[::{n // different}]" if in_order else "the first row of each"
    if by_ids:
        raise ValueError(
            f"{n} images under different ids, but only {different} different ones, each {n / different:g} times on "
            "average: give copies of an image one id, which its captions have too"
        )
    raise ValueError(
        f"{n} images, but only {different} different ones, each {times:g} times on average: pass every image "
        f"once ({some}) with all {m} captions in the order of the images, or pass image_ids and caption_ids"
    )


def every(x: Float[Tensor, "n d"], k: int) -> bool:
    """Whether each k rows in turn are copies of the first of them."""
    return all(bool(are_copies(x[::k], x[place::k]).all()) for place in range(1, k))


def standing_together(x: Float[Tensor, "n d"]) -> int | None:
    """How many different rows there are, if equal ones follow one another; equal to within rounding."""
    first = torch.ones(len(x), dtype=torch.bool, device=x.device)
    for rows in chunks(len(x) - 1, ROWS_AT_ONCE):
        later = slice(rows.start + 1, rows.stop + 1)
        first[later] = ~are_copies(x[later], x[rows])
    heads = x[first]
    found = len(heads)
    return found if 1 < found < len(x) and len(fingerprints(heads).unique()) == found else None


def equally_often(x: Float[Tensor, "n d"]) -> int | None:
    """How many different rows there are, if all occur equally often, in any order."""
    counts = fingerprints(x).unique(return_counts=True)[1]
    found = len(counts)
    return found if 1 < found < len(x) and bool((counts == counts[0]).all()) else None


def are_copies(x: Float[Tensor, "n d"], y: Float[Tensor, "n d"]) -> Bool[Tensor, "n"]:
    """Whether row i of both is one embedding, to within the rounding of two evaluations."""
    x, y = (z.float() if z.dtype != torch.float64 else z for z in (x, y))
    radius = collapse_radius(x.dtype, x.shape[1])
    apart = torch.linalg.vector_norm(x - y, dim=1)
    result: Tensor = apart <= radius * torch.linalg.vector_norm(x, dim=1)
    return result


def fingerprints(x: Float[Tensor, "n d"]) -> Int[Tensor, "n"]:
    """A number for each row: equal for equal rows, and different for others but for one chance in 2^60."""
    generator = torch.Generator().manual_seed(0)
    factors = torch.randint(-(2**62), 2**62, (x.shape[1],), generator=generator).to(x.device)
    bits = torch.int64 if x.dtype == torch.float64 else torch.int32
    found = torch.empty(len(x), dtype=torch.long, device=x.device)
    for rows in chunks(len(x), ROWS_AT_ONCE):
        numbers = x[rows] if x.dtype == torch.float64 else x[rows].float()
        exact = (numbers + 0.0).contiguous().view(bits).long()  # -0.0 is 0.0
        found[rows] = (exact * (2 * factors + 1)).sum(1)
    return found


def without_copies(
    images: Float[Tensor, "n d"], ids: Int[Tensor, "n"]
) -> tuple[Float[Tensor, "k d"], Int[Tensor, "k"]]:
    """The images without copies of the first one of their id; other views of it stay."""
    _, group, counts = ids.unique(return_inverse=True, return_counts=True)
    if len(counts) == len(ids):
        return images, ids
    place = torch.arange(len(ids), device=ids.device)
    first = torch.full_like(counts, len(ids)).scatter_reduce_(0, group, place, "amin")[group]
    kept = first == place
    for rows in chunks(len(ids), ROWS_AT_ONCE):
        kept[rows] |= ~are_copies(images[rows], images[first[rows]])
    return images[kept], ids[kept]
