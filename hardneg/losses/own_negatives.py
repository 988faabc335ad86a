"""From the arguments about a query's own negatives to ``OwnNegatives``, checked once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hardneg.checks import FLOATING, check_layout, check_type
from hardneg.ops.comparison import Comparison
from hardneg.ops.own import OwnNegatives

if TYPE_CHECKING:
    from jaxtyping import Bool, Int

__all__ = ["own_negatives_of"]


def check_nothing_own(ids: Tensor | None, mask: Tensor | None, share: bool, exempt: bool) -> None:
    """Nothing is said of own negatives where there are none."""
    given = [("own_negative_ids", ids is not None), ("own_ignore_mask", mask is not None)]
    chosen = [("share_negatives=False", not share), ("exempt_own_negatives=True", exempt)]
    for name, there in [*given, *chosen]:
        if there:
            raise ValueError(
                f"{name} is given without own_negatives: pass them too, or leave it out"
            )


def own_negatives_of(
    comparison: Comparison,
    embeddings: Any,
    ids: Any,
    mask: Any,
    share: bool,
    exempt: bool,
    directions: str,
) -> OwnNegatives | None:
    """Own negatives of the queries of a comparison; None where there are none beside the candidates.

    Raises:
        ValueError, TypeError: naming the argument, what was expected, and what came.
    """
    if embeddings is None:
        check_nothing_own(ids, mask, share, exempt)
        return None
    check_type("share_negatives", share, bool)
    check_type("exempt_own_negatives", exempt, bool)
    check_own_embeddings(embeddings, comparison.queries)
    if not share and directions != "queries":
        raise ValueError(
            f"share_negatives=False with directions={directions!r}: candidates as anchors have no negatives then; "
            'use directions="queries"'
        )
    n, k = embeddings.shape[:2]
    row_ids, admitted = comparison.relation.row_ids, None
    if ids is not None:
        check_per_query("own_negative_ids", ids, (n, k), comparison.queries)
        admitted = unrelated(row_ids, ids)
    if mask is not None:
        check_per_query("own_ignore_mask", mask, (n, k), comparison.queries, mask=True)
        admitted = ~mask if admitted is None else admitted & ~mask
    if k == 0 and not share:
        raise ValueError("own_negatives are empty and share_negatives=False: no negative is left")
    return OwnNegatives(embeddings, admitted, not share, exempt) if k > 0 else None


def unrelated(row_ids: Int[Tensor, "n"] | None, ids: Int[Tensor, "n k"]) -> Bool[Tensor, "n k"]:
    """Which own negatives have another id than their query."""
    if row_ids is None:
        raise ValueError("own_negative_ids are given without query_ids: pass both, or neither")
    found: Tensor = ids != row_ids[:, None]
    return found


def check_own_embeddings(x: Any, queries: Tensor) -> None:
    """k embeddings for each query, of its width, type and device."""
    n, width = queries.shape
    expected = f"expected ({n}, k, {width}), k embeddings for each query"
    if not isinstance(x, Tensor):
        raise TypeError(f"own_negatives is a {type(x).__name__}: {expected}")
    check_layout("own_negatives", x)
    if x.dim() != 3 or x.shape[0] != n or x.shape[2] != width:
        raise ValueError(f"own_negatives has shape {tuple(x.shape)}: {expected}")
    if x.dtype not in FLOATING or x.dtype != queries.dtype:
        raise TypeError(
            f"own_negatives are {x.dtype} but queries are {queries.dtype}: convert one of them"
        )
    if x.device != queries.device:
        raise ValueError(
            f"own_negatives are on {x.device} but queries on {queries.device}: move one of them"
        )


def check_per_query(
    argument: str, x: Any, shape: tuple[int, int], queries: Tensor, mask: bool = False
) -> None:
    """A whole number, or a boolean, for each own negative."""
    kind = "bool" if mask else "integer"
    if not isinstance(x, Tensor):
        raise TypeError(
            f"{argument} is a {type(x).__name__}: expected {kind} tensor of shape {shape}"
        )
    check_layout(argument, x)
    if tuple(x.shape) != shape:
        raise ValueError(
            f"{argument} has shape {tuple(x.shape)}: expected {shape}, as own_negatives"
        )
    numbers = not x.dtype.is_floating_point and not x.dtype.is_complex
    if not numbers or mask != (x.dtype == torch.bool):
        raise TypeError(
            f"{argument} is {x.dtype}: expected {kind} values; call {'.bool()' if mask else '.long()'} on it"
        )
    if x.device != queries.device:
        raise ValueError(
            f"{argument} is on {x.device}: expected {queries.device}, where the embeddings are"
        )
