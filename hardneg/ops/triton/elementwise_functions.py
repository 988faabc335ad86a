"""Penalties and energies inside kernels: value and slope on a tile in registers.

A penalty's x is -inf where a pair is left out, which its value and slope send to 0. An energy's ``first`` and
``second`` are its numbers (``energies.parameters``).
"""

from __future__ import annotations

import triton
import triton.language as tl

MINUS_INFINITY = tl.constexpr(float("-inf"))


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
def hinge(x):
    """``max(0, x)``."""
    return tl.maximum(x, 0.0)


@triton.jit
def hinge_slope(x):
    """1 above 0."""
    return tl.where(x > 0.0, 1.0, 0.0)


@triton.jit
def squared_hinge(x):
    """``max(0, x) ** 2``."""
    return tl.maximum(x, 0.0) * tl.maximum(x, 0.0)


@triton.jit
def squared_hinge_slope(x):
    """``2 max(0, x)``."""
    return 2.0 * tl.maximum(x, 0.0)


@triton.jit
def sigmoid(x):
    """The slope of ``softplus``."""
    u = tl.exp(-tl.abs(x))
    return tl.where(x >= 0.0, 1.0, u) / (1.0 + u)


@triton.jit
def identity(x):
    """x itself."""
    return tl.where(x > MINUS_INFINITY, x, 0.0)


@triton.jit
def identity_slope(x):
    """1."""
    return tl.where(x > MINUS_INFINITY, 1.0, 0.0)


@triton.jit
def linear(s, first, second):
    """``factor * (s - base)``."""
    return first * (s - second)


@triton.jit
def linear_slope(s, first, second):
    """The factor."""
    return tl.zeros_like(s) + first


@triton.jit
def circle_negative(s, first, second):
    """``gamma * max(0, s + margin) * (s - margin)``."""
    return circle_negative_slope(s, first, second) * (s - first)


@triton.jit
def circle_negative_slope(s, first, second):
    """The declared derivative, with the weight held constant."""
    return second * tl.maximum(s + first, 0.0)


@triton.jit
def circle_positive(s, first, second):
    """``-gamma * max(0, 1 + margin - s) * (s - 1 + margin)``."""
    return circle_positive_slope(s, first, second) * (s - 1.0 + first)


@triton.jit
def circle_positive_slope(s, first, second):
    """The declared derivative, with the weight held constant."""
    return -second * tl.maximum(1.0 + first - s, 0.0)
