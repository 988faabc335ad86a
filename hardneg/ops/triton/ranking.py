"""What candidates are ranked by, highest first, and bounds on their scores: ``selection.ranking_keys`` on the GPU.

Anchors (along ``1 - AXIS`` of the scores) and others are global numbers.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["distance_weighted", "highest", "lowest", "random", "within"]


@triton.jit
def mix(x):
    """``selection.mix``."""
    x = ((x ^ (x >> 16)) * 0x05EBCA6B) & 0x7FFFFFFF
    x = ((x ^ (x >> 13)) * 0x42B2AE35) & 0x7FFFFFFF
    return x ^ (x >> 16)


@triton.jit
def low_bits(x):
    """The lower 31 bits of an int64."""
    return (x & 0x7FFFFFFF).to(tl.uint32)


@triton.jit
def pair_bits(seed, anchors, others, AXIS: tl.constexpr, SALT: tl.constexpr):
    """``selection.pair_hash``: 31 bits for each pair of global numbers."""
    of_anchors = mix(low_bits(anchors) ^ mix(low_bits(seed + SALT)))
    of_others = mix(low_bits(others) ^ mix(low_bits(seed + SALT + 1)))
    return mix(tl.expand_dims(of_anchors, AXIS) ^ tl.expand_dims(of_others, 1 - AXIS))


@triton.jit
def as_float(bits):
    """``selection.as_float``."""
    return (bits + (bits & 0x40000000) + 0x00800000).to(tl.float32, bitcast=True)


@triton.jit
def gumbel(bits):
    """``selection.gumbel``."""
    x = tl.minimum((bits.to(tl.int32).to(tl.float32) + 0.5) * 4.656612873077393e-10, 0.99999994)
    # log1p(-x), negated: its series where 1 - x would round x away
    series = x * (1.0 + x * (0.5 + x * (0.33333333 + x * 0.25)))
    return -tl.log(tl.where(x < 0.015625, series, -tl.log(1.0 - x)))


@triton.jit
def highest(scores, ranking, anchors, others, AXIS: tl.constexpr, SALT: tl.constexpr):
    """The score."""
    return scores


@triton.jit
def lowest(scores, ranking, anchors, others, AXIS: tl.constexpr, SALT: tl.constexpr):
    """The negated score."""
    return -scores


@triton.jit
def random(scores, ranking, anchors, others, AXIS: tl.constexpr, SALT: tl.constexpr):
    """The same for every pair of global numbers, whatever the score."""
    return as_float(pair_bits(tl.load(ranking.seed), anchors, others, AXIS, SALT))


@triton.jit
def distance_weighted(scores, ranking, anchors, others, AXIS: tl.constexpr, SALT: tl.constexpr):
    """``selection.log_weights``, log of the inverse density of distances on the sphere, with Gumbel noise."""
    distance = ranking.distance(scores)
    bounded = tl.maximum(distance, ranking.CUTOFF)
    rest = tl.maximum(1.0 - bounded * bounded * 0.25, 1e-8)
    weights = (2.0 - ranking.DENSITY) * tl.log(bounded)
    weights -= (ranking.DENSITY - 3.0) / 2.0 * tl.log(rest)
    weights = tl.where(distance < ranking.FARTHEST, weights, float("-inf"))
    return weights + gumbel(pair_bits(tl.load(ranking.seed), anchors, others, AXIS, SALT))


@triton.jit
def within(scores, taken, bounds, anchors, inside, AXIS: tl.constexpr):
    """Which of the taken scores lie strictly between the bounds of their anchors."""
    if bounds.floors is not None:
        floor = tl.load(bounds.floors + anchors, mask=inside, other=0.0)
        taken = taken & (scores > tl.expand_dims(floor, AXIS))
    if bounds.ceilings is not None:
        ceiling = tl.load(bounds.ceilings + anchors, mask=inside, other=0.0)
        taken = taken & (scores < tl.expand_dims(ceiling, AXIS))
    return taken
