"""Calls that suit another family of losses or another library: what to write instead."""

from __future__ import annotations

import inspect
from typing import Any, NoReturn

from torch import Tensor

__all__ = ["GIVEN", "refuse_further", "refuse_index_lists", "refuse_labels", "refuse_pairs"]

GIVEN: Any = inspect.Parameter.empty
"""Default of what a call must be given: a missing one is told like any other mistake, a signature has no default."""

ON_LABELS = "for labels use a loss on them, such as TripletLoss()(embeddings, labels) or SupConLoss"
ON_PAIRS = (
    "for pairs use a loss on them, such as InfoNCELoss()(queries, candidates) or ContrastiveLoss"
)
ON_TRIPLES = (
    "for rows of anchors, positives and negatives ContrastiveLoss(directions='queries')(anchors, positives, "
    "own_negatives=negatives.unsqueeze(1), share_negatives=False)"
)
ON_VIEWS = (
    "two views of each sample are torch.cat([a, b]) with labels torch.arange(len(a)).repeat(2)"
)
ON_SCORES = "for a matrix of scores call loss.from_scores(scores)"
INDEX_LISTS = (
    "index lists of a miner go to loss.from_triplets(embeddings, *triplets) or loss.from_pairs(embeddings, *pairs) "
    "of a loss on labels"
)
TWINS = {
    "ContrastiveLoss": "Hadsell's contrastive loss is PairwiseContrastiveLoss()(embeddings, labels)",
    "InfoNCELoss": "on labels it is NTXentLoss()(embeddings, labels)",
}
"""Losses on labels that other libraries know by the name of ours on pairs."""


def refuse_further(owner: str, queries: Any, further: tuple[Any, ...]) -> NoReturn:
    """Refuse positional arguments after queries and candidates.

    Raises:
        TypeError: naming the keywords.
    """
    raise TypeError(
        f"{owner} takes queries and candidates, all else by name: {third_argument(owner, queries, further[0])}"
    )


def third_argument(owner: str, queries: Any, third: Any) -> str:
    """What a third argument is likely to be."""
    alone = f"{owner}(..., directions='queries')(queries, candidates, own_negatives="
    if not isinstance(third, Tensor) or third.ndim == 0:
        return "a scale s is temperature=1 / s of the constructor"
    if not third.is_floating_point():
        return "ids are query_ids=ids, candidate_ids=ids"
    if third.ndim == 2 and third.shape[:1] == queries.shape[:1]:
        return f"a negative for each query is {alone}negatives.unsqueeze(1), share_negatives=False)"
    if third.ndim == 2:
        return (
            "negatives for all queries are further candidates, torch.cat([candidates, negatives])"
        )
    return f"k negatives for each query are {alone}negatives, share_negatives=False), n x k x d"


def refuse_labels(owner: str, queries: Any, candidates: Any) -> None:
    """Refuse labels, or nothing, where a loss on pairs expects candidates.

    Raises:
        TypeError: naming the loss that takes labels.
    """
    if candidates is GIVEN:
        alone = f": {ON_SCORES}; {on_labels(owner)}" if queries is not GIVEN else ""
        raise TypeError(f"{owner} takes queries and candidates{alone}")
    if (
        isinstance(candidates, Tensor)
        and candidates.ndim == 1
        and not candidates.is_floating_point()
    ):
        raise TypeError(
            f"candidates has shape {tuple(candidates.shape)} and holds integers, as labels do: {owner} compares pairs; "
            f"{on_labels(owner)}; {ON_SCORES}"
        )


def on_labels(owner: str) -> str:
    """The losses that take labels, with the twin of a loss on pairs where other libraries have one."""
    return f"{ON_LABELS}; {TWINS[owner]}" if owner in TWINS else ON_LABELS


def refuse_pairs(owner: str, embeddings: Any, labels: Any, reference: Any) -> None:
    """Refuse nothing where a loss on labels expects embeddings, rows for labels, and index lists for rows.

    Raises:
        TypeError: naming the loss or the method that takes them.
    """
    if embeddings is GIVEN:
        raise TypeError(f"{owner} takes embeddings and labels")
    if isinstance(embeddings, Tensor) and not embeddings.is_nested and embeddings.ndim == 3:
        raise ValueError(
            f"embeddings has shape {tuple(embeddings.shape)}: expected (rows, width); flatten or pool it first, n x "
            "views x width by embeddings.flatten(0, 1), labels.repeat_interleave(views)"
        )
    if isinstance(labels, Tensor) and labels.ndim == 2 and labels.is_floating_point():
        raise TypeError(
            f"labels has shape {tuple(labels.shape)} and holds {labels.dtype}, as embeddings do: {owner} takes "
            f"embeddings and an integer for each row; {ON_VIEWS}; {ON_PAIRS}; {ON_TRIPLES}"
        )
    refuse_index_lists("labels", labels)
    refuse_index_lists("reference", reference)


def refuse_index_lists(argument: str, value: Any) -> None:
    """Refuse a tuple or list of index tensors where one tensor is expected.

    Raises:
        TypeError: naming the methods that take them.
    """
    if isinstance(value, tuple | list) and value and all(isinstance(one, Tensor) for one in value):
        raise TypeError(f"{argument} is a {type(value).__name__} of tensors: {INDEX_LISTS}")
