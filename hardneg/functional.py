"""Every loss as a function: the choices of the module and the arguments of its call, together."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

from hardneg.losses.base import Loss
from hardneg.losses.circle import CircleLoss
from hardneg.losses.contrastive import ContrastiveLoss
from hardneg.losses.info_nce import InfoNCELoss
from hardneg.losses.margin_loss import MarginLoss
from hardneg.losses.multi_similarity import MultiSimilarityLoss
from hardneg.losses.nt_xent import NTXentLoss
from hardneg.losses.pairwise import PairwiseContrastiveLoss
from hardneg.losses.polynomial import PolynomialLoss
from hardneg.losses.sigmoid import SigmoidLoss
from hardneg.losses.sup_con import SupConLoss
from hardneg.losses.triplet import TripletLoss
from hardneg.losses.unified import UnifiedPairLoss

__all__ = [
    "circle_loss",
    "contrastive_loss",
    "info_nce_loss",
    "margin_loss",
    "multi_similarity_loss",
    "nt_xent_loss",
    "pairwise_contrastive_loss",
    "polynomial_loss",
    "sigmoid_loss",
    "sup_con_loss",
    "triplet_loss",
    "unified_pair_loss",
]


def as_function(loss: type[Loss]) -> Callable[..., Any]:
    """The loss as a function: its call's arguments, then its constructor's as keywords."""
    choices = dict(inspect.signature(loss).parameters)

    def function(*args: Any, **options: Any) -> Any:
        chosen = {name: options.pop(name) for name in choices if name in options}
        return loss(**chosen)(*args, **options)

    function.__name__ = function.__qualname__ = function_name(loss)
    function.__signature__ = function_signature(loss)  # type: ignore[attr-defined]
    function.__doc__ = function_doc(loss)
    function.loss = loss  # type: ignore[attr-defined]
    return function


def function_name(loss: type[Loss]) -> str:
    """``InfoNCELoss`` as ``info_nce_loss``."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", loss.__name__)
    return words.lower()


def function_signature(loss: type[Loss]) -> inspect.Signature:
    """The parameters of the call, and those of the constructor as keywords."""
    choices = inspect.signature(loss).parameters
    call = list(inspect.signature(loss.forward).parameters.values())[1:]
    positional = [p for p in call if p.kind is p.POSITIONAL_OR_KEYWORD]
    keywords = [p for p in call if p.kind is p.KEYWORD_ONLY and p.name not in choices]
    chosen = [p.replace(kind=p.KEYWORD_ONLY) for p in choices.values()]
    return inspect.Signature([*positional, *chosen, *keywords])


def function_doc(loss: type[Loss]) -> str:
    """The docstring of the module, then that of its call."""
    parts = inspect.getdoc(loss), inspect.getdoc(loss.forward)
    return "\n\n".join(part or "" for part in parts)


circle_loss = as_function(CircleLoss)
contrastive_loss = as_function(ContrastiveLoss)
info_nce_loss = as_function(InfoNCELoss)
margin_loss = as_function(MarginLoss)
multi_similarity_loss = as_function(MultiSimilarityLoss)
nt_xent_loss = as_function(NTXentLoss)
pairwise_contrastive_loss = as_function(PairwiseContrastiveLoss)
polynomial_loss = as_function(PolynomialLoss)
sigmoid_loss = as_function(SigmoidLoss)
sup_con_loss = as_function(SupConLoss)
triplet_loss = as_function(TripletLoss)
unified_pair_loss = as_function(UnifiedPairLoss)
