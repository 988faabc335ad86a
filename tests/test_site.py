"""The documentation builds without a warning, and its pages, names and tests are there."""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from warning_filters import ROOT

DOCS = ROOT / "docs"
NAV = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]["nav"]
PAGES = sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))


def leaves(entries: list[dict[str, Any]]) -> Iterator[str]:
    """The pages of the navigation, in its order."""
    for entry in entries:
        for value in entry.values():
            yield from [value] if isinstance(value, str) else leaves(value)


def test_every_page_is_in_the_navigation() -> None:
    assert sorted(leaves(NAV)) == PAGES


def test_every_page_is_in_llms_txt() -> None:
    text = (DOCS / "llms.txt").read_text(encoding="utf-8")
    assert sorted(re.findall(r"\]\(([\w/]+)\.html\)", text)) == [
        p.removesuffix(".md") for p in PAGES
    ]


@pytest.mark.parametrize("document", ["README.md", "docs/index.md"])
def test_every_page_is_linked_from_the_first_ones(document: str) -> None:
    path = ROOT / document
    links = re.findall(r"\]\(([\w/.]+)(?:#[\w-]+)?\)", path.read_text(encoding="utf-8"))
    linked = {(path.parent / link).resolve() for link in links} | {path}
    assert [page for page in leaves(NAV) if DOCS / page not in linked] == []


@pytest.mark.parametrize("page", PAGES)
def test_names_that_it_writes_out_are_there(page: str) -> None:
    """``hardneg.x.y`` in backticks, and what the API pages show."""
    text = (DOCS / page).read_text(encoding="utf-8")
    names = re.findall(r"`(hardneg(?:\.\w+)+)", text) + re.findall(
        r"^::: (\S+)", text, re.MULTILINE
    )
    for name in names:
        assert is_there(name), name


def is_there(name: str) -> bool:
    """Whether it is a module, or something in one, or in a class in one."""
    parts = name.split(".")
    for stop in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:stop]))
        except ModuleNotFoundError:
            continue
        except ImportError:  # it names the extra to install: a module on demand
            return True
        return (
            functools.reduce(lambda x, part: getattr(x, part, None), parts[stop:], found)
            is not None
        )
    return False


def test_every_loss_and_choice_has_its_place_in_the_api() -> None:
    import hardneg

    shown = set(re.findall(r"^::: \S*?(\w+)$", "\n".join(map(read, PAGES)), re.MULTILINE))
    assert set(hardneg.__all__) <= shown


def read(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


def test_cells_of_what_works_where_name_tests() -> None:
    rows = [line for line in read("support.md").splitlines() if line.startswith("| ")]
    cells = [cell.strip() for row in rows for cell in row.strip("|").split("|")[1:]]
    named = [re.findall(r"<!-- (\S+) -->", cell) for cell in cells]
    assert sum(map(len, named)) > 40
    headings = {
        "losses",
        "`AcrossRanks`",
        "`MemoryQueue`",
        "`GradCache`",
        "metrics",
        "mining in memory",
    }
    for cell, tests in zip(cells, named, strict=True):
        assert not cell or tests or cell in headings, cell
        for path, _, function in (test.partition("::") for test in tests):
            tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
            there = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
            assert not function or function in there, f"{path}::{function}"


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    if importlib.util.find_spec("zensical") is None:
        pytest.skip("zensical is not installed: pip install 'hardneg[docs]'")
    for name in ("docs", "hardneg"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "zensical.toml", tmp_path)
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    built = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    pages = {
        str(path.relative_to(tmp_path / "site")) for path in (tmp_path / "site").rglob("*.html")
    }
    assert pages >= {page.replace(".md", ".html") for page in PAGES}
