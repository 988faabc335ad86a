"""Strategies by name."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from hardneg.near_names import meant, plain
from hardneg.negatives.schedules import Steps, Warmup
from hardneg.negatives.strategies import (
    All,
    DistanceWeighted,
    Hardest,
    Negatives,
    SelectiveHardest,
    SemiHard,
)

__all__ = ["NegativesName", "resolve_negatives"]

NegativesName = Literal["all", "hardest", "semihard", "distance_weighted", "selective_hardest"]

BY_NAME: dict[str, Negatives] = {
    "all": All(),
    "hardest": Hardest(),
    "semihard": SemiHard(),
    "distance_weighted": DistanceWeighted(),
    "selective_hardest": SelectiveHardest(),
}
WITH_ARGUMENTS: dict[str, str] = {
    "topk": "TopK(k)",
    "randomk": "RandomK(k)",
    "rankwindow": "RankWindow(start, stop)",
}


def resolve_negatives(negatives: Any) -> Negatives:
    """A strategy from its name, or the object itself.

    Raises:
        ValueError: for an unknown name.
        TypeError: for what is no strategy.
    """
    if isinstance(negatives, str):
        known = {plain(name): strategy for name, strategy in BY_NAME.items()}
        name = plain(negatives)
        if name in known:
            return known[name]
        if name in WITH_ARGUMENTS:
            raise ValueError(
                f"negatives {negatives!r} needs arguments: pass the object {WITH_ARGUMENTS[name]}"
            )
        raise ValueError(
            f"unknown negatives {negatives!r}{meant(name, BY_NAME)}: choose one of "
            f"{', '.join(sorted(BY_NAME))}, or {', '.join(WITH_ARGUMENTS.values())}"
        )
    if isinstance(negatives, type) or not isinstance(negatives, Negatives):
        raise TypeError(
            f"negatives is {told(negatives)}: expected a name "
            f"({', '.join(sorted(BY_NAME))}) or a strategy object such as Hardest(); strategies of your "
            "own are subclasses of hardneg.negatives.Negatives"
        )
    return negatives


def told(given: Any) -> str:
    """What was given instead of a strategy, and what its kind suggests."""
    if isinstance(given, type):
        if not issubclass(given, Negatives):
            return f"the class {given.__name__}, which is no strategy"
        made = WITH_ARGUMENTS.get(given.__name__.lower(), f"{given.__name__}()")
        return f"{given!r}, a class: make an object of it, {made}"
    if isinstance(given, Tensor):
        return (
            f"a tensor of shape {tuple(given.shape)} (tensors go to the call: ContrastiveLoss()(queries, candidates), "
            "and negatives of each query there as own_negatives=, n x k x d)"
        )
    if isinstance(given, Warmup | Steps):
        return (
            f"{given!r} of type {type(given).__name__}, a schedule (ask it for the strategy of a step and pass that to "
            "the call: loss(queries, candidates, negatives=schedule(step)))"
        )
    if isinstance(given, int) and not isinstance(given, bool):
        return f"{given} of type int (the {given} hardest are TopK({given}))"
    return f"{given!r} of type {type(given).__name__}"
