"""What the documents say can be done can be done: their code runs, and what they name is there."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
import torch
import torch.distributed

from benchmarks import core, ranks, small, studies, table, vsepp_page
from benchmarks.document import markers
from docs.figures.__main__ import FOLDER, drawings

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
MIGRATING = ROOT / "docs" / "migrating.md"
"""Run by tests/test_migrating.py, in float64 and beside other packages."""
INTEGRATIONS = ROOT / "docs" / "integrations.md"
"""Run by tests/integrations/test_integrations_page.py, where the libraries are installed."""
TUTORIALS = ROOT / "docs" / "tutorials"
"""Run by tests/test_tutorials.py, as the scripts that their pages are made of."""
OURS = [
    path
    for top in ("hardneg", "benchmarks", "examples", "tests", "docs", ".github")
    for path in (ROOT / top).rglob("*")
]
FILES = {str(path.relative_to(ROOT)) + "/" * path.is_dir() for path in [*ROOT.glob("*"), *OURS]}


def name_of(document: Path) -> str:
    return str(document.relative_to(ROOT))


def blocks(document: Path) -> list[str]:
    """Its Python."""
    return re.findall(r"```python\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def _one_rank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """``init_process_group`` as under torchrun with one process, whatever the backend."""
    start, where = torch.distributed.init_process_group, f"file://{tmp_path / 'store'}"
    told = {"init_method": where, "rank": 0, "world_size": 1}
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda _: start("gloo", **told))
    yield
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("_one_rank")
@pytest.mark.parametrize(
    "document",
    [
        d
        for d in DOCUMENTS
        if blocks(d) and d not in (MIGRATING, INTEGRATIONS) and d.parent != TUTORIALS
    ],
    ids=name_of,
)
def test_its_code_runs(document: Path) -> None:
    """One block after the other, as a reader pastes them: all names are made on the page."""
    torch.manual_seed(0)
    names: dict[str, object] = {}
    for block in blocks(document):
        exec(compile(block, document.name, "exec"), names)


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_files_that_it_names_are_there(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    quoted = re.findall(r"`(?:python )?([\w/.]+(?:\.py|\.md|/))`", text)
    run = re.findall(r"^python ([\w/.]+\.py)", text, re.MULTILINE)
    linked = [
        os.path.normpath(document.parent.relative_to(ROOT) / link)
        for link, _ in links(text)
        if link
    ]
    missing = {
        n for n in quoted + run + linked if not any(("/" + f).endswith("/" + n) for f in FILES)
    }
    assert missing == set()


def links(text: str) -> list[tuple[str, str]]:
    """Files and headings that it links, outside its code."""
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    return re.findall(r"\]\(([\w/.]*)(?:#([\w-]+))?\)", prose)


def headings(text: str) -> set[str]:
    """As links name them."""
    titles = re.findall(r"^#+ (.*)", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_headings_that_it_links_are_there(document: Path) -> None:
    for file, heading in links(document.read_text(encoding="utf-8")):
        if heading:
            target = document.parent / file if file else document
            assert heading in headings(target.read_text(encoding="utf-8")), f"{file}#{heading}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_commands_that_it_names_are_there(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"(?:`|^)make ([\w-]+)", text, re.MULTILINE)) <= set(targets)
    modules = {name.replace(".", "/") for name in re.findall(r"python -m (benchmarks[\w.]*)", text)}
    assert {m for m in modules if not {m + ".py", m + "/__main__.py"} & FILES} == set()


def test_tables_are_those_of_the_results() -> None:
    rows = [json.loads(line) for line in core.ROWS.read_text(encoding="utf-8").splitlines()]
    measured = small.DOCUMENT.read_text(encoding="utf-8")
    assert f"\n{table.table(rows)}\n" in measured
    assert f"\n{small.table()}\n" in measured
    assert f"\n{ranks.table()}\n" in ranks.DOCUMENT.read_text(encoding="utf-8")
    for tabulated in studies.TABLES.values():
        assert f"\n{tabulated()}\n" in studies.DOCUMENT.read_text(encoding="utf-8")


def test_pictures_are_those_of_the_library_and_of_the_results() -> None:
    """``python -m docs.figures`` draws them anew."""
    for name, picture in drawings().items():
        assert (FOLDER / name).read_text(encoding="utf-8") == picture, name


@pytest.mark.parametrize("name", vsepp_page.tables())
def test_tables_of_the_reproduction_are_those_of_the_rows(name: str) -> None:
    text = (ROOT / "docs" / "reproducing.md").read_text(encoding="utf-8")
    start, end = markers(name)
    assert f"{start}\n{vsepp_page.tables()[name]}\n{end}" in text
