"""Small inputs on which every kernel is compared with float64: ragged shapes, ids, masks, strides, ties."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from benchmarks.gpu.arithmetic import BFLOAT16, IEEE, Arithmetic, OwnPrecision
from benchmarks.gpu.place import Place
from hardneg.ops import reference
from hardneg.ops.comparison import Comparison, Relation, Window
from hardneg.similarities import BY_CODE


@dataclass(frozen=True)
class Situation:
    """A shape, how the embeddings lie in memory, and who is related.

    Attributes:
        shape: queries, candidates, width.
        small: the same for the interpreter.
        kin: ``"pairs"``, ``"ids"``, ``"one set"`` or ``"masks"``.
        strided: every second column of a wider tensor.
        reductions: only these are checked; empty: all.
    """

    name: str
    shape: tuple[int, int, int]
    small: tuple[int, int, int]
    kin: str = "pairs"
    strided: bool = False
    reductions: tuple[str, ...] = ()

    def relation(self, n: int, m: int, device: str) -> Relation:
        """Who is related."""
        row, column = torch.arange(n, device=device), torch.arange(m, device=device)
        if self.kin == "masks":
            positives = (row[:, None] * 7 + column[None] * 3) % 11 == 0
            return Relation(positives=positives, ignore=(row[:, None] + column[None]) % 5 == 1)
        if self.kin == "ids":  # ids below zero and far apart are ids like any other
            return Relation((row // 3 - 2) * 2**33, (column // 4 - 2) * 2**33)
        if self.kin == "one set":
            return Relation(row % 5, column % 5, same_set=True)
        return Relation(paired=True)


RAGGED = Situation("ragged", (700, 900, 160), (19, 37, 12))
WIDE = Situation("wide", (2000, 3000, 1024), (24, 40, 32))
EVEN = Situation("even width", (2048, 1536, 256), (32, 48, 16))
PANELS = Situation(
    "two panels",
    (9000, 5000, 64),
    (50, 90, 8),
    reductions=("hardest", "penalty_sum hinge", "penalty_total hinge", "logsumexp"),
)
"""More rows and columns than one panel of weights has."""
PIPELINED = (WIDE, EVEN, PANELS)
"""Widths of many whole blocks, which most people have; products are copied in while others are multiplied."""
SITUATIONS = (
    RAGGED,
    Situation("ids, strided, odd width", (389, 515, 99), (21, 18, 11), "ids", strided=True),
    Situation("one set", (513, 513, 64), (18, 18, 16), "one set"),
    Situation("masks", (300, 420, 33), (17, 23, 5), "masks"),
    Situation("one query, two coordinates", (1, 7, 2), (1, 7, 2)),
)


@dataclass(frozen=True)
class Problem:
    """Embeddings of a situation in a number format, under a similarity."""

    situation: Situation
    arithmetic: Arithmetic
    similarity: str
    place: Place

    def __str__(self) -> str:
        return f"{self.arithmetic}, {self.similarity}, {self.situation.name}"

    @cached_property
    def comparison(self) -> Comparison:
        """What the kernels get; the embeddings ask for gradients."""
        shape = self.situation.small if self.place.small else self.situation.shape
        n, m, d = shape
        q, c = self.drawn(n, d, 0), self.drawn(m, d, 1)
        if self.situation.kin == "one set":
            c = q.clone()
        relation = self.situation.relation(n, m, self.place.device)
        return Comparison(leaf(q), leaf(c), BY_CODE[self.similarity], relation)

    def drawn(self, n: int, d: int, seed: int) -> Tensor:
        """Random embeddings, none negative for an order."""
        generator = torch.Generator().manual_seed(seed)
        width = 2 * d if self.situation.strided else d
        draw = torch.rand if self.similarity.startswith("order") else torch.randn
        x = draw(n, width, generator=generator).to(self.place.device, self.arithmetic.dtype)
        return x[:, ::2] if self.situation.strided else x

    def exactly(self) -> Comparison:
        """The same embeddings in float64."""
        return self.converted(torch.float64, self.comparison.similarity)

    def eagerly(self, dtype: torch.dtype) -> Comparison:
        """The same embeddings for plain PyTorch that computes in ``dtype``."""
        similarity = OwnPrecision(self.comparison.similarity, dtype)
        return self.converted(self.arithmetic.dtype, similarity)

    def converted(self, dtype: torch.dtype, similarity: object) -> Comparison:
        """Leaves of their own."""
        q, c = self.comparison.queries, self.comparison.candidates
        return replace(
            self.comparison,
            queries=leaf(q.detach().to(dtype, copy=True)),
            candidates=leaf(c.detach().to(dtype, copy=True)),
            similarity=similarity,
        )

    @cached_property
    def exact_scores(self) -> Tensor:
        """The float64 matrix."""
        return reference.Dense().scores(self.exactly()).matrix.detach()

    @cached_property
    def band(self) -> float:
        """Scores closer than this may change places: twice plain PyTorch's error, and rounding."""
        with self.arithmetic.chosen():
            eager = reference.Dense().scores(self.eagerly(torch.float32)).matrix.detach().double()
        error = float((eager - self.exact_scores).abs().max())
        size = float(self.exact_scores.abs().max())
        return 2 * error + 16 * torch.finfo(torch.float32).eps * (1 + size)

    def window(self) -> Window:
        """Bounds that lie between scores, where rounding decides nothing."""
        sides = self.exact_scores, self.exact_scores.T
        bounds = [(between(s, 0.7, 0.95), between(s, 0.05, 0.3)) for s in sides]
        (row_floor, row_ceiling), (column_floor, column_ceiling) = bounds
        return Window(row_floor, row_ceiling, column_floor, column_ceiling)


def leaf(x: Tensor) -> Tensor:
    """A leaf that asks for a gradient; its layout in memory stays."""
    return x.detach().requires_grad_()


def between(scores: Tensor, first: float, last: float) -> Tensor:
    """For each row a number in the widest gap between its scores of these ranks (shares of a row)."""
    ranked = scores.sort(1, descending=True).values
    count = scores.shape[1]
    if count < 3:
        return (ranked.mean(1) - 0.1).float()
    start = min(int(first * count), count - 2)
    part = ranked[:, start : max(int(last * count), start) + 2]
    gaps = part[:, :-1] - part[:, 1:]
    at = gaps.argmax(1, keepdim=True)
    middle = (part.gather(1, at) + part.gather(1, at + 1)) / 2
    return middle[:, 0].float()


def problems(place: Place, arithmetics: tuple[Arithmetic, ...]) -> list[Problem]:
    """Every situation, number format and similarity, not every combination of the three; by value."""
    others = [code for code in BY_CODE if code != "cosine"]
    chosen = [Problem(s, BFLOAT16, "cosine", place) for s in (*PIPELINED, *SITUATIONS)]
    chosen += [Problem(RAGGED, a, "cosine", place) for a in arithmetics if a != BFLOAT16]
    chosen += [Problem(s, IEEE, "cosine", place) for s in SITUATIONS[1:]]
    chosen += [Problem(SITUATIONS[1], BFLOAT16, code, place) for code in others]
    chosen += [Problem(RAGGED, IEEE, code, place) for code in others]
    return chosen
