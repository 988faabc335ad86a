"""Runs and relevance judgements in the formats of TREC, which ``trec_eval`` and its relatives read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import torch
from torch import Tensor

from hardneg.checks import check_ids
from hardneg.metrics.relevance import entries, same_ids
from hardneg.ops.grid import chunks
from hardneg.writing import write_file

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = ["write_trec_qrels", "write_trec_run"]

ROWS_AT_ONCE = 1024


def write_trec_run(
    file: str | Path | TextIO,
    found: Any,
    *,
    query_names: Sequence[str | int] | Tensor | None = None,
    candidate_names: Sequence[str | int] | Tensor | None = None,
    tag: str = "hardneg",
) -> None:
    """Write retrieved or mined lists as a TREC run: ``query Q0 candidate rank score tag``, a line a candidate.

    ``trec_eval`` knows no ranks: it sorts by score as float32, and equal ones by name. So the scores are written as
    float32 that fall strictly, those that do not by the smallest step, and it reads the order of the lists. Lists are
    sorted by falling score; equal scores stay in their order. A query without candidates has no line.

    Args:
        file: a path, which has the whole content or is left alone, or a text file that is open for writing.
        found: lists with ``indices`` and ``scores``, n x k, rows of the candidates, -1 for none: what
            ``top_candidates``, ``hardneg.mine`` and ``CorpusMiner`` return.
        query_names, candidate_names: a name for every row of both sides; None for the rows' numbers.
        tag: the name of the run.

    Raises:
        ValueError: for names that are empty, repeated, or contain white space; too few of them; a candidate twice in
            a list; scores that are NaN or infinite.
        TypeError: for names that are neither strings nor whole numbers, or lists without indices and scores.

    Example:
        >>> import io
        >>> from hardneg.metrics import top_candidates
        >>> file = io.StringIO()
        >>> write_trec_run(file, top_candidates(torch.eye(2), torch.eye(2), 1), query_names=["q1", "q2"])
        >>> print(file.getvalue(), end="")
        q1 Q0 0 1 1 hardneg
        q2 Q0 1 1 1 hardneg

    Source: https://trec.nist.gov, trec_eval 9, README and ``get_trec_results.c``.
    """
    check_name("tag", tag)
    in_blocks = hasattr(found, "blocks")
    if not in_blocks and not (hasattr(found, "indices") and hasattr(found, "scores")):
        raise TypeError(
            f"found is a {type(found).__name__}: expected lists with indices and scores, as top_candidates, "
            "hardneg.mine and CorpusMiner return them"
        )
    blocks, n = (found.blocks(), len(found)) if in_blocks else ([found], len(found.indices))
    names = Names("query_names", query_names, n), Names("candidate_names", candidate_names)
    write(file, run_lines(blocks, names, str(tag)))


def write_trec_qrels(
    file: str | Path | TextIO,
    relevance: Float[Tensor, "n m"] | None = None,
    *,
    query_ids: Int[Tensor, "n"] | None = None,
    candidate_ids: Int[Tensor, "m"] | None = None,
    same_set: bool = False,
    query_names: Sequence[str | int] | Tensor | None = None,
    candidate_names: Sequence[str | int] | Tensor | None = None,
) -> None:
    """Write what is relevant as TREC judgements: ``query 0 candidate grade``, a line for each relevant pair.

    Args:
        file: as in ``write_trec_run``.
        relevance: n x m, dense or sparse (COO, CSR), of bools or whole numbers of at least 0.
        query_ids, candidate_ids: in place of it; equal ids are relevant, of grade 1. One set needs query_ids only.
        same_set: query i and candidate i are one item, which is no candidate of itself.
        query_names, candidate_names: as in ``write_trec_run``.

    Raises:
        ValueError: for ids and relevance together or neither; grades that are no whole numbers of at least 0; names as
            in ``write_trec_run``.
        TypeError: for ids or relevance of another type.

    Example:
        >>> import io
        >>> file = io.StringIO()
        >>> write_trec_qrels(file, torch.tensor([[0, 2], [1, 0]]), candidate_names=["a", "b"])
        >>> print(file.getvalue(), end="")
        0 0 b 2
        1 0 a 1
    """
    if relevance is None:
        pairs, shape = pairs_of_ids(query_ids, candidate_ids, same_set)
    elif query_ids is not None or candidate_ids is not None:
        raise ValueError("ids and relevance are both given: pass one of them")
    else:
        pairs, shape = pairs_of_matrix(relevance, same_set)
    queries = Names("query_names", query_names, shape[0])
    candidates = Names("candidate_names", candidate_names, shape[1])
    write(
        file,
        (f"{queries[i]} 0 {candidates[j]} {grade}\n" for i, j, grade in pairs),
    )


def write(file: str | Path | TextIO, lines: Iterable[str]) -> None:
    """All lines to an open file, or to a path at once."""
    if hasattr(file, "writelines"):
        file.writelines(lines)
        return

    def fill(unfinished: Path) -> None:
        with unfinished.open("w", encoding="utf-8", newline="\n") as opened:
            opened.writelines(lines)

    write_file(Path(file), fill)


class Names:
    """The names of the rows of a side, unlike and without white space."""

    def __init__(self, argument: str, names: Any, count: int | None = None) -> None:
        self.argument, self.names = argument, None
        if names is None:
            return
        if isinstance(names, str):
            raise TypeError(f"{argument} is a string: expected a sequence of names")
        names = names.tolist() if hasattr(names, "tolist") else list(names)
        self.names = [check_name(f"{argument}[{row}]", name) for row, name in enumerate(names)]
        if count is not None and len(names) != count:
            raise ValueError(f"{argument} are {len(names)}: expected {count}, one a row")
        seen: dict[str, int] = {}
        for row, name in enumerate(self.names):
            if seen.setdefault(name, row) != row:
                raise ValueError(
                    f"{argument}[{seen[name]}] and [{row}] are both {name!r}: expected a name for each row"
                )

    def __getitem__(self, row: int) -> str:
        if self.names is None:
            return str(row)
        if row >= len(self.names):
            raise ValueError(f"{self.argument} are {len(self.names)}, but row {row} is listed")
        return self.names[row]


def check_name(argument: str, name: Any) -> str:
    """A word of a line."""
    if isinstance(name, bool) or not isinstance(name, str | int):
        raise TypeError(f"{argument} is {name!r}: expected a string or a whole number")
    word = str(name)
    if not word or any(letter.isspace() for letter in word):
        raise ValueError(f"{argument} is {name!r}: TREC's files take names without white space")
    return word


def run_lines(blocks: Iterable[Any], names: tuple[Names, Names], tag: str) -> Iterator[str]:
    """The lines of a run, query after query."""
    for block in blocks:
        start = int(getattr(block, "start", 0))
        indices, scores = torch.as_tensor(block.indices), torch.as_tensor(block.scores)
        if indices.dim() != 2 or indices.shape != scores.shape:
            raise ValueError(
                f"indices have shape {tuple(indices.shape)}, scores {tuple(scores.shape)}: expected (n, k) of both"
            )
        for rows in chunks(len(indices), ROWS_AT_ONCE):
            listed = falling(indices[rows], scores[rows], start + rows.start)
            for i, (columns, values) in enumerate(zip(*listed, strict=True)):
                query = names[0][start + rows.start + i]
                for place, (column, value) in enumerate(zip(columns, values, strict=True)):
                    if column < 0:
                        break
                    yield f"{query} Q0 {names[1][column]} {place + 1} {value:.9g} {tag}\n"


def falling(
    indices: Int[Tensor, "r k"], scores: Float[Tensor, "r k"], start: int
) -> tuple[list[list[int]], list[list[float]]]:
    """Lists by falling score, those without a candidate last, and scores that float32 tells apart."""
    indices, scores = indices.cpu(), scores.detach().cpu().to(torch.float64)
    listed = indices >= 0
    unusable = (listed & ~scores.isfinite()).nonzero()
    if len(unusable):
        i, j = unusable[0].tolist()
        raise ValueError(
            f"the score of query {start + i} and candidate {int(indices[i, j])} is {float(scores[i, j])}: expected a "
            "finite number"
        )
    columns = indices.sort(dim=1).values
    twice = ((columns[:, 1:] == columns[:, :-1]) & (columns[:, 1:] >= 0)).nonzero()
    if len(twice):
        i, j = twice[0].tolist()
        raise ValueError(f"query {start + i} lists candidate {int(columns[i, j])} twice")
    scores, order = scores.where(listed, -torch.inf).sort(dim=1, descending=True, stable=True)
    return indices.gather(1, order).tolist(), apart(scores).tolist()


def apart(scores: Float[Tensor, "r k"]) -> Float[Tensor, "r k"]:
    """Falling scores as strictly falling float32."""
    limits = torch.finfo(torch.float32)
    found = scores.clamp(limits.min / 2, limits.max).to(torch.float32)
    lowest = torch.tensor(-torch.inf)
    for place in range(1, found.shape[1]):
        below = torch.nextafter(found[:, place - 1], lowest)
        found[:, place] = torch.minimum(found[:, place], below)
    return found


def pairs_of_matrix(
    relevance: Any, same_set: bool
) -> tuple[Iterator[tuple[int, int, int]], tuple[int, int]]:
    """The entries above 0, row after row, and the shape."""
    if not isinstance(relevance, Tensor) or relevance.is_complex() or relevance.dim() != 2:
        kind = tuple(relevance.shape) if isinstance(relevance, Tensor) else type(relevance).__name__
        raise TypeError(f"relevance is {kind}: expected a dense or sparse matrix of whole numbers")
    row, column, grade = (x.cpu() for x in entries(relevance))
    if not bool((grade.isfinite() & (grade >= 0) & (grade == grade.trunc())).all()):
        raise ValueError("relevance has entries that are no whole numbers of at least 0")
    kept = (grade > 0) & ((row != column) | (not same_set))
    lists = (x[kept].long().tolist() for x in (row, column, grade))
    n, m = relevance.shape
    return zip(*lists, strict=True), (n, m)


def pairs_of_ids(
    query_ids: Any, candidate_ids: Any, same_set: bool
) -> tuple[Iterator[tuple[int, int, int]], tuple[int, int]]:
    """Rows of equal ids, query after query, and how many there are of both."""
    if same_set and candidate_ids is None:
        candidate_ids = query_ids
    for name, ids in (("query_ids", query_ids), ("candidate_ids", candidate_ids)):
        if ids is None:
            raise ValueError(f"{name} is missing: pass relevance, or the ids of both sides")
        check_ids(name, ids, len(ids), query_ids.device)
    relevant = same_ids(query_ids.long(), candidate_ids.long(), same_set)

    def pairs() -> Iterator[tuple[int, int, int]]:
        for rows in chunks(len(query_ids), ROWS_AT_ONCE):
            columns, valid, _ = relevant.listed(rows)
            for i, j in valid.nonzero().tolist():
                yield rows.start + i, int(columns[i, j]), 1

    return pairs(), (len(query_ids), len(candidate_ids))
