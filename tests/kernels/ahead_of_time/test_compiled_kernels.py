"""Every kernel in every format compiles for sm_90 on a CPU: tensor cores, no spills, shared memory that fits."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

if importlib.util.find_spec("triton") is None:
    pytest.skip("Triton is not installed", allow_module_level=True)

from covering import covering

from benchmarks import launches
from benchmarks.document import write
from benchmarks.kernels import Fact, facts, table
from benchmarks.launches import BRIEF, FORMATS, Sample
from hardneg.ops.comparison import Comparison, Relation
from hardneg.ops.fused_backend import Fused
from hardneg.ops.triton.ahead_of_time import SHARED_LIMIT, compiling_for
from hardneg.ops.triton.tuning import Configuration, using

ROOT = Path(__file__).parents[3]


def pinned(name: str) -> str:
    """The release that constraints.txt names."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return next(line.split("==")[1] for line in lines if line.startswith(f"{name}=="))


OTHERS = ("dot", "euclidean", "squared_euclidean", "order")


SPILLS = 0 if version("triton") == pinned("triton") else 32
"""Every release gives out registers in its own way; tiles are tuned for the pinned one, others may spill eight."""


def faulty(found: list[Fact]) -> list[str]:
    all_faults = [(fact.kernel, fact.faults(SPILLS)) for fact in found]
    return [f"{kernel}: {', '.join(faults)}" for kernel, faults in all_faults if faults]


@covering(2, operator=BRIEF, arithmetic=list(FORMATS))
def test_every_kernel_in_every_format(operator: str, arithmetic: str) -> None:
    found = facts(Sample(operator, arithmetic, "cosine"), 90)
    assert len(found) >= 2
    assert faulty(found) == []
    own = not operator.startswith(("pair_scores", "whole")) and arithmetic != "float32 ieee"
    assert any(fact.multiplies for fact in found) == own


@covering(2, operator=["select, hardest", "penalty_total, hinge"], similarity=OTHERS)
def test_every_similarity(operator: str, similarity: str) -> None:
    assert faulty(facts(Sample(operator, "bfloat16", similarity), 90)) == []


def test_gpus_with_little_shared_memory() -> None:
    """Capability 12.0 has less shared memory than 9.0, so it takes the tiles of 8.0."""
    with compiling_for(120) as recorder:
        Sample("select, hardest", "bfloat16", "cosine").run(Fused())
    assert all(made.shared <= SHARED_LIMIT[120] for made in recorder.compiled)


def test_a_tile_too_large_is_found_out() -> None:
    """The check itself: a tile of 256 x 256 scores on four warps cannot stay in registers."""
    key = ("best", "narrow16", "sm_90")
    with using({key: Configuration(256, 128, 64, 4, 3)}):
        found = facts(Sample("select, hardest", "bfloat16", "cosine"), 90)
    assert any("spills" in text for text in faulty(found))


def test_products_without_tensor_cores_are_found_out() -> None:
    fact = facts(Sample("select, hardest", "float32 ieee", "cosine"), 90)
    given = next(f for f in fact if f.source == "given")
    assert given.faults() == []
    as_product = Fact(**{**vars(given), "source": "product"})
    assert as_product.faults() == ["uses no tensor cores", "does not copy while it multiplies"]
    too_much = Fact(**{**vars(given), "shared": 228 * 1024})
    assert too_much.faults() == ["needs 233472 bytes of shared memory"]


def test_the_table_goes_between_its_markers(tmp_path: Path) -> None:
    found = facts(Sample("pair_scores", "bfloat16", "cosine"), 90)
    file = tmp_path / "page.md"
    file.write_text("before\n<!-- kernels -->\nold\n<!-- /kernels -->\nafter\n")
    write(file, "kernels", table(found))
    text = file.read_text()
    assert "| pairs | - | bfloat16 | sm_90 |" in text
    assert "old" not in text
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")


@pytest.mark.skipif(SPILLS > 0, reason="registers are limited as the pinned Triton gives them out")
@pytest.mark.parametrize(
    ("operator", "kernel", "ids"),
    [
        ("select, hardest", "best_kernel", True),
        ("penalty_total, hinge", "dense_kernel", True),
        ("logsumexp, linear", "dense_kernel", False),
    ],
)
def test_two_programs_share_a_multiprocessor(
    operator: str, kernel: str, ids: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the commonest losses at widths that are common: one program multiplies while the other reduces."""
    plain = launches.compared

    def without_ids(*given: Any) -> Comparison:
        comparison = plain(*given)
        return replace(comparison, relation=Relation())

    if not ids:
        monkeypatch.setattr(launches, "compared", without_ids)
    found = [f for f in facts(Sample(operator, "bfloat16", "cosine"), 90) if f.kernel == kernel]
    assert found
    for fact in found:
        assert fact.faults() == []
        assert 2 * fact.registers * fact.warps * 32 <= 65536
        assert 2 * (fact.shared + 1024) <= SHARED_LIMIT[90] + 1024
