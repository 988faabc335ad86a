"""A case on a device: its number format, whose inputs are drawn, and the contenders that many cases share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from benchmarks import formulas
from benchmarks.case import OURS, PLAIN, PRODUCT, Case, Contender
from benchmarks.cases import MM_OUT
from benchmarks.gpu.losses import LOSSES, drawn
from benchmarks.gpu.place import Place

TINY = (16, 16, 8)
"""For Triton's interpreter."""
COMPILED = "torch.compile"
MOST_MIB = 256.0
"""Of memory beyond inputs and gradients."""


@dataclass(frozen=True)
class DeviceCase(Case):
    """A case with its number format.

    Args:
        dtype: of the embeddings.
        products: how float32 products are formed.
        loss: whose inputs are drawn, a name of ``LOSSES``.
        longest: seconds that one step may take; None: no target.
        less_memory: so many times less than the plain formula; None: no target.
        seconds: of rounds beside each other contender.
    """

    dtype: torch.dtype = torch.bfloat16
    products: str = "highest"
    loss: str = "hardest"
    longest: float | None = None
    less_memory: float | None = None
    seconds: float = 1.0

    def on(self, device: str) -> tuple[Tensor, ...]:
        """The inputs."""
        n, _, d = self.shape
        return drawn(self.loss, (n, d), self.dtype, device)


MM = replace(MM_OUT, name=PRODUCT)
"""Into memory that is there already, as on a GPU torch's cache of freed memory has it anyway."""

FORMULAS = {
    "hardest": formulas.hardest,
    "8 hardest": formulas.nearest,
    "semi-hard": formulas.semi_hard,
    "all (hinge)": formulas.every,
    "InfoNCE": formulas.info_nce,
    "sigmoid": formulas.sigmoid,
    "order, hardest": formulas.order_hardest,
    "order, all": formulas.order_every,
}


def fused(place: Place, name: str) -> Contender:
    """Ours, by the kernels."""
    return Contender(OURS, lambda: place.loss(LOSSES[name]))


def compiled(place: Place, name: str, make: Callable[[], Callable[..., Tensor]]) -> Contender:
    """What ``make`` returns, by ``torch.compile``; on a CPU only traced."""

    def ready() -> Callable[..., Tensor]:
        return torch.compile(make(), backend=place.compiler, dynamic=False)

    return Contender(f"{name}, {COMPILED}", ready)


def plain(place: Place, name: str) -> tuple[Contender, Contender]:
    """The formula as written, and compiled."""
    formula = FORMULAS[name]
    return Contender(PLAIN, lambda: formula), compiled(place, PLAIN, lambda: formula)
