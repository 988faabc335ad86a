"""Likely unlabelled positives, as a table and as a page."""

from __future__ import annotations

import base64
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from corpora import SMALL, problem, run

from hardneg import TopK
from hardneg.mining import CorpusMiner, MinedRows, false_negatives

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)


def mined(folder: Path) -> tuple[MinedRows, torch.Tensor, torch.Tensor]:
    given = problem(11)
    positives = given.known["positives"]
    miner = CorpusMiner(TopK(20), memory=SMALL)
    found = miner(given.queries, given.corpus, folder, positives=positives)
    unit = torch.nn.functional.normalize
    return found, unit(given.queries.double()) @ unit(given.corpus.double()).T, positives


def test_equals_the_definition(tmp_path: Path) -> None:
    found, scores, positives = mined(tmp_path)
    expected = []
    for i, row in enumerate(scores):
        own = [j for j in positives[i].tolist() if j >= 0]
        if not own:
            continue
        high = max(own, key=lambda j: (row[j].item(), -j))
        for j in found.indices[i].tolist():
            if row[j] >= row[high] - 0.1 * row[high].abs():
                expected.append(((row[j] - row[high]).item(), i, j, high))
    expected.sort(key=lambda one: -one[0])
    report = false_negatives(found, 10_000, 0.1, "excess")
    assert report.total == len(report) == len(expected) > 100
    assert {(x.query, x.candidate, x.positive) for x in report.found} == {x[1:] for x in expected}
    excess = [one.excess for one in report.found]
    assert excess == pytest.approx([one[0] for one in expected], abs=1e-6)
    by_score = false_negatives(found, 10_000, 0.1).found
    assert [one.score for one in by_score] == sorted((x.score for x in report.found), reverse=True)
    assert set(by_score) == set(report.found)
    one = false_negatives(found, 10_000, 0.1, per_query=1)
    highest = {x.query: x for x in reversed(report.found)}
    assert set(one.found) == set(highest.values())
    few = false_negatives(found, 7, 0.1, "excess")
    assert few.found == report.found[:7]
    assert (len(few), few.total) == (7, report.total)


class Page(HTMLParser):
    """What a page shows and loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.loaded: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loaded += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_a_page_holds_texts_and_pictures(tmp_path: Path) -> None:
    pytest.importorskip("jinja2", reason="the page is written by jinja2")
    found = mined(tmp_path / "run")[0]
    picture = tmp_path / "a.png"
    picture.write_bytes(PIXEL)
    texts = [f"<script>alert({i})</script> & {i}" for i in range(211)]
    report = false_negatives(
        found,
        5,
        queries=[f"query {i}" for i in range(37)],
        corpus=texts,
        query_pictures=[picture] * 37,
    )
    page = Page(report.write_page(tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "script" not in page.tags
    assert page.tags.count("tr") == 6
    assert len(page.loaded) == 5
    assert all(one.startswith("data:image/png;base64,") for one in page.loaded)
    shown = "".join(page.words)
    for one in report.found:
        assert texts[one.candidate] in shown
        assert f"query {one.query} " in shown
        assert f"row {one.positive}" in shown
    assert f"5 of {report.total} candidates" in shown
    assert report.table()[0]["candidate_text"] == texts[report.found[0].candidate]
    assert Page(false_negatives(found, 2).page()).tags.count("tr") == 3


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has a ceiling"):
        false_negatives(run(problem(), tmp_path / "a"))
    with pytest.raises(ValueError, match="choose one of excess, score"):
        false_negatives(mined(tmp_path / "c")[0], by="rank")
    with pytest.raises(ValueError, match="expected 37"):
        false_negatives(mined(tmp_path / "b")[0], queries=["a"])
