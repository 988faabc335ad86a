"""Whether row i of the queries and row i of the candidates really belong together, as far as that can be told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.ops.transforms import is_wrapped

if TYPE_CHECKING:
    from jaxtyping import Bool, Int

__all__ = ["check_pairing"]

MOST_CANDIDATES = 100
"""Up to how many candidates a query may have; more rows are a queue or a corpus, whose size is often a round number."""

SEVERAL = (
    "for {k} candidates a query (five captions an image) repeat the queries' rows, "
    "loss(queries.repeat_interleave({k}, 0), candidates, ...) with their ids repeated too; or pass ids to a loss with "
    'positives="all" (InfoNCELoss, SigmoidLoss); or draw one candidate a query for each batch'
)
CONTRADICTION = (
    "query_ids and candidate_ids contradict the pairing: query i is paired with candidate i, yet some "
    "query_ids[i] differs from candidate_ids[i]: bring the candidates into the order of the queries"
)


def check_pairing(
    n: int,
    m: int,
    query_ids: Int[Tensor, "n"] | None,
    candidate_ids: Int[Tensor, "m"] | None,
    positives: Bool[Tensor, "n m"] | None,
    ignore: Bool[Tensor, "n m"] | None,
) -> None:
    """Row i of the queries belongs to row i of the candidates; further candidates are extra negatives.

    Raises:
        ValueError: for fewer candidates than queries; for up to 100 times the queries without ids or a mask,
            which may be several candidates a query; for ids, or then a mask, that contradict the pairs.
            On other devices than a CPU, and compiled, the last two are asynchronous assertions.
    """
    if m < n:
        raise ValueError(fewer(n, m))
    # any number is a multiple of one query, which tells nothing
    multiple = n > 1 and m % n == 0 and 1 < m // n <= MOST_CANDIDATES
    if query_ids is not None and candidate_ids is not None:
        agree = query_ids, candidate_ids[:n]
        told = f"{CONTRADICTION}; {SEVERAL.format(k=m // n)}" if multiple else CONTRADICTION
        check_equal(*agree, ignore, told)
    elif multiple and positives is not None:
        check_all(positives.diagonal(), unmarked_message(n, m))
    elif multiple:
        raise ValueError(ambiguous(n, m))


def fewer(n: int, m: int) -> str:
    """What is wrong with fewer candidates than queries."""
    told = (
        f"{n} queries but {m} candidates: query i is paired with candidate i, so there must be at least as many "
        "candidates"
    )
    if m > 1 and n % m == 0:
        k = n // m
        return (
            f"{told}; for {k} queries a candidate repeat the candidates' rows, "
            f"candidates.repeat_interleave({k}, 0), with ids; or draw one query a candidate for each batch; "
            "swap the two inputs only if the further rows are extra negatives"
        )
    return (
        f"{told}; swap the two inputs if the further rows belong to no other row and are extra negatives, or use "
        "TripletLoss with labels"
    )


def ambiguous(n: int, m: int) -> str:
    """What may be wrong with a multiple of candidates."""
    return (
        f"{n} queries and {m} = {m // n} x {n} candidates without ids: query i is paired with candidate i alone, and "
        f"candidates from {n} on are extra negatives; {SEVERAL.format(k=m // n)}. If they are extra "
        f"negatives, say so with ids: query_ids=torch.arange({n}), candidate_ids=torch.arange({m})"
    )


def unmarked_message(n: int, m: int) -> str:
    """What is wrong with a mask that leaves out some pair (i, i)."""
    return (
        f"positive_mask contradicts the pairing of {n} queries with {m} = {m // n} x {n} candidates: query i is paired "
        "with candidate i, yet some positive_mask[i, i] is False: mark every (i, i) if the further candidates are "
        f"extra negatives; {SEVERAL.format(k=m // n)}"
    )


def check_equal(
    first: Int[Tensor, "n"], second: Int[Tensor, "n"], ignore: Tensor | None, message: str
) -> None:
    """Equal ids, but for pairs that are ignored anyway."""
    if readable(first) and readable(second) and torch.equal(first, second):
        return
    agree = first == second
    check_all(agree if ignore is None else agree | ignore.diagonal()[: len(agree)], message)


def check_all(holds: Bool[Tensor, "n"], message: str) -> None:
    """Every entry is True: read on a CPU, asserted on the device elsewhere, so that nothing waits for it."""
    if readable(holds):
        if not bool(holds.all()):
            raise ValueError(message)
    elif holds.device.type != "meta" and not is_wrapped(holds):
        torch._assert_async(holds.all(), message)


def readable(x: Tensor) -> bool:
    """Whether reading a number of it costs nothing: it is on the CPU, and no compiler or transform is at work."""
    return (
        not torch.compiler.is_compiling()
        and x.device.type == "cpu"
        and type(x) is Tensor
        and not is_wrapped(x)
    )
