"""Where the numbers of anchors and of the loss are."""

from __future__ import annotations

import triton
import triton.language as tl

from hardneg.ops.triton.small.arguments import FIRST_OF_LOSS

__all__ = ["number_of_loss", "place_of"]


@triton.jit
def place_of(planes, plane, anchors):
    """The number of these anchors in a plane; in plane ``FIRST_OF_LOSS`` those of the loss."""
    return planes.x + plane * planes.room + anchors


@triton.jit
def number_of_loss(planes, number):
    """A number of the loss."""
    return tl.load(place_of(planes, FIRST_OF_LOSS, number))
