"""Who imports whom: one way, between the parts of the package and between those of ``ops``."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import hardneg

PACKAGE = Path(hardneg.__file__).parent
FACTORS = {"similarities", "positives", "negatives", "penalties", "softmaxes"}
LEVELS = [
    {"near_names", "other_names"},
    {"checks", "extras", "writing"},
    FACTORS,
    {"ops"},
    {"losses"},
    {"functional"},
    {"distributed"},
]
ALONE = {
    "diagnostics": {"losses", "mining", "ops", "checks", "distributed", "extras"} | FACTORS,
    "mining": {"ops", "checks", "extras", "writing"} | FACTORS,
    "metrics": {"ops", "checks", "distributed", "extras", "writing"} | FACTORS,
    "encoders": {"checks"},
    "image_text": {"encoders", "similarities", "extras", "writing"},
    "training": {"checks", "distributed"},
    "integrations": {"losses", "distributed", "training", "checks", "extras", "similarities"},
}
OPS = [
    {"guide", "mined", "own"},
    {"comparison", "energies", "geometry", "grid", "precision", "transforms", "callable_checks"},
    {"half_precision", "requests", "loss_requests", "rounding"},
    {"scores"},
    {"selected_terms"},
    {"reference_rows", "reference_pairs"},
    {"reference"},
    {"tiled", "triton"},
    {"operators"},
    {"tiled_backend"},
    {"fused_backend", "small"},
    {"backends", "own_negatives", "listed"},
    {"guided"},
]


def imported(path: Path, depth: int) -> set[str]:
    """The parts of the package, or of a folder in it, that a file imports when it runs."""
    found, tree = set(), ast.parse(path.read_text())
    for block in ast.walk(tree):
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING":
            block.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        inside = "hardneg." if depth == 1 else "hardneg.ops."
        found |= {name.split(".")[depth] for name in names if name.startswith(inside)}
    return found


def parts(root: Path) -> Iterator[tuple[str, Path]]:
    """Every file with the part that it belongs to."""
    for path in sorted(root.rglob("*.py")):
        part = path.relative_to(root).parts[0].removesuffix(".py")
        if part != "__init__":
            yield part, path


@pytest.mark.parametrize(("root", "levels", "alone", "depth"), [
    (PACKAGE, LEVELS, ALONE, 1),
    (PACKAGE / "ops", OPS, {}, 2),
], ids=["package", "ops"])  # fmt: skip
def test_imports_point_one_way(
    root: Path, levels: list[set[str]], alone: dict[str, set[str]], depth: int
) -> None:
    above = {name: level for level, names in enumerate(levels) for name in names}
    seen = set()
    for part, path in parts(root):
        used = imported(path, depth) - {part}
        seen.add(part)
        if part in alone:
            assert used <= alone[part], f"{path} imports {used - alone[part]}"
            continue
        assert part in above, f"{part} has no place in the order of imports"
        for other in used:
            assert other in above, f"{path} imports {other}"
            assert above[other] < above[part], f"{path} imports {other}, which is not below it"
    assert seen == set(above) | set(alone)


def test_no_loss_knows_of_ranks_or_kernels() -> None:
    for path in sorted((PACKAGE / "losses").rglob("*.py")):
        text = path.read_text()
        assert "distributed" not in imported(path, 1), path
        assert "torch.ops.hardneg" not in text, path
        assert not imported(path, 2) & {"tiled", "triton", "operators"}, path
