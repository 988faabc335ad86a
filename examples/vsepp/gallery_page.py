"""The gallery as HTML: queries with each model's top five, right and wrong marked."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from vsepp.finished import Run


def gallery_of(runs: Sequence[Run]) -> list[str]:
    """The same queries under every recipe (its first run), one below the other."""
    first = {run.recipe: run for run in reversed(runs) if run.gallery}
    shown = [
        first[recipe] for recipe in dict.fromkeys(run.recipe for run in runs) if recipe in first
    ]
    if not shown:
        return []
    texts = zip(*(run.gallery["text"] for run in shown), strict=True)
    images = zip(*(run.gallery["image"] for run in shown), strict=True)
    names = [run.recipe for run in shown]
    return [
        "<h2>From text to images</h2><p class=note>The five best images; the right one has a "
        "green frame.</p>",
        *(text_query(names, query) for query in texts),
        "<h2>From images to text</h2><p class=note>The five best captions; right ones are "
        "green.</p>",
        *(image_query(names, query) for query in images),
    ]


def text_query(names: Sequence[str], answers: Sequence[dict[str, Any]]) -> str:
    """A caption, the image it describes, and each model's five best images."""
    rows = []
    for name, answer in zip(names, answers, strict=True):
        found = "".join(image(one["picture"], mark(one)) for one in answer["top"])
        rows.append(f"<div class=row><b>{html.escape(name)}</b>{found}</div>")
    caption = html.escape(answers[0]["caption"])
    return query(f"{image(answers[0]['answer'], '')}<br>{caption}", "".join(rows))


def image_query(names: Sequence[str], answers: Sequence[dict[str, Any]]) -> str:
    """An image, and each model's five best captions."""
    lists = []
    for name, answer in zip(names, answers, strict=True):
        found = "".join(
            f"<li class={mark(one)}>{html.escape(one['caption'])}</li>" for one in answer["top"]
        )
        lists.append(f"<h3>{html.escape(name)}</h3><ol>{found}</ol>")
    return query(image(answers[0]["picture"], ""), "".join(lists))


def query(asked: str, answered: str) -> str:
    """What was asked on the left, what came back on the right."""
    return f"<div class=query><div>{asked}</div><div>{answered}</div></div>"


def mark(answer: dict[str, Any]) -> str:
    """The style of a right or a wrong answer."""
    return "right" if answer["right"] else "wrong"


def image(source: str, kind: str) -> str:
    """A picture, or a word where the features have none."""
    if not source:
        return f'<span class="{kind}">(no picture)</span>'
    return f'<img class="{kind}" src="{source}" alt="">'
