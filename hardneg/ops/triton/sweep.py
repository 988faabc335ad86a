"""Walking over the score matrix in panels: one launch each, in a fixed order.

A panel bounds what is kept at a time: partial results of its tiles (``SUMS``), and where gradients are wanted its
weights too (``WEIGHTS``: 64 MiB of 16-bit numbers, 128 MiB of float32; of many embeddings ``WIDEST`` in ``ROOM``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hardneg.ops.comparison import Comparison
from hardneg.ops.triton.arguments import NO_WEIGHTS, Extent, Relation, Reported, Terms
from hardneg.ops.triton.dense_kernel import dense_kernel
from hardneg.ops.triton.launch import INTERPRETED, architecture, blocks_of, launch
from hardneg.ops.triton.operands import Operands, operands
from hardneg.ops.triton.tuning import Configuration, configuration

__all__ = ["Partials", "Sweep"]

# in the interpreter small, so that small inputs have several panels
SUMS = (48, 80) if INTERPRETED else (8192, 16384)
WEIGHTS = (40, 72) if INTERPRETED else (8192, 4096)
WIDEST = 72 if INTERPRETED else 16384
ROOM = 256 << 20
"""Bytes of the weights of a panel and of what its tiles report, which is at most one for each weight."""
ALIGNED = 8 if INTERPRETED else 128


@dataclass(frozen=True, eq=False)
class Partials:
    """What the tiles of a panel report: [planes, blocks of the other side, anchors of the largest panel].

    Attributes:
        buffer: their numbers.
        anchors: its last dimension.
        tile: how many of the other side a tile spans.
        parts: how many blocks a tile counts as.
    """

    buffer: Tensor
    anchors: int
    tile: int
    parts: int

    def blocks(self, others: int) -> int:
        """How many blocks a panel with this many of the other side has."""
        return blocks_of(self.tile, others) * self.parts

    def fold(
        self, kernel: Any, own: slice, others: slice, *arguments: Any, **constants: Any
    ) -> None:
        """Add what a panel's tiles have reported to its anchors on this side to what earlier panels left."""
        length, blocks = own.stop - own.start, self.blocks(others.stop - others.start)
        reported = Reported(self.buffer, self.anchors), blocks, length
        chosen = configuration("fold", "rows", architecture(self.buffer.device))
        grid = (blocks_of(chosen.columns, length),)
        earlier = others.start > 0
        launch(kernel, grid, chosen, *reported, *arguments, EARLIER=earlier, **constants)


@dataclass(frozen=True, eq=False)
class Sweep:
    """One pass over the panels.

    Attributes:
        ready: both sides as kernels read them.
        size: rows and columns of the largest panel.
        tiles: of the kernel that scores.
    """

    ready: Operands
    size: tuple[int, int]
    tiles: Configuration

    @classmethod
    def over(cls, comparison: Comparison, weighted: bool, light: bool = False) -> Sweep:
        """A pass, with panels small enough for their weights where those are wanted.

        ``light``: what follows from a score takes so few registers that two programs share a multiprocessor.
        """
        ready = operands(comparison)
        n, m, _ = ready.shape
        limits = SUMS
        if weighted or ready.source == "given":
            half = ready.source == "product16"
            limits = weight_panel((n, m), embedding_bytes(comparison), 2 if half else 4)
        variant = "light16" if light and ready.tiles == "product16" else None
        kernel, device = "weigh" if weighted else "dense", ready.queries.device
        tiles = configuration(kernel, ready.tiles, architecture(device), variant)
        return cls(ready, (even(n, limits[0]), even(m, limits[1])), tiles)

    @property
    def device(self) -> torch.device:
        """Where everything is."""
        return self.ready.queries.device

    def partials(self, planes: int, axis: int, parts: int = 1) -> Partials:
        """Room for what tiles report to the rows (axis 0), ``parts`` times each, or columns (1)."""
        tile = (self.tiles.columns, self.tiles.rows)[axis]
        parts = parts if axis == 0 else 1
        blocks = blocks_of(tile, self.size[1 - axis]) * parts
        shape = planes, blocks, self.room[axis]
        buffer = torch.empty(shape, dtype=torch.float32, device=self.device)
        return Partials(buffer, shape[2], tile, parts)

    @property
    def room(self) -> tuple[int, int]:
        """The size of the largest panel in whole tiles, which kernels write without asking where it ends."""
        rows, columns = self.tiles.rows, self.tiles.columns
        return -(-self.size[0] // rows) * rows, -(-self.size[1] // columns) * columns

    def shares(self, extent: Extent) -> Tensor:
        """Room for one number of every tile."""
        return torch.empty(self.programs(extent), dtype=torch.float32, device=self.device)

    def programs(self, extent: Extent) -> int:
        """How many tiles a panel has."""
        height, width = extent.shape
        return blocks_of(self.tiles.rows, height) * blocks_of(self.tiles.columns, width)

    def run(
        self,
        relation: Relation,
        terms: Terms,
        sides: Iterable[Any] = (),
        gradients: Any = None,
    ) -> Tensor:
        """Launch the kernel for all panels, rows outermost; returns the gradient of the scale, in float32.

        Args:
            sides: of rows and columns, what ``fold`` adds up; None for one that has no terms.
            gradients: a ``dense_gradient.Gradients`` where gradients are wanted.
        """
        slope_of_scale = torch.zeros((), dtype=torch.float64, device=self.device)
        for panel, extent in self.ready.panels(self.size, self.room):
            shared = gradients is not None and terms.scale is not None
            shares = self.shares(extent) if shared else None
            weights = NO_WEIGHTS if gradients is None else gradients.argument(panel, extent)
            given = panel, *extent, relation, terms._replace(shares=shares), weights
            launch(dense_kernel, (self.programs(extent),), self.tiles, *given)
            places = (extent.rows, extent.columns), (extent.columns, extent.rows)
            for side, place in zip(sides, places, strict=False):
                if side is not None:
                    side.fold(*place)
            if shares is not None:
                slope_of_scale += shares.sum(dtype=torch.float64)
            if gradients is not None:
                gradients.add(panel, extent)
        return slope_of_scale.float()


def embedding_bytes(comparison: Comparison) -> int:
    """Of both sides and of their gradients in float32."""
    sides = comparison.queries, comparison.candidates
    return sum(x.numel() * (x.element_size() + 4) for x in sides)


def weight_panel(shape: tuple[int, int], embeddings: int, size: int) -> tuple[int, int]:
    """The largest panel of weights of ``size`` bytes: as wide as its room, which embeddings (in bytes) bound too.

    A wide panel is few launches, and few times that products are added to the gradients in memory.
    """
    rows, columns = WEIGHTS
    fits = min(ROOM, embeddings) // (min(rows, shape[0]) * (size + 1)) // ALIGNED * ALIGNED
    return rows, max(columns, min(WIDEST, fits))


def even(total: int, limit: int) -> int:
    """The size of the fewest equal pieces of at most ``limit``, a multiple of ``ALIGNED``."""
    pieces = blocks_of(limit, total)
    return blocks_of(ALIGNED, blocks_of(pieces, total)) * ALIGNED
