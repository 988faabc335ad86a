"""The examples in docstrings run."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import pkgutil
import types

import pytest
import torch

import hardneg
import hardneg.functional
import hardneg.metrics

# what is imported on demand, or where there is Triton
APART = ["hardneg.encoders"]
APART += [] if importlib.util.find_spec("torchmetrics") else ["hardneg.metrics.torchmetrics"]
# run by tests/integrations/test_integrations_page.py, which alone imports what takes long
APART += [
    f"hardneg.integrations.{name}"
    for name in ("lightning", "pytorch_metric_learning", "sentence_transformers", "transformers")
]
APART += [] if importlib.util.find_spec("triton") else ["hardneg.ops.triton."]
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(hardneg.__path__, "hardneg.")
    if not module.name.startswith(tuple(APART))
)
NAMES = {
    name: getattr(module, name)
    for module in (hardneg, hardneg.functional, hardneg.metrics)
    for name in module.__all__
} | {"torch": torch, "hardneg": hardneg}


def examples() -> list[tuple[str, doctest.DocTest]]:
    found = []
    for name in MODULES:
        module: types.ModuleType = importlib.import_module(name)
        for case in doctest.DocTestFinder().find(module, name, extraglobs=NAMES):
            if case.examples:
                found.append((case.name, case))
    return found


EXAMPLES = examples()


def test_every_loss_has_an_example() -> None:
    shown = {name.rsplit(".", 1)[-1] for name, _ in EXAMPLES}
    assert {name for name in hardneg.__all__ if name.endswith("Loss")} <= shown
    assert set(hardneg.functional.__all__) <= shown


@pytest.mark.parametrize(("name", "case"), EXAMPLES, ids=[name for name, _ in EXAMPLES])
def test_example(name: str, case: doctest.DocTest) -> None:
    torch.manual_seed(0)
    failed, tried = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(case)
    assert tried > 0
    assert failed == 0, name
