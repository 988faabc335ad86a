"""What is measured: the cases, who runs in each, and what each must reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

import hardneg
from benchmarks import formulas, peers
from hardneg.metrics import retrieval_metrics

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
        kind: ``"pairs"``, ``"positive pairs"`` (for order) or ``"labelled"``.
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
        return x, draw(m, d, generator=generator).requires_grad_(gradients)

    def contender(self, name: str) -> Contender:
        return next(c for c in self.contenders if c.name == name)


def ours(loss: Callable[..., Tensor]) -> Contender:
    return Contender(OURS, lambda: loss)


def plain(formula: Callable[..., Tensor], **about: object) -> Contender:
    return Contender(PLAIN, lambda: formula, **about)


def product(*inputs: Tensor) -> Tensor:
    return torch.mm(inputs[0].detach(), inputs[-1].detach().t())


def product_into() -> Callable[..., Tensor]:
    """The product into memory that is already there: no page of the result is touched first."""
    kept: dict[tuple[int, int], Tensor] = {}

    def step(queries: Tensor, candidates: Tensor) -> Tensor:
        shape = (len(queries), len(candidates))
        if shape not in kept:
            kept.clear()
            kept[shape] = queries.new_empty(shape)
        return torch.mm(queries.detach(), candidates.detach().t(), out=kept[shape])

    return step


MM = Contender(PRODUCT, lambda: product, same_value=False, gradient=False)
MM_OUT = Contender("torch.mm, out=", product_into, same_value=False, gradient=False)
BIG = (8192, 8192, 1024)
TINY = (96, 96, 32)
METRIC_LEARNING = "pytorch-metric-learning"


def cosine_case(
    name: str,
    loss: Callable[..., Tensor],
    formula: Callable[..., Tensor],
    targets: tuple[Target, ...],
    *others: Contender,
) -> Case:
    line_up = (ours(loss), MM, MM_OUT, plain(formula, needs_gib=4), *others)
    return Case(name, BIG, TINY, line_up, targets)


def order_case(name: str, n: int, formula: Callable[..., Tensor]) -> Case:
    every = formula is formulas.order_every
    loss = hardneg.ContrastiveLoss(
        0.05 if every else formulas.MARGIN, "all" if every else "hardest", "order"
    )
    return Case(
        name,
        (n, n, 1024),
        (48, 48, 16),
        (ours(loss), MM, plain(formula, needs_gib=22 * (n / 1024) ** 2)),
        (Target(PLAIN, 1 / 5),),
        kind="positive pairs",
        copies=0,
    )


def batch_all_case(name: str, n: int, classes: int) -> Case:
    loss = hardneg.TripletLoss(negatives="all", reduction="mean_active")
    many = n > 1024
    gib = n**3 / 2**30
    too_big = f"cannot: its n x n x n mask is {gib:.0f} GiB" if many else ""
    return Case(
        name,
        (n, n, 128),
        (64, 64, 16),
        (
            ours(loss),
            plain(formulas.batch_all, cannot=too_big, needs_gib=4),
            Contender(METRIC_LEARNING, peers.metric_learning_batch_all, cannot=too_big),
        ),
        () if many else (Target(METRIC_LEARNING, 1 / 20),),
        kind="labelled",
        classes=classes,
    )


def evaluation(images: Tensor, captions: Tensor) -> Tensor:
    return torch.tensor(retrieval_metrics(images, captions).rsum)


CASES = (
    cosine_case(
        "hardest",
        hardneg.ContrastiveLoss(),
        formulas.hardest,
        (Target(PRODUCT, 1.6), Target(PLAIN, 1 / 3.5)),
        Contender(METRIC_LEARNING, peers.metric_learning_hardest, needs_gib=6),
    ),
    cosine_case(
        "8 hardest",
        hardneg.ContrastiveLoss(negatives=hardneg.TopK(formulas.NEIGHBOURS)),
        formulas.nearest,
        (Target(PRODUCT, 2.5),),
    ),
    cosine_case(
        "semi-hard",
        hardneg.ContrastiveLoss(negatives="semihard"),
        formulas.semi_hard,
        (Target(PRODUCT, 2.0),),
    ),
    cosine_case(
        "all (hinge)",
        hardneg.ContrastiveLoss(negatives="all"),
        formulas.every,
        (Target(PRODUCT, 1.35, times=3),),
    ),
    cosine_case(
        "InfoNCE",
        hardneg.InfoNCELoss(formulas.TEMPERATURE),
        formulas.info_nce,
        (Target(PRODUCT, 1.3, times=4),),
        Contender("open_clip ClipLoss", peers.open_clip, needs_gib=5),
        Contender(
            "sentence-transformers formula, one direction",
            peers.sentence_transformers,
            same_value=False,
            needs_gib=4,
        ),
        Contender("F.linear_cross_entropy, chunked", peers.linear_cross_entropy, needs_gib=4),
    ),
    order_case("order, hardest", 1024, formulas.order_hardest),
    order_case("order, all", 1024, formulas.order_every),
    order_case("order, hardest, 512", 512, formulas.order_hardest),
    order_case("order, all, 512", 512, formulas.order_every),
    batch_all_case("batch-all, 4 a class", 512, 0),
    batch_all_case("batch-all, 8192, 4 a class", 8192, 0),
    batch_all_case("batch-all, 8192, 10 classes", 8192, 10),
    replace(
        cosine_case(
            "hardest, the paper's batch",
            hardneg.ContrastiveLoss(),
            formulas.hardest,
            (Target(PLAIN, 1.0),),
        ),
        shape=(128, 128, 1024),
    ),
    Case(
        "hardest, 131,072",
        (131_072, 131_072, 64),
        TINY,
        (
            ours(hardneg.ContrastiveLoss()),
            plain(formulas.hardest, cannot="cannot: one matrix is 64 GiB"),
        ),
        peak_mib=None,
        total_mib=500.0,
        huge=True,
        once=True,
    ),
    Case(
        "evaluation",
        (5_000, 25_000, 1024),
        (40, 200, 16),
        (
            Contender(OURS, lambda: evaluation, gradient=False),
            MM,
            Contender(PLAIN, lambda: formulas.evaluate, gradient=False, needs_gib=3),
        ),
        huge=True,
    ),
)
