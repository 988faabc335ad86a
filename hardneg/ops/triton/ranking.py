"""What candidates are ranked by, and bounds on their scores: ``selection.ranking_keys`` on the GPU."""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["ranked", "within"]


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
def log_weights(
    scores,
    DISTANCE: tl.constexpr,
    DENSITY: tl.constexpr,
    CUTOFF: tl.constexpr,
    FARTHEST: tl.constexpr,
):
    """``selection.log_weights``: log of the inverse density of distances on the sphere."""
    if DISTANCE == "cosine":
        distance = tl.sqrt_rn(tl.maximum(2.0 - 2.0 * scores, 0.0))
    elif DISTANCE == "euclidean":
        distance = -scores
    else:
        distance = tl.sqrt_rn(-scores)
    bounded = tl.maximum(distance, CUTOFF)
    rest = tl.maximum(1.0 - bounded * bounded * 0.25, 1e-8)
    weights = (2.0 - DENSITY) * tl.log(bounded) - (DENSITY - 3.0) / 2.0 * tl.log(rest)
    return tl.where(distance < FARTHEST, weights, float("-inf"))


@triton.jit
def ranked(
    scores,
    seed,
    anchors,
    others,
    AXIS: tl.constexpr,
    SALT: tl.constexpr,
    ORDER: tl.constexpr,
    DISTANCE: tl.constexpr,
    DENSITY: tl.constexpr,
    CUTOFF: tl.constexpr,
    FARTHEST: tl.constexpr,
):
    """What is ranked, highest first; ``anchors`` (along ``1 - AXIS``) and ``others`` are global numbers."""
    if ORDER == "highest":
        values = scores
    elif ORDER == "lowest":
        values = -scores
    else:
        bits = pair_bits(tl.load(seed), anchors, others, AXIS, SALT)
        if ORDER == "random":
            values = as_float(bits)
        else:
            values = log_weights(scores, DISTANCE, DENSITY, CUTOFF, FARTHEST) + gumbel(bits)
    return values


@triton.jit
def within(scores, taken, floors, ceilings, anchors, inside, AXIS: tl.constexpr):
    """Which of the taken scores lie strictly between the bounds of their anchors."""
    if floors is not None:
        floor = tl.load(floors + anchors, mask=inside, other=0.0)
        taken = taken & (scores > tl.expand_dims(floor, AXIS))
    if ceilings is not None:
        ceiling = tl.load(ceilings + anchors, mask=inside, other=0.0)
        taken = taken & (scores < tl.expand_dims(ceiling, AXIS))
    return taken
