"""Which rows of the global batch every rank holds."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Layout", "Run", "check_partners", "check_same_rows"]


@dataclass(frozen=True)
class Run:
    """Rows of a rank that follow one another in the global order too: ``local`` there begins at ``start``."""

    local: slice
    start: int

    @property
    def everywhere(self) -> slice:
        """The same rows by their global numbers."""
        return slice(self.start, self.start + self.local.stop - self.local.start)


@dataclass(frozen=True)
class Layout:
    """The global order of rows: the first ``heads[r]`` rows of every rank r, then the others of every rank.

    With ``heads == lengths`` that is plain concatenation. Ranks may hold different numbers of rows,
    or none.
    """

    lengths: tuple[int, ...]
    heads: tuple[int, ...]

    @property
    def total(self) -> int:
        """Rows of all ranks."""
        return sum(self.lengths)

    @property
    def longest(self) -> int:
        """Rows of the rank with the most; at least 1, so that nothing sent is empty."""
        return max(1, *self.lengths)

    @property
    def even(self) -> bool:
        """Whether the ranks' rows, one after the other, are the global order without any padding."""
        return self.heads == self.lengths and all(n == self.longest for n in self.lengths)

    def runs(self, rank: int) -> list[Run]:
        """The rows of a rank: one run where they follow one another, two where others stand between."""
        head, length = self.heads[rank], self.lengths[rank]
        tails = [n - h for n, h in zip(self.lengths, self.heads, strict=True)]
        first = Run(slice(0, head), sum(self.heads[:rank]))
        second = Run(slice(head, length), sum(self.heads) + sum(tails[:rank]))
        return [run for run in (first, second) if run.local.stop > run.local.start]

    def holders(self, device: torch.device) -> Tensor:
        """The rank that holds each row."""
        tails = [n - h for n, h in zip(self.lengths, self.heads, strict=True)]
        counts = torch.tensor([*self.heads, *tails], device=device)
        ranks = torch.arange(len(self.lengths), device=device).repeat(2)
        return ranks.repeat_interleave(counts)

    def start(self, rank: int) -> int:
        """The global number of a rank's first row."""
        assert self.heads == self.lengths
        return sum(self.lengths[:rank])

    def padded(self, x: Tensor) -> Tensor:
        """A rank's rows with zeros behind, as many rows as the longest rank has."""
        missing = self.longest - x.shape[0]
        return torch.cat([x, x.new_zeros(missing, *x.shape[1:])]) if missing else x

    def joined(self, stacked: Tensor) -> Tensor:
        """The global rows, from the padded ones of every rank."""
        if self.even:
            return stacked.flatten(0, 1)
        pieces = [stacked[r, :head] for r, head in enumerate(self.heads)]
        pieces += [stacked[r, self.heads[r] : n] for r, n in enumerate(self.lengths)]
        return torch.cat(pieces)

    def split_rows(self, x: Tensor) -> Tensor:
        """The padded rows of every rank, from the global ones: the inverse of ``joined``."""
        if self.even:
            found: Tensor = x.unflatten(0, (len(self.lengths), self.longest))
            return found
        out = x.new_zeros(len(self.lengths), self.longest, *x.shape[1:])
        for rank in range(len(self.lengths)):
            for run in self.runs(rank):
                out[rank, run.local] = x[run.everywhere]
        return out


def check_partners(queries: tuple[int, ...], candidates: tuple[int, ...]) -> None:
    """Every rank holds the partners of its own queries."""
    for rank, (n, m) in enumerate(zip(queries, candidates, strict=True)):
        if m < n:
            raise ValueError(
                f"rank {rank} has {n} queries but {m} candidates: query i is paired with candidate i of the "
                "same rank, so there must be at least as many candidates"
            )


def check_same_rows(embeddings: tuple[int, ...], reference: tuple[int, ...]) -> None:
    """Every rank's reference begins with its own embeddings."""
    for rank, (n, m) in enumerate(zip(embeddings, reference, strict=True)):
        if m < n:
            raise ValueError(
                f"same_set=True but rank {rank} has {n} embeddings and {m} reference rows: it says that row i "
                "of both is the same sample, so there must be at least as many reference rows on every rank"
            )
