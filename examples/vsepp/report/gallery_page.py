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
