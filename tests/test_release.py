"""What is published: one version everywhere, a wheel without tests, a small sdist."""

from __future__ import annotations

import importlib
import re
import runpy
import shutil
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from warning_filters import ROOT

import hardneg

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LARGEST = 1_000_000


def test_one_version_everywhere() -> None:
    version = PROJECT["version"]
    assert hardneg.__version__ == version
    assert re.search(rf"^version: {re.escape(version)}$", read("CITATION.cff"), re.MULTILINE)
    newest = re.search(r"^## (\S+)", read("CHANGELOG.md"), re.MULTILINE)
    assert newest is not None
    assert newest[1] == version


def test_extras_that_are_named_are_there() -> None:
    files = [path for top in ("hardneg", "examples", "docs") for path in (ROOT / top).rglob("*")]
    texts = [path.read_text("utf-8") for path in files if path.suffix in (".py", ".md")]
    named = re.findall(
        r"(?:hardneg|whl|['\"]\.)\[([a-z-]+)\]", "\n".join([*texts, read("README.md")])
    )
    assert len(named) > 20
    assert set(named) <= PROJECT["optional-dependencies"].keys()


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def built(kind: str, folder: Path, root: Path = ROOT) -> Path:
    """A wheel or an sdist of a checkout, without network."""
    pytest.importorskip("hatchling", reason="the build backend is not installed")
    module = importlib.import_module(f"hatchling.builders.{kind}")
    builder = getattr(module, f"{kind.capitalize()}Builder")(str(root))
    (path,) = builder.build(directory=str(folder), versions=["standard"])
    return Path(path)


def test_the_wheel_has_the_package_alone(tmp_path: Path) -> None:
    path = built("wheel", tmp_path)
    assert path.stat().st_size < LARGEST
    with zipfile.ZipFile(path) as file:
        names = file.namelist()
    assert {name.split("/")[0] for name in names} == {
        "hardneg",
        f"hardneg-{PROJECT['version']}.dist-info",
    }
    assert {"hardneg/py.typed", "hardneg/functional.pyi"} <= set(names)
    assert [name for name in names if "test" in name] == []


def test_the_sdist_is_small_and_has_what_is_read(tmp_path: Path) -> None:
    path = built("sdist", tmp_path)
    assert path.stat().st_size < LARGEST
    with tarfile.open(path) as file:
        names = {name.split("/", 1)[1] for name in file.getnames()}
    assert {"hardneg/__init__.py", "docs/choosing.md", "README.md", "LICENSE", "PKG-INFO"} <= names
    assert [name for name in names if name.startswith(("tests", "benchmarks"))] == []


def test_a_release_has_addresses_that_work_elsewhere(tmp_path: Path) -> None:
    checkout, url = tmp_path / "checkout", "https://example.org/us/hardneg"
    shutil.copytree(ROOT / "hardneg", checkout / "hardneg", ignore=lambda *_: ["__pycache__"])
    for name in ("README.md", "pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / name, checkout)
    script = runpy.run_path(str(ROOT / ".github" / "release_addresses.py"))
    script["main"](checkout, url, "v0.2.0")
    with zipfile.ZipFile(built("wheel", tmp_path, checkout)) as file:
        (name,) = (name for name in file.namelist() if name.endswith("METADATA"))
        metadata = file.read(name).decode()
    assert f"Project-URL: Repository, {url}\n" in metadata
    links = re.findall(r"\]\(([^)\s]+)\)", metadata)
    assert len(links) > 20
    for link in links:
        kind, path = re.fullmatch(rf"{url}/(raw|blob)/v0\.2\.0/([^#]+)(?:#.*)?", link).groups()
        assert (ROOT / path).is_file()
        assert (kind == "raw") == path.endswith(".svg")
