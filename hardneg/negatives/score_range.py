"""Bounds on the scores of negatives that are the same for every anchor."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from hardneg.checks import number_field

__all__ = ["ScoreRange"]


@dataclass(frozen=True)
class ScoreRange:
    """Base of the strategies: the scores of negatives lie strictly between two numbers, whatever the positive's.

    Attributes:
        min_score, max_score: the numbers, in the units of the similarity; None for no bound.
    """

    min_score: float | None = field(default=None, kw_only=True)
    max_score: float | None = field(default=None, kw_only=True)

    @property
    def ranged(self) -> bool:
        """Whether there is a bound."""
        return self.min_score is not None or self.max_score is not None

    @property
    def score_range(self) -> tuple[float, ...]:
        """Both bounds, infinite for None; empty where there is none."""
        if not self.ranged:
            return ()
        low, high = self.min_score, self.max_score
        return (
            -float("inf") if low is None else low,
            float("inf") if high is None else high,
        )

    def check_range(self) -> None:
        """Finite numbers, between which something lies."""
        for name in ("min_score", "max_score"):
            if getattr(self, name) is not None:
                number_field(self, name)
        low, high = self.min_score, self.max_score
        if low is not None and high is not None and low >= high:
            raise ValueError(f"min_score is {low}, max_score {high}: nothing lies between")

    def __repr__(self) -> str:
        """The fields by the constructor's order, without a range that is not given."""
        bounds = ("min_score", "max_score")
        names = [x.name for x in fields(self) if x.name not in bounds]
        names += [name for name in bounds if getattr(self, name) is not None]
        inside = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"{type(self).__name__}({inside})"
