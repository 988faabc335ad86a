"""Operators and derivatives."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from every_loss import squashed
from reduction_cases import SIMILARITIES, name_of, tiled
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from hardneg.negatives.ceiling import Ceiling
from hardneg.negatives.selection import Selection
from hardneg.ops.backends import bind
from hardneg.ops.comparison import Comparison, Relation, Window
from hardneg.ops.energies import Linear
from hardneg.ops.reference import Dense
from hardneg.ops.requests import (
    BatchAllTerms,
    ExponentialTerms,
    PairSearch,
    PenaltyTerms,
    Search,
    SelectedTerms,
)
from hardneg.ops.scores import Backend
from hardneg.ops.small.backend import Small, SmallScores
from hardneg.ops.tiled_backend import Tiled
from hardneg.penalties import Hinge, Identity, Logistic, SquaredHinge
from hardneg.similarities import Cosine, Dot, Euclidean, Order

OPERATORS = torch.ops.hardneg


class Recorder(TorchDispatchMode):
    """Keeps the first calls of every hardneg operator, backward ones too."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[str, list[tuple[object, ...]]] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "hardneg":
            kept = self.calls.setdefault(func._opname, [])
            kept.append(tuple(x.detach().clone() if isinstance(x, Tensor) else x for x in args))
        return func(*args, **(kwargs or {}))


def labelled(similarity: object, dtype: torch.dtype = torch.float64) -> Comparison:
    """A small comparison whose embeddings want gradients."""
    g = torch.Generator().manual_seed(5)
    q, c = (torch.randn(rows, 3, generator=g, dtype=dtype) for rows in (6, 8))
    ids = torch.randint(0, 3, (6,), generator=g), torch.randint(0, 3, (8,), generator=g)
    ignore = torch.rand(6, 8, generator=g) < 0.1
    relation = Relation(*ids, ignore=ignore)
    return Comparison(q.requires_grad_(), c.requires_grad_(), similarity, relation)


