"""Checks of ``select``: the chosen against float64, and exact indices where arithmetic is exact."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.arithmetic import Arithmetic, Verdict
from benchmarks.gpu.place import Place
from benchmarks.gpu.problems import Problem
from hardneg.negatives.selection import COLUMN_SALT, ROW_SALT, Selection, ranking_keys
from hardneg.ops import reference
from hardneg.ops.comparison import Comparison, Relation, Window
from hardneg.ops.requests import Search
from hardneg.similarities import BY_CODE

SELECTIONS: dict[str, tuple[Selection, bool]] = {
    "hardest": (Selection("highest", 1), False),
    "semi-hard, easiest instead": (Selection("highest", 1, fallback="easiest"), True),
    "3rd to 8th": (Selection("highest", 8, skip=2), True),
    "32 easiest": (Selection("lowest", 32), False),
    "random": (Selection("random", 4), False),
    "distance-weighted": (Selection("distance_weighted", 2, 0, (160.0, 0.5, 1.4)), False),
}
"""What is selected, and whether within a window."""

SEED = 7


def selected(name: str, problem: Problem) -> Any:
    """A selection of both sides."""
    selection, windowed = SELECTIONS[name]
    window = problem.window() if windowed else Window()
    seed = torch.tensor(SEED, device=problem.place.device)
    search = Search(selection, window=window, seed=seed, hardest=not windowed)
    with problem.arithmetic.chosen():
        return problem.place.reductions().scores(problem.comparison).select(search)


def verdicts(name: str, problem: Problem) -> Iterator[Verdict]:
    """The key of each chosen may fall short of the right one's by rounding only."""
    selection, windowed = SELECTIONS[name]
    window = problem.window() if windowed else Window()
    found = selected(name, problem)
    exact = problem.exactly()
    sides = (
        ("rows", exact, found.rows, found.hardest_rows, ROW_SALT, window),
        (
            "columns",
            exact.swapped(),
            found.columns,
            found.hardest_columns,
            COLUMN_SALT,
            window.swapped(),
        ),
    )
    for side, comparison, chosen, hardest, salt, bounds in sides:
        yield shortfall(side, chosen, comparison, selection, bounds, salt, problem.band)
        if not windowed:
            best = Selection("highest", 1)
            yield shortfall(
                f"hardest of {side}", hardest, comparison, best, Window(), salt, problem.band
            )


def shortfall(
    what: str,
    chosen: Tensor,
    comparison: Comparison,
    selection: Selection,
    window: Window,
    salt: int,
    band: float,
) -> Verdict:
    """How far the keys of the chosen fall short of those of the right ones, in float64.

    NaN where one is chosen twice, is not admitted, or where something is missing that is there.
    """
    s = reference.Dense().scores(comparison).matrix.detach()
    n, m = s.shape
    taken = reference.Dense().scores(comparison).mask("negatives")
    seed = torch.tensor(SEED, device=s.device)
    numbers = [torch.arange(k, device=s.device) for k in (n, m)]
    keys = ranking_keys(s, selection, comparison.similarity, seed, *numbers, salt)
    bounds = window.row_floor, window.row_ceiling
    right = reference.select_rows(s, taken, keys, selection, bounds)
    valid = right >= 0
    of = chosen.clamp(min=0)
    distinct = torch.where(valid, chosen, -1 - torch.arange(chosen.shape[1], device=s.device))
    distinct = distinct.sort(1).values
    sound = (
        chosen.shape == right.shape
        and torch.equal(chosen >= 0, valid)
        and bool(taken.gather(1, of)[valid].all())
        and not bool((distinct[:, 1:] == distinct[:, :-1]).any())
    )
    if not sound:
        return Verdict(what, float("nan"), 0.0, band)
    ranked = keys
    if selection.fallback == "easiest":  # rescued anchors are ranked the other way round
        inside = reference.within(taken, s, window.row_floor, window.row_ceiling)
        ranked = torch.where(inside.any(1, keepdim=True), keys, -s)
    missing = (ranked.gather(1, right.clamp(min=0)) - ranked.gather(1, of))[valid]
    error = float(missing.max()) if missing.numel() else 0.0
    return Verdict(what, error, 0.0, allowed(selection, band))


def allowed(selection: Selection, band: float) -> float:
    """Random keys are integers; the log density of 160 coordinates rises by less than 1000 a unit of cosine.

    (158 / distance^2 <= 632 at the cutoff 0.5, and 78.5 / (1 - distance^2 / 4) <= 154 at 1.4.)
    """
    if selection.order == "random":
        return 0.0
    return 1e3 * band if selection.order == "distance_weighted" else band


def ties(place: Place, arithmetic: Arithmetic) -> Iterator[Verdict]:
    """Small integers, whose scores every format holds exactly: indices must be those of the definition."""
    n, m, d = (37, 70, 8) if place.small else (700, 1500, 32)
    generator = torch.Generator().manual_seed(3)
    q, c = (torch.randint(-1, 2, (k, d), generator=generator).to(place.device) for k in (n, m))
    relation = Relation(
        torch.arange(n, device=q.device) // 2, torch.arange(m, device=q.device) // 2
    )
    for code in ("dot", "order"):
        exact = Comparison(q.double(), c.double(), BY_CODE[code], relation)
        mine = replace(exact, queries=q.to(arithmetic.dtype), candidates=c.to(arithmetic.dtype))
        for name, (selection, _) in SELECTIONS.items():
            if selection.order not in ("highest", "lowest"):
                continue
            with arithmetic.chosen():
                found = place.reductions().scores(mine).select(Search(selection, hardest=True))
            right = reference.Dense().scores(exact).select(Search(selection, hardest=True))
            wrong = sum(int((a != b).sum()) for a, b in zip(found, right, strict=True))
            yield Verdict(f"ties, {code}, {name}", float(wrong), 0.0, 0.0)
