"""Losses over pairs and triplets that another miner listed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hardneg.checks import check_alike, check_embeddings
from hardneg.losses.call import Call
from hardneg.losses.other_family import refuse_index_lists
from hardneg.losses.terms.reduction import Terms, reduce_terms
from hardneg.negatives import All
from hardneg.ops.backends import bind
from hardneg.ops.comparison import Comparison, Relation
from hardneg.ops.listed import ListedPairs, ListedScores
from hardneg.ops.scores import Scores

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from hardneg.losses.loss import Loss
    from hardneg.losses.triplet import TripletLoss

__all__ = ["loss_of_pairs", "loss_of_triplets"]

Lists = tuple[Tensor | None, ...]
"""Row numbers of one length; None where an argument was left out, which raises."""
WHOLE = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def loss_of_pairs(
    loss: Loss,
    sides: tuple[Float[Tensor, "n d"], Float[Tensor, "m d"] | None],
    positives: Lists,
    negatives: Lists,
) -> Any:
    """The loss whose positives and negatives are these pairs."""
    scores = scores_of(loss, sides)
    kinds = (("anchors", "positives"), positives), (("negative_anchors", "negatives"), negatives)
    listed = (ListedPairs(*checked(names, pairs, scores)) for names, pairs in kinds)
    call = Call(ListedScores(scores, *listed), All(), loss.reduction, "queries", False)
    return reduce_terms(call, loss.terms(call), loss.average)


def loss_of_triplets(
    loss: TripletLoss,
    sides: tuple[Float[Tensor, "n d"], Float[Tensor, "m d"] | None],
    triplets: Lists,
) -> Any:
    """``phi(margin - positive + negative)`` of these triplets, each a term."""
    scores = scores_of(loss, sides)
    names = ("anchors", "positives", "negatives")
    anchors, positives, negatives = checked(names, triplets, scores)
    listed = torch.cat([anchors, anchors]), torch.cat([positives, negatives])
    p, s = scores.pairs(*listed).split([len(anchors)] * 2)
    values = loss.penalty.value(s - (p - loss.margin))
    valid = torch.ones_like(anchors, dtype=torch.bool)
    terms = Terms(values, valid, (values.detach() > 0).long(), valid.long(), p, s)
    call = Call(scores, All(), loss.reduction, "queries", False)
    return reduce_terms(call, (terms, None), loss.average)


def scores_of(loss: Loss, sides: tuple[Tensor, Tensor | None]) -> Scores:
    """The scores that the pairs are taken from.

    Raises:
        ValueError: for candidates as anchors.
    """
    if loss.directions != "queries":
        raise ValueError(
            f'listed pairs with directions={loss.directions!r}: they say who is the anchor; use "queries"'
        )
    embeddings, reference = sides
    other = embeddings if reference is None else reference
    check_embeddings("embeddings", embeddings)
    check_embeddings("reference", other)
    check_alike("embeddings", embeddings, "reference", other)
    return bind(loss.backend, Comparison(embeddings, other, loss.similarity, Relation()))


def checked(names: tuple[str, ...], lists: Lists, scores: Scores) -> tuple[Int[Tensor, "t"], ...]:
    """Row numbers as int64: anchors among the queries, the others among the candidates."""
    found: list[Tensor] = []
    for name, index in zip(names, lists, strict=True):
        refuse_index_lists(name, index)
        if not isinstance(index, Tensor):
            raise TypeError(f"{name} is a {type(index).__name__}: expected a tensor of row numbers")
        if index.dtype not in WHOLE or index.dim() != 1:
            raise TypeError(
                f"{name} has shape {tuple(index.shape)} and dtype {index.dtype}: expected a vector of row numbers"
            )
        if index.device != scores.device:
            raise ValueError(f"{name} is on {index.device}, the embeddings on {scores.device}")
        found.append(index.long().contiguous())
        if len(index) != len(found[0]):
            raise ValueError(
                f"{names[0]} lists {len(found[0])} rows but {name} {len(index)}: expected one of each a pair"
            )
        check_rows(name, index, scores.shape[0] if name == names[0] else scores.shape[1])
    return tuple(found)


def check_rows(name: str, index: Int[Tensor, "t"], rows: int) -> None:
    """Numbers of rows that there are; on a GPU and under a compiler checked without waiting for it."""
    inside = ((index >= 0) & (index < rows)).all()
    message = f"{name} has row numbers outside 0 to {rows - 1}"
    if index.device.type != "cpu" or torch.compiler.is_compiling():
        torch._assert_async(inside, message)
    elif not bool(inside):
        raise ValueError(message)
