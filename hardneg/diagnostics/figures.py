"""Figures of what was observed, by matplotlib (``pip install 'hardneg[diagnostics]'``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from hardneg.diagnostics.histogram import Histogram
from hardneg.diagnostics.observation import Observation
from hardneg.extras import require

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["overview"]

POSITIVE, NEGATIVE, HARDEST, OTHER = "#2f855a", "#c53030", "#dd6b20", "#4a5568"
SIZE = (10, 7.5)

Line = tuple[str, str, Callable[[Observation], float]]
"""Label, colour, and the number that is drawn."""


def overview(history: Sequence[Observation]) -> Figure:
    """Draw four charts: scores of the last look, hardness, active share and hubs, collapse, over the steps.

    Raises:
        ImportError: without matplotlib.
        RuntimeError: for an empty history.
    """
    if not history:
        raise RuntimeError("nothing was looked at yet: there is no history to draw")
    figure = require("matplotlib.figure", "diagnostics", "a figure of diagnostics").Figure(
        figsize=SIZE, layout="constrained"
    )
    (scores, hardness), (shares, collapse) = figure.subplots(2, 2)
    draw_scores(scores, history[-1])
    draw_hardness(hardness, history)
    draw_shares(shares, history)
    draw_collapse(collapse, history)
    for axes in (scores, hardness, shares, collapse):
        axes.spines[["top", "right"]].set_visible(False)
    found: Figure = figure
    return found


def draw_scores(axes: Any, seen: Observation) -> None:
    """Histograms of positives and of chosen negatives, each as shares of its own."""
    both = ((seen.positives, POSITIVE, "positives"), (seen.negatives, NEGATIVE, "chosen negatives"))
    for counted, colour, label in both:
        total = max(1, int(counted.counts.sum()))
        style = {"color": colour, "alpha": 0.55, "label": label, "fill": True}
        axes.stairs((counted.counts / total).numpy(), counted.edges.numpy(), **style)
    axes.set(title=f"scores at step {seen.step}", xlabel="score", ylabel="share")
    axes.set_xlim(*occupied(seen.positives, seen.negatives))
    put_legend(axes, axes.get_legend_handles_labels()[0])


def occupied(*histograms: Histogram) -> tuple[float, float]:
    """The bounds of the bins with counts, and a bin more."""
    edges = histograms[0].edges
    there = sum(x.counts for x in histograms).nonzero().flatten().tolist() or [0]  # type: ignore[union-attr]
    last = len(edges) - 1
    return float(edges[max(0, there[0] - 1)]), float(edges[min(last, there[-1] + 2)])


def draw_hardness(axes: Any, history: Sequence[Observation]) -> None:
    """Mean scores over the steps."""
    lines: list[Line] = [
        ("positives", POSITIVE, lambda x: x.positive_mean),
        ("chosen negatives", NEGATIVE, lambda x: x.negative_mean),
    ]
    draw_lines(axes, history, lines)
    # the same line where the hardest are chosen
    hardest: list[Line] = [("hardest negatives", OTHER, lambda x: x.hardest_negative_mean)]
    draw_lines(axes, history, hardest, linestyle="--", linewidth=1)
    axes.set(title="hardness", xlabel="step", ylabel="mean score")
    put_legend(axes, axes.get_lines())


def draw_shares(axes: Any, history: Sequence[Observation]) -> None:
    """Shares between 0 and 1 over the steps, with the skewness of the hubs on an axis of its own."""
    lines: list[Line] = [
        ("active terms", POSITIVE, lambda x: x.active_share),
        ("positive not above its hardest negative", NEGATIVE, lambda x: x.outscored_share),
        ("anti-hubs", OTHER, lambda x: x.hubs.antihub_share),
    ]
    draw_lines(axes, history, lines)
    axes.set(title="active terms and hubs", xlabel="step", ylabel="share", ylim=(-0.02, 1.02))
    beside = axes.twinx()
    skewness: list[Line] = [("skewness of hubs (right)", HARDEST, lambda x: x.hubs.skewness)]
    draw_lines(beside, history, skewness, linestyle="--")
    beside.set(ylabel="skewness")
    beside.spines[["top"]].set_visible(False)
    put_legend(axes, [*axes.get_lines(), *beside.get_lines()])


def draw_collapse(axes: Any, history: Sequence[Observation]) -> None:
    """Mean cosines, and the loss in units of its plateau."""
    lines: list[Line] = [("mean cosine, queries", POSITIVE, lambda x: x.queries.mean_cosine)]
    if history[-1].candidates is not None:
        lines.append(("mean cosine, candidates", NEGATIVE, candidates_cosine))
    lines.append(("loss / loss of equal rows", OTHER, lambda x: ratio(x.loss, x.loss_at_means)))
    draw_lines(axes, history, lines)
    axes.axhline(1, color=OTHER, linestyle=":", linewidth=1)
    axes.set(title="collapse and plateau: at 1", xlabel="step")
    put_legend(axes, axes.get_lines())


def candidates_cosine(seen: Observation) -> float:
    """Mean cosine of the candidates; NaN for one set."""
    return float("nan") if seen.candidates is None else seen.candidates.mean_cosine


def ratio(value: float, whole: float) -> float:
    """The quotient; NaN of 0."""
    return value / whole if whole else float("nan")


def put_legend(axes: Any, handles: Sequence[Any]) -> None:
    """Below the chart, where it hides no line; matplotlib's search for a free place takes long."""
    handles = [one for one in handles if not one.get_label().startswith("_")]
    style = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.16), "ncols": 2}
    axes.legend(handles=handles, frameon=False, fontsize="small", **style)


def draw_lines(
    axes: Any,
    history: Sequence[Observation],
    lines: Sequence[Line],
    **style: Any,
) -> None:
    """A line for each number, the first ones wider, so that none hides another; with points where there are few."""
    steps = [seen.step for seen in history]
    marker = "o" if len(steps) < 30 else None
    for before, (label, colour, number) in enumerate(lines):
        behind = len(lines) - 1 - before
        line = {
            "label": label,
            "color": colour,
            "linewidth": 1.8 + 0.7 * behind,
            "zorder": 2 - behind / 10,
        }
        values = [number(seen) for seen in history]
        axes.plot(steps, values, marker=marker, markersize=3, **{**line, **style})
