"""The gallery of a report: each query once, with the five best answers of every recipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vsepp.report.finished import Run
from vsepp.report.run_schema import picture


def galleries_of(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """A gallery for each test split: its first run of every recipe, and their answers by query."""
    first = {run.label: run for run in reversed(runs) if run.gallery}
    shown: dict[tuple[str, ...], list[Run]] = {}
    for recipe in dict.fromkeys(run.label for run in runs):
        if recipe in first:
            shown.setdefault(queries_of(first[recipe]), []).append(first[recipe])
    return [
        {
            "text": [text_query(group, number) for number in range(len(group[0].gallery["text"]))],
            "image": [
                image_query(group, number) for number in range(len(group[0].gallery["image"]))
            ],
        }
        for group in shown.values()
    ]


def queries_of(run: Run) -> tuple[str, ...]:
    """What tells one test split's gallery from another's: captions, and the number of pictures."""
    captions = (one["caption"] for one in run.gallery["text"])
    return (*captions, str(len(run.gallery["image"])))


def text_query(runs: Sequence[Run], number: int) -> dict[str, Any]:
    """A caption, the image it describes, and each recipe's five best images."""
    asked = runs[0].gallery["text"][number]
    answers = [
        {
            "recipe": run.label,
            "top": [
                {"picture": picture(one["picture"]), "right": one["right"]}
                for one in run.gallery["text"][number]["top"]
            ],
        }
        for run in runs
    ]
    return {"caption": asked["caption"], "picture": picture(asked["answer"]), "answers": answers}


def image_query(runs: Sequence[Run], number: int) -> dict[str, Any]:
    """An image, and each recipe's five best captions."""
    answers = [{"recipe": run.label, "top": run.gallery["image"][number]["top"]} for run in runs]
    return {"picture": picture(runs[0].gallery["image"][number]["picture"]), "answers": answers}


def mined_of(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """The mined negatives of the first run of each recipe, where a run kept any."""
    first = {run.label: run for run in reversed(runs) if run.gallery.get("mined")}
    return [
        {
            "label": label,
            "epochs": [mined_epoch(one, first[label]) for one in first[label].gallery["mined"]],
        }
        for label in dict.fromkeys(run.label for run in runs)
        if label in first
    ]


def mined_epoch(found: dict[str, Any], run: Run) -> dict[str, Any]:
    """The anchors of an epoch; a negative is active where it comes within the margin."""
    margin, anchors = run.settings.loss.margin, []
    for one in found["anchors"]:
        others = [
            {**pair_of(other), "active": other["score"] > one["score"] - margin}
            for other in one["negatives"]
        ]
        anchors.append({**pair_of(one), "negatives": others})
    return {"epoch": found["epoch"], "anchors": anchors}


def pair_of(pair: dict[str, Any]) -> dict[str, Any]:
    """A pair with nothing but a picture inside the page."""
    shown = f"{pair['score']:.2f}"
    return {"caption": pair["caption"], "picture": picture(pair["picture"]), "score": shown}
