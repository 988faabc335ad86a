"""``false_negatives``: likely unlabelled positives, candidates that score near or above the query's own positive."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from hardneg.checks import check_choice, check_count, check_number
from hardneg.mining.mined_rows import MinedBlock
from hardneg.mining.report_page import page_of

__all__ = ["FalseNegatives", "LikelyPositive", "false_negatives"]


@dataclass(frozen=True)
class LikelyPositive:
    """A candidate that may belong to a query though nothing says so.

    Attributes:
        query, candidate, positive: rows of the query, of the candidate, and of the query's highest-scoring positive.
        score, positive_score: theirs.
        excess: by how much the candidate scores above the positive; below 0 where it scores less.
    """

    query: int
    candidate: int
    positive: int
    score: float
    positive_score: float
    excess: float


@dataclass(frozen=True, repr=False)
class FalseNegatives:
    """Likely unlabelled positives, the most likely first.

    Attributes:
        found: the candidates.
        total: how many there are, of which ``found`` are the first.
        queries, corpus: what stands for their rows: texts, or None.
        pictures: of queries and of the corpus: paths, or None.
    """

    found: list[LikelyPositive]
    total: int
    queries: Sequence[Any] | None = None
    corpus: Sequence[Any] | None = None
    pictures: tuple[Sequence[Any] | None, Sequence[Any] | None] = (None, None)

    def __len__(self) -> int:
        return len(self.found)

    def __repr__(self) -> str:
        return f"FalseNegatives(the first {len(self)} of {self.total})"

    def table(self) -> list[dict[str, Any]]:
        """A row for each: the fields of ``LikelyPositive``, and texts where they are known."""
        return [asdict(one) | self.texts(one) for one in self.found]

    def texts(self, one: LikelyPositive) -> dict[str, Any]:
        """What stands for the rows."""
        found = {}
        if self.queries is not None:
            found["query_text"] = self.queries[one.query]
        if self.corpus is not None:
            found["candidate_text"] = self.corpus[one.candidate]
            found["positive_text"] = self.corpus[one.positive]
        return found

    def page(self) -> str:
        """A self-contained HTML page."""
        rows = []
        for row, one in zip(self.table(), self.found, strict=True):
            of_queries, of_corpus = self.pictures
            places = (of_queries, one.query), (of_corpus, one.candidate), (of_corpus, one.positive)
            pictures = [None if paths is None else paths[at] for paths, at in places]
            rows.append(row | dict(zip(("query", "candidate", "positive"), pictures, strict=True)) | {
                "rows": (one.query, one.candidate, one.positive)
            })  # fmt: skip
        return page_of(rows, self.total)

    def write_page(self, path: str | Path) -> Path:
        """Write the page."""
        path = Path(path)
        path.write_text(self.page(), encoding="utf-8")
        return path


class MinedLists(Protocol):
    """What is read of ``MinedRows``: lists of negatives and positives, a block of queries at a time."""

    manifest: dict[str, Any]

    def blocks(self) -> Iterator[MinedBlock]:
        """The blocks, one after the other."""


def false_negatives(
    mined: MinedLists,
    limit: int = 100,
    margin: float = 0.05,
    by: str = "score",
    *,
    per_query: int | None = None,
    queries: Sequence[Any] | None = None,
    corpus: Sequence[Any] | None = None,
    query_pictures: Sequence[Any] | None = None,
    corpus_pictures: Sequence[Any] | None = None,
) -> FalseNegatives:
    """Rank candidates that score near or above the highest-scoring positive of their query.

    Args:
        mined: the result of a ``CorpusMiner`` without a ceiling, which would have left them out.
        limit: how many to keep.
        margin: how far below the positive counts as near, as a share of its score: 0.05 takes what a
            ``Ceiling(0.95)`` leaves out.
        by: ``"score"``, their own score, which finds those that fit best; or ``"excess"``, how far they score above
            the positive, which finds wrong positives, and where the model is wrong.
        per_query: at most so many of each query, the highest-scoring ones; None for all.
        queries, corpus: texts.
        query_pictures, corpus_pictures: paths of pictures, embedded in the page.

    Raises:
        ValueError: for a run with a ceiling, or lists of another length.
    """
    check_count("limit", limit)
    check_number("margin", margin, at_least=0)
    check_choice("by", by, ("excess", "score"))
    if per_query is not None:
        check_count("per_query", per_query)
    if mined.manifest["ceiling"]:
        raise ValueError(
            f"{mined} has a ceiling, which leaves out what is looked for here: mine with TopK(k) alone"
        )
    sides = (queries, corpus), (query_pictures, corpus_pictures)
    for values in sides:
        for one, rows in zip(values, mined.manifest["shape"][:2], strict=True):
            if one is not None and len(one) != rows:
                raise ValueError(f"texts or pictures are {len(one)}: expected {rows}, one a row")
    total = 0

    def counted() -> Iterator[LikelyPositive]:
        nonlocal total
        for block in mined.blocks():
            for one in near(block, margin, per_query):
                total += 1
                yield one

    def place(one: LikelyPositive) -> tuple[float, int, int]:
        return -getattr(one, by), one.query, one.candidate

    found = heapq.nsmallest(limit, counted(), key=place)
    return FalseNegatives(found, total, queries, corpus, (query_pictures, corpus_pictures))


def near(block: MinedBlock, margin: float, most: int | None) -> Iterator[LikelyPositive]:
    """Those of a block."""
    for i in range(len(block.counts)):
        positives = block.positives_of(i)
        if not positives:
            continue
        positive, high = max(positives, key=lambda one: (one[1], -one[0]))
        for candidate, score in block.negatives_of(i)[:most]:
            if score < high - margin * abs(high):
                break
            yield LikelyPositive(block.start + i, candidate, positive, score, high, score - high)
