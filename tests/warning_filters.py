"""Which warnings are errors: those that this repository's code causes. A dependency's deprecations are listed.

A warning is attributed to a line (``stacklevel``), and filters know that line's module. A deprecation at a line of this
repository means that it uses a name that goes away. Every other kind of warning is an error wherever it
arises, since it is about what was passed in.
"""

from __future__ import annotations

import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("hardneg", "benchmarks", "vsepp", "vsepp_search")
DEPRECATIONS = (DeprecationWarning, PendingDeprecationWarning, FutureWarning)


def own_modules() -> list[str]:
    """Every module of this repository, by the name under which it is imported."""
    found = {path.stem for top in ("tests", "examples") for path in (ROOT / top).rglob("*.py")}
    for top in (ROOT, ROOT / "examples"):
        for path in (path for name in PACKAGES for path in (top / name).rglob("*.py")):
            parts = path.relative_to(top).with_suffix("").parts
            found.add(".".join(parts).removesuffix(".__init__"))
    return sorted(found - {"__init__"})


def filters() -> list[tuple[str, str, type[Warning], str]]:
    """Action, message, category and module, as ``warnings.filterwarnings`` takes them; a later one wins."""
    ours = "|".join(module.replace(".", r"\.") for module in own_modules())
    return [
        ("error", "", Warning, ""),
        *(("default", "", kind, "") for kind in DEPRECATIONS),
        # some libraries, torch among them, announce deprecations as plain UserWarnings
        ("default", "(?s).*deprecat", Warning, ""),
        # what one says about hardneg::operator is about us; about a path with that name it need not be
        ("error", r"(?s).*hardneg[^\w/\\.]{2}", Warning, ""),
        ("error", "", Warning, f"({ours})$"),
    ]


def filter_warnings() -> None:
    """Set the filters in a process that pytest did not start."""
    warnings.resetwarnings()
    for one in filters():
        warnings.filterwarnings(*one)


def filters_of_pytest() -> list[str]:
    """The filters as lines of the option ``filterwarnings``."""
    return [f"{action}:{text}:{kind.__name__}:{module}" for action, text, kind, module in filters()]


def filters_of_python() -> str:
    """PYTHONWARNINGS that makes warnings at lines of ours errors in every Python that a test starts."""
    return ",".join(f"error:::{module}" for module in own_modules())
