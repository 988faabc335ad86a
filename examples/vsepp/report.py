"""One page about some runs: the paper's number beside ours, curves, recalls, and a gallery of
queries.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

from hardneg.metrics import RetrievalMetrics
from vsepp.charts import curves, recall_bars
from vsepp.files import write_text
from vsepp.finished import Run
from vsepp.gallery_page import gallery_of
from vsepp.recipes import RECIPES
from vsepp.retrieval import brief, recalls
from vsepp.settings import Settings

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1d2329; }
body { margin: 2rem auto; max-width: 72rem; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
h3 { font-size: 1rem; margin: .4rem 0 0; }
table { border-collapse: collapse; } th { font-weight: 600; }
th, td { padding: .3rem .8rem; border-bottom: 1px solid #dde2e7; text-align: right; }
th:first-child, td:first-child, td:nth-child(8), th:nth-child(8) { text-align: left; }
.note { color: #5b6670; }
svg { max-width: 100%; height: auto; }
.query { display: grid; grid-template-columns: 15rem 1fr; gap: 1rem; padding: .7rem 0; }
.query { border-bottom: 1px solid #dde2e7; }
.row { display: flex; gap: .5rem; align-items: center; margin: .3rem 0; flex-wrap: wrap; }
.row b { width: 11rem; font-weight: 600; font-size: .85rem; }
img { width: 84px; height: 84px; object-fit: cover; border-radius: 3px; }
.right { outline: 4px solid #3a9a55; } .wrong { outline: 2px solid #d9b3ac; }
li.right { outline: 0; color: #23713b; font-weight: 600; }
li.right::after { content: " \2713"; }
li.wrong { outline: 0; color: #6d5450; }
ol { margin: 0; padding-left: 1.4rem; }
"""


HEADS = (
    "recipe",
    "runs",
    "image to text R@1/5/10",
    "text to image R@1/5/10",
    "rsum",
    "median ranks",
    "s / epoch",
    "expected",
)
NOTE = (
    "Test split, read once with the model that was best on the dev split. "
    "With several seeds: mean \u00b1 standard deviation."
)


def text_table(runs: Sequence[Run]) -> str:
    """The results as lines of text, for the end of a run."""
    ways_of = ("image to text R@1/5/10", "text to image R@1/5/10")
    rows = [("run", "protocol", *ways_of, "rsum", "expected")]
    for run in runs:
        for protocol in run.result["results"]:
            found = run.retrieval(protocol)
            ways = (brief(found.image_to_text), brief(found.text_to_image))
            expected = expected_of(run.recipe, protocol)
            rows.append((run.name, protocol, *ways, f"{found.rsum:.1f}", expected))
    if not any(row[-1] for row in rows[1:]):
        rows = [row[:-1] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
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
        settings_lines(runs),
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
    """A line for each recipe and protocol: ours, and the expected numbers beside them."""
    rows = [
        result_cells(recipe, protocol, [run for run in runs if run.recipe == recipe])
        for recipe in dict.fromkeys(run.recipe for run in runs)
        for protocol in next(run for run in runs if run.recipe == recipe).result["results"]
    ]
    columns = range(len(HEADS) if any(row[-1] for row in rows) else len(HEADS) - 1)
    head = "".join(f"<th>{HEADS[column]}</th>" for column in columns)
    lines = ("".join(f"<td>{html.escape(row[column])}</td>" for column in columns) for row in rows)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table><tr>{head}</tr>{body}</table><p class=note>{html.escape(NOTE)}</p>"


def result_cells(recipe: str, protocol: str, runs: Sequence[Run]) -> list[str]:
    """One line of the table: the runs of a recipe under a protocol."""
    found = [run.retrieval(protocol) for run in runs]
    seconds = mean(run.result["seconds_per_epoch"] for run in runs)
    return [
        f"{recipe} ({protocol})",
        str(len(runs)),
        ways([recalls(one.image_to_text) for one in found]),
        ways([recalls(one.text_to_image) for one in found]),
        spread([one.rsum for one in found]),
        "; ".join(medians(one) for one in found),
        f"{seconds:.1f}",
        expected_of(recipe, protocol),
    ]


def expected_of(recipe: str, protocol: str) -> str:
    """The number to expect, as the recipe has it; nothing where there is none."""
    known = RECIPES.get(recipe)
    return str(known.expected.get(protocol, "")) if known else ""


def changed_from(recipe: str, settings: Settings) -> str:
    """What the command line changed of a recipe: the expected number may not hold for it."""
    known = RECIPES.get(recipe)
    differing = known.settings.differences(settings) if known else []
    changes = [one for one in differing if not one.startswith("schedule.seed")]
    return f"; changed (recipe, run): {'; '.join(changes)}" if changes else ""


def settings_lines(runs: Sequence[Run]) -> str:
    """What each recipe was: a sentence each."""
    lines = []
    for recipe in dict.fromkeys(run.recipe for run in runs):
        same = [run for run in runs if run.recipe == recipe]
        settings = Settings.from_record(same[0].result["settings"])
        loss, schedule = settings.loss, settings.schedule
        warmup = (
            f", all of them for {loss.warmup_epochs:g} epochs first" if loss.warmup_epochs else ""
        )
        parity = ", strict parity" if loss.strict_parity else ""
        seeds = ", ".join(str(run.result["settings"]["schedule"]["seed"]) for run in same)
        lines.append(
            f"{recipe}: negatives {loss.negatives}{warmup}, {loss.measure}, margin {loss.margin:g}"
            f"{parity}; embedding {settings.model.embed_dim}; {schedule.epochs} epochs, batch "
            f"{schedule.batch_size}, learning rate {schedule.learning_rate:g}; seeds {seeds}"
            f"{changed_from(recipe, settings)}"
        )
    return "".join(f"<p class=note>{html.escape(line)}.</p>" for line in lines)


def medians(found: RetrievalMetrics) -> str:
    """The median ranks of both directions."""
    return f"{found.image_to_text.median_rank:g}, {found.text_to_image.median_rank:g}"


def spread(values: Sequence[float]) -> str:
    """A mean, with the standard deviation where there are several values."""
    deviation = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
    return f"{mean(values):.1f}{deviation}"


def ways(recalls: Sequence[tuple[float, float, float]]) -> str:
    """R@1/5/10, each a mean over runs."""
    return " / ".join(spread(values) for values in zip(*recalls, strict=True))


def made_with(runs: Sequence[Run]) -> str:
    """What the runs ran on."""
    first = runs[0].result
    memory = max(run.result["peak_memory_mib"] for run in runs)
    return (
        f"torch {first['torch']} on {first['device']}; words by {first['tokenizer']}; "
        f"most memory of a process {memory:,.0f} MiB."
    )
