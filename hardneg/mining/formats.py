"""Mined negatives as training data: the forms that sentence-transformers' losses take, in parquet or JSON lines."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from hardneg.checks import check_choice
from hardneg.extras import require
from hardneg.mining.mined_rows import MinedRows
from hardneg.writing import write_file

__all__ = ["FORMS", "Written", "training_rows", "write_training_rows"]

Row = dict[str, Any]
Scored = tuple[int, float]

FORMS = ("triplet", "n-tuple", "labeled-pair", "labeled-list")
"""As ``output_format`` of sentence-transformers' ``mine_hard_negatives``."""
BUFFERED = 1 << 14


class Written(NamedTuple):
    """What was written.

    Attributes:
        path: the file.
        rows: how many rows.
        short: how many queries had fewer negatives than were looked for.
    """

    path: Path
    rows: int
    short: int


def training_rows(
    mined: MinedRows,
    form: str = "triplet",
    *,
    queries: Sequence[Any] | None = None,
    corpus: Sequence[Any] | None = None,
    scores: bool = False,
) -> Iterator[Row]:
    """Rows of training data, query after query.

    ==================  ================================================================================
    form                a row
    ==================  ================================================================================
    ``"triplet"``       anchor, positive, negative: for each positive with each negative of its query
    ``"n-tuple"``       anchor, positive, negative_1 ... negative_k: for each positive of a query with k
    ``"labeled-pair"``  anchor, document, label (1 for a positive): for each positive and negative
    ``"labeled-list"``  anchor, documents, labels: for each positive of a query with a negative, it first
    ==================  ================================================================================

    Args:
        mined: the result of ``CorpusMiner``.
        form: one of the above.
        queries, corpus: what stands for their rows, such as texts; None for the numbers of the rows.
        scores: triplets and tuples also have ``scores``, the positive's first; labelled rows have ``score`` or
            ``scores`` in place of the labels.

    Raises:
        ValueError: for another form, or where ``queries`` or ``corpus`` are of another length.
    """
    check_choice("form", form, FORMS)
    n, m = mined.manifest["shape"][:2]
    for name, values, rows in (("queries", queries, n), ("corpus", corpus, m)):
        if values is not None and len(values) != rows:
            raise ValueError(f"{name} are {len(values)}: expected {rows}, one a row")
    written = WRITERS[form]
    shown: Callable[[int], Any] = (lambda row: row) if corpus is None else corpus.__getitem__
    for block in mined.blocks():
        for i in range(len(block.counts)):
            query = block.start + i
            anchor = query if queries is None else queries[query]
            found = block.positives_of(i), block.negatives_of(i)
            if form != "n-tuple" or len(found[1]) == mined.k:
                yield from ({"anchor": anchor, **row} for row in written(*found, shown, scores))


def triplets(
    positives: list[Scored], negatives: list[Scored], shown: Callable[[int], Any], scores: bool
) -> Iterator[Row]:
    """Each positive with each negative."""
    for positive, high in positives:
        for negative, low in negatives:
            row = {"positive": shown(positive), "negative": shown(negative)}
            yield row | ({"scores": [high, low]} if scores else {})


def tuples(
    positives: list[Scored], negatives: list[Scored], shown: Callable[[int], Any], scores: bool
) -> Iterator[Row]:
    """Each positive with all negatives, a column each."""
    columns = {f"negative_{j}": shown(row) for j, (row, _) in enumerate(negatives, start=1)}
    for positive, high in positives:
        row = {"positive": shown(positive), **columns}
        yield row | ({"scores": [high, *(low for _, low in negatives)]} if scores else {})


def labelled_pairs(
    positives: list[Scored], negatives: list[Scored], shown: Callable[[int], Any], scores: bool
) -> Iterator[Row]:
    """Each positive and each negative."""
    for label, listed in ((1, positives), (0, negatives)):
        for row, score in listed:
            yield {"document": shown(row), **({"score": score} if scores else {"label": label})}


def labelled_lists(
    positives: list[Scored], negatives: list[Scored], shown: Callable[[int], Any], scores: bool
) -> Iterator[Row]:
    """Each positive before all negatives, as a list."""
    for first in positives if negatives else ():
        listed = [first, *negatives]
        documents = [shown(row) for row, _ in listed]
        if scores:
            yield {"documents": documents, "scores": [score for _, score in listed]}
        else:
            yield {"documents": documents, "labels": [1] + [0] * len(negatives)}


WRITERS = {
    "triplet": triplets,
    "n-tuple": tuples,
    "labeled-pair": labelled_pairs,
    "labeled-list": labelled_lists,
}


def write_training_rows(
    mined: MinedRows,
    path: str | Path,
    form: str = "triplet",
    *,
    queries: Sequence[Any] | None = None,
    corpus: Sequence[Any] | None = None,
    scores: bool = False,
) -> Written:
    """``training_rows`` in a file, complete or not at all: ``.parquet`` or ``.jsonl`` by its name.

    Raises:
        ValueError: as ``training_rows``, and for another suffix.
        OSError: for a full disk.
    """
    path = Path(path)
    check_choice("suffix of path", path.suffix, tuple(FILES))
    rows = training_rows(mined, form, queries=queries, corpus=corpus, scores=scores)
    count = 0

    def write(unfinished: Path) -> None:
        nonlocal count
        with FILES[path.suffix](unfinished) as take:
            while part := list(islice(rows, BUFFERED)):
                take(part)
                count += len(part)

    write_file(path, write)
    return Written(path, count, mined.short)


@contextmanager
def json_lines(path: Path) -> Iterator[Callable[[list[Row]], None]]:
    """What takes rows into a file of a JSON object a line."""
    with path.open("w", encoding="utf-8") as file:
        yield lambda rows: file.writelines(
            json.dumps(row, ensure_ascii=False) + "\n" for row in rows
        )


@contextmanager
def parquet(path: Path) -> Iterator[Callable[[list[Row]], None]]:
    """What takes rows into a parquet file."""
    arrow = require("pyarrow", "mining", "a parquet file")
    parquet_files = require("pyarrow.parquet", "mining", "a parquet file")
    writer: Any = None

    def take(rows: list[Row]) -> None:
        nonlocal writer
        table = arrow.Table.from_pylist(rows, None if writer is None else writer.schema)
        if writer is None:
            writer = parquet_files.ParquetWriter(path, table.schema)
        writer.write_table(table)

    try:
        yield take
        if writer is None:
            parquet_files.write_table(arrow.table({"anchor": []}), path)
    finally:
        if writer is not None:
            writer.close()


FILES = {".jsonl": json_lines, ".parquet": parquet}
