"""Random comparisons for the kernels, each beside its float64 copy, which the definitions take."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hardneg.ops.comparison import Comparison, Relation, Window
from hardneg.similarities import Cosine, Dot, Euclidean, Order, SquaredEuclidean

__all__ = ["DTYPES", "SIMILARITIES", "Case", "case", "relation"]

SIMILARITIES = [Cosine(), Dot(), Euclidean(), SquaredEuclidean(), Order(), Order("queries")]
DTYPES = [torch.float32, torch.float16, torch.bfloat16]
KINDS = ["nothing", "ids", "mask", "ids and ignore", "one set"]


@dataclass(frozen=True, eq=False)
class Case:
    """One comparison and its float64 copy.

    Attributes:
        rng, generator: for further choices.
        exact: integer embeddings, whose products and squared distances are exact in every type.
    """

    comparison: Comparison
    rng: random.Random
    generator: torch.Generator
    exact: bool

    @property
    def double(self) -> Comparison:
        c = self.comparison
        return replace(c, queries=c.queries.double(), candidates=c.candidates.double())

    @property
    def scores(self) -> Tensor:
        c = self.double
        return c.similarity(c.queries, c.candidates)

    def bound(self, length: int) -> Tensor | None:
        """Bounds near actual scores, on which none of them falls; or none."""
        if self.rng.random() < 0.4:
            return None
        scores = self.scores.flatten()
        place = torch.randint(len(scores), (length,), generator=self.generator)
        return (scores[place] + 0.00137).float()

    def window(self) -> Window:
        n, m = self.scores.shape
        return Window(self.bound(n), self.bound(n), self.bound(m), self.bound(m))


def relation(kind: str, n: int, m: int, rng: random.Random, g: torch.Generator) -> Relation:
    """Ids, masks, one set, paired or not, with offsets."""
    ids = torch.randint(0, 4, (n,), generator=g), torch.randint(0, 4, (m,), generator=g)
    offset = rng.choice([0, 2])
    if kind == "one set":
        return Relation(ids[0], ids[0], same_set=True, row_offset=offset, column_offset=offset)
    found = Relation(paired=rng.random() < 0.5, row_offset=offset, column_offset=rng.choice([0, 1]))
    if "ids" in kind:
        found = replace(found, row_ids=ids[0], column_ids=ids[1])
    if kind == "mask":
        found = replace(found, positives=torch.rand(n, m, generator=g) < 0.3)
    if "ignore" in kind:
        found = replace(found, ignore=torch.rand(n, m, generator=g) < 0.3)
    return found


def case(seed: int, similarity: object, dtype: torch.dtype) -> Case:
    """Several tiles or less than one, rectangles either way, rows apart in memory, swapped sides, ties."""
    rng, g = random.Random(seed), torch.Generator().manual_seed(seed)
    n = rng.choice([1, 5, 33, 50])
    m, d = rng.choice([1, n, n + 7, 75]), rng.choice([1, 3, 19, 40])
    kind, integer = rng.choice(KINDS), rng.random() < 0.4
    # every other row of a wider matrix
    q = torch.randn(2 * n, d + 3, generator=g)[::2, :d]
    c = q if kind == "one set" else torch.randn(d, m, generator=g).T
    if integer:
        q, c = (1.5 * q).round(), (1.5 * c).round()
    told = relation(kind, n, len(c), rng, g)
    comparison = Comparison(q.to(dtype), c.to(dtype), similarity, told)
    if rng.random() < 0.3:
        comparison = comparison.swapped()
    return Case(comparison, rng, g, integer and isinstance(similarity, Dot | SquaredEuclidean))
