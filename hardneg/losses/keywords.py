"""Keywords of other losses and of other libraries: what to write instead."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from hardneg.losses.other_family import INDEX_LISTS, ON_LABELS, ON_PAIRS, ON_SCORES, ON_TRIPLES

__all__ = ["keywords_of", "refuse_choice", "refuse_unknown"]

ACROSS_RANKS = "write AcrossRanks(loss), which compares the rows of all ranks"
OPEN_CLIP = (
    "open_clip's own calls are those of hardneg.integrations.open_clip.ClipLoss and SigLipLoss"
)
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
    "logit_scale": f"write temperature=Learned(0.07), which divides: a scale of 100 is 0.01; {OPEN_CLIP}",
    "logit_bias": f"write bias=, as in SigmoidLoss(Learned(0.1, max_scale=1000), Learned(-10.0)); {OPEN_CLIP}",
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
    "ids": "write query_ids=ids, candidate_ids=ids",
    "negative_mode": "write own_negatives=negatives (n x k x d), share_negatives=False in the call",
    "type_of_triplets": "write negatives='all', 'semihard' or 'hardest'",
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


RENAMED = {
    "ignore": "ignore_mask=mask",
    "learnable": "temperature=Learned(0.1, max_scale=1000), bias=Learned(-10.0)",
    "learnable_beta": "beta=Learned(1.2)",
    "learnable_temperature": "temperature=Learned(0.07)",
    "max_scale": "temperature=Learned(0.07, max_scale=100)",
}
"""Keywords of earlier versions, and what to write instead."""


def refuse_renamed(owner: str, name: str, value: Any) -> None:
    """Raise for a keyword of an earlier version, naming the new one.

    Raises:
        TypeError: as Python does for unexpected keywords.
    """
    new = RENAMED.get(name)
    if name == "positives" and isinstance(value, Tensor):
        new = "positive_mask=mask"
    if new is not None:
        raise TypeError(f"{owner} has no argument {name!r}: write {new}")


def refuse_unknown(owner: str, given: Mapping[str, Any]) -> None:
    """Raise for keywords that a call does not have, saying what to write instead where that is known.

    Raises:
        TypeError: as Python does for unexpected keywords.
    """
    for name, value in given.items():
        refuse_renamed(owner, name, value)
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
    refuse_renamed(owner, name, value)
    said = ELSEWHERE.get(name, f"it takes {', '.join(known)}")
    if name in inspect.signature(loss.forward).parameters:
        said = f"it belongs to the call, as in loss(..., {name}=...)"
    raise TypeError(f"{owner} got an unexpected keyword argument {name!r}: {said}")
