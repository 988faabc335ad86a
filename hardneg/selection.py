"""What ``select`` is asked for, and the order in which it ranks candidates."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = ["Selection"]

ROW_SALT, COLUMN_SALT = 0x9E3779B9, 0x85EBCA6B


@dataclass(frozen=True)
class Selection:
    """What to look for among an anchor's candidates.

    Attributes:
        order: ``"highest"``, ``"lowest"``, ``"random"`` or ``"distance_weighted"``.
        k: how many; -1 fills the places of an anchor with fewer.
        skip: how many of the first k to leave out.
        parameters: of the distance weighting: width, cutoff, nonzero-loss cutoff.
        fallback: ``"easiest"`` or ``"hardest"``: one candidate, the window disregarded, for an anchor
            whose window admits none; ``"none"``: -1.
    """

    order: str
    k: int
    skip: int = 0
    parameters: tuple[float, ...] = ()
    fallback: str = "none"


def mix(x: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
    """A 32-bit hash (the finaliser of MurmurHash3), in int64 so that every device computes it alike."""
    x = x & 0xFFFFFFFF
    x = ((x ^ (x >> 16)) * 0x85EBCA6B) & 0xFFFFFFFF
    x = ((x ^ (x >> 13)) * 0xC2B2AE35) & 0xFFFFFFFF
    return x ^ (x >> 16)


def pair_hash(
    seed: Int[Tensor, ""], anchors: Int[Tensor, "..."], others: Int[Tensor, "..."], salt: int
) -> Int[Tensor, "..."]:
    """23 random bits for each pair, a function of the seed and the pair's global numbers alone; they broadcast."""
    anchor = mix(anchors ^ mix(seed + salt))
    other = mix(others ^ mix(seed + salt + 1))
    return mix(anchor ^ other) >> 9


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
    assert seed is not None
    bits = pair_hash(seed, anchors, others, salt).to(scores.dtype)
    if selection.order == "random":
        return bits
    gumbel = -torch.log(-torch.log((bits + 0.5) / 2**23))
    return log_weights(scores, selection.parameters, similarity) + gumbel


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
