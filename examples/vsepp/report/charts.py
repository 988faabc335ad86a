"""Curves and bars of some runs, as SVG to stand inside a page."""

from __future__ import annotations

import io
from collections.abc import Sequence
from statistics import mean
from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vsepp.report.explanations import chance_of, switches
from vsepp.report.finished import Run
from vsepp.retrieval import recalls

INK = "#0a0b0c"
"""Stands for the page's colour of letters while a figure is drawn."""
STYLE = {
    "svg.hashsalt": "vsepp",
    "svg.fonttype": "path",
    **{f"{one}.color": INK for one in ("text", "xtick", "ytick")},
    **{f"axes.{one}": INK for one in ("edgecolor", "labelcolor", "titlecolor")},
}
SIZE = (5.5, 3.5)
COLOURS = ("#4a83d1", "#d0603f", "#46a065", "#9a70c4", "#b08a2e", "#6b8fa2")
"""Seen on white and on black."""


def colour_of(runs: Sequence[Run]) -> dict[str, str]:
    """One colour a recipe."""
    recipes = dict.fromkeys(run.label for run in runs)
    return {recipe: COLOURS[number % len(COLOURS)] for number, recipe in enumerate(recipes)}


def curves(runs: Sequence[Run]) -> list[Markup]:
    """Dev rsum and training loss by epoch."""
    rsum = {"ylabel": "rsum on the dev split", "ylim": (0, None), "title": "higher is better"}
    loss = {"ylabel": "loss of a batch (log scale)", "yscale": "log"}
    loss["title"] = "lower is better, within one loss"
    level = next((one for one in (chance_of(run, "dev") for run in runs) if one), None)
    return [
        curve(runs, "rsum", rsum, level=level, legend="lower right"),
        curve(runs, "loss", loss, switches_shown=True),
    ]


def mining_curves(runs: Sequence[Run]) -> list[Markup]:
    """What mining found by epoch; nothing where no run tells."""
    told = [run for run in runs if all("mining" in row for row in run.result["history"])]
    if not told:
        return []
    share = {"ylabel": "share with a negative in the margin", "ylim": (0, 1.03)}
    share["title"] = "active anchors (fewer are better)"
    scores = {"ylabel": "mean score", "title": "positives far above negatives are better"}
    return [curve(told, "active_anchors", share, legend="lower left"), score_curves(told, scores)]


def curve(
    runs: Sequence[Run],
    key: str,
    look: dict[str, Any],
    *,
    level: float | None = None,
    legend: str = "",
    switches_shown: bool = False,
) -> Markup:
    """A line for every run, one colour for every recipe; with chance as a line, or with the places
    where the negatives change.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=SIZE, layout="constrained")
        axes, colours, named = figure.subplots(), colour_of(runs), set()
        for run in runs:
            label = None if run.label in named else plain(run.label)
            named.add(run.label)
            style = {"color": colours[run.label], "label": label, "marker": "o", "markersize": 3}
            axes.plot(epochs_of(run), values_of(run, key), **style)
            if switches_shown and switches(run.settings.loss) and label:
                place = run.settings.loss.warmup_epochs
                axes.axvline(place, color=colours[run.label], linestyle=":")
        if level is not None:
            axes.axhline(level, color=INK, linestyle=":", label="chance")
        finish(axes, look, legend)
        return drawn(figure)


def score_curves(runs: Sequence[Run], look: dict[str, Any]) -> Markup:
    """Mean scores of the positives (solid) and of the hardest negatives (dashed)."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=SIZE, layout="constrained")
        axes, colours = figure.subplots(), colour_of(runs)
        for run in runs:
            for key, line in (("positive", "-"), ("negative", "--")):
                style = {"color": colours[run.label], "linestyle": line}
                axes.plot(epochs_of(run), values_of(run, key), **style)
        for name, line in (("positives", "-"), ("hardest negatives", "--")):
            axes.plot([], [], color=INK, linestyle=line, label=name)
        finish(axes, look, "lower right")
        return drawn(figure)


def epochs_of(run: Run) -> list[float]:
    """The epoch of each validation, with the parts of one."""
    history = run.result["history"]
    steps_per_epoch = history[-1]["step"] / max(1, history[-1]["epoch"]) or 1
    return [row["step"] / steps_per_epoch for row in history]


def values_of(run: Run, key: str) -> list[float]:
    """A number of each validation."""
    return [row[key] if key in row else row["mining"][key] for row in run.result["history"]]


def finish(axes: Axes, look: dict[str, Any], legend: str) -> None:
    """Names and ticks of a chart by epoch, and its legend where there is a place for one: to look for
    the best place takes long on a busy machine, and then matplotlib warns.
    """
    axes.set(xlabel="epoch", **look)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    if legend:
        axes.legend(frameon=False, loc=legend)


def recall_bars(runs: Sequence[Run]) -> list[Markup]:
    """R@1, R@5 and R@10 of both directions, a bar for each recipe (mean over seeds)."""
    ways = ("image_to_text", "text_to_image")
    return [recall_bar(runs, way, legend=way == ways[0]) for way in ways]


def recall_bar(runs: Sequence[Run], way: str, legend: bool) -> Markup:
    """The bars of one direction."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=SIZE, layout="constrained")
        axes = figure.subplots()
        for number, (recipe, colour) in enumerate(colour_of(runs).items()):
            width = 0.8 / len(colour_of(runs))
            places = [level + (number + 0.5) * width - 0.4 for level in range(3)]
            heights = mean_recalls(runs, recipe, way)
            bars = axes.bar(places, heights, width * 0.92, color=colour, label=plain(recipe))
            axes.bar_label(bars, fmt="%.1f", fontsize=8)
        axes.set(
            title=f"{way.replace('_', ' ')} (higher is better)",
            ylim=(0, 105),
            ylabel="percent of queries",
        )
        axes.set(xticks=range(3), xticklabels=("R@1", "R@5", "R@10"))
        axes.spines[["top", "right"]].set_visible(False)
        if legend:
            axes.legend(frameon=False, loc="upper left")
        return drawn(figure)


def plain(recipe: str) -> str:
    """A name for a legend, in which a dollar sign begins no formula and a leading _ hides nothing."""
    shown = recipe if len(recipe) <= 40 else recipe[:39] + "…"
    return shown.lstrip("_").replace("$", r"\$")


def mean_recalls(runs: Sequence[Run], recipe: str, way: str) -> list[float]:
    """The three recalls of a recipe, under its first protocol, as means over its runs."""
    same = [run for run in runs if run.label == recipe]
    found = [run.retrieval(next(iter(run.result["results"]))) for run in same]
    each = [recalls(getattr(one, way)) for one in found]
    return [mean(values) for values in zip(*each, strict=True)]


def drawn(figure: Figure) -> Markup:
    """A figure as SVG, to stand inside a page; the same figure gives the same bytes. Lines and
    letters take the page's colour, so that they are seen on a dark page too.
    """
    content = io.StringIO()
    figure.savefig(content, format="svg", transparent=True, metadata={"Date": None})
    svg = content.getvalue()
    return Markup(svg[svg.index("<svg") :].replace(INK, "currentColor"))
