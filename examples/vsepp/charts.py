"""Curves and bars of some runs, as SVG to stand inside a page."""

from __future__ import annotations

import io
from collections.abc import Sequence
from statistics import mean

import matplotlib as mpl
from matplotlib.figure import Figure

from vsepp.finished import Run
from vsepp.retrieval import recalls

COLOURS = ("#3b6fb6", "#c8553d", "#4a9a62", "#8a5fb0", "#b08a2e", "#5f7f8f")


def colour_of(runs: Sequence[Run]) -> dict[str, str]:
    """One colour a recipe."""
    recipes = dict.fromkeys(run.recipe for run in runs)
    return {recipe: COLOURS[number % len(COLOURS)] for number, recipe in enumerate(recipes)}


def curves(runs: Sequence[Run]) -> str:
    """Dev rsum and training loss by epoch."""
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    colours, named = colour_of(runs), set()
    for run in runs:
        history = run.result["history"]
        steps_per_epoch = history[-1]["step"] / (history[-1]["epoch"] + 1)
        epochs = [row["step"] / steps_per_epoch for row in history]
        label = None if run.recipe in named else run.recipe
        named.add(run.recipe)
        style = {"color": colours[run.recipe], "label": label, "marker": "o", "markersize": 3}
        left.plot(epochs, [row["rsum"] for row in history], **style)
        right.plot(epochs, [row["loss"] for row in history], **style)
    left.set(xlabel="epoch", ylabel="rsum on the dev split", ylim=(0, None))
    right.set(xlabel="epoch", ylabel="loss of a batch (log scale)", yscale="log")
    left.legend(frameon=False)
    return drawn(figure)


def recall_bars(runs: Sequence[Run]) -> str:
    """R@1, R@5 and R@10 of both directions, a bar for each recipe (mean over seeds)."""
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    ways = ("image_to_text", "text_to_image")
    for axes, way in zip(figure.subplots(1, 2, sharey=True), ways, strict=True):
        for number, (recipe, colour) in enumerate(colour_of(runs).items()):
            width = 0.8 / len(colour_of(runs))
            places = [level + (number + 0.5) * width - 0.4 for level in range(3)]
            heights = mean_recalls(runs, recipe, way)
            bars = axes.bar(places, heights, width * 0.92, color=colour, label=recipe)
            axes.bar_label(bars, fmt="%.1f", fontsize=8)
        axes.set(title=way.replace("_", " "), ylim=(0, 105))
        axes.set(xticks=range(3), xticklabels=("R@1", "R@5", "R@10"))
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("percent of queries")
    figure.axes[0].legend(frameon=False)
    return drawn(figure)


def mean_recalls(runs: Sequence[Run], recipe: str, way: str) -> list[float]:
    """The three recalls of a recipe, under its first protocol, as means over its runs."""
    same = [run for run in runs if run.recipe == recipe]
    found = [run.retrieval(next(iter(run.result["results"]))) for run in same]
    each = [recalls(getattr(one, way)) for one in found]
    return [mean(values) for values in zip(*each, strict=True)]


def drawn(figure: Figure) -> str:
    """A figure as SVG, to stand inside a page; the same figure gives the same bytes."""
    content = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "vsepp", "svg.fonttype": "path"}):
        figure.savefig(content, format="svg", metadata={"Date": None})
    svg = content.getvalue()
    return svg[svg.index("<svg") :]
