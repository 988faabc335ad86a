"""Calls that suit another family of losses or another library: what to write instead."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from hardneg.checks import refuse_renamed

__all__ = [
    "GIVEN",
    "keywords_of",
    "refuse_choice",
    "refuse_further",
    "refuse_index_lists",
    "refuse_labels",
    "refuse_pairs",
    "refuse_unknown",
]

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
ON_SCORES = "for a matrix of scores call loss.from_scores(scores)"
INDEX_LISTS = (
    "index lists of a miner go to loss.from_triplets(embeddings, *triplets) or loss.from_pairs(embeddings, *pairs) "
    "of a loss on labels"
)
ACROSS_RANKS = "write AcrossRanks(loss), which compares the rows of all ranks"
SIMILARITY = "write similarity='cosine', 'dot', 'euclidean' or a callable"
REDUCTION = "write reduction='mean', 'sum' or 'none'"
ELSEWHERE = {
    "labels": f"a loss on pairs takes query_ids and candidate_ids; {ON_LABELS}",
    "indices_tuple": INDEX_LISTS,
    "ref_emb": "write reference=",
    "ref_labels": "write reference_labels=",
    **dict.fromkeys(("anchor", "positive", "negative"), ON_TRIPLES),
    **dict.fromkeys(("query", "positive_key", "negative_keys"), f"{ON_PAIRS}, and own_negatives="),
    **dict.fromkeys(("image_features", "text_features"), "write queries and candidates"),
    "logit_scale": "write InfoNCELoss(temperature=Learned(0.07)), which divides: a scale of 100 is 0.01",
    "scale": "write temperature=, which divides: a scale of 20 is InfoNCELoss(temperature=0.05)",
    "queries": f"a loss on labels takes embeddings and labels; {ON_PAIRS}",
    "candidates": f"a loss on labels takes embeddings and labels; {ON_PAIRS}",
    "query_ids": "a loss on labels takes labels and reference_labels",
    "candidate_ids": "a loss on labels takes labels and reference_labels",
    "margin": "it belongs to the loss, as in ContrastiveLoss(margin=0.2)",
    "temperature": "it belongs to the loss, as in InfoNCELoss(temperature=0.05)",
    "embeddings": f"a loss on pairs takes queries and candidates; {ON_LABELS}",
    **dict.fromkeys(("scores", "logits"), ON_SCORES),
    **dict.fromkeys(
        ("target", "targets"), f"row i of the candidates belongs to query i; {ON_LABELS}"
    ),
    "max_violation": "write negatives='hardest' for True (VSE++), negatives='all' for False (VSE0)",
    "measure": "write similarity='cosine' or similarity='order'",
    "miner": "write negatives=, a name or an object such as TopK(8)",
    **dict.fromkeys(("k", "top_k", "topk"), "write negatives=TopK(k)"),
    **dict.fromkeys(("distance", "distance_metric", "similarity_fct", "metric", "p"), SIMILARITY),
    **dict.fromkeys(("reducer", "size_average", "reduce"), REDUCTION),
    **dict.fromkeys(
        ("pos_margin", "neg_margin"),
        "write PairwiseContrastiveLoss(positive_margin=, negative_margin=)",
    ),
    "triplet_margin": "write margin=",
    "smooth_loss": "write penalty='logistic'",
    **dict.fromkeys(("memory_size", "memory_bank_size"), "use a MemoryQueue beside the loss"),
    "mini_batch_size": "use GradCache(encoders, chunk_size=) around the encoders",
    **dict.fromkeys(("local_loss", "gather_with_grad", "rank", "world_size"), ACROSS_RANKS),
    **dict.fromkeys(("gather_distributed", "gather_across_devices"), ACROSS_RANKS),
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


def keywords_of(loss: type) -> tuple[str, ...]:
    """The keywords of a constructor; none where it takes any, as that of a subclass may."""
    choices = inspect.signature(loss).parameters.values()
    return () if any(c.kind is c.VAR_KEYWORD for c in choices) else tuple(c.name for c in choices)


def refuse_choice(loss: type[nn.Module], name: str, value: Any, known: tuple[str, ...]) -> None:
    """Raise for a keyword that a constructor does not have, as ``refuse_unknown`` does for those of a call.

    Raises:
        TypeError: as Python does for unexpected keywords.
    """
    owner = loss.__name__
    refuse_renamed(owner, {name: value})
    said = ELSEWHERE.get(name, f"it takes {', '.join(known)}")
    if name in inspect.signature(loss.forward).parameters:
        said = f"it belongs to the call, as in loss(..., {name}=...)"
    raise TypeError(f"{owner} got an unexpected keyword argument {name!r}: {said}")


def refuse_further(owner: str, further: tuple[Any, ...]) -> None:
    """Refuse positional arguments after queries and candidates.

    Raises:
        TypeError: naming the keywords.
    """
    if further:
        raise TypeError(
            f"{owner} takes queries and candidates, all else by name, as in own_negatives=negatives (n x k x d) or "
            f"query_ids=ids; {ON_TRIPLES}"
        )


def refuse_labels(owner: str, queries: Any, candidates: Any) -> None:
    """Refuse labels, or nothing, where a loss on pairs expects candidates.

    Raises:
        TypeError: naming the loss that takes labels.
    """
    if candidates is GIVEN:
        alone = f": {ON_SCORES}; {ON_LABELS}" if queries is not GIVEN else ""
        raise TypeError(f"{owner} takes queries and candidates{alone}")
    if (
        isinstance(candidates, Tensor)
        and candidates.ndim == 1
        and not candidates.is_floating_point()
    ):
        raise TypeError(
            f"candidates has shape {tuple(candidates.shape)} and holds integers, as labels do: {owner} compares pairs; "
            f"{ON_LABELS}; {ON_SCORES}"
        )


def refuse_pairs(owner: str, embeddings: Any, labels: Any, reference: Any) -> None:
    """Refuse nothing where a loss on labels expects embeddings, rows for labels, and index lists for rows.

    Raises:
        TypeError: naming the loss or the method that takes them.
    """
    if embeddings is GIVEN:
        raise TypeError(f"{owner} takes embeddings and labels")
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
