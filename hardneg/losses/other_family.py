"""Calls that suit another family of losses or another library: what to write instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from hardneg.checks import refuse_renamed

__all__ = ["refuse_index_lists", "refuse_labels", "refuse_pairs", "refuse_unknown"]

ON_LABELS = "for labels use a loss on them, such as TripletLoss()(embeddings, labels) or SupConLoss"
ON_PAIRS = (
    "for pairs use a loss on them, such as InfoNCELoss()(queries, candidates) or ContrastiveLoss"
)
ON_TRIPLES = (
    "for rows of anchors, positives and negatives ContrastiveLoss(directions='queries')(anchors, positives, "
    "own_negatives=negatives.unsqueeze(1), share_negatives=False)"
)
INDEX_LISTS = (
    "index lists of a miner go to loss.from_triplets(embeddings, *triplets) or loss.from_pairs(embeddings, *pairs) "
    "of a loss on labels"
)
ELSEWHERE = {
    "labels": f"a loss on pairs takes query_ids and candidate_ids; {ON_LABELS}",
    "indices_tuple": INDEX_LISTS,
    "ref_emb": "write reference=",
    "ref_labels": "write reference_labels=",
    **dict.fromkeys(("anchor", "positive", "negative"), ON_TRIPLES),
    **dict.fromkeys(("query", "positive_key", "negative_keys"), f"{ON_PAIRS}, and own_negatives="),
    **dict.fromkeys(("image_features", "text_features"), "write queries and candidates"),
    "logit_scale": "write InfoNCELoss(temperature=Learned(0.07)), which divides: a scale of 100 is 0.01",
    "queries": f"a loss on labels takes embeddings and labels; {ON_PAIRS}",
    "candidates": f"a loss on labels takes embeddings and labels; {ON_PAIRS}",
    "query_ids": "a loss on labels takes labels and reference_labels",
    "candidate_ids": "a loss on labels takes labels and reference_labels",
    "margin": "it belongs to the loss, as in ContrastiveLoss(margin=0.2)",
    "temperature": "it belongs to the loss, as in InfoNCELoss(temperature=0.05)",
    "embeddings": f"a loss on pairs takes queries and candidates; {ON_LABELS}",
}
"""Keywords that other losses or libraries have."""


def refuse_unknown(owner: str, given: Mapping[str, Any]) -> None:
    """Raise for keywords that a call does not have, saying what to write instead where that is known.

    Raises:
        TypeError: as Python does for unexpected keywords.
    """
    refuse_renamed(owner, given)
    for name in given:
        if name == "positives":
            raise TypeError(f"{owner} has no argument 'positives': write positive_mask=mask")
        said = ELSEWHERE.get(name)
        raise TypeError(
            f"{owner} got an unexpected keyword argument {name!r}{f': {said}' if said else ''}"
        )


def refuse_labels(owner: str, candidates: Any) -> None:
    """Refuse labels where a loss on pairs expects candidates.

    Raises:
        TypeError: naming the loss that takes labels.
    """
    if (
        isinstance(candidates, Tensor)
        and candidates.ndim == 1
        and not candidates.is_floating_point()
    ):
        raise TypeError(
            f"candidates has shape {tuple(candidates.shape)} and holds integers, as labels do: {owner} compares pairs; "
            f"{ON_LABELS}"
        )


def refuse_pairs(owner: str, labels: Any, reference: Any) -> None:
    """Refuse rows where a loss on labels expects labels, and index lists where it expects rows.

    Raises:
        TypeError: naming the loss or the method that takes them.
    """
    if isinstance(labels, Tensor) and labels.ndim == 2 and labels.is_floating_point():
        raise TypeError(
            f"labels has shape {tuple(labels.shape)} and holds {labels.dtype}, as embeddings do: {owner} takes "
            f"embeddings and an integer for each row; {ON_PAIRS}; {ON_TRIPLES}"
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
