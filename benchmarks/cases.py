"""What is measured: the cases, who runs in each, and what each must reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

import hardneg
from benchmarks import formulas, peers
from benchmarks.case import OURS, PLAIN, PRODUCT, Case, Contender, Target, ours, plain
from hardneg.metrics import retrieval_metrics


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


def smooth_batch_all_case(name: str, penalty: str, formula: Callable[[Tensor], Tensor]) -> Case:
    loss = hardneg.TripletLoss(negatives="all", reduction="mean_active", penalty=penalty)

    def plainly(embeddings: Tensor, labels: Tensor) -> Tensor:
        return formulas.batch_all(embeddings, labels, formula)

    line_up = ours(loss), plain(plainly, needs_gib=4)
    target = (Target(PLAIN, 1 / 10),)
    return Case(name, (512, 512, 128), (64, 64, 16), line_up, target, kind="labelled", classes=2)


def few_classes_case(name: str, n: int, classes: int) -> Case:
    line_up = ours(hardneg.TripletLoss()), plain(formulas.semi_hard_labelled)
    # no score is within rounding of another: the formula takes such for different
    small = (56, 56, 16)
    return Case(name, (n, n, 128), small, line_up, kind="labelled", classes=classes)


def queue_case(
    name: str,
    shape: tuple[int, int, int],
    negatives: str | hardneg.TopK,
    formula: Callable[..., Tensor],
) -> Case:
    loss = hardneg.InfoNCELoss(formulas.TEMPERATURE, negatives, directions="queries")
    targets = (Target(PLAIN, 1.5 if negatives == "all" else 2.5),)
    return Case(name, shape, (9, 1200, 16), (ours(loss), plain(formula)), targets, kind="queue")


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
    smooth_batch_all_case("batch-all, logistic, 2 classes", "logistic", F.softplus),
    smooth_batch_all_case(
        "batch-all, squared hinge, 2 classes", "squared_hinge", lambda x: x.relu().square()
    ),
    few_classes_case("semi-hard, 2 classes", 2048, 2),
    few_classes_case("semi-hard, equal labels", 4096, 1),
    queue_case("InfoNCE, a frozen queue", (32, 65_000, 128), "all", formulas.info_nce_of_queries),
    queue_case(
        "InfoNCE, 1,000 hardest",
        (256, 20_000, 64),
        hardneg.TopK(formulas.MANY_NEIGHBOURS),
        formulas.info_nce_of_nearest,
    ),
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
