"""Trainers of other libraries under torchrun: on two ranks as on one with the whole batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

HERE = Path(__file__).parent
SCRIPT = HERE / "trainers_on_ranks.py"
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def trained(launcher: list[str], which: str, folder: Path, ranks: int) -> Any:
    """What rank 0 saved."""
    paths = [HERE.parents[1], HERE.parent]
    found = os.pathsep.join([*map(str, paths), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": found, "PYTHONWARNINGS": "", "OMP_NUM_THREADS": "1"}
    words = [sys.executable, *launcher, str(SCRIPT), which, str(folder)]
    run = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr[-3000:]
    return torch.load(folder / f"ranks-{ranks}.pt")


@pytest.mark.full
@pytest.mark.parametrize("which", ["transformers", "sentence_transformers"])
def test_two_ranks_train_as_one(which: str, tmp_path: Path) -> None:
    """Four times importing such a library takes long."""
    pytest.importorskip(which, reason=f"whose trainer it is: hardneg[{which.replace('_', '-')}]")
    if which == "sentence_transformers":
        pytest.importorskip("datasets", reason="its trainer needs it")
        from sentences import make_model

        make_model(tmp_path / "model")
    alone, losses = trained([], which, tmp_path, 1)
    together, losses_of_two = trained(TORCHRUN, which, tmp_path, 2)
    assert len(losses) == 4
    torch.testing.assert_close(losses_of_two, losses, rtol=1e-4, atol=1e-6)
    for name, found in together.items():
        torch.testing.assert_close(found, alone[name], rtol=1e-4, atol=1e-6)
