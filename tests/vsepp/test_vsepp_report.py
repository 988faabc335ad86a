"""The report: what is in it, and what a stranger's run cannot put into it."""

import base64
import io
import json
import re
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

import vsepp.report.page
from hardneg.metrics import DirectionMetrics
from stranger import leaves, replaced
from vsepp.commands import main
from vsepp.recipes import recipe_named
from vsepp.report.run_schema import picture

WAY = asdict(DirectionMetrics(10.0, 30.0, 50.0, 4.0, 9.5))
OURS = "html head meta title style body h1 h2 h3 h4 div table tr th td p b i sub br img ol li span circle"
DRAWN_BY_MATPLOTLIB = "svg g path defs use rect clippath metadata style rdf:rdf cc:work dc:type"
TAGS = {
    *OURS.split(),
    *DRAWN_BY_MATPLOTLIB.split(),
    "dc:format",
    "dc:creator",
    "cc:agent",
    "dc:title",
}
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'-->]]></style></svg><iframe src=//e.org>",
    "javascript:alert(1)",
    "$\\frac{1}{",
    "{{ 7 * 7 }}{% for %}",
    "\x1b[31mred",
    None,
    [],
    {},
    -1,
    True,
    1e309,
]


def png() -> str:
    content = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(content, "PNG")
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()


def write_run(folder: Path, recipe: str = "scenes-vse++", seed: int = 0) -> Path:
    """A finished run in the form in which training leaves one."""
    folder.mkdir(parents=True)
    settings = recipe_named(recipe).settings.record()
    settings["schedule"]["seed"] = seed
    rows = [{"epoch": n, "step": 9 * n, "rsum": 90.0 + n, "loss": 5.0 / n} for n in (1, 2)]
    result = {
        "recipe": recipe,
        "settings": settings,
        "results": {"test": {"image_to_text": WAY, "text_to_image": WAY, "rsum": 180.0}},
        "history": rows,
        "seconds_per_epoch": 2.5,
        "peak_memory_mib": 300.0,
        "tokenizer": "regex",
        "torch": "2.14.1",
        "device": "cpu",
        "changes": ["after step 9: schedule.clip: 2.0, 1.0"],
    }
    tops = [{"picture": png(), "right": n == 1} for n in range(5)]
    words = [{"caption": f"a red dog {n}", "right": n == 0} for n in range(5)]
    gallery = {
        "text": [{"caption": "a dog & a cat", "answer": png(), "top": tops}],
        "image": [{"picture": png(), "top": words}],
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "result.json").write_text(json.dumps(result))
    (folder / "gallery.json").write_text(json.dumps(gallery))
    return folder


class Elements(HTMLParser):
    """The elements of a page with their attributes, as a browser would build them."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict]] = []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.found.append((tag, dict(attrs)))


def check_page(page: str) -> None:
    """Only the page's own elements, no handlers, nothing fetched, pictures inside."""
    parser = Elements()
    parser.feed(page)
    for tag, attributes in parser.found:
        assert tag in TAGS, tag
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "xlink:href"):
            if value := attributes.get(name):
                assert value.startswith("#") or picture(value), value


def report(*given: str | Path, out: Path) -> str:
    main("coco", ["report", *map(str, given), "--out", str(out)])
    return out.read_text(encoding="utf-8")


def report_or_refusal(run: Path, out: Path) -> str | None:
    """The page, or None where the run is refused with exit status 2; nothing else is accepted."""
    try:
        return report(run, out=out)
    except SystemExit as stopped:
        if stopped.code != 2:
            raise
        return None


def test_a_page_for_desktop_and_phone_light_and_dark(tmp_path: Path) -> None:
    page = report(write_run(tmp_path / "a"), out=tmp_path / "r.html")
    check_page(page)
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in page
    assert "prefers-color-scheme: dark" in page
    assert "script" not in page
    assert page.count("<svg") == 6  # four charts, two pictures of losses
    assert page.count("currentColor") > 40
    assert 'content: " \\2713"' in page
    assert "¹" not in page
    assert "a dog &amp; a cat" in page
    assert "changed on the way (before, after): after step 9: schedule.clip: 2.0, 1.0" in page
    assert re.search(r"epoch -->", page)


def test_the_title_says_what_was_trained(tmp_path: Path) -> None:
    for recipe in ("scenes-vse0", "scenes-top8"):
        write_run(tmp_path / "runs" / recipe, recipe)
    page = report(tmp_path / "runs", out=tmp_path / "r.html")
    (title,) = re.findall("<title>(.*)</title>", page)
    assert f"<h1>{title}</h1>" in page
    assert title == "Image-text retrieval: scenes-top8, scenes-vse0"
    assert "every other pair of the batch is a negative" in page
    assert "topk:8: the K hardest negatives" in page


