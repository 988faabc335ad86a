"""Write the tables of docs/studies.md from the studies' rows: ``python -m benchmarks.studies``."""

from __future__ import annotations

from collections.abc import Callable
from statistics import mean

from benchmarks import multi30k, omniglot
from benchmarks.document import write
from benchmarks.machine import ROOT
from benchmarks.multi30k_training import BATCH
from benchmarks.omniglot_selections import LIBRARIES, NAMES, OURS, PEER
from benchmarks.study_rows import Row, matching, mean_and_spread, read, within_spread

DOCUMENT = ROOT / "docs" / "studies.md"


def grid(heads: list[str], lines: list[list[str]]) -> str:
    """A table in Markdown."""
    rows = [heads, ["---"] * len(heads), *lines]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def values(rows: list[Row], *path: str) -> list[float]:
    """A field of every row, by the order of seeds."""
    found = []
    for row in sorted(rows, key=lambda row: row["seed"]):
        value = row
        for key in path:
            value = value[key]
        found.append(value)
    return found


def agreement(by: dict[str, list[Row]]) -> str:
    """Whether both libraries agree within the spread, and the difference by seed: weights and batches are the same."""
    a, b = (values(by[library], "map_at_r") for library in (OURS, PEER))
    if not a or not b:
        return ""
    a, b = a[: len(b)], b[: len(a)]
    apart = mean_and_spread([x - y for x, y in zip(a, b, strict=True)])
    if len(a) < 2:
        return f"one seed, {apart}"
    return f"{'yes' if within_spread(a, b) else 'no'}, {apart}"


def selections() -> str:
    """Omniglot: every selection of both libraries, the best first."""
    tested = matching(read(omniglot.ROWS), split="test")
    found = {
        name: {library: matching(tested, selection=name, library=library) for library in LIBRARIES}
        for name in NAMES
    }
    lines = []
    for name, by in found.items():
        rows = by[OURS] or by[PEER]
        if not rows:
            continue
        cells = [name, f"{rows[0]['margin']:g}, {rows[0]['learning_rate']:g}"]
        for library in LIBRARIES:
            cells += [
                mean_and_spread(values(by[library], key)) for key in ("map_at_r", "recall_at_1")
            ]
        cells += [agreement(by), f"{mean(values(rows, 'mean_cosine')):.2f}"]
        lines.append((mean(values(rows, "map_at_r")), cells))
    heads = ["triplets", "margin, learning rate", "mAP@R", "R@1", "mAP@R, peer", "R@1, peer"]
    heads += ["agree, difference by seed", "mean cosine"]
    lines.sort(key=lambda line: -line[0])
    return grid(heads, [cells for _, cells in lines])


SCORES = {
    "recall_at_1": "R@1",
    "recall_at_10": "R@10",
    "map": "mAP",
    "back_recall_at_1": "R@1 back",
    "back_map": "mAP back",
}


def captions_before() -> str:
    """Multi30k: the batch sizes at an equal number of pairs, rates tried on validation and those tested."""
    found = read(multi30k.ROWS)
    groups = [
        matching(found, batch=batch, learning_rate=rate, split=split, way=way)
        for split, way in (("validation", None), ("test", BATCH))
        for batch in multi30k.BATCHES
        for rate in multi30k.LEARNING_RATES[batch]
    ]
    lines = []
    for rows in filter(None, groups):
        one, memory = rows[0], max(values(rows, "before", "peak_mib"))
        steps = one["first"] * (one["epoch"] // one["batch"])
        scores = [mean_and_spread(values(rows, "before", key)) for key in SCORES]
        told = [one["split"], f"{one['batch']:,}", f"{steps:,}", f"{one['learning_rate']:g}"]
        matrix = f"{one['batch'] ** 2 * 4 / 2**20:,.2f}"
        lines.append([*told, str(len(rows)), *scores, f"{memory:,}", matrix])
    heads = ["split", "batch", "steps", "learning rate", "seeds", *SCORES.values()]
    return grid([*heads, "peak MiB of training", "MiB of the scores alone"], lines)


def captions_after() -> str:
    """Multi30k: what further training adds, with and without negatives of a query's own."""
    tested = matching(read(multi30k.ROWS), split="test")
    lines = []
    for batch in multi30k.BATCHES:
        alone = values(matching(tested, batch=batch, way=BATCH), "after", "map")
        for way in multi30k.WAYS[batch]:
            rows = matching(tested, batch=batch, way=way)
            if not rows:
                continue
            scores = [mean_and_spread(values(rows, "after", key)) for key in SCORES]
            pairs = zip(values(rows, "after", "map"), alone, strict=False)
            more = [a - b for a, b in pairs] if way != BATCH else []
            told = [f"{batch:,}", way, str(len(rows))]
            lines.append([*told, *scores, mean_and_spread(more)])
    heads = ["batch", "negatives", "seeds", *SCORES.values()]
    return grid([*heads, "mAP beyond the batch alone, seed by seed"], lines)


TABLES: dict[str, Callable[[], str]] = {
    "omniglot": selections,
    "multi30k": captions_before,
    "multi30k-own": captions_after,
}


def main() -> None:
    for name, table in TABLES.items():
        write(DOCUMENT, name, table())


if __name__ == "__main__":
    main()
