"""The penalties and energies inside kernels: on a tile in registers."""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["energy_slope", "energy_value", "penalty_slope", "penalty_value", "softplus"]


@triton.jit
def log1p_of_unit(u):
    """``log(1 + u)`` for u in [0, 1], to 1.3 units in the last place.

    ``log(1 + u)`` itself loses the digits of a small u, and most terms of a sigmoid loss are small. The
    polynomial is our own least-maximum fit of ``log1p(u) / u`` (relative error 5e-9 before rounding).
    """
    y = u * -0.003244023537263274 + 0.019851455464959145
    y = y * u - 0.056959521025419235
    y = y * u + 0.10603653639554977
    y = y * u - 0.15305592119693756
    y = y * u + 0.1967593878507614
    y = y * u - 0.24954134225845337
    y = y * u + 0.3332996368408203
    y = y * u - 0.4999990165233612
    return (y * u + 1.0) * u


@triton.jit
def softplus(x):
    """``log(1 + exp(x))``."""
    return tl.maximum(x, 0.0) + log1p_of_unit(tl.exp(-tl.abs(x)))


@triton.jit
def penalty_value(x, PENALTY: tl.constexpr):
    """phi(x); x is -inf where a pair is left out, which every phi but the identity sends to 0."""
    if PENALTY == "hinge":
        value = tl.maximum(x, 0.0)
    elif PENALTY == "squared_hinge":
        value = tl.maximum(x, 0.0) * tl.maximum(x, 0.0)
    elif PENALTY == "logistic":
        value = softplus(x)
    elif PENALTY == "step":
        value = tl.where(x > 0.0, 1.0, 0.0)
    else:
        tl.static_assert(PENALTY == "identity")
        value = tl.where(x > float("-inf"), x, 0.0)
    return value


@triton.jit
def penalty_slope(x, PENALTY: tl.constexpr):
    """phi'(x), 0 where a pair is left out."""
    if PENALTY == "hinge":
        slope = tl.where(x > 0.0, 1.0, 0.0)
    elif PENALTY == "squared_hinge":
        slope = 2.0 * tl.maximum(x, 0.0)
    elif PENALTY == "logistic":
        u = tl.exp(-tl.abs(x))
        slope = tl.where(x >= 0.0, 1.0, u) / (1.0 + u)
    elif PENALTY == "step":
        slope = tl.zeros_like(x)
    else:
        tl.static_assert(PENALTY == "identity")
        slope = tl.where(x > float("-inf"), 1.0, 0.0)
    return slope


@triton.jit
def energy_slope(s, first, second, ENERGY: tl.constexpr):
    """The declared derivative of an energy; ``first`` and ``second`` are its numbers."""
    if ENERGY == "linear":
        slope = tl.zeros_like(s) + first
    elif ENERGY == "circle_negative":
        slope = second * tl.maximum(s + first, 0.0)
    else:
        tl.static_assert(ENERGY == "circle_positive")
        slope = -second * tl.maximum(1.0 + first - s, 0.0)
    return slope


@triton.jit
def energy_value(s, first, second, ENERGY: tl.constexpr):
    """The energy of a score."""
    if ENERGY == "linear":
        value = first * (s - second)
    elif ENERGY == "circle_negative":
        value = energy_slope(s, first, second, ENERGY) * (s - first)
    else:
        tl.static_assert(ENERGY == "circle_positive")
        value = energy_slope(s, first, second, ENERGY) * (s - 1.0 + first)
    return value
