"""Similarities inside kernels: from products to scores, and from weights of scores to what pulls an embedding.

A score is ``length`` of a sum over the coordinates, ``term`` of each: a product, or the square of ``direction``. In a
tile ``sums`` gives that sum. A tile of an order adds up ``doubled_term`` instead.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def term(similarity, a, b):
    """The share of a coordinate in the sum of a pair."""
    if similarity.DISTANCE:
        way = similarity.direction(a, b)
        share = way * way
    else:
        share = a * b
    return share


@triton.jit
def summed(product, panel, rows, columns):
    """Products that are the sums already."""
    return product


@triton.jit
def halved(product, panel, rows, columns):
    """Sums of terms that a tile has doubled."""
    return 0.5 * product


@triton.jit
def normalised(product, panel, rows, columns):
    """Products times 1 / length of both rows."""
    product = product * tl.load(panel.queries.terms + rows)[:, None]
    return product * tl.load(panel.candidates.terms + columns)[None]


@triton.jit
def squared_distance(product, panel, rows, columns):
    """Squares of distances, at least 0."""
    if panel.queries.terms is None:  # torch has added the squared lengths
        squares = -product
    else:
        squares = tl.load(panel.queries.terms + rows)[:, None] - 2.0 * product
        squares += tl.load(panel.candidates.terms + columns)[None]
    return tl.maximum(squares, 0.0)


@triton.jit
def same(x):
    """The sum itself."""
    return x


@triton.jit
def negated(x):
    """Minus the sum; or the distance that is a negated score."""
    return -x


@triton.jit
def negated_root(x):
    """Minus the root of the sum."""
    return -tl.sqrt_rn(x)


@triton.jit
def root_of_negated(s):
    """The distance whose negated square is the score."""
    return tl.sqrt_rn(-s)


@triton.jit
def chord(s):
    """The distance of unit rows with this cosine."""
    return tl.sqrt_rn(tl.maximum(2.0 - 2.0 * s, 0.0))


@triton.jit
def other(a, b):
    """What pulls a: b."""
    return b


@triton.jit
def difference(a, b):
    """What pulls a: the way to b."""
    return b - a


@triton.jit
def excess(a, b):
    """What pulls a: the way to b where b is larger."""
    return tl.maximum(b - a, 0.0)


@triton.jit
def doubled_excess(a, b):
    """Twice the square of ``excess``, to the bit: a GPU adds a magnitude twice as fast as it takes a maximum."""
    way = b - a
    return way * (way + tl.abs(way))


@triton.jit
def doubled_lack(a, b):
    """Twice the square of ``lack``."""
    return doubled_excess(b, a)


@triton.jit
def lack(a, b):
    """What pulls a: the way to b where b is smaller."""
    return tl.minimum(b - a, 0.0)


@triton.jit
def unchanged(weight, score):
    """The weight of ``direction``, from that of the score: of a product."""
    return weight


@triton.jit
def doubled(weight, score):
    """Of a squared distance."""
    return 2.0 * weight


@triton.jit
def over_distance(weight, score):
    """Of a distance; equal points pass no gradient."""
    return tl.where(score < 0.0, weight / tl.where(score < 0.0, -score, 1.0), 0.0)
