"""One page about some runs: the paper's number beside ours, curves, recalls, and a gallery of queries."""

from __future__ import annotations

import html
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from vsepp.files import write_text
from vsepp.recipes import RECIPES
from vsepp.retrieval import Retrieval

COLOURS = ("#3b6fb6", "#c8553d", "#4a9a62", "#8a5fb0", "#b08a2e", "#5f7f8f")
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #1d2329; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; } h3 { font-size: 1rem; }
table { border-collapse: collapse; } th, td { padding: .3rem .8rem; border-bottom: 1px solid #dde2e7; text-align: right; }
th:first-child, td:first-child { text-align: left; } th { font-weight: 600; }
td.wide, th.wide { text-align: left; } .note { color: #5b6670; }
svg { max-width: 100%; height: auto; }
.query { display: grid; grid-template-columns: 15rem 1fr; gap: 1rem; padding: .7rem 0; border-bottom: 1px solid #dde2e7; }
.row { display: flex; gap: .5rem; align-items: center; margin: .25rem 0; flex-wrap: wrap; }
.row b { width: 11rem; font-weight: 600; font-size: .85rem; }
img { width: 84px; height: 84px; object-fit: cover; border-radius: 3px; }
.right { outline: 4px solid #3a9a55; } .wrong { outline: 2px solid #d9b3ac; }
li.right { outline: 0; color: #23713b; font-weight: 600; } li.wrong { outline: 0; color: #6d5450; }
ol { margin: 0; padding-left: 1.4rem; }
"""


@dataclass(frozen=True)
class Run:
    """A finished run, read from its folder."""

    name: str
    recipe: str
    result: dict[str, Any]
    gallery: dict[str, Any]

    def retrieval(self, protocol: str) -> Retrieval:
        """The test result under a protocol."""
        record = self.result["results"][protocol]
        return Retrieval.from_record({way: record[way] for way in ("i2t", "t2i")})


def read_run(folder: Path) -> Run:
    """The result that a run left in its folder."""
    path = folder / "result.json"
    if not path.is_file():
        raise FileNotFoundError(f"no {path}: the run has not finished; go on with it by --resume")
    result = json.loads(path.read_text(encoding="utf-8"))
    gallery = folder / "gallery.json"
    shown = json.loads(gallery.read_text(encoding="utf-8")) if gallery.is_file() else {}
    return Run(folder.name, result["recipe"], result, shown)


def text_table(runs: Sequence[Run]) -> str:
    """The results as lines of text, for the end of a run."""
    rows = [("run", "protocol", "image to text R@1/5/10", "text to image R@1/5/10", "rsum")]
    for run in runs:
        for protocol in run.result["results"]:
            found = run.retrieval(protocol)
            rows.append((run.name, protocol, str(found.i2t), str(found.t2i), f"{found.rsum:.1f}"))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def write_report(runs: Sequence[Run], path: Path) -> None:
    """A page that needs nothing beside it: pictures and curves are inside."""
    title = "VSE++: " + ", ".join(sorted({run.recipe for run in runs}))
    body = [
        f"<h1>{html.escape(title)}</h1>",
        results_table(runs),
        "<h2>Training</h2>",
        curves(runs),
        "<h2>Recall in both directions</h2>",
        recall_bars(runs),
        *gallery_of(runs),
        f"<p class=note>{html.escape(made_with(runs))}</p>",
    ]
    write_text(
        path,
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title>"
        f"<style>{STYLE}</style>{''.join(body)}</html>",
    )


def results_table(runs: Sequence[Run]) -> str:
    """A line for each recipe and protocol: ours (mean and spread over seeds) and the expected numbers."""
    lines = []
    for recipe in dict.fromkeys(run.recipe for run in runs):
        same = [run for run in runs if run.recipe == recipe]
        for protocol in same[0].result["results"]:
            found = [run.retrieval(protocol) for run in same]
            expected = RECIPES[recipe].expected.get(protocol)
            cells = [
                f"{recipe} ({protocol})",
                str(len(same)),
                ways([one.i2t.recalls for one in found]),
                ways([one.t2i.recalls for one in found]),
                spread([one.rsum for one in found]),
                " / ".join(f"{one.i2t.median:g}, {one.t2i.median:g}" for one in found),
                f"{mean(run.result['seconds_per_epoch'] for run in same):.1f}",
            ]
            plain = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
            lines.append(f"<tr>{plain}<td class=wide>{html.escape(str(expected or ''))}</td></tr>")
    heads = ("recipe", "runs", "image to text R@1/5/10", "text to image R@1/5/10", "rsum",
             "median ranks", "s / epoch")  # fmt: skip
    head = "".join(f"<th>{one}</th>" for one in heads) + "<th class=wide>expected</th>"
    return (
        f"<table><tr>{head}</tr>{''.join(lines)}</table>"
        "<p class=note>Test split, read once with the model that was best on the dev split. With several "
        "seeds: mean ± standard deviation.</p>"
    )


def spread(values: Sequence[float]) -> str:
    """A mean, with the standard deviation where there are several values."""
    deviation = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
    return f"{mean(values):.1f}{deviation}"


def ways(recalls: Sequence[tuple[float, float, float]]) -> str:
    """R@1/5/10, each a mean over runs."""
    return " / ".join(spread(values) for values in zip(*recalls, strict=True))


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
        epochs = [row["epoch"] + 1 for row in history]
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
    colours = colour_of(runs)
    for axes, way, title in zip(
        figure.subplots(1, 2, sharey=True), ("i2t", "t2i"), ("image to text", "text to image"), strict=True
    ):
        for number, (recipe, colour) in enumerate(colours.items()):
            found = [
                getattr(run.retrieval(next(iter(run.result["results"]))), way).recalls
                for run in runs
                if run.recipe == recipe
            ]
            heights = [mean(values) for values in zip(*found, strict=True)]
            width = 0.8 / len(colours)
            places = [level + (number + 0.5) * width - 0.4 for level in range(3)]
            bars = axes.bar(places, heights, width * 0.92, color=colour, label=recipe)
            axes.bar_label(bars, fmt="%.1f", fontsize=8)
        axes.set(title=title, xticks=range(3), xticklabels=("R@1", "R@5", "R@10"), ylim=(0, 105))
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("percent of queries")
    figure.axes[0].legend(frameon=False)
    return drawn(figure)


def drawn(figure: Figure) -> str:
    """A figure as SVG, to stand inside a page; the same figure gives the same bytes."""
    content = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "vsepp", "svg.fonttype": "path"}):
        figure.savefig(content, format="svg", metadata={"Date": None})
    svg = content.getvalue()
    return svg[svg.index("<svg") :]


def gallery_of(runs: Sequence[Run]) -> list[str]:
    """The same queries under every recipe (its first run), one below the other."""
    first = {run.recipe: run for run in reversed(runs) if run.gallery}
    shown = [first[recipe] for recipe in dict.fromkeys(run.recipe for run in runs) if recipe in first]
    if not shown:
        return []
    texts = zip(*(run.gallery["text"] for run in shown), strict=True)
    images = zip(*(run.gallery["image"] for run in shown), strict=True)
    names = [run.recipe for run in shown]
    return [
        "<h2>From text to images</h2><p class=note>The five best images; the right one has a green frame.</p>",
        *(text_query(names, query) for query in texts),
        "<h2>From images to text</h2><p class=note>The five best captions; right ones are green.</p>",
        *(image_query(names, query) for query in images),
    ]


def text_query(names: Sequence[str], answers: Sequence[dict[str, Any]]) -> str:
    """A caption, the image it describes, and each model's five best images."""
    rows = [
        f"<div class=row><b>{html.escape(name)}</b>"
        + "".join(image(one["picture"], "right" if one["right"] else "wrong") for one in answer["top"])
        + "</div>"
        for name, answer in zip(names, answers, strict=True)
    ]
    return (
        f"<div class=query><div>{image(answers[0]['answer'], '')}<br>{html.escape(answers[0]['caption'])}</div>"
        f"<div>{''.join(rows)}</div></div>"
    )


def image_query(names: Sequence[str], answers: Sequence[dict[str, Any]]) -> str:
    """An image, and each model's five best captions."""
    lists = []
    for name, answer in zip(names, answers, strict=True):
        items = "".join(
            f"<li class={'right' if one['right'] else 'wrong'}>{html.escape(one['caption'])}</li>"
            for one in answer["top"]
        )
        lists.append(f"<h3>{html.escape(name)}</h3><ol>{items}</ol>")
    return f"<div class=query><div>{image(answers[0]['picture'], '')}</div><div>{''.join(lists)}</div></div>"


def image(source: str, kind: str) -> str:
    """A picture, or a word where the features have none."""
    return f'<img class="{kind}" src="{source}" alt="">' if source else f"<span class={kind}>(no picture)</span>"


def made_with(runs: Sequence[Run]) -> str:
    """What the runs ran on."""
    first = runs[0].result
    memory = max(run.result["peak_memory_mib"] for run in runs)
    return (
        f"torch {first['torch']} on {first['device']}; words by {first['tokenizer']}; "
        f"most memory of a process {memory:,.0f} MiB."
    )
