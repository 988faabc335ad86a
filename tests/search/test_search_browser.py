"""The page in a browser: a sentence is typed, an image and a caption are clicked, nothing is fetched from elsewhere."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pages_served import served
from vsepp_search.arguments import Search
from vsepp_search.opened import indexes

SECONDS = 60


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Chromium without a window."""
    reason = "playwright is not installed"
    playwright = pytest.importorskip("playwright.sync_api", reason=reason)
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("chromium is not installed")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


class Seen:
    """A page in the browser, with everything that it asked for and complained of."""

    def __init__(
        self, chromium: Any, address: str, width: int = 1280, scheme: str = "light"
    ) -> None:
        self.address, self.fetched, self.errors = address, [], []
        size = {"width": width, "height": 900}
        self.page = chromium.new_page(viewport=size, color_scheme=scheme)
        self.page.set_default_timeout(1_000 * SECONDS)
        self.page.on("request", lambda request: self.fetched.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on(
            "console", lambda told: self.errors.append(told.text) if told.type == "error" else None
        )
        self.page.goto(address)

    def ask(self, text: str) -> None:
        """Type a sentence and search for it."""
        self.page.fill("#sentence textarea, #sentence input", text)
        self.page.click("#go")

    def first(self, selector: str, said: str = "") -> Any:
        """The first such element with a text in it, once it is there."""
        found = self.page.locator(selector, has_text=said).first
        found.wait_for()
        return found

    def check(self) -> None:
        """Everything came from the page's own address, nothing went wrong, nothing is wider than the page."""
        asked = [one for one in self.fetched if not one.startswith("data:")]
        assert len(asked) > 5
        assert [one for one in asked if not one.startswith(self.address)] == []
        assert self.errors == []
        assert self.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_a_sentence_an_image_a_caption(
    chromium: Any, trained: Path, width: int, scheme: str
) -> None:
    runs = tuple(trained / "scenes" / f"scenes-vse0-seed{seed}" for seed in (0, 1))
    model, other = indexes(Search(runs, cpu=True))
    captions = model.split.captions
    with served(*runs) as address:
        seen = Seen(chromium, address, width, scheme)
        seen.ask(captions[3])
        best = model.search(captions[3], 12)[0]
        card = seen.first("#results .hn-card")
        assert card.get_attribute("data-look") == f"image {best.row}"
        assert f"{best.score:.3f}" in card.inner_text()
        cards = seen.page.locator("#results .hn-card")
        beside = f"image {other.search(captions[3], 12)[0].row}"
        assert cards.nth(12).get_attribute("data-look") == beside
        assert seen.page.locator("#results .hn-card img").count() == 24
        card.click()
        detail = seen.first("#detail", f"Image {best.row + 1}").inner_text()
        for row in range(5 * best.row, 5 * best.row + 5):
            assert captions[row] in detail
        assert captions[model.negative_captions(best.row, 8)[0].row] in detail
        seen.first("#detail .hn-caption").click()
        seen.first("#detail", f"rank {model.standing(5 * best.row).rank:,} of 500")
        own = seen.first("#detail .hn-card.hn-own", "belongs")
        assert own.get_attribute("data-look") == f"image {best.row}"
        seen.ask(" ")
        seen.first(".toast-body", "write a sentence first")
        seen.check()


def test_captions_with_html_run_nothing(chromium: Any, trained: Path) -> None:
    text = '<img src=x onerror="document.title=1"> {{7*7}} ${7*7}'
    table = trained / "table" / "captions.csv"
    with served(trained / "own" / "own-seed0", "--data", table) as address:
        seen = Seen(chromium, address)
        seen.ask(text)
        seen.first("#results .hn-card", text).click()
        seen.first("#detail .hn-caption", text).click()
        seen.first("#detail h2", text)
        assert seen.page.title().startswith("Search: ")
        assert seen.page.locator("img[src=x]").count() == 0
        seen.check()
