"""``Observation``: what one look at a loss has found."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from torch import Tensor

from hardneg.diagnostics.histogram import Histogram
from hardneg.diagnostics.hubs import Hubness
from hardneg.diagnostics.spreading import Spread

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["Observation"]

PLATEAU = 0.02
"""How near a loss comes to its value of equal scores to stand on its plateau."""


@dataclass(frozen=True, eq=False, repr=False)
class Observation:
    """One step of a training, as numbers and histograms; NaN where there is nothing to average.

    Attributes:
        step: its number.
        loss: value of the loss; NaN for ``reduction="none"``. Of a wrapper, such as ``AcrossRanks``, that of the loss
            inside, on the rows of this rank.
        loss_at_means: value of the same loss if every row were the mean of its side: where a collapsed model stands.
        active_share: share of the (anchor, positive, negative) terms with a value above 0 (``MiningStatistics``).
        positive_mean: mean score of the positives.
        negative_mean: mean score of the chosen negatives.
        hardest_negative_mean: mean of the highest score among all negatives of an anchor.
        margin_mean: mean of a positive's score less that of the hardest negative chosen for it.
        outscored_share: share of the (anchor, positive) pairs whose hardest chosen negative scores at least as high.
        queries, candidates: spread of both sides; candidates None for one set.
        collapsed: whether a side has collapsed: onto one point, one direction or one line.
        hubs: k-occurrences of the candidates in the batch.
        positives, negatives: histograms of the scores of positives and of chosen negatives, with equal edges.
    """

    step: int
    loss: float
    loss_at_means: float
    active_share: float
    positive_mean: float
    negative_mean: float
    hardest_negative_mean: float
    margin_mean: float
    outscored_share: float
    queries: Spread
    candidates: Spread | None
    collapsed: bool
    hubs: Hubness
    positives: Histogram
    negatives: Histogram

    def __repr__(self) -> str:
        return (
            f"Observation(step {self.step}: loss {self.loss:.4g}, active {self.active_share:.0%}, positives "
            f"{self.positive_mean:.3f}, chosen negatives {self.negative_mean:.3f})"
        )

    @property
    def on_plateau(self) -> bool:
        """Whether the loss is within 2 % of its value at the means: it tells no pair from another."""
        if self.loss_at_means == 0:
            return False
        return abs(self.loss / self.loss_at_means - 1) <= PLATEAU

    def as_dict(self) -> dict[str, float]:
        """Every number by its name, for a logger; those of a side as ``"queries/mean_cosine"``."""
        skipped = ("step", "positives", "negatives")
        found: dict[str, float] = {}
        for name, value in ((f.name, getattr(self, f.name)) for f in fields(self)):
            if isinstance(value, Spread):
                found |= {
                    f"{name}/{part.name}": getattr(value, part.name) for part in fields(value)
                }
            elif isinstance(value, Hubness):
                found |= {
                    "hubs/skewness": value.skewness,
                    "hubs/antihub_share": value.antihub_share,
                }
            elif name not in skipped and value is not None:
                found[name] = float(value)
        return found


@dataclass(frozen=True, eq=False, repr=False)
class Scored:
    """Scores of a call, one row an anchor or an (anchor, positive) pair; -inf where there is none.

    Attributes:
        positives: of its positives.
        negatives: of its chosen negatives.
    """

    positives: Float[Tensor, "t p"]
    negatives: Float[Tensor, "t k"]