def differentiable_runs(
    backend: Backend, similarity: object
) -> Iterator[tuple[str, Callable[..., Tensor], list[Tensor]]]:
    """Each differentiable reduction as a function of its tensors, and tensors away from the kinks."""
    base = labelled(similarity)
    q, c = base.queries, base.candidates
    scale = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    g = torch.Generator().manual_seed(6)
    rows, columns = (
        torch.randn(k, generator=g, dtype=torch.float64).requires_grad_() for k in (6, 8)
    )
    weights = torch.linspace(0.5, 1, 6).double(), torch.linspace(1, 2, 8).double()
    pairs = torch.tensor([0, 2, 5, -1, 2]), torch.tensor([1, 7, 0, 3, 7])

    def compared(q: Tensor, c: Tensor) -> Comparison:
        return replace(base, queries=q, candidates=c)

    def sums(penalty: object) -> Callable[..., tuple[Tensor, Tensor]]:
        return lambda q, c, rows, columns, scale: backend.scores(compared(q, c)).penalty_sum(
            PenaltyTerms(penalty, rows, columns, scale=scale)
        )[:2]

    def total(q: Tensor, c: Tensor, rows: Tensor, columns: Tensor, scale: Tensor) -> Tensor:
        terms = PenaltyTerms(Logistic(), rows, columns, scale=scale)
        return backend.scores(compared(q, c)).penalty_total(terms, *weights).value

    def logsumexp(q: Tensor, c: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        return backend.scores(compared(q, c)).logsumexp(
            ExponentialTerms(Linear(2.0, 0.1), scale=scale)
        )[:2]

    def scores(q: Tensor, c: Tensor) -> Tensor:
        return backend.scores(compared(q, c)).pairs(*pairs)

    def batch_all(shape: dict[str, bool], penalty: object) -> Callable[..., Tensor]:
        return lambda q, c: (
            backend.scores(compared(q, c))
            .batch_all(BatchAllTerms(penalty, 0.3, Ceiling(1.0, 5.0), **shape))
            .sums
        )

    def selected(shape: dict[str, bool], penalty: object) -> Callable[..., Tensor]:
        pick = Selection("highest", 2)

        def sums(q: Tensor, c: Tensor, scale: Tensor) -> Tensor:
            ceiling, factor = (None, scale) if penalty is None else (Ceiling(1.0, 5.0), None)
            terms = SelectedTerms(pick, 0.3, penalty, factor, ceiling, **shape)
            return backend.scores(compared(q, c)).selected_penalty(terms).sums

        return sums

    everything = [q, c, rows, columns, scale]
    for penalty in (Hinge(), SquaredHinge(), Logistic(), Identity()):
        yield f"penalty_sum {penalty.code}", sums(penalty), everything
    yield "penalty_total", total, everything
    yield "logsumexp", logsumexp, [q, c, scale]
    yield "pair_scores", scores, [q, c]
    for shape in ({}, {"per_pair": True}, {"total": True}):
        for penalty in (Hinge(), Logistic()):
            yield f"batch_all {shape} {penalty.code}", batch_all(shape, penalty), [q, c]
        yield f"selected_penalty {shape}", selected(shape, None), [q, c, scale]
        logistic = selected(shape, Logistic())
        yield f"selected_penalty {shape} logistic", lambda q, c, f=logistic: f(q, c, scale), [q, c]


def recorded() -> dict[str, list[tuple[object, ...]]]:
    """Calls of every operator: with gradients, windows, draws, and each similarity once."""
    with Recorder() as recorder:
        for similarity, backend in itertools.product(
            (Cosine(), Euclidean(), Order()), (Tiled((3, 4)), Small())
        ):
            for _, run, leaves in differentiable_runs(backend, similarity):
                found = run(*leaves)
                found = found if isinstance(found, tuple) else (found,)
                torch.stack([x.square().sum() for x in found]).sum().backward()
            comparison = labelled(similarity)
            window = Window(row_ceiling=torch.zeros(6).double())
            for selection in (
                Selection("highest", 2, 1),
                Selection("random", 2, fallback="easiest"),
            ):
                search = Search(selection, "negatives", window, torch.tensor(1), hardest=True)
                backend.scores(comparison).select(search)
                anchors = torch.tensor([0, 0, 3])
                ceilings = torch.zeros(3, dtype=torch.float64)
                backend.scores(comparison).select_per_pair(
                    PairSearch(anchors, ceilings, selection, torch.tensor(1))
                )
            backend.scores(comparison).counts("positives")
            backend.scores(comparison).positive_pairs()
            backend.scores(comparison).magnitudes(anchors, anchors)
    return recorder.calls


RECORDED = recorded()


NAMES = sorted(
    name.removeprefix("hardneg::").split(".")[0]
    for name in torch._C._dispatch_get_all_op_names()
    if name.startswith("hardneg::")
)


DIFFERENTIABLE = {
    "penalty_sum",
    "penalty_total",
    "logsumexp",
    "pair_scores",
    "batch_all",
    "batch_all_total",
    "score_matrix",
    "selected_penalty",
    "selected_penalty_total",
}


def test_every_operator_is_checked() -> None:
    assert set(RECORDED) == set(NAMES)
    assert set(NAMES) >= DIFFERENTIABLE


# PyTorch's own tracing check reads .grad of a tensor that is not a leaf.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("name", NAMES)
def test_opcheck(name: str) -> None:
    """Schema, autograd registration, fake tensors, and ahead-of-time tracing with dynamic shapes."""
    operator = getattr(OPERATORS, name).default
    calls = RECORDED[name]
    for arguments in calls[:: max(1, len(calls) // 3)]:
        if name in DIFFERENTIABLE:
            arguments = tuple(
                x.requires_grad_() if isinstance(x, Tensor) and place < 2 else x
                for place, x in enumerate(arguments)
            )
        torch.library.opcheck(operator, arguments)


EXECUTORS = {"dense": Dense(), "tiled": Tiled(), "ragged": Tiled((3, 4)), "all": None}


@pytest.mark.parametrize("similarity", SIMILARITIES, ids=name_of)
@pytest.mark.parametrize("name", list(EXECUTORS))
def test_gradcheck(name: str, similarity: object) -> None:
    backend = EXECUTORS[name]
    if name != "dense":
        backend = tiled(labelled(similarity), "all" if backend is None else backend.tile)
    for what, run, leaves in differentiable_runs(backend, similarity):
        assert torch.autograd.gradcheck(run, leaves, fast_mode=True), what


def differentiate_twice(value: Tensor, leaves: list[Tensor]) -> None:
    """A gradient penalty, beside a term without it: the graph must not just leave the penalty out."""
    gradients = torch.autograd.grad(value, leaves, create_graph=True)
    norm = torch.stack([x.square().sum() for x in gradients]).sum()
    beside = torch.stack([x.square().sum() for x in leaves]).sum()
    torch.autograd.grad(norm + beside, leaves)


@pytest.mark.parametrize("similarity", [Cosine(), Euclidean(), Order(), squashed], ids=name_of)
@pytest.mark.parametrize("tile", [(3, 4), "all"], ids=str)
def test_a_second_derivative_raises_through_tiles(tile: object, similarity: object) -> None:
    backend = tiled(labelled(similarity), tile)
    for _, run, leaves in differentiable_runs(backend, similarity):
        found = run(*leaves)
        found = found if isinstance(found, tuple) else (found,)
        value = torch.stack([x.square().sum() for x in found]).sum()
        with pytest.raises(RuntimeError, match="second derivative"):
            differentiate_twice(value, leaves)


@pytest.mark.parametrize("similarity", [Cosine(), Dot(), Order(), squashed], ids=name_of)
def test_a_second_derivative_works_densely(similarity: object) -> None:
    for what, run, leaves in differentiable_runs(Dense(), similarity):
        assert torch.autograd.gradgradcheck(run, leaves, fast_mode=True), what


def test_a_single_tile_computes_the_scores_once() -> None:
    """For both directions."""
    base = labelled(Order())
    scores = Small().scores(base)
    with Recorder() as recorder:
        for side in (scores, scores.swapped()):
            side.select(Search(Selection("highest", 1)))
            side.penalty_sum(PenaltyTerms(Hinge(), base.queries.new_zeros(1), None))
    assert len(recorder.calls["score_matrix"]) == 1


@pytest.mark.parametrize("n", [256, 257])
def test_auto_takes_one_tile_where_all_scores_fit_it(n: int) -> None:
    comparison = Comparison(torch.randn(n, 2), torch.randn(256, 2), Cosine(), Relation())
    small = isinstance(bind("auto", comparison), SmallScores)
    assert small == (n == 256)
    assert not isinstance(bind("tiled", comparison), SmallScores)
