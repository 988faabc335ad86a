"""Write the tables and figures of *Reproducing VSE++* from rows: ``python -m benchmarks.vsepp_page``.

Tables go between the markers of ``docs/reproducing.md``, figures into ``docs/figures/``; nothing in them is typed.
"""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.document import write

ROOT = Path(__file__).parents[1]
RESULTS, PAGE, FIGURES = (
    ROOT / "benchmarks" / "results",
    ROOT / "docs" / "reproducing.md",
    ROOT / "docs" / "figures",
)
WAYS = ("image_to_text", "text_to_image")
RECALLS = ("recall_at_1", "recall_at_5", "recall_at_10")
HEADER = (
    "| {} | seeds | image to text, R@1 / 5 / 10 | text to image, R@1 / 5 / 10 | rsum | dev rsum |\n"
    "|---|---|---|---|---|---|"
)
RECIPES = {
    "flickr8k-256-vse0": "VSE0, 256 wide",
    "flickr8k-256-vse++": "VSE++, 256 wide",
    "flickr8k-256-vse0-bf16": "VSE0, 256 wide, bfloat16",
    "flickr8k-256-vse++-bf16": "VSE++, 256 wide, bfloat16",
    "flickr8k-256-order0": "Order0, 256 wide",
    "flickr8k-256-order++": "Order++, 256 wide",
    "flickr8k-1024-vse0": "VSE0, 1,024 wide",
    "flickr8k-1024-vse++": "VSE++, 1,024 wide",
    "flickr8k-strong": "`flickr8k-strong`",
}
NOT_RUN = "Not run yet."
BLUE, ORANGE, GREY = "#2c6fbb", "#d9742b", "#8a8a8a"
Row = dict
Groups = dict[str, list[Row]]


def rows_in(name: str) -> list[Row]:
    """The rows of a file; none if there is no file yet."""
    file = RESULTS / name
    if not file.is_file():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line]


def grouped(rows: Iterable[Row], key: str) -> Groups:
    """Rows of every recipe or variant; a seed that was run again counts once, as the later run."""
    found: dict[str, dict[int, Row]] = defaultdict(dict)
    for row in rows:
        name, _, seed = row["run"].rpartition("-seed")
        found[row.get(key, name)][int(seed)] = row
    return {name: [*by_seed.values()] for name, by_seed in found.items()}


def tested(row: Row) -> Row:
    """The results on the test split."""
    return row["results"]["test"]


def rsums(rows: list[Row]) -> list[float]:
    return [tested(row)["rsum"] for row in rows]


def spread(values: list[float]) -> str:
    """Mean and standard deviation, or the one value."""
    if len(values) == 1:
        return f"{values[0]:.1f}"
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"


def recalls(rows: list[Row], way: str) -> str:
    """Means of the three recalls of a direction."""
    means = [statistics.mean(tested(row)[way][at] for row in rows) for at in RECALLS]
    return " / ".join(f"{one:.1f}" for one in means)


def line(name: str, rows: list[Row]) -> str:
    """A line of a table of results."""
    both = [recalls(rows, way) for way in WAYS]
    dev = spread([row["dev_rsum"] for row in rows])
    return f"| {' | '.join([name, str(len(rows)), *both, spread(rsums(rows)), dev])} |"


def recipes_table(groups: Groups) -> str:
    """The recipes, in the order of ``RECIPES``."""
    lines = [line(said, groups[name]) for name, said in RECIPES.items() if name in groups]
    return "\n".join([HEADER.format("recipe"), *lines])


def variants_table(groups: Groups, first: str, *, sort: bool = False) -> str:
    """Variants of the study, in the order of their runs or from the highest rsum down."""
    if not groups:
        return NOT_RUN
    order = [*groups]
    if sort:
        order.sort(key=lambda name: -statistics.mean(rsums(groups[name])))
    return "\n".join([HEADER.format(first), *[line(name, groups[name]) for name in order]])


