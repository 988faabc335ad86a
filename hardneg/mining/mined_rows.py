"""``MinedRows``: the result of a run, read from its folder a block at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hardneg.mining.folder import RunFolder

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = ["MinedBlock", "MinedRows"]


@dataclass(frozen=True, eq=False, repr=False)
class MinedBlock:
    """The negatives of some queries.

    Attributes:
        start: the first query.
        indices: rows of the corpus, the highest score first; -1 behind the last.
        scores: their scores; -inf behind the last.
        counts: how many were found, at most k.
        offsets: the positives of query i are those from ``offsets[i]`` to ``offsets[i + 1]``.
        positives: rows of the corpus.
        positive_scores: their scores.
    """

    start: int
    indices: Int[Tensor, "n k"]
    scores: Float[Tensor, "n k"]
    counts: Int[Tensor, "n"]
    offsets: Int[Tensor, "n + 1"]
    positives: Int[Tensor, "t"]
    positive_scores: Float[Tensor, "t"]

    def positives_of(self, i: int) -> list[tuple[int, float]]:
        """Rows and scores of the positives of query ``start + i``."""
        at = slice(int(self.offsets[i]), int(self.offsets[i + 1]))
        rows, scores = self.positives[at].tolist(), self.positive_scores[at].tolist()
        return list(zip(rows, scores, strict=True))

    def negatives_of(self, i: int) -> list[tuple[int, float]]:
        """Rows and scores of the negatives of query ``start + i``."""
        count = int(self.counts[i])
        rows, scores = self.indices[i, :count].tolist(), self.scores[i, :count].tolist()
        return list(zip(rows, scores, strict=True))


class MinedRows:
    """The negatives of every query, in the folder of a finished run.

    Attributes:
        folder: where it is.
        k: how many negatives of a query were looked for.
        manifest: what the run was started with.

    Raises:
        ValueError: where there is no run, or an unfinished one.
    """

    def __init__(self, folder: str | Path) -> None:
        self.run = RunFolder(folder)
        self.folder = self.run.path
        self.manifest: dict[str, Any] = self.run.open()
        self.k: int = self.manifest["places"]
        missing = next((b for b in range(self.count) if not self.run.has(b)), None)
        if missing is not None:
            raise ValueError(
                f"{self.folder} holds an unfinished run: block {missing} of {self.count} is missing; start it again"
            )

    def __len__(self) -> int:
        return int(self.manifest["shape"][0])

    def __repr__(self) -> str:
        return f"MinedRows({self.k} negatives of {len(self)} queries in {str(self.folder)!r})"

    @property
    def count(self) -> int:
        """How many blocks there are."""
        return -(-len(self) // int(self.manifest["block_rows"]))

    def blocks(self) -> Iterator[MinedBlock]:
        """The blocks, one after the other."""
        for number in range(self.count):
            arrays = self.run.block(number)
            if arrays is None:
                raise ValueError(f"{self.folder}: block {number} is damaged: start the run again")
            start = number * int(self.manifest["block_rows"])
            yield MinedBlock(start, **{name: torch.from_numpy(x) for name, x in arrays.items()})

    @property
    def indices(self) -> Int[Tensor, "n k"]:
        """Rows of the corpus, all of them in memory; -1 behind the last."""
        return torch.cat([block.indices for block in self.blocks()])

    @property
    def scores(self) -> Float[Tensor, "n k"]:
        """Their scores; -inf behind the last."""
        return torch.cat([block.scores for block in self.blocks()])

    @property
    def counts(self) -> Int[Tensor, "n"]:
        """How many were found of each query."""
        return torch.cat([block.counts for block in self.blocks()])

    @property
    def short(self) -> int:
        """How many queries have fewer than k."""
        return sum(int((block.counts < self.k).sum()) for block in self.blocks())
