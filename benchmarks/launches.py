"""Calls that together launch every fused kernel, small enough for a CPU: their kernels are compiled, not run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch

from hardneg import ContrastiveLoss, InfoNCELoss, Learned
from hardneg.losses.base import Loss
from hardneg.negatives.selection import Selection
from hardneg.ops.comparison import OPEN, Comparison, Relation, Window
from hardneg.ops.energies import CircleNegative, CirclePositive, Linear
from hardneg.ops.requests import ExponentialTerms, PenaltyTerms, Search
from hardneg.ops.scores import Backend
from hardneg.ops.small.backend import Small
from hardneg.penalties import BY_NAME
from hardneg.similarities import BY_CODE, Cosine, Dot

SHAPE = (512, 384, 256)
"""Multiples of 16, as embeddings usually are: Triton compiles for that."""
FORMATS = {
    "float32 ieee": (torch.float32, "highest"),
    "float32 bf16x3": (torch.float32, "high"),
    "float32 tf32": (torch.float32, "medium"),
    "float16": (torch.float16, "highest"),
    "bfloat16": (torch.bfloat16, "highest"),
}


@dataclass(frozen=True)
class Sample:
    """An operator on embeddings of a format under a similarity."""

    operator: str
    arithmetic: str
    similarity: str

    def run(self, backend: Backend, shape: tuple[int, int, int] = SHAPE) -> None:
        """Forward and backward."""
        dtype, products = FORMATS[self.arithmetic]
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision(products)
        try:
            OPERATORS[self.operator](backend, compared(dtype, self.similarity, shape))
        finally:
            torch.set_float32_matmul_precision(before)


def compared(dtype: torch.dtype, similarity: str, shape: tuple[int, int, int]) -> Comparison:
    """Embeddings with ids and a pair each, the fullest relation that losses ask for."""
    n, m, d = shape
    q = torch.rand(n, d).to(dtype).requires_grad_()
    c = torch.rand(m, d).to(dtype).requires_grad_()
    relation = Relation(torch.arange(n) // 4, torch.arange(m) // 4, paired=True)
    return Comparison(q, c, BY_CODE[similarity], relation)


def bounds(x: Comparison) -> Window:
    """A window on both sides."""
    of_rows, of_columns = torch.ones(len(x.queries)), torch.ones(len(x.candidates))
    return Window(-of_rows, of_rows, -of_columns, of_columns)


def select(selection: Selection, windowed: bool = False) -> Callable[[Backend, Comparison], None]:
    """The indices of both sides."""

    def call(by: Backend, x: Comparison) -> None:
        window = bounds(x) if windowed else OPEN
        by.scores(x).select(
            Search(selection, window=window, seed=torch.tensor(5), hardest=windowed)
        )

    return call


def sums(penalty: str, maxima: bool = False) -> Callable[[Backend, Comparison], None]:
    """Sums of both sides, and the largest arguments where they are asked for; and their backward."""

    def call(by: Backend, x: Comparison) -> None:
        row, column = torch.zeros(len(x.queries)), torch.zeros(len(x.candidates))
        row.requires_grad_()
        scale = torch.tensor(2.0, requires_grad=True)
        told = {"scale": scale, "window": bounds(x), "maxima": maxima}
        found = by.scores(x).penalty_sum(PenaltyTerms(BY_NAME[penalty], row, column, **told))
        (found.rows.sum() + found.columns.sum()).backward()

    return call


def total(by: Backend, x: Comparison) -> None:
    """The weighted total with its gradients."""
    row, column = torch.ones(len(x.queries)), torch.ones(len(x.candidates))
    by.scores(x).penalty_total(
        PenaltyTerms(BY_NAME["hinge"], row, column, maxima=False), row, column
    ).value.backward()


def exponentials(energy: object) -> Callable[[Backend, Comparison], None]:
    """Log-sum-exps of both sides and their backward."""

    def call(by: Backend, x: Comparison) -> None:
        scale = torch.tensor(2.0, requires_grad=True)
        found = by.scores(x).logsumexp(ExponentialTerms(energy, scale=scale))
        (found.rows.sum() + found.columns.sum()).backward()

    return call


def pairs(by: Backend, x: Comparison) -> None:
    """Scores of listed pairs and their sparse gradient."""
    rows = torch.arange(len(x.queries))
    by.scores(x).pairs(rows, rows % len(x.candidates)).sum().backward()


def one_set(by: Backend, x: Comparison) -> None:
    """The queries among themselves: the hardest, a total and log-sum-exps, and their backward."""
    ids, row = x.relation.row_ids, torch.ones(len(x.queries))
    relation = Relation(ids, ids, same_set=True)
    scores = by.scores(Comparison(x.queries, x.queries, x.similarity, relation))
    scores.select(Search(Selection("highest", 1), columns=False))
    found = scores.penalty_total(PenaltyTerms(BY_NAME["hinge"], row, maxima=False), row)
    scale = torch.tensor(2.0, requires_grad=True)
    of_all = scores.logsumexp(ExponentialTerms(Linear(), scale=scale, columns=False)).rows
    (found.value + of_all.sum()).backward()


def whole(make: Callable[..., Loss]) -> Callable[[Backend, Comparison], None]:
    """A whole loss of a small batch, where it has kernels."""

    def call(by: Backend, x: Comparison) -> None:
        if type(x.similarity) not in (Cosine, Dot):
            return
        n, told = min(len(x.queries), len(x.candidates)), x.relation
        ids = {"query_ids": told.row_ids[:n], "candidate_ids": told.column_ids}
        loss = make(similarity=x.similarity, backend=Small(kernels=True, others=False))
        loss(x.queries[:n], x.candidates, **ids).backward()

    return call


DISTANCES = (256.0, 0.5, 1.4)
OPERATORS: dict[str, Callable[[Backend, Comparison], None]] = {
    "select, hardest": select(Selection("highest", 1)),
    "select, semi-hard": select(Selection("highest", 1, fallback="easiest"), windowed=True),
    "select, 8 hardest": select(Selection("highest", 8)),
    "select, 32 hardest": select(Selection("highest", 32), windowed=True),
    "select, random": select(Selection("random", 4)),
    "select, distance-weighted": select(Selection("distance_weighted", 2, 0, DISTANCES)),
    "pair_scores": pairs,
    "penalty_sum, hinge": sums("hinge"),
    "penalty_sum, squared hinge": sums("squared_hinge"),
    "penalty_sum, logistic": sums("logistic", maxima=True),
    "penalty_sum, identity": sums("identity"),
    "penalty_total, hinge": total,
    "logsumexp, linear": exponentials(Linear(2.0, 0.1)),
    "logsumexp, circle negatives": exponentials(CircleNegative()),
    "logsumexp, circle positives": exponentials(CirclePositive()),
    "one set": one_set,
    "whole, hardest": whole(ContrastiveLoss),
    "whole, semi-hard": whole(partial(ContrastiveLoss, negatives="semihard")),
    "whole, hinge": whole(partial(ContrastiveLoss, negatives="all")),
    "whole, squared hinge": whole(
        partial(ContrastiveLoss, negatives="all", penalty="squared_hinge", reduction="mean_active")
    ),
    "whole, logistic": whole(partial(ContrastiveLoss, negatives="all", penalty="logistic")),
    "whole, InfoNCE": whole(partial(InfoNCELoss, Learned(0.1))),
}
BRIEF = (
    "select, hardest",
    "select, semi-hard",
    "select, 8 hardest",
    "pair_scores",
    "penalty_total, hinge",
    "penalty_sum, logistic",
    "logsumexp, linear",
    "whole, hardest",
    "whole, hinge",
    "whole, InfoNCE",
)
"""What ``make test`` compiles: every kernel in every format, not every penalty."""


def samples(operators: tuple[str, ...], similarities: tuple[str, ...]) -> Iterator[Sample]:
    """Every operator in every format under cosine; the other similarities differ by what follows the product.

    So for them one operator of each kernel and three formats stand for all.
    """
    for operator in operators:
        for arithmetic in FORMATS:
            yield Sample(operator, arithmetic, "cosine")
    for similarity in similarities:
        if similarity == "cosine":
            continue
        for operator in operators:
            if operator in BRIEF:
                for arithmetic in ("float32 ieee", "float32 bf16x3", "bfloat16"):
                    yield Sample(operator, arithmetic, similarity)
