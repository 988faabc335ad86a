"""How far scores may be rounded: what equals a bound to within rounding lies on neither side of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from hardneg.negatives import Ceiling
from hardneg.ops.comparison import Comparison, Embeddings
from hardneg.ops.geometry import central_row, near_rows
from hardneg.similarities import (
    Cosine,
    Dot,
    Euclidean,
    Given,
    SquaredEuclidean,
    is_builtin,
    upcast,
)

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = ["Ceilings", "Magnitudes", "Rounding", "bounds_under", "rounding_of"]

REDUCED = {"bf16": 2.0**-7, "tf32": 2.0**-9}
"""What is lost of a float32 product whose factors are rounded to 8 bits, or cut to 11, before they are multiplied."""


class Rounding(NamedTuple):
    """How far the scores of listed pairs may be rounded, in whatever way they are computed.

    A score counts as equal to a bound where they differ by at most ``absolute + relative * |bound|``. With
    ``of_square`` that is said of their squares, with the sign kept: a distance is the root of what a product
    rounds, so a short one is rounded more.

    A duplicate of the positive has the positive's score, but a product of matrices adds up in another order
    than a sum over one pair, and in yet another at the edge of a tile. Sums of d products, of factors with
    lengths |q| and |c|, differ by less than ``(2 sqrt(d) + 4) eps |q| |c|``: measured are 8 eps on ordinary
    embeddings of any width up to 4096, and 2 sqrt(d) eps where all coordinates are equal and every sum is
    rounded the same way. The worst case, ``d eps``, would hide negatives that are well apart.

    ==================  =============================================================================
    similarity          absolute, or relative
    ==================  =============================================================================
    cosine              ``(2 sqrt(d) + 4) eps``
    dot                 the same times ``|q| |c|``
    Euclidean, squared  in float32 the same times ``|q|^2 + |c|^2``, of the square, from near origins
    order               relative; so are distances in float64, which are sums of squared differences
    callable            relative to the score, and to the mean size of the scores given
    given scores        none: they are what they are
    ==================  =============================================================================

    eps is that of the scores: float32, or float64 for float64. Where float32 products are computed with
    fewer bits (``torch.set_float32_matmul_precision``), 2**-9 (tf32) or 2**-7 (bfloat16) is added to it.
    """

    absolute: Float[Tensor, "..."] | float
    relative: float = 0.0
    of_square: bool = False

    def times(self, factor: float) -> Rounding:
        """That of scores multiplied by a factor."""
        factor = factor * factor if self.of_square else factor
        return self._replace(absolute=self.absolute * factor)

    def below(self, bound: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The bound moved down: what lies strictly below it is below the given one beyond rounding."""
        return self.moved(bound, -1.0)

    def above(self, bound: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The bound moved up."""
        return self.moved(bound, 1.0)

    def moved(self, bound: Float[Tensor, "..."], sign: float) -> Float[Tensor, "..."]:
        """The bound moved by the rounding, up or down."""
        x = bound * bound.abs() if self.of_square else bound
        margin = self.absolute if self.relative == 0.0 else self.absolute + self.relative * x.abs()
        x = x + sign * margin
        return x.sign() * x.abs().sqrt() if self.of_square else x


def rounding_of(
    comparison: Comparison | Embeddings,
    scores: Float[Tensor, "..."],
    magnitudes: Callable[[], Tensor],
) -> Rounding:
    """The rounding of listed pairs with these scores; ``magnitudes``: theirs, asked for where they matter."""
    queries, similarity = comparison.queries, comparison.similarity
    double = queries.dtype == torch.float64
    eps = torch.finfo(torch.float64 if double else torch.float32).eps
    unit = (2 * queries.shape[1] ** 0.5 + 4) * eps
    product = unit if double else unit + lost_in_products(queries.device.type)
    if type(similarity) is Cosine:
        return Rounding(product)
    if type(similarity) is Dot:
        return Rounding(product * magnitudes())
    if type(similarity) in (Euclidean, SquaredEuclidean) and not double:
        return Rounding(product * magnitudes(), of_square=type(similarity) is Euclidean)
    if type(similarity) is Given:
        return Rounding(0.0)
    if is_builtin(similarity):
        return Rounding(0.0, unit)
    return Rounding(product * scores.detach().abs().mean(), product)


def bounds_under(
    ceiling: Ceiling, scores: Float[Tensor, "..."], rounding: Rounding
) -> Float[Tensor, "..."]:
    """The bounds that a ceiling sets over positives with these scores, which are rounded too."""
    return rounding.times(ceiling.steepness).below(ceiling(scores))


def lost_in_products(kind: str) -> float:
    """What products of float32 matrices lose of their factors on a device of this kind, by torch's settings."""
    settings = {
        "cpu": torch.backends.mkldnn.matmul,  # type: ignore[attr-defined]
        "cuda": torch.backends.cuda.matmul,
    }
    return REDUCED.get(settings[kind].fp32_precision, 0.0) if kind in settings else 0.0


# what torch.compiler.assume_constant_result does, which would import the compiler
lost_in_products._dynamo_marked_constant = True  # type: ignore[attr-defined]


class Magnitudes:
    """What the rounding of a pair's score is proportional to: products of lengths, or sums of squares."""

    def __init__(self, comparison: Comparison | Embeddings) -> None:
        self.product = type(comparison.similarity) is Dot
        self.sides = [upcast(x.detach()) for x in (comparison.queries, comparison.candidates)]
        if self.product:
            self.lengths = [torch.linalg.vector_norm(x, dim=1) for x in self.sides]
            return
        centre = central_row(self.sides[1])
        self.near = [near_rows(x, centre) for x in self.sides]
        self.apart = [x.along.abs() + torch.dot(centre, centre) for x in self.near]
        # kernels multiply 16-bit rows as they are, and rows from one origin with tf32
        one_origin = comparison.queries.dtype != torch.float32 or lost_in_products("cuda") > 0
        self.raw = [x.square().sum(1) for x in self.sides] if one_origin else None

    def of_pairs(self, rows: Int[Tensor, "..."], columns: Int[Tensor, "..."]) -> Tensor:
        """Of listed pairs; of any pair where an index is negative."""
        rows, columns = rows.clamp(min=0), columns.clamp(min=0)
        if self.product:
            found: Tensor = self.lengths[0][rows] * self.lengths[1][columns]
            return found
        q, c = self.near
        found = q.squares[rows] + c.squares[columns]
        across = self.apart[0][rows] + self.apart[1][columns]
        if self.raw is not None:
            return found + across + self.raw[0][rows] + self.raw[1][columns]
        return found + torch.where(q.moved[rows] != c.moved[columns], across, 0.0)


class Ceilings:
    """A ceiling over the listed positives of a comparison."""

    def __init__(self, ceiling: Ceiling, comparison: Comparison | Embeddings) -> None:
        self.ceiling, self.comparison = ceiling, comparison
        self.magnitudes = cache(lambda: Magnitudes(comparison))

    def over(
        self, rows: Int[Tensor, "..."], columns: Int[Tensor, "..."], scores: Float[Tensor, "..."]
    ) -> Float[Tensor, "..."]:
        """The bounds of pairs with these scores."""
        rounding = rounding_of(
            self.comparison, scores, lambda: self.magnitudes().of_pairs(rows, columns)
        )
        return bounds_under(self.ceiling, scores, rounding)
