"""Random comparisons for the kernels, and the comparison with float64. Shared by the tests beside it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from rounding import assert_rounded
from torch import Tensor

from hardneg.ops.comparison import Comparison, Relation, Window
from hardneg.ops.fused_backend import Fused
from hardneg.ops.reference import Dense
from hardneg.ops.scores import Backend
from hardneg.similarities import Cosine, Dot, Euclidean, Order, SquaredEuclidean

SIMILARITIES = (Cosine(), Dot(), Euclidean(), SquaredEuclidean(), Order(), Order("queries"))
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
SHAPES = ((41, 73, 21), (39, 70, 16), (26, 50, 7), (17, 9, 40), (1, 37, 5), (9, 1, 1), (1, 1, 1))
"""Several panels, several tiles of one panel, one tile; ragged and not."""

SEEDS = [pytest.param(seed, marks=pytest.mark.full if seed > 1 else ()) for seed in range(30)]

Result = tuple[Tensor, list[Tensor], list[Tensor]]
"""What is differentiated, results to compare within the budget, and counts."""


@dataclass(eq=False)
class Case:
    """One random comparison and a source of further choices."""

    comparison: Comparison
    rng: random.Random
    generator: torch.Generator

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.comparison.queries), len(self.comparison.candidates)

    def draw(self, *size: int) -> Tensor:
        return torch.randn(*size, generator=self.generator)

    def near_scores(self, length: int) -> Tensor:
        """Numbers among the scores, on which none of them falls."""
        c = self.comparison
        scores = c.similarity(c.queries.double(), c.candidates.double()).flatten()
        chosen = torch.randint(len(scores), (length,), generator=self.generator)
        return (scores[chosen] + 0.0137).float()

    def window(self) -> Window:
        n, m = self.shape
        lengths = [k if self.rng.random() < 0.5 else None for k in (n, n, m, m)]
        return Window(*(None if k is None else self.near_scores(k) for k in lengths))


def case(seed: int, **chosen: object) -> Case:
    """Everything that can be chosen, at random; ``chosen`` fixes similarity, dtype, shape or relation."""
    rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    similarity, dtype = rng.choice(SIMILARITIES), rng.choice(DTYPES)
    shape = rng.choice(SHAPES[:4] if rng.random() < 0.8 else SHAPES[4:])
    similarity = chosen.get("similarity", similarity)
    dtype, (n, m, d) = chosen.get("dtype", dtype), chosen.get("shape", shape)
    if isinstance(similarity, Order):
        d = min(d, 7)  # the interpreter takes coordinates one by one
    q = torch.randn(n, d, generator=generator).to(dtype)
    c = torch.randn(m, d, generator=generator).to(dtype)
    if rng.random() < 0.3:  # not contiguous
        q, c = torch.stack([q, q], 2)[..., 0], c.T.contiguous().T
    relation = chosen.get("relation", relation_of(rng, generator, n, m))
    return Case(Comparison(q, c, similarity, relation), rng, generator)


def relation_of(rng: random.Random, generator: torch.Generator, n: int, m: int) -> Relation:
    """Ids, a mask or neither; pairs, one set, offsets and left-out pairs at random."""
    told: dict[str, object] = {"paired": rng.random() < 0.5, "same_set": rng.random() < 0.3}
    kind = rng.choice(["ids", "ids", "mask", "none"])
    if kind == "ids":
        told["row_ids"] = torch.randint(6, (n,), generator=generator) - 2
        told["column_ids"] = torch.randint(6, (m,), generator=generator) - 2
    if kind == "mask":
        told["positives"] = torch.rand(n, m, generator=generator) < 0.3
    if rng.random() < 0.3:
        told["ignore"] = (torch.rand(m, n, generator=generator) < 0.2).T
    if rng.random() < 0.3:
        told["row_offset"], told["column_offset"] = rng.choice([(3, 0), (0, 5), (2**40, 2**40 + 1)])
    return Relation(**told)


def differentiated(
    run: Callable[[Backend, Comparison, list[Tensor]], Result],
    backend: Backend,
    comparison: Comparison,
    more: list[Tensor],
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Results, gradients of both sides and of ``more``, and counts of one backend."""
    given = comparison.queries, comparison.candidates, *more
    q, c, *rest = leaves = [x.detach().clone().requires_grad_() for x in given]
    value, results, counts = run(backend, replace(comparison, queries=q, candidates=c), rest)
    gradients: tuple[Tensor | None, ...] = (None,) * len(leaves)
    if value.requires_grad:
        gradients = torch.autograd.grad(value, leaves, allow_unused=True)
    pairs = zip(gradients, leaves, strict=True)
    known = [torch.zeros_like(x) if g is None else g for g, x in pairs]
    return [x.detach() for x in results], known, counts


def assert_within_budget(
    run: Callable[[Backend, Comparison, list[Tensor]], Result], one: Case, more: list[Tensor]
) -> None:
    """Results and gradients of the kernels as near to float64's as rounding allows; equal counts."""
    c = one.comparison
    wide = replace(c, queries=c.queries.double(), candidates=c.candidates.double())
    exact = Dense(), wide, [x.double() for x in more]
    found, eager = (differentiated(run, backend, c, more) for backend in (Fused(), Dense()))

    def compute() -> list[Tensor]:
        results, gradients, _ = differentiated(run, *exact)
        return results + gradients

    assert_rounded(found[0] + found[1], eager[0] + eager[1], compute)
    for x, right in zip(found[2], differentiated(run, *exact)[2], strict=True):
        assert torch.equal(x, right)
