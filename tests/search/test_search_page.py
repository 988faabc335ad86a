"""The page: its functions through gradio's client, what it escapes, and what it serves."""

from __future__ import annotations

import html
import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pages_served import asked, served
from vsepp_search.answers import Answers, ahead
from vsepp_search.arguments import Search
from vsepp_search.opened import indexes

HOSTILE = '<img src=x onerror="document.title=1"> {{7*7}} ${7*7}'


@pytest.fixture(scope="module")
def answers(trained: Path) -> Answers:
    """Two models of scenes."""
    runs = tuple(trained / "scenes" / f"scenes-vse0-seed{seed}" for seed in (0, 1))
    return Answers(indexes(Search(runs, cpu=True)))


@pytest.fixture(scope="module")
def hostile(trained: Path) -> Answers:
    """A model of features whose captions hold HTML."""
    table = trained / "table" / "captions.csv"
    return Answers(indexes(Search((trained / "own" / "own-seed0",), data=table, cpu=True)))


def looks(page: str) -> list[str]:
    """What the buttons lead to, in order."""
    return re.findall(r'data-look="([^"]*)"', page)


def test_a_sentence_in_two_models(answers: Answers) -> None:
    caption = answers.split.captions[12]
    page = answers.find(caption, 6)
    expected = [f"image {one.row}" for index in answers.indexes for one in index.search(caption, 6)]
    assert looks(page) == expected
    assert page.count("data:image/png;base64,") == 12
    for index in answers.indexes:
        assert f"<h3>{index.name}</h3>" in page
    assert "belongs" not in answers.find("no caption says this", 6)
    assert "does not know: zebra" in answers.find("a red zebra", 3)


def test_what_belongs_is_marked(answers: Answers) -> None:
    index = Answers(answers.indexes[:1])
    page = index.caption(12, 5)
    own = f"image {answers.split.image_of[12]}"
    assert looks(page)[0] == own
    assert looks(page).count(own) == 1
    cards = re.findall(r'<button type="button" class="(hn-card[^"]*)" data-look="([^"]*)"', page)
    assert [look for kind, look in cards if "hn-own" in kind] == [own]
    standing = answers.indexes[0].standing(12)
    assert f"at rank {standing.rank} of 500" in page


def test_an_image(answers: Answers) -> None:
    page = Answers(answers.indexes[:1]).image(7, 5)
    own = [f"caption {row}" for row in range(35, 40)]
    assert looks(page)[:5] == own
    buttons = re.findall(r'class="(hn-caption[^"]*)" data-look="([^"]*)"', page)
    assert [look for kind, look in buttons if "hn-own" in kind] == own
    nearest = answers.indexes[0].nearest_images(7, 5)
    assert looks(page)[-5:] == [f"image {one.row}" for one in nearest]


def test_captions_with_html_are_text(hostile: Answers) -> None:
    """Of features without pictures the captions are the cards."""
    for page in (hostile.find(HOSTILE, 3), hostile.image(0, 3), hostile.caption(1, 3)):
        assert "<img" not in page
        assert html.escape(HOSTILE, quote=False).replace('"', "&#34;") in page
        assert "hn-said" in page
    assert "<script>" not in hostile.find("<script>alert(1)</script>", 3)


@pytest.mark.parametrize("chosen", [
    "", "image", "image x", "image -1", "image 1e3", "picture 1", "image 1 2 3", "image \u0661", None, 3,
    "image 999999", "caption 999999", "../../etc/passwd", "image 1\n",
])  # fmt: skip
def test_wrong_choices_are_refused(answers: Answers, chosen: Any) -> None:
    with pytest.raises(ValueError, match=r"expected 'image ROW'|is not in the index"):
        answers.look(chosen, 3)


@pytest.mark.parametrize("count", [0, 49, -1, float("nan"), float("inf"), "3", None, True])
def test_wrong_numbers_are_refused(answers: Answers, count: Any) -> None:
    with pytest.raises(ValueError, match="the number to show"):
        answers.find("a red circle", count)


def test_odd_sentences(answers: Answers) -> None:
    for text in ("", "  ", None, 3):
        with pytest.raises(ValueError, match="write a sentence first"):
            answers.find(text, 3)
    for text in ("z" * 10**6, "\ud800", "word " * 10**5, "\x00"):
        assert len(looks(answers.find(text, 3))) == 6


def test_by_how_much() -> None:
    assert ahead(0.5, [0.25, 0.1]) == "scores 0.250 above the hardest negative"
    assert ahead(0.25, [0.5]) == "scores 0.250 below the hardest negative"
    assert ahead(0.25, []) == "there is no other"


@pytest.fixture(scope="module")
def page(trained: Path) -> Iterator[str]:
    """The address of a page that is served."""
    with served(trained / "own" / "own-seed0", "--data", trained / "table/captions.csv") as address:
        yield address


def test_through_the_api(page: str, hostile: Answers) -> None:
    for name, given in (("find", "a dog"), ("look", "caption 1"), ("look", "image 2")):
        event, _, data = asked(page, name, given, 2).partition("\n")
        assert event == "event: complete"
        assert json.loads(data.removeprefix("data: ")) == [getattr(hostile, name)(given, 2)]
    for given in ("../../etc/passwd", "image 999999"):
        assert asked(page, "look", given, 2).startswith("event: error")


def status(address: str) -> int:
    try:
        with urllib.request.urlopen(address) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_no_file_is_served(page: str, trained: Path) -> None:
    own = trained / "own" / "own-seed0" / "settings.json"
    here = Path(__file__)
    for path in (
        own,
        here,
        trained / "table" / "captions.csv",
        "/etc/hostname",
        "examples/search.py",
    ):
        for kind in ("file=", "file/"):
            address = f"{page}gradio_api/{kind}{urllib.parse.quote(str(path))}"
            assert status(address) in (403, 404), address
    assert status(page) == 200


def test_nothing_is_told_of_elsewhere(page: str) -> None:
    """No address of another host that the page would fetch: fonts, scripts, styles."""
    with urllib.request.urlopen(page) as answer:
        text = answer.read().decode()
    fetched = re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="(https?://[^"]*)"', text)
    assert [one for one in fetched if not one.startswith(page)] == []
    assert '"analytics_enabled":false' in text