def judgements_table(rows: list[Row]) -> str:
    """Shares of matches by rank, all runs together."""
    bands = [*rows[0]["ranks"]] if rows else []
    totals: dict[str, dict[str, list[int]]] = {}
    for row in rows:
        of_kind = totals.setdefault(row["match"], {band: [0, 0] for band in bands})
        for band, counts in row["ranks"].items():
            of_kind[band][0] += counts["matches"]
            of_kind[band][1] += counts["judged"]
    head = f"| who calls it a match | {' | '.join(f'rank {band}' for band in bands)} |"
    lines = [
        f"| {said} | {' | '.join(f'{100 * a / b:.0f} % of {b:,}' for a, b in by_band.values())} |"
        for said, by_band in totals.items()
    ]
    return "\n".join([head, "|---" * (len(bands) + 1) + "|", *lines])


def tables() -> dict[str, str]:
    """Every table of the page by its marker."""
    study = rows_in("vsepp_study.jsonl")

    def of(name: str) -> Groups:
        return grouped((row for row in study if row["table"] == name), "variant")

    return {
        "recipes": recipes_table(grouped(rows_in("vsepp_flickr8k.jsonl"), "")),
        "negatives": variants_table(of("negatives"), "loss and negatives", sort=True),
        "set size": variants_table(of("set size"), "negatives that a pair meets"),
        "batch": variants_table(of("batch"), "batch"),
        "masking": variants_table(of("masking"), "other captions of an image"),
        "judgements": judgements_table(rows_in("vsepp_judgements.jsonl")),
    }


def curves(groups: Groups) -> Figure:
    """Dev rsum after each epoch, of sum and max of hinges: means, and the range of the seeds."""
    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    axes = figure.add_subplot()
    for name, colour in (("flickr8k-256-vse0", BLUE), ("flickr8k-256-vse++", ORANGE)):
        each = [row["dev_rsum_by_epoch"] for row in groups.get(name, [])]
        if not each:
            continue
        by_epoch = [*zip(*each, strict=True)]
        epochs = range(1, len(by_epoch) + 1)
        said = f"{RECIPES[name]} ({'sum' if name.endswith('0') else 'max'} of hinges)"
        axes.plot(epochs, [statistics.mean(one) for one in by_epoch], color=colour, label=said)
        low, high = [min(one) for one in by_epoch], [max(one) for one in by_epoch]
        axes.fill_between(epochs, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.set(xlabel="epoch", ylabel="dev rsum", xlim=(1, None), ylim=(0, None))
    return finished(figure)


def set_sizes(groups: Groups) -> Figure:
    """Test rsum against the number of negatives that a pair meets."""
    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    axes = figure.add_subplot()
    kinds = {
        "all hinges (VSE0)": ("sum of hinges", BLUE),
        "hardest (VSE++)": ("max of hinges", ORANGE),
    }
    for kind, (said, colour) in kinds.items():
        points = []
        for name, rows in groups.items():
            written, _, count = name.removesuffix(" negatives").rpartition(", ")
            if written == kind or count == "1":
                points.append((int(count), rsums(rows)))
        points.sort()
        sizes = [count for count, _ in points]
        axes.plot(
            sizes, [statistics.mean(one) for _, one in points], "o-", color=colour, label=said
        )
        for count, values in points:
            axes.plot([count] * len(values), values, ".", color=GREY, markersize=4)
    axes.set(xscale="log", xlabel="negatives that a pair meets", ylabel="test rsum")
    axes.set_xticks(sizes, labels=[str(one) for one in sizes])
    axes.minorticks_off()
    return finished(figure)


def finished(figure: Figure) -> Figure:
    """A legend, and nothing that readers do not need."""
    (axes,) = figure.axes
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(frameon=False)
    return figure


def draw(figure: Figure, name: str) -> None:
    """A file that stays the same while its rows do, on white so that it can be read on a dark page."""
    FIGURES.mkdir(exist_ok=True)
    figure.savefig(FIGURES / f"{name}.svg", metadata={"Date": None}, facecolor="white")


def main() -> None:
    """Write all of them."""
    for name, block in tables().items():
        write(PAGE, name, block)
    mpl.rcParams["svg.hashsalt"] = "hardneg"
    draw(curves(grouped(rows_in("vsepp_flickr8k.jsonl"), "")), "sum-and-max")
    study = rows_in("vsepp_study.jsonl")
    sizes = [row for row in study if row["table"] == "set size"]
    if sizes:
        draw(set_sizes(grouped(sizes, "variant")), "set-size")


if __name__ == "__main__":
    main()
