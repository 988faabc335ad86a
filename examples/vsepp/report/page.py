"""One page about some runs: the paper's number beside ours, curves, recalls, and a gallery of
queries.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median, stdev

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from hardneg.metrics import RetrievalMetrics
from vsepp.files.writing import write_text
from vsepp.recipes import RECIPES, UNVERIFIED
from vsepp.report.charts import curves, mining_curves, recall_bars
from vsepp.report.explanations import (
    chance_notes,
    explained,
    mining_notes,
    settings_table,
    switch_notes,
)
from vsepp.report.finished import Run
from vsepp.report.gallery_page import galleries_of, mined_of
from vsepp.report.verdict import verdicts
from vsepp.retrieval import brief, recalls

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
            expected = expected_of(run, protocol)
            rows.append((run.name, protocol, *ways, f"{found.rsum:.1f}", expected))
    rows += mean_rows(runs)
    if not any(row[-1] for row in rows[1:]):
        rows = [row[:-1] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join([*lines, *(f"\n{one}" for one in verdicts(runs))])


def mean_rows(runs: Sequence[Run]) -> list[tuple[str, ...]]:
    """A line for each recipe with several seeds: means and standard deviations."""
    rows = []
    for label, same in by_label(runs).items():
        for protocol in same[0].result["results"] if len(same) > 1 else ():
            cells = result_cells(label, protocol, same)
            rows.append((f"{label}, {cells[1]} seeds", protocol, *cells[2:5], cells[-1]))
    return rows


def by_label(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """The runs of each label."""
    labels = dict.fromkeys(run.label for run in runs)
    return {label: [run for run in runs if run.label == label] for label in labels}


def write_report(runs: Sequence[Run], path: Path) -> None:
    """A page that needs nothing beside it: pictures and curves are inside. Names, captions and
    settings are escaped by the template engine, whoever wrote them.
    """
    folder = FileSystemLoader(Path(__file__).parent)
    pages = Environment(loader=folder, autoescape=True, undefined=StrictUndefined)
    rows = result_rows(runs)
    columns = len(HEADS) if any(row[-1] for row in rows) else len(HEADS) - 1
    page = pages.get_template("page.html.j2").render(
        title="Image-text retrieval: " + ", ".join(by_label(runs)),
        verdicts=verdicts(runs),
        heads=HEADS[:columns],
        rows=[row[:columns] for row in rows],
        note=NOTE,
        settings=settings_lines(runs),
        explained=explained(runs),
        chances=chance_notes(runs),
        differing=settings_table(runs),
        switch_notes=switch_notes(runs),
        curves=curves(runs),
        mining=mining_curves(runs),
        mining_notes=mining_notes(runs),
        mined=mined_of(runs),
        bars=recall_bars(runs),
        galleries=galleries_of(runs),
        made_with=made_with(runs),
    )
    write_text(path, page)


def result_rows(runs: Sequence[Run]) -> list[list[str]]:
    """A line for each recipe and protocol: ours, and the expected numbers beside them."""
    return [
        result_cells(label, protocol, same)
        for label, same in by_label(runs).items()
        for protocol in same[0].result["results"]
    ]


def result_cells(label: str, protocol: str, runs: Sequence[Run]) -> list[str]:
    """One line of the table: the runs of a recipe under a protocol."""
    runs = [run for run in runs if protocol in run.result["results"]]
    found = [run.retrieval(protocol) for run in runs]
    seconds = mean(run.result["seconds_per_epoch"] for run in runs)
    return [
        f"{label} ({protocol})",
        str(len(runs)),
        ways([recalls(one.image_to_text) for one in found]),
        ways([recalls(one.text_to_image) for one in found]),
        spread([one.rsum for one in found]),
        medians(found),
        f"{seconds:.1f}",
        expected_of(runs[0], protocol),
    ]


def expected_of(run: Run, protocol: str) -> str:
    """The number to expect, as the recipe has it; nothing where there is none, or none that was
    verified, or on other data.
    """
    known = RECIPES.get(run.recipe)
    if known is None or known.settings.data.dataset != run.settings.data.dataset:
        return ""
    expected = known.expected.get(protocol)
    return "" if expected is None or expected.confidence == UNVERIFIED else str(expected)


def changed_from(run: Run) -> str:
    """What the command line changed of a recipe, at the start or while the run was under way: the
    expected number may not hold for it.
    """
    known = RECIPES.get(run.recipe)
    differing = known.settings.differences(run.settings) if known else []
    changes = [one for one in differing if not one.startswith(("schedule.seed", "data.digest"))]
    said = f"; changed (recipe, run): {'; '.join(changes)}" if changes else ""
    later = [str(one) for one in run.result.get("changes") or ()]
    return said + (f"; changed on the way (before, after): {'; '.join(later)}" if later else "")


def settings_lines(runs: Sequence[Run]) -> list[str]:
    """What each recipe was: a sentence each."""
    lines = []
    for label, same in by_label(runs).items():
        settings = same[0].settings
        loss, schedule = settings.loss, settings.schedule
        begun = loss.negatives != "all" and loss.warmup_epochs > 0
        warmup = f" after {loss.warmup_epochs:g} of all negatives" if begun else ""
        sets = f" of {loss.negatives_from:,} others" if loss.negatives_from else ""
        parity = ", strict parity" if loss.strict_parity else ""
        seeds = ", ".join(str(run.settings.schedule.seed) for run in same)
        lines.append(
            f"{label}: negatives {loss.negatives}{sets}, {loss.measure}, margin {loss.margin:g}"
            f"{parity}; embedding {settings.model.embed_dim}; epochs {schedule.epochs}{warmup}, batch "
            f"{schedule.batch_size}, learning rate {schedule.learning_rate:g}; seeds {seeds}"
            f"{changed_from(same[0])}"
        )
    return lines


def medians(found: Sequence[RetrievalMetrics]) -> str:
    """The median ranks of both directions; of several runs the median of theirs."""
    ways = [(one.image_to_text.median_rank, one.text_to_image.median_rank) for one in found]
    return ", ".join(f"{median(each):g}" for each in zip(*ways, strict=True))


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
