"""constraints.txt pins everything that pyproject.toml asks for, by name and version alone."""

from __future__ import annotations

import re
import tomllib

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from warning_filters import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LINES = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
PINS = {canonicalize_name(line.split("==")[0]): line.split("==")[1] for line in LINES}


def requirements() -> list[Requirement]:
    """Of the package, its extras and its build."""
    extras = PROJECT["project"]["optional-dependencies"].values()
    lists = PROJECT["project"]["dependencies"], PROJECT["build-system"]["requires"], *extras
    found = [Requirement(line) for one in lists for line in one]
    return [one for one in found if one.name != "hardneg"]


def test_names_and_versions_only() -> None:
    assert [line for line in LINES if not re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][\w.]*", line)] == []
    assert len(PINS) == len(LINES)


def test_everything_is_pinned_within_its_bounds() -> None:
    assert len(requirements()) > 20
    for one in requirements():
        assert one.specifier.contains(PINS[canonicalize_name(one.name)]), one
    assert "pip" in PINS


def test_lowest_releases_can_be_read_off() -> None:
    """``make test-oldest`` takes them from lines of the form ``"name>=version"``."""
    for one in requirements():
        (bound,) = one.specifier
        assert bound.operator == ">=", one
        assert Version(bound.version) <= Version(PINS[canonicalize_name(one.name)])
