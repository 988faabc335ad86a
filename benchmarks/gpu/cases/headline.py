"""The sizes for which the kernels were made, as multiples of the cuBLAS product of the same shape in the same run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.case import OURS, PRODUCT, Contender, Target
from benchmarks.gpu.cases.device_case import MM, MOST_MIB, TINY, DeviceCase, fused
from benchmarks.gpu.losses import LOSSES, drawn
from benchmarks.gpu.place import Place

MANY, WIDTH = 65_536, 1024
MILLION = 2**20
BLOCK = (16_384, 65_536)
"""Scores of one product of the blocked one: 2 GiB of 16-bit numbers."""
UNEVEN, EVEN = 1000, 1008
"""Widths: the first is no multiple of 16."""


def product_in_blocks() -> Callable[[Tensor, Tensor], Tensor]:
    """Every product of rows and columns, block by block into one buffer: the whole would be 2 TiB."""
    buffers: dict[tuple[int, int], Tensor] = {}

    def step(queries: Tensor, candidates: Tensor) -> Tensor:
        for rows in queries.detach().split(BLOCK[0]):
            for columns in candidates.detach().split(BLOCK[1]):
                shape = len(rows), len(columns)
                if shape not in buffers:
                    buffers[shape] = rows.new_empty(shape)
                torch.mm(rows, columns.t(), out=buffers[shape])
        return buffers[shape]

    return step


def at_width(place: Place, loss: str, n: int, width: int) -> Contender:
    """Ours on embeddings of another width than the case's."""

    def make() -> Callable[..., Tensor]:
        own: Any = place.loss(LOSSES[loss])
        inputs = drawn(loss, (n, width), torch.bfloat16, place.device)

        def step(*_: Tensor) -> Tensor:
            for x in inputs:
                x.grad = None
            return own(*inputs)

        return step

    return Contender(f"{OURS}, d = {width}", make)


def of_loss(place: Place, loss: str, limit: float, products: int = 1) -> DeviceCase:
    """65,536 x 65,536 x 1024 within so many times the products that the loss cannot do without."""
    target = Target(PRODUCT, limit, times=products)
    contenders = fused(place, loss), MM
    shape = (MANY, MANY, WIDTH)
    return DeviceCase(loss, shape, TINY, contenders, (target,), MOST_MIB, loss=loss)


def cases(place: Place) -> list[DeviceCase]:
    """By value."""
    blocked = Contender(PRODUCT, product_in_blocks, same_value=False, gradient=False)
    million = DeviceCase(
        "hardest, a million",
        (MILLION, MILLION, 256),
        TINY,
        (fused(place, "hardest"), blocked),
        peak_mib=None,
        total_mib=4096.0,
        longest=2.0,
        once=True,
    )
    n = 16 if place.small else 32_768
    even = at_width(place, "hardest", n, 16 if place.small else EVEN)
    uneven = DeviceCase(
        f"hardest, d = {UNEVEN}",
        (32_768, 32_768, UNEVEN),
        (16, 16, 12),
        (fused(place, "hardest"), even),
        (Target(even.name, 1.15),),
        None,
    )
    return [
        of_loss(place, "hardest", 1.4),
        of_loss(place, "all (hinge)", 1.4, 3),
        of_loss(place, "InfoNCE", 1.4, 4),
        million,
        replace(of_loss(place, "sigmoid", 1.4, 3), targets=()),
        of_loss(place, "8 hardest", 6.0),
        uneven,
    ]
