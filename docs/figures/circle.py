"""Candidates on a circle around a query, and which of them each strategy selects, as the library says."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from docs.figures.svg import (
    FAINT,
    INK,
    NEGATIVE,
    POSITIVE,
    QUERY,
    dot,
    element,
    line,
    picture,
    words,
)
from hardneg import All, Ceiling, ContrastiveLoss, Hardest, RankWindow, SemiHard, TopK
from hardneg.negatives import Negatives

DEGREES = [-35, 14, -22, 38, -56, 62, 76, -84, 98, 116, -112, 138, -146, 162, -172]
"""Angles between the query and its candidates. The first candidate is the positive."""
MARGIN = 0.2
STRATEGIES: dict[str, Negatives] = {
    "all": All(),
    "hardest": Hardest(),
    "semihard": SemiHard(),
    "topk": TopK(4),
    "window": RankWindow(2, 6),
    "ceiling": TopK(4, Ceiling(0.95)),
}
TITLES = {
    "all": 'All(), "all"',
    "hardest": 'Hardest(), "hardest"',
    "semihard": 'SemiHard(), "semihard"',
    "topk": "TopK(4)",
    "window": "RankWindow(2, 6)",
    "ceiling": "TopK(4, Ceiling(0.95))",
}


def scores() -> Tensor:
    """Cosine of the query with every candidate, 1 x m."""
    return torch.tensor([DEGREES], dtype=torch.float64).deg2rad().cos()


def selected(strategy: Negatives, margin: float = 4.0) -> set[int]:
    """Candidates that the loss pushes away; with so large a margin all that the strategy selects."""
    given, ids = scores().requires_grad_(), torch.arange(len(DEGREES))
    loss = ContrastiveLoss(margin, strategy, directions="queries")
    loss.from_scores(given, query_ids=ids[:1], candidate_ids=ids).backward()
    assert given.grad is not None
    return set((given.grad[0] > 0).nonzero().ravel().tolist())


def place(degrees: float, middle: tuple[float, float], radius: float) -> tuple[float, float]:
    """The query, at 0 degrees, is at the top."""
    angle = math.radians(degrees)
    return middle[0] + radius * math.sin(angle), middle[1] - radius * math.cos(angle)


def points(chosen: set[int], middle: tuple[float, float], radius: float) -> list[str]:
    """The circle, the query with a line to each chosen negative, and the candidates."""
    top = place(0, middle, radius)
    found = [dot(*middle, radius, fill="none", stroke=FAINT)]
    for index in sorted(chosen):
        found.append(
            line(*top, *place(DEGREES[index], middle, radius), stroke=NEGATIVE, opacity=0.55)
        )
    for index, degrees in enumerate(DEGREES):
        where = place(degrees, middle, radius)
        if index == 0:
            found.append(dot(*where, 6.5, fill=POSITIVE))
        elif index in chosen:
            found.append(dot(*where, 6.5, fill=NEGATIVE))
        else:
            found.append(dot(*where, 4.5, fill="none", stroke=INK, stroke_width=1.5))
    x, y = top
    return [*found, element("rect", x=x - 6, y=y - 6, width=12, height=12, fill=QUERY)]


def selections() -> dict[str, str]:
    """One picture for each strategy."""
    found = {}
    for name, strategy in STRATEGIES.items():
        title = words(
            110, 18, TITLES[name], text_anchor="middle", font_family="monospace", font_size=13
        )
        parts = [title, *points(selected(strategy), (110, 125), 84)]
        found[f"selected_{name}.svg"] = picture(220, 224, f"Selected by {TITLES[name]}", parts)
    return found


def wedge(bound: float, middle: tuple[float, float], radius: float) -> str:
    """The part of the circle that scores above the bound."""
    degrees = math.degrees(math.acos(bound))
    (x1, y1), (x2, y2) = place(-degrees, middle, radius), place(degrees, middle, radius)
    arc = f"A {radius} {radius} 0 0 1 {x2:.1f} {y2:.1f}"
    path = f"M {middle[0]} {middle[1]} L {x1:.1f} {y1:.1f} {arc} Z"
    return element("path", d=path, fill=NEGATIVE, opacity=0.13)


LEGEND = (
    (QUERY, "the query, such as an image"),
    (POSITIVE, "its positive: the caption that belongs to it"),
    (NEGATIVE, "hard negatives, which the loss pushes away"),
    ("none", "easy negatives: no loss, nothing to learn"),
)


def legend(x: float, y: float) -> list[str]:
    """What the marks are."""
    found = []
    for row, (colour, text) in enumerate(LEGEND):
        at = y + 30 * row
        if colour == QUERY:
            found.append(element("rect", x=x - 6, y=at - 11, width=12, height=12, fill=colour))
        else:
            outline = {"stroke": INK, "stroke_width": 1.5} if colour == "none" else {}
            found.append(dot(x, at - 5, 5.5, fill=colour, **outline))
        found.append(words(x + 16, at, text))
    return found


def hard_negative() -> str:
    """Which negatives of a query have a loss, and which of them is the hardest."""
    middle, radius = (104.0, 118.0), 88.0
    chosen = selected(All(), MARGIN)
    (hardest,) = selected(Hardest())
    x, y = place(DEGREES[hardest], middle, radius)
    parts = [
        wedge(float(scores()[0, 0]) - MARGIN, middle, radius),
        *points(chosen, middle, radius),
        words(x + 12, y - 6, "the hardest", fill=NEGATIVE, font_weight="bold"),
        *legend(222, 84),
        words(216, 210, f"shaded: above the positive's score less {MARGIN}"),
    ]
    return picture(
        570, 226, "A query, its positive, hard negatives and easy negatives on a circle", parts
    )
