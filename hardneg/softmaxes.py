"""What a softmax loss makes of a positive and the sum of its negatives: a fifth choice, of ``InfoNCELoss``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hardneg.checks import check_choice, number_field

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = [
    "Against",
    "Debiased",
    "Decoupled",
    "HardnessWeighted",
    "LabelSmoothing",
    "Softmax",
    "SoftmaxName",
    "resolve_softmax",
]


class Against(NamedTuple):
    """A positive of each anchor, and what it stands against; exponents are scores times ``scale``.

    Attributes:
        positive: exponents of the positives, the margin taken off.
        negatives: log-sum-exps of the negatives' exponents; very low for an anchor without any.
        total: sums of the negatives' exponents; zeros unless ``Softmax.needs_total``.
        counts: how many negatives there are, at least 1; ones unless ``Softmax.needs_counts``.
        scale: 1 / temperature.
        margin: what was taken off the positives' exponents.
    """

    positive: Float[Tensor, "n"]
    negatives: Float[Tensor, "n"]
    total: Float[Tensor, "n"]
    counts: Int[Tensor, "n"]
    scale: Float[Tensor, ""]
    margin: Float[Tensor, ""]


@dataclass(frozen=True)
class Softmax:
    """Cross-entropy of picking the positive among itself and the negatives. Subclass it for a form of your own.

    Attributes:
        needs_total, needs_counts: what a form reads of ``Against`` beyond the log-sum-exp.
        needs_cosine: whether it takes scores to be at least -1.
        hardness: ``exp(hardness * score)``, held constant, weights every negative in the sum.
        hardness_of: which negatives are so weighted: ``"all"``, the ``"batch"``'s, or a query's ``"own"``.
    """

    needs_total: ClassVar[bool] = False
    needs_counts: ClassVar[bool] = False
    needs_cosine: ClassVar[bool] = False

    @property
    def hardness(self) -> float:
        """None."""
        return 0.0

    @property
    def hardness_of(self) -> str:
        """All."""
        return "all"

    def term(self, x: Against) -> Float[Tensor, "n"]:
        """The term of every anchor: ``log(1 + sum of exp(negative - positive))``."""
        # linear only where float64 cannot tell
        return F.softplus(x.negatives - x.positive, threshold=40)


@dataclass(frozen=True)
class Decoupled(Softmax):
    """The positive is left out of the sum: ``log(sum of exp(negative)) - positive``.

    Yeh et al., "Decoupled Contrastive Learning", ECCV 2022, equation 6. A term may be below 0.
    """

    def term(self, x: Against) -> Float[Tensor, "n"]:
        """See ``Softmax``."""
        return x.negatives - x.positive


@dataclass(frozen=True)
class HardnessWeighted(Softmax):
    """A negative counts ``exp(strength * score)`` times in the sum; the weight is held constant.

    Lan et al., LLaVE, 2025, equation 5; EmbeddingGemma (2025) takes a strength of 5.

    Args:
        strength: at least 0, where nothing is weighted.
        of: ``"all"`` negatives, those of the ``"batch"``, or ``"own"`` ones (``own_negatives``) alone.
    """

    strength: float = 5.0
    of: Literal["all", "batch", "own"] = "all"

    def __post_init__(self) -> None:
        number_field(self, "strength", at_least=0)
        check_choice("of", self.of, ("all", "batch", "own"))

    @property
    def hardness(self) -> float:
        """The strength."""
        return self.strength

    @property
    def hardness_of(self) -> str:
        """See ``of``."""
        return self.of


@dataclass(frozen=True)
class LabelSmoothing(Softmax):
    """The target is ``1 - amount`` on the positive and ``amount`` spread over it and all its negatives alike.

    As in ``torch.nn.functional.cross_entropy``; candidates that are left out are no classes.

    Args:
        amount: from 0 to 1.
    """

    needs_total: ClassVar[bool] = True
    needs_counts: ClassVar[bool] = True

    amount: float = 0.1

    def __post_init__(self) -> None:
        number_field(self, "amount", at_least=0, at_most=1)

    def term(self, x: Against) -> Float[Tensor, "n"]:
        """See ``Softmax``."""
        each = self.amount / (x.counts.to(x.total.dtype) + 1)
        return super().term(x) + self.amount * x.positive - each * (x.positive + x.total)


@dataclass(frozen=True)
class Debiased(Softmax):
    """The share of positives among the negatives is subtracted from their sum.

    With N negatives the sum becomes ``max((sum of exp(negative) - N * prior * exp(positive)) / (1 - prior),
    N * exp(-1 / T))``: Chuang et al., "Debiased Contrastive Learning", NeurIPS 2020, equation 8 with one positive.
    For cosine, whose smallest value sets the lower bound.

    Args:
        prior: the probability that a candidate taken as a negative is a positive; above 0, below 1.
    """

    needs_counts: ClassVar[bool] = True
    needs_cosine: ClassVar[bool] = True

    prior: float = 0.1

    def __post_init__(self) -> None:
        number_field(self, "prior", above=0, at_most=1 - 1e-6)

    def term(self, x: Against) -> Float[Tensor, "n"]:
        """See ``Softmax``."""
        counts = x.counts.to(x.negatives.dtype).log()
        lowest = counts - x.scale
        share = x.positive + x.margin + counts + math.log(self.prior) - x.negatives
        left = torch.log(-torch.expm1(torch.where(share < 0, share, -1.0)))
        corrected = x.negatives + left - math.log1p(-self.prior)
        corrected = torch.where(share < 0, torch.maximum(corrected, lowest), lowest)
        return super().term(x._replace(negatives=corrected))


SoftmaxName = Literal["plain", "decoupled"]

BY_NAME: dict[str, Softmax] = {"plain": Softmax(), "decoupled": Decoupled()}


def resolve_softmax(softmax: Any) -> Softmax:
    """A form from its name or object.

    Raises:
        ValueError, TypeError: naming what was expected.
    """
    if isinstance(softmax, str):
        check_choice("softmax", softmax, tuple(BY_NAME))
        return BY_NAME[softmax]
    if not isinstance(softmax, Softmax):
        raise TypeError(
            f"softmax is {softmax!r}: expected a name ({', '.join(BY_NAME)}) or an object such as "
            "HardnessWeighted(5.0)"
        )
    return softmax
