"""Which part of the trainer may use which, and that none needs itself."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from vsepp import __file__ as package

ROOT = Path(package).parent
FOLDERS = ("data", "files", "release", "report", "run", "settings")
ALLOWED = {
    "settings": {"errors"},
    "files": {"errors"},
    "data": {"errors", "settings", "files"},
    "run": {
        "settings",
        "files",
        "data",
        "negatives",
        "objective",
        "model",
        "evaluate",
        "retrieval",
    },
    "report": {"settings", "recipes", "files", "data", "evaluate", "retrieval"},
    "release": {"errors", "settings", "files", "data", "checkpoints", "evaluate", "retrieval"},
}
"""What each folder may use: other folders, and files at the top level."""
MOST_FILES = 16


def modules() -> dict[str, Path]:
    """Every module by its name within the package."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted(ROOT.rglob("*.py"))
    }


def imported(path: Path, anywhere: bool) -> list[str]:
    """The modules of the package that a module imports: as it loads, or in functions too."""
    content = ast.parse(path.read_text(encoding="utf-8"))
    nodes = ast.walk(content) if anywhere else iter(content.body)
    named = [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
    return [name.removeprefix("vsepp.") for name in named if name.startswith("vsepp.")]


def test_every_import_of_the_package_is_seen() -> None:
    for name, path in modules().items():
        found = imported(path, anywhere=True)
        assert set(found) <= set(modules()), name
        assert path.read_text(encoding="utf-8").count("from vsepp.") == len(found), name
        assert "import vsepp" not in path.read_text(encoding="utf-8"), name


def test_no_module_needs_itself_while_it_loads() -> None:
    graph = {name: imported(path, anywhere=False) for name, path in modules().items()}
    order = [*TopologicalSorter(graph).static_order()]  # raises for a cycle
    assert order.index("settings") < order.index("data.pairs") < order.index("train")


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_uses_only_what_stands_below_it(folder: str) -> None:
    for name, path in modules().items():
        if name.startswith(f"{folder}."):
            used = {one.partition(".")[0] for one in imported(path, anywhere=True)}
            assert used - {folder} <= ALLOWED[folder], name


def test_the_top_level_can_be_read_in_order() -> None:
    assert len([*ROOT.glob("*.py")]) <= MOST_FILES
    assert {path.parent.name for path in ROOT.glob("*/__init__.py")} == set(FOLDERS)
