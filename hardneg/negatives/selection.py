"""What ``select`` is asked for, and the order in which it ranks candidates."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = ["Order", "Selection"]

Order = str | Callable[[Tensor], Tensor]
"""What is ranked: a name, or a function of a block of scores whose highest values come first."""

ROW_SALT, COLUMN_SALT = 0x9E3779B9, 0x85EBCA6B
LOW_BITS = 0x7FFFFFFF


@dataclass(frozen=True)
class Selection:
    """What to look for among an anchor's candidates.

    Attributes:
        order: ``"highest"``, ``"lowest"``, ``"random"`` or ``"distance_weighted"``; or an elementwise function of
            the scores, whose highest values come first.
        k: how many; -1 fills the places of an anchor with fewer.
        skip: how many of the first k to leave out.
        parameters: of the distance weighting: width, cutoff, nonzero-loss cutoff.
        fallback: ``"easiest"`` or ``"hardest"``: one candidate, the window disregarded, for an anchor
            whose window admits none; ``"none"``: -1.
    """

    order: Order
    k: int
    skip: int = 0
    parameters: tuple[float, ...] = ()
    fallback: str = "none"

    @property
    def random(self) -> bool:
        """Whether it draws random numbers."""
        return self.order in ("random", "distance_weighted")


def mix(x: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
    """A permutation of the integers below 2**31: the finaliser of MurmurHash3 on int32, products cut to 31 bits."""
    x = x ^ (x >> 16)
    x = (x * 0x05EBCA6B) & LOW_BITS
    x = x ^ (x >> 13)
    x = (x * 0x42B2AE35) & LOW_BITS
    return x ^ (x >> 16)


def low_bits(x: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
    """The lower 31 bits of int64, as int32."""
    return (x & LOW_BITS).to(torch.int32)


def pair_hash(
    seed: Int[Tensor, ""], anchors: Int[Tensor, "..."], others: Int[Tensor, "..."], salt: int
) -> Int[Tensor, "..."]:
    """31 random bits for each pair, a function of the seed and the pair's global numbers alone; they broadcast.

    For one anchor it is a permutation: no two of up to 2**31 others share a hash, so a draw never depends on
    their order.
    """
    anchor = mix(low_bits(anchors) ^ mix(low_bits(seed + salt)))
    other = mix(low_bits(others) ^ mix(low_bits(seed + salt + 1)))
    return mix(anchor ^ other)


def as_float(bits: Int[Tensor, "..."]) -> Float[Tensor, "..."]:
    """A float32 of its own for each 31-bit integer, of ordinary size: neither subnormal nor near the largest."""
    return (bits + (bits & 0x40000000)).add_(0x00800000).view(torch.float32)


def gumbel(bits: Int[Tensor, "..."], dtype: torch.dtype) -> Float[Tensor, "..."]:
    """Draws from the Gumbel distribution, finest where they are highest: among many the highest decide."""
    uniform = bits.to(dtype).add_(0.5).mul_(2.0**-31).clamp_(max=1 - 2.0**-24)
    return uniform.neg_().log1p_().neg_().log_().neg_()


def ranking_keys(
    scores: Float[Tensor, "r c"],
    selection: Selection,
    similarity: object,
    seed: Int[Tensor, ""] | None,
    anchors: Int[Tensor, "r"],
    others: Int[Tensor, "c"],
    salt: int,
) -> Float[Tensor, "r c"]:
    """What is ranked, highest first: the score itself or a function of it and of the pair's hash."""
    return pair_keys(scores, selection, similarity, seed, anchors[:, None], others[None], salt)


def pair_keys(
    scores: Float[Tensor, "..."],
    selection: Selection,
    similarity: object,
    seed: Int[Tensor, ""] | None,
    anchors: Int[Tensor, "..."],
    others: Int[Tensor, "..."],
    salt: int,
) -> Float[Tensor, "..."]:
    """The same of listed pairs: the global numbers broadcast against the scores."""
    if selection.order == "highest":
        return scores
    if selection.order == "lowest":
        return -scores
    if callable(selection.order):
        return selection.order(scores)
    assert seed is not None
    bits = pair_hash(seed, anchors, others, salt)
    if selection.order == "random":
        return as_float(bits).to(scores.dtype)
    return log_weights(scores, selection.parameters, similarity) + gumbel(bits, scores.dtype)


def log_weights(
    scores: Float[Tensor, "r c"], parameters: tuple[float, ...], similarity: object
) -> Float[Tensor, "r c"]:
    """Log of the inverse density of the distance between points of the unit sphere (Wu et al., 2017, section 4)."""
    width, cutoff, farthest = parameters
    name = type(similarity).__name__
    if name == "Cosine":
        distance = (2 - 2 * scores).clamp(min=0).sqrt()
    else:
        distance = -scores if name == "Euclidean" else (-scores).sqrt()
    bounded = distance.clamp(min=cutoff)
    weights = (2 - width) * bounded.log()
    weights = weights - (width - 3) / 2 * (1 - bounded.square() / 4).clamp(min=1e-8).log()
    return torch.where(distance < farthest, weights, -math.inf)


def with_fallback(chosen: Int[Tensor, "n k"], fallback: Int[Tensor, "n 1"]) -> Int[Tensor, "n k"]:
    """The fallback in the first place of every anchor that selected nothing."""
    first = torch.where(chosen[:, :1] < 0, fallback, chosen[:, :1])
    return torch.cat([first, chosen[:, 1:]], dim=1)
