"""What ranks tell each other before a metric, so that wrong input on one raises on all instead of hanging."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hardneg.checks import FLOATING, check_alike, check_embeddings, check_ids, is_one_tensor
from hardneg.distributed.collectives import Ranks

__all__ = ["Facts", "RankInput", "agree"]

SIDES = {"queries": "query_ids", "candidates": "candidate_ids"}


@dataclass(frozen=True, eq=False, repr=False)
class RankInput:
    """What one rank passes.

    Attributes:
        scored: whether the queries are rows of given scores, and the candidates their transpose.
        replicated: whether candidates and their ids are those of all ranks already.
        metric: its name.
        pairing: which rows belong together without ids: ``"rows"`` of one place, ``"captions"``, equally many of each
            query in order, or ``"none"``.
        options: of the metric, alike on all ranks.
    """

    queries: Tensor
    candidates: Tensor
    query_ids: Tensor | None
    candidate_ids: Tensor | None
    relevance: Tensor | None
    scored: bool
    replicated: bool
    metric: str
    pairing: str
    options: dict[str, Any]

    @property
    def paired(self) -> bool:
        """Whether rows belong together by their places."""
        given = (self.query_ids, self.candidate_ids, self.relevance)
        return self.pairing != "none" and all(x is None for x in given)

    def check(self) -> None:
        """What can be told without the other ranks; a rank may have no rows."""
        check_options(self)
        for name, ids_name in SIDES.items():
            x, ids = getattr(self, name), getattr(self, ids_name)
            if not self.scored:
                empty = isinstance(x, Tensor) and x.dim() == 2 and len(x) == 0
                check_embeddings(name, x.new_zeros(1, 1) if empty else x)
            if ids is not None:
                check_ids(ids_name, ids, len(x), x.device)
        if len(self.queries) and len(self.candidates) and not self.scored:
            check_alike("queries", self.queries, "candidates", self.candidates)
        if self.relevance is not None:
            check_relevance_rows(self.relevance, self.queries)

    def facts(self) -> list[int]:
        """What the others need to know, in the order of ``Facts``."""
        kinds = [
            fact
            for x in (self.queries, self.candidates)
            for fact in (len(x), x.shape[1] if len(x) else -1, kind(x) if len(x) else -1)
        ]
        one = is_one_tensor(self.queries, self.candidates) and not self.scored
        columns = -1 if self.relevance is None else self.relevance.shape[1]
        rows = checksum(self.candidates) if self.replicated else 0
        ids = checksum(self.candidate_ids) if self.replicated or self.scored else 0
        return [*kinds, columns, int(one), rows, ids]

    def digest(self) -> int:
        """A number for the call, alike in every process."""
        given = [name for name in (*SIDES.values(), "relevance") if getattr(self, name) is not None]
        text = (
            f"{self.metric} {sorted(self.options.items())} {given} {self.scored} {self.replicated}"
        )
        text = re.sub(r" at 0x[0-9a-f]+", "", text)
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")


@dataclass(frozen=True)
class Facts:
    """Of all ranks, one entry each: rows, width and type of both sides (-1 without rows), columns of ``relevance``,
    whether both sides are one tensor, checksums of the candidates and of their ids where all ranks have all of them.
    """

    query_rows: tuple[int, ...]
    query_width: tuple[int, ...]
    query_dtype: tuple[int, ...]
    candidate_rows: tuple[int, ...]
    candidate_width: tuple[int, ...]
    candidate_dtype: tuple[int, ...]
    columns: tuple[int, ...]
    one: tuple[int, ...]
    rows_checksum: tuple[int, ...]
    ids_checksum: tuple[int, ...]


def agree(given: RankInput, ranks: Ranks) -> Facts:
    """The facts of all ranks.

    Raises:
        ValueError, TypeError: on every rank, where any rank's input is unsound or they disagree.
    """
    error, told = None, [0] * len(Facts.__dataclass_fields__)
    try:
        given.check()
        told = given.facts()
    except (TypeError, ValueError, RuntimeError, AttributeError) as found:
        error = found
    sent = [int(error is None), given.digest(), *told]
    table = ranks.all_gather(torch.tensor(sent, dtype=torch.long, device=ranks.device)[None])
    sound, digests, *columns = table.flatten(0, 1).T.tolist()
    if error is not None:
        raise error
    if 0 in sound:
        raise ValueError(
            f"across_ranks: rank {sound.index(0)} was given wrong input; its own message says what"
        )
    same("calls another metric, or with other options or arguments,", digests)
    facts = Facts(*(tuple(column) for column in columns))
    check_facts(facts, given)
    return facts


def check_facts(facts: Facts, given: RankInput) -> None:
    """What must be the same on every rank that has rows."""
    queries, candidates = facts.query_rows, facts.candidate_rows
    same("has queries of another width", facts.query_width, queries)
    same("has queries of another type", facts.query_dtype, queries)
    if not given.scored:
        same("has candidates of another width", facts.candidate_width, candidates)
        same("has candidates of another type", facts.candidate_dtype, candidates)
    if given.replicated or given.scored:
        held = queries if given.scored else None
        why = (
            "of which every rank passes all,"
            if given.scored
            else "though replicated_candidates=True,"
        )
        same(f"has another number of candidates, {why}", candidates, held)
        same(f"has other candidates, {why}", facts.rows_checksum, held)
        same(f"has other ids of candidates, {why}", facts.ids_checksum, held)
        if any(facts.one) and len(facts.one) > 1:
            raise ValueError(
                f"rank {facts.one.index(1)} passes one tensor as its own queries and as the candidates of all ranks"
            )
    elif given.paired:
        check_places(facts, given.pairing == "captions")
    if given.relevance is not None:
        total = max(candidates) if given.replicated or given.scored else sum(candidates)
        wrong = [r for r, n in enumerate(facts.columns) if n != total and queries[r]]
        if wrong:
            raise ValueError(
                f"relevance has {facts.columns[wrong[0]]} columns on rank {wrong[0]}: expected {total}, that rank's "
                "queries by the candidates of all ranks"
            )


def check_places(facts: Facts, by_captions: bool) -> None:
    """Rows that belong together on every rank do so in the global order."""
    each = sum(facts.candidate_rows) / max(1, sum(facts.query_rows)) if by_captions else 1
    number = "equally many captions of every image" if by_captions else "one candidate a query"
    for rank, (n, m) in enumerate(zip(facts.query_rows, facts.candidate_rows, strict=True)):
        if n * each != m:
            raise ValueError(
                f"rank {rank} has {n} queries and {m} candidates: without ids a rank has {number}, in order; pass the "
                "ids of both sides"
            )


def check_options(given: RankInput) -> None:
    """No rows among the options, which would be those of one rank; nothing that given scores do not allow."""
    for name, value in given.options.items():
        if isinstance(value, Tensor):
            raise TypeError(
                f"{name} is a tensor: pass queries, candidates and their ids by position, and relevance by name"
            )
    if given.scored and given.pairing == "captions":
        raise ValueError(
            f"{given.metric} of given scores ranks columns too, which no rank holds whole: gather the scores, or pass "
            "embeddings"
        )


def same(what: str, values: Any, rows: Any = None) -> None:
    """Equal values on all ranks, or on all that have rows."""
    those = [r for r in range(len(values)) if rows is None or rows[r]]
    other = next((r for r in those if values[r] != values[those[0]]), None)
    if other is not None:
        raise ValueError(
            f"across_ranks: rank {other} {what} than rank {those[0]}: expected the same on every rank"
        )


def check_relevance_rows(relevance: Any, queries: Tensor) -> None:
    """A matrix with a row for each query of this rank."""
    if not isinstance(relevance, Tensor) or relevance.is_complex():
        kind = relevance.dtype if isinstance(relevance, Tensor) else type(relevance).__name__
        raise TypeError(f"relevance is {kind}: expected a dense or sparse matrix of numbers")
    if relevance.dim() != 2 or len(relevance) != len(queries):
        raise ValueError(
            f"relevance has shape {tuple(relevance.shape)}: expected ({len(queries)}, m), this rank's queries by the "
            "candidates of all ranks"
        )
    if relevance.device != queries.device:
        raise ValueError(
            f"relevance is on {relevance.device}: expected {queries.device}, where the embeddings are"
        )


def kind(x: Tensor) -> int:
    """A number for the type."""
    return FLOATING.index(x.dtype)


def checksum(x: Tensor | None) -> int:
    """A number that tells rows in another order, and most other differences."""
    if x is None or x.numel() == 0:
        return 0
    bits = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[x.element_size()]
    rows = x.detach().contiguous().view(bits).reshape(len(x), -1).sum(1, dtype=torch.long)
    place = torch.arange(1, len(x) + 1, device=x.device)
    return int((rows * place).sum())
