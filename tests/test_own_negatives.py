"""``own_negatives``: each query's own negatives, against the same rows as candidates that other queries ignore."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from every_loss import BACKEND_IDS, BACKENDS
from torch import Tensor
from torch.nn import functional as F

from hardneg import (
    All,
    Ceiling,
    ContrastiveLoss,
    Hardest,
    InfoNCELoss,
    Learned,
    PolynomialLoss,
    RandomK,
    RankWindow,
    SelectiveHardest,
    SemiHard,
    SigmoidLoss,
    TopK,
    UnifiedPairLoss,
)

Made = tuple[type, dict[str, Any]]
LOSSES: dict[str, Made] = {
    "hardest": (ContrastiveLoss, {}),
    "all": (ContrastiveLoss, {"negatives": "all"}),
    "all, one by one": (ContrastiveLoss, {"negatives": "all", "reduction": "none"}),
    "semi-hard": (ContrastiveLoss, {"negatives": "semihard", "reduction": "none"}),
    "semi-hard or hardest": (ContrastiveLoss, {"negatives": SemiHard("hardest")}),
    "top 3": (ContrastiveLoss, {"negatives": TopK(3), "penalty": "logistic"}),
    "ranks": (ContrastiveLoss, {"negatives": RankWindow(1, 4), "reduction": "sum"}),
    "random everything": (ContrastiveLoss, {"negatives": RandomK(200)}),
    "all below": (ContrastiveLoss, {"negatives": All(Ceiling(0.9))}),
    "selective": (ContrastiveLoss, {"negatives": SelectiveHardest(0.3)}),
    "InfoNCE": (InfoNCELoss, {"temperature": 0.3}),
    "InfoNCE, top 2 below": (
        InfoNCELoss,
        {"temperature": 0.3, "negatives": TopK(2, Ceiling(1.0, 0.1))},
    ),
    "unified": (UnifiedPairLoss, {}),
    "polynomial": (PolynomialLoss, {}),
    "sigmoid": (SigmoidLoss, {"directions": "queries"}),
    "sigmoid, top 2": (SigmoidLoss, {"negatives": TopK(2), "directions": "queries"}),
    "every positive": (
        InfoNCELoss,
        {"temperature": 0.3, "positives": "all", "directions": "queries"},
    ),
    "every positive, semi-hard": (
        InfoNCELoss,
        {
            "temperature": 0.3,
            "positives": "all",
            "negatives": SemiHard(),
            "directions": "queries",
            "reduction": "none",
        },
    ),
    "every positive, top 2 below": (
        InfoNCELoss,
        {
            "temperature": 0.3,
            "positives": "all",
            "negatives": TopK(2, Ceiling(0.9)),
            "directions": "queries",
        },
    ),
    "sigmoid, every positive": (SigmoidLoss, {"positives": "all", "directions": "queries"}),
}
SHAPES = ((4, 4, 2), (5, 9, 3), (17, 40, 1), (1, 3, 2))


def total(value: Any) -> Tensor:
    """One number of a loss, or of its terms."""
    parts = value if isinstance(value, tuple) else (value,)
    return torch.stack([part.sin().sum() for part in parts]).sum()


@dataclass
class Inputs:
    """Embeddings, their ids, and which own negatives are left out."""

    queries: Tensor
    candidates: Tensor
    own: Tensor
    query_ids: Tensor
    candidate_ids: Tensor
    own_ids: Tensor
    left_out: Tensor

    @classmethod
    def of(cls, n: int, m: int, k: int, seed: int = 0) -> Inputs:
        g = torch.Generator().manual_seed(seed)
        sides = ((n, 8), (m, 8), (n, k, 8))
        q, c, o = (torch.randn(*s, generator=g, dtype=torch.float64) for s in sides)
        ids = torch.arange(n) // 2
        further = torch.arange(m - n) + 10**6
        own_ids = torch.randint(0, n // 2 + 3, (n, k), generator=g)
        left_out = torch.rand(n, k, generator=g) < 0.2
        return cls(q, c, o, ids, torch.cat([ids, further]), own_ids, left_out)

    @property
    def embeddings(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.queries, self.candidates, self.own

    @property
    def named(self) -> dict[str, Tensor]:
        return {
            "query_ids": self.query_ids,
            "candidate_ids": self.candidate_ids,
            "own_negative_ids": self.own_ids,
            "own_ignore_mask": self.left_out,
        }

    def among_the_candidates(self, share: bool = True) -> dict[str, Tensor]:
        """Ids and mask that say the same with own negatives as further candidates."""
        (n, k), m = self.own_ids.shape, len(self.candidates)
        others = torch.ones(n, n, k, dtype=torch.bool)
        others[torch.arange(n), torch.arange(n)] = self.left_out | (
            self.own_ids == self.query_ids[:, None]
        )
        batch = torch.full((n, m), not share)
        batch[torch.arange(n), torch.arange(n)] = False
        return {
            "query_ids": self.query_ids,
            "candidate_ids": torch.cat([self.candidate_ids, self.own_ids.flatten()]),
            "ignore_mask": torch.cat([batch, others.view(n, n * k)], dim=1),
        }


def with_gradients(
    loss: Any, embeddings: Any, statistics: bool = True, **options: Any
) -> tuple[Any, list[Tensor], Any]:
    """Value, gradients (zeros for none) and statistics."""
    given = [x.detach().clone().requires_grad_() for x in embeddings]
    sides = given
    if "own_negatives" in options:
        options, sides = {**options, "own_negatives": given[2]}, given[:2]
    else:
        sides = [given[0], torch.cat([given[1], given[2].flatten(0, 1)])]
    if statistics:
        value, stats = loss(*sides, return_stats=True, **options)
    else:
        value, stats = loss(*sides, **options), None
    found = torch.autograd.grad(total(value), given, allow_unused=True)
    gradients = [torch.zeros_like(x) if g is None else g for g, x in zip(found, given, strict=True)]
    return total(value).detach(), gradients, stats and stats.as_dict()


@pytest.mark.parametrize("backend", BACKENDS, ids=BACKEND_IDS)
@pytest.mark.parametrize("name", LOSSES)
def test_equals_candidates_that_others_ignore(name: str, backend: Any) -> None:
    kind, options = LOSSES[name]
    directions = [options["directions"]] if "directions" in options else ["both", "candidates"]
    for (n, m, k), direction, similarity in (
        (shape, d, s) for shape in SHAPES for d in directions for s in ("cosine", "euclidean")
    ):
        chosen = {**options, "directions": direction, "similarity": similarity}
        inputs = Inputs.of(n, m, k)
        found = with_gradients(
            kind(backend=backend, **chosen),
            inputs.embeddings,
            own_negatives=True,
            **inputs.named,
        )
        expected = with_gradients(
            kind(backend="dense", **chosen), inputs.embeddings, **inputs.among_the_candidates()
        )
        for stats in (found[2], expected[2]):
            stats.pop("masked_count")
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("backend", BACKENDS, ids=BACKEND_IDS)
@pytest.mark.parametrize("name", LOSSES)
def test_alone_the_candidates_are_no_negatives(name: str, backend: Any) -> None:
    kind, options = LOSSES[name]
    chosen = {**options, "directions": "queries"}
    inputs = Inputs.of(7, 12, 3)
    found = with_gradients(
        kind(backend=backend, **chosen),
        inputs.embeddings,
        own_negatives=True,
        share_negatives=False,
        **inputs.named,
    )
    marked = inputs.among_the_candidates(share=False)
    if "positives" in options:  # their positives must stay
        related = inputs.query_ids[:, None] == inputs.candidate_ids
        marked["ignore_mask"][:, :12] &= ~related
    expected = with_gradients(kind(backend="dense", **chosen), inputs.embeddings, **marked)
    for stats in (found[2], expected[2]):
        stats.pop("masked_count")
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("similarity", ["cosine", "dot"])
@pytest.mark.parametrize("name", LOSSES)
def test_in_one_step(name: str, similarity: str, share: bool) -> None:
    """Without statistics a small batch takes one step, by other code than above."""
    kind, options = LOSSES[name]
    chosen = {**options, "similarity": similarity}
    if not share:
        chosen["directions"] = "queries"
    for n, m, k in (*SHAPES, (30, 30, 5)):
        inputs = Inputs.of(n, m, k)
        named: dict[str, Any] = {"own_negatives": True, "share_negatives": share}
        for said in (inputs.named, {}) if "positives" not in options else (inputs.named,):
            auto, dense = (
                with_gradients(kind(backend=b, **chosen), inputs.embeddings, False, **named, **said)
                for b in ("auto", "dense")
            )
            torch.testing.assert_close(auto, dense, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [1.0, 1e-25, 1e25])
def test_rows_of_any_length_in_one_step(scale: float, dtype: torch.dtype) -> None:
    """Zero rows, and rows whose squares leave the range of floats."""
    inputs = Inputs.of(6, 8, 3)
    q, c, own = (x.to(dtype) for x in inputs.embeddings)
    q, own = q * scale, own * scale
    own[1, 2], own[4], c[7] = 0, 0, 0
    for loss in (InfoNCELoss(0.3), ContrastiveLoss(1.0, TopK(2))):
        found = with_gradients(loss, (q, c, own), False, own_negatives=True)
        exact = with_gradients(
            type(loss)(
                *((0.3,) if isinstance(loss, InfoNCELoss) else (1.0, TopK(2))), backend="dense"
            ),
            [x.double() for x in (q, c, own)],
            False,
            own_negatives=True,
        )
        tolerance = {"rtol": max(1e-9, 16 * torch.finfo(dtype).eps), "atol": 1e-6}
        for one, other in zip((found[0], *found[1]), (exact[0], *exact[1]), strict=True):
            largest = other.abs().max()
            torch.testing.assert_close(one.double() / largest, other / largest, **tolerance)


def test_a_learned_temperature_and_frozen_sides_in_one_step() -> None:
    inputs = Inputs.of(9, 9, 3)
    for learned in ((True, True, True), (False, False, True), (True, False, False)):
        results = []
        for backend in ("auto", "dense"):
            sides = [
                x.clone().requires_grad_(w) for x, w in zip(inputs.embeddings, learned, strict=True)
            ]
            loss = InfoNCELoss(Learned(0.2), backend=backend).double()
            loss(*sides[:2], own_negatives=sides[2]).backward()
            results.append([x.grad for x in (*sides, *loss.parameters())])
        assert [x is not None for x in results[0]] == [*learned, True]
        torch.testing.assert_close(*results, rtol=1e-9, atol=1e-10)


def test_the_formula_of_a_softmax_over_batch_and_own_negatives() -> None:
    inputs = Inputs.of(6, 6, 4)
    q, c, own = (F.normalize(x, dim=-1) for x in inputs.embeddings)
    z = torch.cat([q @ c.T, (q[:, None] * own).sum(-1)], dim=1) / 0.05
    loss = InfoNCELoss(0.05, directions="queries")
    found = loss(inputs.queries, inputs.candidates, own_negatives=inputs.own)
    torch.testing.assert_close(found, F.cross_entropy(z, torch.arange(6)))
    alone = torch.cat([z.diagonal()[:, None], z[:, 6:]], dim=1)
    found = loss(inputs.queries, inputs.candidates, own_negatives=inputs.own, share_negatives=False)
    torch.testing.assert_close(found, F.cross_entropy(alone, torch.zeros(6, dtype=torch.long)))


def test_shared_with_all_queries_they_are_further_candidates() -> None:
    """What MultipleNegativesRankingLoss of sentence-transformers does with several negatives a row."""
    inputs = Inputs.of(6, 6, 2)
    columns = [inputs.candidates, inputs.own[:, 0], inputs.own[:, 1]]
    q, c = F.normalize(inputs.queries), F.normalize(torch.cat(columns))
    expected = F.cross_entropy(20 * q @ c.T, torch.arange(6))
    loss = InfoNCELoss(1 / 20, directions="queries")
    ids = {"query_ids": torch.arange(6), "candidate_ids": torch.arange(18)}
    torch.testing.assert_close(loss(inputs.queries, torch.cat(columns), **ids), expected)


@pytest.mark.parametrize("backend", BACKENDS, ids=BACKEND_IDS)
def test_exempt_from_the_ceiling(backend: Any) -> None:
    """The own negative scores above the positive; a semi-hard strategy takes it only where it is exempt."""
    q = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    c = torch.tensor([[0.8, 0.6], [0.6, 0.8]], dtype=torch.float64)
    own = q[:, None].clone()
    for negatives in (Hardest(Ceiling()), All(Ceiling())):
        loss = ContrastiveLoss(
            0.5, negatives, directions="queries", reduction="none", backend=backend
        )
        bounded, _ = loss(q, c, own_negatives=own)
        exempt, _ = loss(q, c, own_negatives=own, exempt_own_negatives=True)
        among_candidates = 0.5 - 0.8 + 0.6
        torch.testing.assert_close(bounded, torch.full_like(bounded, among_candidates))
        higher = 0.5 - 0.8 + 1.0
        both = higher + (among_candidates if isinstance(negatives, All) else 0.0)
        torch.testing.assert_close(exempt, torch.full_like(exempt, both))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("backend", BACKENDS, ids=BACKEND_IDS)
def test_dtypes(dtype: torch.dtype, backend: Any) -> None:
    inputs = Inputs.of(40, 40, 3)
    rounded = [x.to(dtype) for x in inputs.embeddings]
    for loss in (ContrastiveLoss(backend=backend), InfoNCELoss(0.5, backend=backend)):
        value, gradients, _ = with_gradients(loss, rounded, own_negatives=True)
        exact = with_gradients(loss, [x.double() for x in rounded], own_negatives=True)
        assert value.dtype == torch.float32
        torch.testing.assert_close(value.double(), exact[0], rtol=1e-5, atol=1e-5)
        for found, expected in zip(gradients, exact[1], strict=True):
            assert found.dtype == dtype
            torch.testing.assert_close(
                found.double(), expected, rtol=2 * torch.finfo(dtype).eps, atol=1e-5
            )


@pytest.mark.parametrize("backend", ["tiled", "auto"])
def test_callable_similarities(backend: Any) -> None:
    def taxicab(a: Tensor, b: Tensor) -> Tensor:
        return -(a[:, None] - b[None]).abs().sum(-1)

    inputs = Inputs.of(5, 5, 3)
    found, expected = (
        with_gradients(
            ContrastiveLoss(similarity=taxicab, negatives=TopK(2), backend=chosen),
            inputs.embeddings,
            own_negatives=True,
            **inputs.named,
        )
        for chosen in (backend, "dense")
    )
    torch.testing.assert_close(found, expected)


def test_random_choices_are_uniform_over_both() -> None:
    inputs, drawn = Inputs.of(1, 4, 3), torch.zeros(7)
    loss = ContrastiveLoss(10.0, RandomK(1), directions="queries", backend="tiled")
    for _ in range(700):
        c, own = (x.clone().requires_grad_() for x in inputs.embeddings[1:])
        loss(inputs.queries, c, own_negatives=own).backward()
        assert c.grad is not None
        assert own.grad is not None
        pulled = torch.cat([c.grad, own.grad[0]]).abs().sum(1) > 0
        drawn += pulled
    counts = drawn[1:] / 700  # candidate 0 is the positive
    assert ((counts - 1 / 6).abs() < 0.06).all(), counts


def test_gradcheck() -> None:
    inputs = Inputs.of(4, 4, 2)
    given = [x.requires_grad_() for x in inputs.embeddings]
    for backend in ("tiled", "dense"):
        for loss in (ContrastiveLoss(2.0, "all", backend=backend), InfoNCELoss(0.5)):
            assert torch.autograd.gradcheck(
                lambda q, c, own, loss=loss: loss(q, c, own_negatives=own), given
            )


@pytest.mark.parametrize("negatives", ["hardest", "all", "semihard", TopK(2)], ids=str)
def test_compiles_whole(negatives: Any) -> None:
    inputs = Inputs.of(20, 20, 3)
    loss = ContrastiveLoss(negatives=negatives)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    options = {"own_negatives": inputs.own, **inputs.named}
    sides = inputs.queries, inputs.candidates
    torch.testing.assert_close(compiled(*sides, **options), loss(*sides, **options))


def test_no_own_negatives_change_nothing() -> None:
    inputs = Inputs.of(5, 5, 2)
    sides, none = (inputs.queries, inputs.candidates), inputs.own[:, :0]
    loss = ContrastiveLoss()
    assert loss(*sides, own_negatives=none) == loss(*sides)
    everything = torch.ones(5, 2, dtype=torch.bool)
    masked = loss(*sides, own_negatives=inputs.own, own_ignore_mask=everything)
    torch.testing.assert_close(masked, loss(*sides))


def test_frozen_negatives_and_queries() -> None:
    inputs = Inputs.of(6, 6, 2)
    q, c, own = inputs.embeddings
    q = q.clone().requires_grad_()
    value = InfoNCELoss()(q, c, own_negatives=own)
    (found,) = torch.autograd.grad(value, q)
    assert found.abs().sum() > 0


def test_what_is_not_finite_is_not_hidden() -> None:
    inputs = Inputs.of(4, 4, 2)
    inputs.own[2, 1, 3] = torch.nan
    for backend in BACKENDS:
        loss = ContrastiveLoss(backend=backend)
        assert loss(inputs.queries, inputs.candidates, own_negatives=inputs.own).isnan()


X = torch.randn(4, 8)
OWN = torch.randn(4, 2, 8)
MISTAKES = [
    ({"own_negatives": torch.randn(4, 8)}, "4, k, 8"),
    ({"own_negatives": torch.randn(3, 2, 8)}, "4, k, 8"),
    ({"own_negatives": torch.randn(4, 2, 7)}, "4, k, 8"),
    ({"own_negatives": OWN.double()}, "convert one"),
    ({"own_negatives": OWN.tolist()}, "is a list"),
    ({"own_negatives": OWN, "own_negative_ids": torch.zeros(4, 2).long()}, "without query_ids"),
    ({"own_negatives": OWN, "own_ignore_mask": torch.zeros(4, 2)}, "bool"),
    ({"own_negatives": OWN, "own_ignore_mask": torch.zeros(4, 3) > 0}, "as own_negatives"),
    ({"own_negatives": OWN, "share_negatives": False}, 'directions="queries"'),
    ({"own_negatives": OWN, "share_negatives": 0}, "share_negatives"),
    ({"share_negatives": False}, "without own_negatives"),
    ({"own_negative_ids": torch.zeros(4, 2).long()}, "without own_negatives"),
    ({"exempt_own_negatives": True}, "without own_negatives"),
]


@pytest.mark.parametrize(("options", "message"), MISTAKES)
def test_mistakes(options: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        ContrastiveLoss()(X, X.clone(), **options)


def test_nothing_is_left() -> None:
    with pytest.raises(ValueError, match="no negative is left"):
        ContrastiveLoss(directions="queries")(
            X, X.clone(), own_negatives=OWN[:, :0], share_negatives=False
        )
