"""``look``: an ``Observation`` of one call of a loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hardneg.checks import is_one_tensor
from hardneg.diagnostics.call import LossCall
from hardneg.diagnostics.histogram import Histogram, bounds_of, histogram
from hardneg.diagnostics.hubs import hubness
from hardneg.diagnostics.observation import Observation, Scored
from hardneg.diagnostics.spreading import Spread, spread
from hardneg.losses.mining_statistics import MiningStatistics
from hardneg.negatives import Negatives, TopK
from hardneg.similarities import Cosine, Dot, Similarity

__all__ = ["look", "strategy_to_show"]

ONE_WAY = 0.99
"""Mean cosine of pairs from which a side points one way."""
ONE_LINE, WIDE = 1.5, 8
"""Effective rank below which rows lie on one line, where they could have a rank of at least ``WIDE``."""
BINS = 50


@torch.no_grad()
def look(call: LossCall, step: int, output: Any, hardest: int, neighbours: int) -> Observation:
    """Look at a call.

    Args:
        call: the call.
        step: its number.
        output: what the loss has returned; None where that is not known.
        hardest: how many negatives are shown where the loss takes all of them.
        neighbours: how many a query has for its hubs.
    """
    with generators_kept(call.sides[0].device):
        value, statistics = known_of(call, output)
        shown = call.scored(call.mined(strategy_to_show(call, hardest)))
        at_means = number_of(call.at_means())
    queries, candidates = call.sides
    if candidates is not None and is_one_tensor(queries, candidates):
        candidates = candidates.clone()  # the loss takes it twice, so each row is its own neighbour
    spreads = spread(queries), None if candidates is None else spread(candidates)
    found = statistics.as_dict()
    similarity, backend = call.loss.similarity, call.loss.backend
    return Observation(
        step,
        number_of(value),
        at_means,
        found["active_fraction"],
        found["positive_mean"],
        mean_of(torch.cat([x.negatives.flatten() for x in shown])),
        found["hardest_negative_mean"],
        *margins(shown),
        *spreads,
        bool(found["collapsed"])
        or any(collapsed(x, y, similarity) for x, y in zip(spreads, call.sides, strict=True)),
        hubness(queries, candidates, neighbours, similarity=similarity, backend=backend),
        *histograms(shown, similarity),
    )


def generators_kept(device: torch.device) -> Any:
    """A context that leaves torch's generators as they were, so that a look changes no training."""
    if device.type in ("cpu", "mps"):  # MPS has no generator that can be named
        return torch.random.fork_rng(devices=[])
    return torch.random.fork_rng(devices=[device], device_type=device.type)


def known_of(call: LossCall, output: Any) -> tuple[Any, MiningStatistics]:
    """The value and the statistics of a call: what it has returned, or computed anew."""
    if isinstance(output, tuple) and isinstance(output[-1], MiningStatistics):
        return output[0], output[-1]
    value, statistics = call.value_and_statistics()
    return value if output is None else output, statistics


def strategy_to_show(call: LossCall, hardest: int) -> Negatives:
    """The strategy of a call where it selects negatives; else the hardest of those that it takes."""
    strategy = call.strategy
    if not strategy.complete and strategy.mean_if_closer is None:
        return strategy
    low, high = strategy.min_score, strategy.max_score
    return TopK(hardest, strategy.ceiling, min_score=low, max_score=high)


def number_of(value: Any) -> float:
    """The value of a loss; NaN for terms."""
    one = isinstance(value, Tensor) and value.dim() == 0
    return float(value.detach()) if one else float("nan")


def mean_of(scores: Tensor) -> float:
    """Of those that are there; NaN where none is."""
    there = scores > -torch.inf
    return float(torch.where(there, scores, 0.0).sum() / there.sum())


def margins(shown: list[Scored]) -> tuple[float, float]:
    """Mean margin of positives over the hardest chosen negative, and the share of those without one."""
    parts = []
    for one in shown:
        hardest = one.negatives.amax(1, keepdim=True)
        there = (one.positives > -torch.inf) & (hardest > -torch.inf)
        parts.append((one.positives - hardest)[there])
    found = torch.cat(parts)
    return float(found.mean()), float((found <= 0).float().mean())


def collapsed(found: Spread | None, rows: Tensor | None, similarity: Similarity) -> bool:
    """Whether rows point one way, or lie on one line, where angles are what counts."""
    if found is None or rows is None or not isinstance(similarity, Cosine | Dot):
        return False
    on_a_line = found.effective_rank < ONE_LINE and min(rows.shape) >= WIDE
    return found.mean_cosine > ONE_WAY or on_a_line


def histograms(shown: list[Scored], similarity: Similarity) -> tuple[Histogram, Histogram]:
    """Of positives and of chosen negatives, with equal edges: from -1 to 1 for cosines."""
    positives = torch.cat([x.positives.flatten() for x in shown])
    negatives = torch.cat([x.negatives.flatten() for x in shown])
    both = torch.cat([positives, negatives]).cpu()
    bounds = (-1.0, 1.0) if isinstance(similarity, Cosine) else bounds_of(both[both.isfinite()])
    return histogram(positives, BINS, bounds), histogram(negatives, BINS, bounds)
