"""Selected negatives for every (anchor, positive) pair: block by block as densely, in the memory of a block."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from every_loss import squashed
from profiled import largest, products
from torch import Tensor

import hardneg
from hardneg import (
    Hardest,
    MarginLoss,
    MultiSimilarityLoss,
    NTXentLoss,
    PairwiseContrastiveLoss,
    RandomK,
    RankWindow,
    SemiHard,
    SupConLoss,
    TopK,
    TripletLoss,
)
from hardneg.negatives.ceiling import Ceiling
from hardneg.negatives.selection import Selection
from hardneg.ops import grid
from hardneg.ops.comparison import Comparison, Relation
from hardneg.ops.reference import Dense
from hardneg.ops.requests import SelectedTerms
from hardneg.ops.scores import Backend
from hardneg.ops.small.backend import Small
from hardneg.ops.tiled import pair_gradients, pair_scores, selected_penalty
from hardneg.ops.tiled_backend import Tiled
from hardneg.penalties import Hinge, Logistic, SquaredHinge
from hardneg.similarities import Cosine, Dot, Euclidean, Order, is_builtin

RELATIONS = ("two classes", "many classes", "one set", "mask", "ignore", "paired", "one class")
SELECTIONS = (
    Selection("highest", 1, fallback="easiest"),
    Selection("highest", 3),
    Selection("highest", 4, skip=2),
    Selection("random", 2, fallback="hardest"),
    Selection("lowest", 2),
)


def compared(kind: str, similarity: Any) -> Comparison:
    """Two sets, or one, of related rows; numbered from elsewhere."""
    g = torch.Generator().manual_seed(len(kind))
    n, m = 31, 44
    q, c = (torch.randn(k, 6, generator=g, dtype=torch.float64) for k in (n, m))
    classes = {"two classes": 2, "one class": 1, "many classes": 12}.get(kind, 4)
    ids = [torch.randint(0, classes, (k,), generator=g) for k in (n, m)]
    told: dict[str, Any] = {"row_ids": ids[0], "column_ids": ids[1]}
    if kind == "one set":
        c = torch.cat([q, c[n:]])
        told = {"row_ids": ids[1][:n], "column_ids": ids[1], "same_set": True}
    if kind == "mask":
        told = {"positives": torch.rand(n, m, generator=g) < 0.3}
    if kind == "ignore":
        told["ignore"] = torch.rand(n, m, generator=g) < 0.2
    if kind == "paired":
        told["paired"] = True
    relation = Relation(**told, row_offset=5 if kind == "paired" else 0)
    return Comparison(q.requires_grad_(), c.detach().requires_grad_(), similarity, relation)


def requests(seed: int) -> list[SelectedTerms]:
    """Penalties and cross-entropies, with ceilings and without."""
    scale = torch.tensor(1.7, dtype=torch.float64, requires_grad=True)
    found = []
    for place, (selection, ceiling) in enumerate(
        itertools.product(SELECTIONS, (None, Ceiling(), Ceiling(0.9, 0.031)))
    ):
        penalty = (Hinge(), SquaredHinge(), Logistic(), None)[(place + seed) % 4]
        factor = scale if penalty is None else None
        draw = torch.tensor(seed) if selection.order == "random" else None
        found.append(SelectedTerms(selection, 0.3, penalty, factor, ceiling, draw))
    return found


def results(backend: Backend, comparison: Comparison, terms: SelectedTerms) -> list[Tensor]:
    """Everything that comes back, and the gradients of a sum in which every entry has its own weight."""
    found = backend.scores(comparison).selected_penalty(terms)
    sums = found.sums.reshape(-1)
    value = (sums * torch.linspace(0.5, 1.5, len(sums), dtype=sums.dtype)).sum()
    leaves = [x for x in (comparison.queries, comparison.candidates, terms.scale) if x is not None]
    gradients: Any = [None] * len(leaves)
    if value.requires_grad:
        gradients = torch.autograd.grad(value, leaves, allow_unused=True)
    zeros = [
        torch.zeros_like(x) if g is None else g for x, g in zip(leaves, gradients, strict=True)
    ]
    valid = torch.where(found.considered > 0, found.positives, 0.0)
    return [sums.detach(), found.counts, found.considered, valid, found.pairs, *zeros]


def others(similarity: Any) -> list[Backend]:
    return [Tiled(), Small()] if is_builtin(similarity) else [Tiled()]


@pytest.mark.parametrize(
    "similarity",
    [Cosine(), Dot(), Euclidean(), Order(), squashed],
    ids=["cosine", "dot", "euclidean", "order", "callable"],
)
@pytest.mark.parametrize("kind", RELATIONS)
@pytest.mark.parametrize("entries", [1 << 18, 40], ids=["one block", "small blocks"])
def test_as_defined(
    kind: str, similarity: Any, entries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selected_penalty, "ENTRIES", entries)
    comparison = compared(kind, similarity)
    for place, terms in enumerate(requests(len(kind))):
        shape = ({}, {"per_pair": True}, {"total": True})[place % 3]
        terms = replace(terms, **shape)
        expected = results(Dense(), comparison, terms)
        for backend in others(similarity):
            found = results(backend, comparison, terms)
            for x, y in zip(found, expected, strict=True):
                torch.testing.assert_close(x, y, rtol=1e-7, atol=1e-9)


def test_dense_lists_by_a_product_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where most pairs are listed, a product of all rows scores them."""
    comparison, told = compared("two classes", Cosine()), requests(3)
    for terms in told:
        by_product = results(Tiled(), comparison, terms)
        monkeypatch.setattr(pair_scores, "WORTH", 0)
        gathered = results(Tiled(), comparison, terms)
        monkeypatch.undo()
        for x, y in zip(by_product, gathered, strict=True):
            torch.testing.assert_close(x, y, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("similarity", [Cosine(), Dot()], ids=str)
@pytest.mark.parametrize("learnt", [(True, True), (True, False), (False, True)], ids=str)
def test_gradients_of_many_pairs_by_products(
    similarity: Any, learnt: tuple[bool, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where most pairs are listed, in any order and more than once, some rows at a time."""
    monkeypatch.setattr(pair_gradients, "PRODUCT", 300)
    monkeypatch.setattr(pair_gradients, "FEW", 0)
    g = torch.Generator().manual_seed(2)
    rows, columns = (torch.randint(-1, n, (900,), generator=g) for n in (31, 44))
    weights = torch.randn(900, generator=g, dtype=torch.float64)
    found = []
    for backend in (Dense(), Tiled()):
        base = compared("two classes", similarity)
        q, c = (x.detach() for x in (base.queries, base.candidates))
        leaves = [x.requires_grad_(on) for x, on in zip((q, c), learnt, strict=True)]
        comparison = Comparison(*leaves, similarity, base.relation)
        scores = backend.scores(comparison).pairs(rows, columns)
        (scores * weights).sum().backward()
        found.append([scores.detach(), *(x.grad for x in leaves if x.requires_grad)])
    for x, y in zip(*found, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-9, atol=1e-10)


ROWS, TILE = 1100, 1 << 18
WITH_PAIRS = {
    "semi-hard": lambda: TripletLoss(),
    "the hardest": lambda: TripletLoss(negatives="hardest"),
    "top-k": lambda: TripletLoss(negatives=TopK(8)),
    "top-k under a ceiling": lambda: TripletLoss(negatives=TopK(4, ceiling=Ceiling())),
    "a window of ranks": lambda: TripletLoss(negatives=RankWindow(2, 6), reduction="sum"),
    "random": lambda: TripletLoss(negatives=RandomK(3), penalty="logistic"),
    "every negative": lambda: TripletLoss(negatives="all"),
    "softmax, top-k": lambda: NTXentLoss(negatives=TopK(8)),
    "softmax, semi-hard": lambda: NTXentLoss(negatives=SemiHard()),
    "softmax": lambda: NTXentLoss(),
    "supervised contrastive": lambda: SupConLoss(),
    "supervised contrastive, top-k": lambda: SupConLoss(negatives=TopK(8)),
    "margin": lambda: MarginLoss(negatives="all"),
    "pairwise": lambda: PairwiseContrastiveLoss(),
    "multi-similarity": lambda: MultiSimilarityLoss(),
}


@pytest.mark.parametrize("name", WITH_PAIRS)
def test_no_tensor_grows_with_the_pairs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two classes of 550 have 600,000 pairs, times the negatives of each; tiles here have 262,144 scores."""
    monkeypatch.setitem(grid.TILE_ELEMENTS, "cpu", TILE)
    monkeypatch.setattr(selected_penalty, "ROWS", TILE)
    loss = WITH_PAIRS[name]()
    g = torch.Generator().manual_seed(0)
    x = torch.randn(ROWS, 16, generator=g).requires_grad_()
    labels = torch.arange(ROWS) % 2
    assert largest(lambda: loss(x, labels).backward()) <= 2 * TILE


@pytest.mark.parametrize("negatives", ["semihard", TopK(8), "all"], ids=str)
def test_one_class_has_no_triplet_and_makes_no_product_for_any(negatives: object) -> None:
    """Batch-all looks at the scores, and at nothing beyond."""
    x = torch.randn(900, 32, requires_grad=True)
    labels = torch.zeros(900, dtype=torch.long)
    values = []
    loss = TripletLoss(negatives=negatives)
    made = products(lambda: values.append(loss(x, labels)))
    assert values[0].item() == 0
    assert made <= (900 * 900 * 32 if negatives != "semihard" else 0)
    values[0].backward()
    assert x.grad is not None
    assert not x.grad.any()


@pytest.mark.parametrize("negatives", ["semihard", Hardest(), TopK(3), RandomK(2)], ids=str)
@pytest.mark.parametrize("reduction", ["mean", "sum", "mean_active", "none"])
@pytest.mark.parametrize("loss", [TripletLoss, NTXentLoss])
def test_statistics_and_values_of_every_backend(
    loss: Any, reduction: str, negatives: object
) -> None:
    """Sums by anchor give the statistics of the pairs."""
    g = torch.Generator().manual_seed(1)
    labels = torch.tensor([0] * 9 + [1] * 3 + [2] * 2 + [3])[torch.randperm(15, generator=g)]
    x = torch.randn(15, 5, generator=g, dtype=torch.float64)
    found = []
    for backend in ("dense", "tiled", "auto"):
        torch.manual_seed(3)
        leaf = x.clone().requires_grad_()
        made = loss(negatives=negatives, reduction=reduction, backend=backend)
        value, stats = made(leaf, labels, return_stats=True)
        value = value[0] if isinstance(value, tuple) else value
        (gradient,) = torch.autograd.grad((value * torch.arange(1, value.numel() + 1)).sum(), leaf)
        found.append([value.detach(), gradient, *vars(stats).values()])
    for other in found[1:]:
        for a, b in zip(other, found[0], strict=True):
            torch.testing.assert_close(torch.as_tensor(a), torch.as_tensor(b))


def test_few_classes_cost_a_block_of_pairs() -> None:
    """2,048 rows of 2 labels have 2 million pairs: the peak is a block of them, with room to 64 MiB."""
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("the peak of memory cannot be forgotten here")
    program = r"""
import ctypes, re, torch
from hardneg import TripletLoss
torch.set_num_threads(1)
def size(field):
    return int(re.search(field + r":\s+(\d+)", open("/proc/self/status").read()).group(1))
def step(n):
    x, labels = torch.randn(n, 128, requires_grad=True), torch.arange(n) % 2
    ctypes.CDLL(None).malloc_trim(0)
    open("/proc/self/clear_refs", "w").write("5")
    before = size("VmRSS")
    TripletLoss()(x, labels).backward()
    return size("VmHWM") - before
step(300)
print(step(2048))
"""
    command = [sys.executable, "-c", program]
    directory = str(Path(hardneg.__file__).parent.parent)
    options = {"capture_output": True, "text": True, "check": True, "timeout": 100}
    kib = int(subprocess.run(command, cwd=directory, **options).stdout)
    assert 1024 < kib < 56 * 1024
