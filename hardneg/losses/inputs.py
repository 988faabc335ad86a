"""From a user's arguments to a comparison, checked once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hardneg.checks import (
    FLOATING,
    check_alike,
    check_embeddings,
    check_ids,
    check_layout,
    check_mask,
    check_two_sets,
)
from hardneg.losses.pairing import check_pairing
from hardneg.ops.comparison import Comparison, Relation
from hardneg.similarities import Given, Similarity, resolve_similarity

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

__all__ = [
    "check_score_matrix",
    "compare_label_scores",
    "compare_labelled",
    "compare_pair_scores",
    "compare_pairs",
]


def compare_pairs(
    queries: Float[Tensor, "n d"],
    candidates: Float[Tensor, "m d"],
    similarity: Similarity | str,
    query_ids: Int[Tensor, "n"] | None = None,
    candidate_ids: Int[Tensor, "m"] | None = None,
    positives: Bool[Tensor, "n m"] | None = None,
    ignore: Bool[Tensor, "n m"] | None = None,
    *,
    one_to_one: bool = True,
) -> Comparison:
    """Query i belongs to candidate i; equal ids (or ``positives``) are related too.

    Ids that contradict that, and what may be several candidates a query, are refused (``check_pairing``).
    """
    check_embeddings("queries", queries)
    check_embeddings("candidates", candidates)
    check_alike("queries", queries, "candidates", candidates)
    shape = queries.shape[0], candidates.shape[0]
    given = query_ids, candidate_ids, positives, ignore
    relation = pair_relation(shape, queries.device, *given, one_to_one=one_to_one)
    return Comparison(queries, candidates, resolve_similarity(similarity), relation)


def compare_pair_scores(
    scores: Float[Tensor, "n m"],
    query_ids: Int[Tensor, "n"] | None = None,
    candidate_ids: Int[Tensor, "m"] | None = None,
    positives: Bool[Tensor, "n m"] | None = None,
    ignore: Bool[Tensor, "n m"] | None = None,
    *,
    one_to_one: bool = True,
) -> Comparison:
    """The same of scores that are given."""
    check_score_matrix(scores)
    given = query_ids, candidate_ids, positives, ignore
    shape = scores.shape[0], scores.shape[1]
    relation = pair_relation(shape, scores.device, *given, one_to_one=one_to_one)
    return Comparison(scores, scores.detach().T, Given(), relation)


def check_score_matrix(x: Any, *, rows: bool = True) -> None:
    """A matrix of floats, one score a query and candidate; not empty, but it may lack ``rows``."""
    if not isinstance(x, Tensor):
        raise TypeError(
            f"scores is a {type(x).__name__}: expected a tensor of shape (queries, candidates)"
        )
    check_layout("scores", x)
    if x.dim() != 2:
        raise ValueError(f"scores has shape {tuple(x.shape)}: expected (queries, candidates)")
    if x.dtype not in FLOATING:
        raise TypeError(f"scores is {x.dtype}: expected a floating-point type; call .float() on it")
    if x.shape[1] == 0 or (rows and x.shape[0] == 0):
        raise ValueError(f"scores is empty, shape {tuple(x.shape)}: skip empty batches")


def pair_relation(
    shape: tuple[int, int],
    device: torch.device,
    query_ids: Int[Tensor, "n"] | None,
    candidate_ids: Int[Tensor, "m"] | None,
    positives: Bool[Tensor, "n m"] | None,
    ignore: Bool[Tensor, "n m"] | None,
    *,
    one_to_one: bool,
) -> Relation:
    """Who is related to whom among rows that belong together by their places."""
    check_both("query_ids", query_ids, "candidate_ids", candidate_ids)
    if not one_to_one and query_ids is None and positives is None:
        raise ValueError(
            'positives="all" without ids: pass query_ids and candidate_ids, or positive_mask, to say who '
            "belongs together"
        )
    if positives is not None and query_ids is not None:
        raise ValueError("positive_mask and ids are both given: one of them says who is related")
    n, m = shape
    if query_ids is not None:
        check_ids("query_ids", query_ids, n, device)
        check_ids("candidate_ids", candidate_ids, m, device)
    for name, mask in (("positive_mask", positives), ("ignore_mask", ignore)):
        if mask is not None:
            check_mask(name, mask, (n, m), device)
    ids = as_long(query_ids), as_long(candidate_ids)
    if one_to_one:
        check_pairing(n, m, *ids, positives, ignore)
    return Relation(*ids, positives, ignore, paired=one_to_one)


def compare_labelled(
    embeddings: Float[Tensor, "n d"],
    labels: Int[Tensor, "n"] | None,
    reference: Float[Tensor, "m d"] | None,
    reference_labels: Int[Tensor, "m"] | None,
    similarity: Similarity | str,
    positives: Bool[Tensor, "n m"] | None = None,
    ignore: Bool[Tensor, "n m"] | None = None,
    same_set: bool = False,
) -> Comparison:
    """One set with labels, or a set against a reference; equal labels are positives."""
    check_embeddings("embeddings", embeddings)
    one = reference is None
    other = embeddings if reference is None else reference
    check_embeddings("reference", other)
    check_alike("embeddings", embeddings, "reference", other)
    if not one and not same_set:
        instead = "pass the embeddings alone for one set, or same_set=True"
        check_two_sets("embeddings", embeddings, "reference", other, instead)
    if one and reference_labels is not None:
        raise ValueError("reference_labels are given without reference: pass both, or neither")
    shape = embeddings.shape[0], other.shape[0]
    given = labels, reference_labels, positives, ignore
    relation = label_relation(shape, embeddings.device, *given, one=one, same_set=one or same_set)
    return Comparison(embeddings, other, resolve_similarity(similarity), relation)


def compare_label_scores(
    scores: Float[Tensor, "n m"],
    labels: Int[Tensor, "n"] | None,
    reference_labels: Int[Tensor, "m"] | None,
    positives: Bool[Tensor, "n m"] | None,
    ignore: Bool[Tensor, "n m"] | None,
    same_set: bool | None,
    directions: str,
) -> Comparison:
    """The same of scores that are given; without ``reference_labels`` and with labels, of one set."""
    check_score_matrix(scores)
    n, m = scores.shape
    if same_set is None and positives is not None:
        raise ValueError(
            "from_scores with a positive_mask: pass same_set=True where row i and column i are one sample, else False"
        )
    one = reference_labels is None and positives is None
    if one and n != m:
        raise ValueError(
            f"scores have shape {(n, m)} without reference_labels: one set has as many columns as rows; pass the "
            "labels of the columns"
        )
    same = one if same_set is None else same_set
    if same and one:
        check_directions(directions, None)
    given = labels, reference_labels, positives, ignore
    relation = label_relation((n, m), scores.device, *given, one=one, same_set=same)
    return Comparison(scores, scores.detach().T, Given(), relation)


def label_relation(
    shape: tuple[int, int],
    device: torch.device,
    labels: Int[Tensor, "n"] | None,
    reference_labels: Int[Tensor, "m"] | None,
    positives: Bool[Tensor, "n m"] | None,
    ignore: Bool[Tensor, "n m"] | None,
    *,
    one: bool,
    same_set: bool,
) -> Relation:
    """Who is related to whom among rows that belong together by their labels."""
    if (labels is None) == (positives is None):
        raise ValueError(
            "expected labels or a positive_mask, one of the two: they say which rows belong together"
        )
    if labels is None and reference_labels is not None:
        raise ValueError(
            "reference_labels are given with a positive_mask: one of them says who is related"
        )
    n, m = shape
    others = labels if one else reference_labels
    if labels is not None:
        check_ids("labels", labels, n, device)
        if others is None:
            raise ValueError("reference is given without reference_labels: pass both, or neither")
        check_ids("reference_labels", others, m, device)
    for name, mask in (("positive_mask", positives), ("ignore_mask", ignore)):
        if mask is not None:
            check_mask(name, mask, (n, m), device)
    if same_set and n > m:
        raise ValueError(
            f"same_set=True but there are {n} embeddings and {m} reference rows: it says that row i of "
            "both is the same sample, so there must be at least as many reference rows"
        )
    ids = as_long(labels)
    others = ids if one else as_long(others)
    return Relation(ids, others, positives, ignore, same_set=same_set)


def check_both(first: str, a: Tensor | None, second: str, b: Tensor | None) -> None:
    """Two arguments that go together."""
    if (a is None) != (b is None):
        missing, present = (first, second) if a is None else (second, first)
        raise ValueError(f"{present} is given without {missing}: pass both, or neither")


def as_long(ids: Tensor | None) -> Int[Tensor, "n"] | None:
    """Ids as int64 in one piece, whatever their type and layout."""
    return None if ids is None else ids.to(torch.long).contiguous()


def check_directions(directions: str, reference: Tensor | None) -> None:
    """One labelled set has one direction."""
    if reference is None and directions != "queries":
        raise ValueError(
            f'directions={directions!r} with one set: its anchors are all rows already; use "queries", or '
            "pass a reference"
        )
