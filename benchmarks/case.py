"""What a case is: a shape, who runs in it, and what must be reached."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

OURS, PLAIN, PRODUCT = "hardneg", "plain formula", "torch.mm"


@dataclass(frozen=True)
class Contender:
    """One way to compute a case.

    Args:
        name: as it stands in the rows.
        make: imports what is needed and returns the function of the inputs; raises ``Missing``.
        same_value: whether its value is the plain formula's.
        gradient: whether its backward pass is timed too.
        cannot: why it is not run at the case's own size; empty: it is.
        needs_gib: free memory without which it is left out.
    """

    name: str
    make: Callable[[], Callable[..., Tensor]]
    same_value: bool = True
    gradient: bool = True
    cannot: str = ""
    needs_gib: float = 0.0


@dataclass(frozen=True)
class Target:
    """``hardneg``'s time is at most ``times`` x ``share`` of another contender's in the same run."""

    against: str
    share: float
    times: int = 1

    def judged(self, ratio: float | None) -> dict[str, object]:
        """The target in its own unit: so many times faster, or a share of so many products."""
        if self.share < 1:
            limit = 1 / self.share
            value = None if ratio is None else 1 / ratio
            text = f"≥ {limit:g} x faster than {self.against}"
            met = None if value is None else value >= limit
        else:
            limit = self.share
            value = None if ratio is None else ratio / self.times
            text = f"≤ {limit:g} x {f'{self.times} ' if self.times > 1 else ''}{self.against}"
            met = None if value is None else value <= limit
        return {"target": text, "value": value, "limit": limit, "met": met}


@dataclass(frozen=True)
class Case:
    """A shape, the contenders, and the targets of ours.

    Args:
        name: as in the rows and for ``--only``.
        shape: queries, candidates, width.
        small: the shape of the tests.
        contenders: ours first.
        targets: of time.
        peak_mib: most memory beyond inputs, normalised copies and gradients; None: no target.
        total_mib: most memory beyond ``import torch``; None: no target.
        kind: ``"pairs"``, ``"positive pairs"`` (for order), ``"queue"`` (frozen candidates) or ``"labelled"``.
        classes: labels are ``i // 4`` (0) or ``i % classes``.
        copies: normalised copies of each input that the loss may hold.
        huge: only with ``--huge``.
        once: too long to repeat: one pass, timed where its memory is measured.
    """

    name: str
    shape: tuple[int, int, int]
    small: tuple[int, int, int]
    contenders: tuple[Contender, ...]
    targets: tuple[Target, ...] = ()
    peak_mib: float | None = 64.0
    total_mib: float | None = None
    kind: str = "pairs"
    classes: int = 0
    copies: int = 1
    huge: bool = False
    once: bool = False

    def at(self, shape: tuple[int, int, int]) -> Case:
        return replace(self, shape=shape)

    def inputs(self, *, gradients: bool = True) -> tuple[Tensor, ...]:
        n, m, d = self.shape
        generator = torch.Generator().manual_seed(0)
        draw = torch.rand if self.kind == "positive pairs" else torch.randn
        x = draw(n, d, generator=generator).requires_grad_(gradients)
        if self.kind == "labelled":
            i = torch.arange(n)
            return x, i % self.classes if self.classes else i // 4
        learnt = gradients and self.kind != "queue"
        return x, draw(m, d, generator=generator).requires_grad_(learnt)

    def contender(self, name: str) -> Contender:
        return next(c for c in self.contenders if c.name == name)


def ours(loss: Callable[..., Tensor]) -> Contender:
    return Contender(OURS, lambda: loss)


def plain(formula: Callable[..., Tensor], **about: object) -> Contender:
    return Contender(PLAIN, lambda: formula, **about)