def test_folders_of_runs_and_what_lies_beside_them(tmp_path: Path, capsys) -> None:
    for seed in (0, 1):
        write_run(tmp_path / "runs" / f"run{seed}", seed=seed)
    write_run(tmp_path / "runs" / ".run0.replaced")
    (tmp_path / "runs" / "report.html").write_text("an older page")
    (tmp_path / "runs" / "begun").mkdir()
    (tmp_path / "runs" / "begun" / "settings.json").write_text("{}")
    (tmp_path / "runs" / "notes").mkdir()
    whole = report(tmp_path / "runs", out=tmp_path / "whole.html")
    shown = capsys.readouterr()
    assert "run0" in shown.out
    assert "run1" in shown.out
    assert "replaced" not in shown.out
    (line,) = shown.err.splitlines()
    assert re.match(r"left out: no .*begun/result\.json: the run has not finished", line)
    assert report(*(tmp_path / "runs").iterdir(), out=tmp_path / "each.html").count("<svg") == 6
    capsys.readouterr()
    both = [tmp_path / "runs" / f"run{seed}" for seed in (0, 1)]
    assert report(*both, tmp_path / "runs", out=tmp_path / "again.html") == whole


@pytest.mark.parametrize("inside", ["begun", "empty"])
def test_no_finished_run_is_an_error(tmp_path: Path, capsys, inside: str) -> None:
    (tmp_path / "runs" / "one").mkdir(parents=True)
    if inside == "begun":
        (tmp_path / "runs" / "one" / "settings.json").write_text("{}")
    with pytest.raises(SystemExit) as stopped:
        report(tmp_path / "runs", out=tmp_path / "r.html")
    assert stopped.value.code == 2
    expected = {"begun": "has not finished", "empty": "name a run's folder"}[inside]
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "r.html").exists()


DRAWN = {"curves": ("recipe", "history"), "recall_bars": ("recipe", "results")}
"""What reaches a chart, which takes longer to draw than all the rest of the page."""


@pytest.mark.parametrize("hostile", HOSTILE, ids=repr)
def test_html_in_every_field_stays_text_or_is_refused(
    tmp_path: Path, capsys, monkeypatch, hostile
) -> None:
    """Every value and every name of both files; charts are drawn where the value reaches one."""
    run, shown, refused = write_run(tmp_path / "run"), 0, 0
    charts = {name: getattr(vsepp.report.page, name) for name in DRAWN}
    good = {name: (run / name).read_text() for name in ("result.json", "gallery.json")}
    fields = [(name, *one) for name, text in good.items() for one in leaves(json.loads(text))]
    for name, path, is_key in fields:
        if is_key and not isinstance(hostile, str):
            continue
        for chart, draw in charts.items():
            monkeypatch.setattr(
                vsepp.report.page, chart, draw if path[0] in DRAWN[chart] else lambda runs: []
            )
        changed = replaced(json.loads(good[name]), path, is_key, hostile)
        (run / name).write_text(json.dumps(changed))
        page = report_or_refusal(run, tmp_path / "r.html")
        if page is None:
            refused += 1
        else:
            shown += 1
            check_page(page)
            assert "<script" not in page
            assert "7 * 7" not in page or "{{ 7 * 7 }}" in page
        assert "\x1b" not in capsys.readouterr().out
        (run / name).write_text(good[name])
    assert refused > 20
    assert shown + refused > 60


@pytest.mark.parametrize("content", ["", "[]", "{", "null", "\xff", '{"recipe": 1}', "[" * 100_000])
@pytest.mark.parametrize("name", ["result.json", "gallery.json"])
def test_a_broken_file_is_named(tmp_path: Path, capsys, name: str, content: str) -> None:
    run = write_run(tmp_path / "run")
    (run / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(SystemExit) as stopped:
        report(run, out=tmp_path / "r.html")
    assert stopped.value.code == 2
    assert f"run/{name}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "source",
    [
        "javascript:alert(1)",
        "https://e.org/x.png",
        "file:///etc/passwd",
        "data:text/html;base64,AAAA",
        "data:image/svg+xml;base64,AAAA",
        'data:image/png;base64,AAAA" onerror="alert(1)',
        "data:image/png;base64,AAAA\n",
        "data:image/png,<svg>",
        " data:image/png;base64,AAAA",
    ],
)
def test_only_pictures_inside_the_page_are_shown(tmp_path: Path, source: str) -> None:
    run = write_run(tmp_path / "run")
    gallery = json.loads((run / "gallery.json").read_text())
    gallery["text"][0]["answer"] = gallery["text"][0]["top"][0]["picture"] = source
    gallery["image"][0]["picture"] = source
    (run / "gallery.json").write_text(json.dumps(gallery))
    page = report(run, out=tmp_path / "r.html")
    check_page(page)
    assert page.count("(no picture)") == 3
    assert page.count("<img") == 4
