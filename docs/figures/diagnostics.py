"""Draw the figure of docs/diagnostics.md from a small training: ``python -m docs.figures.diagnostics``."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import torch
from torch import Tensor, nn

from hardneg import ContrastiveLoss
from hardneg.diagnostics import Diagnostics

FILE = Path(__file__).with_name("diagnostics.svg")
ITEMS, WIDTH, BATCH, STEPS = 2000, 128, 128, 600


def views() -> Tensor:
    """Two noisy views of each item, both as a linear map of what they share."""
    shared = torch.randn(ITEMS, 16)
    maps = torch.randn(2, 16, WIDTH)
    return shared @ maps + 1.5 * torch.randn(2, ITEMS, WIDTH)


def watched_training() -> Diagnostics:
    """Two towers under the hardest negatives."""
    torch.manual_seed(0)
    given, loss, diagnostics = views(), ContrastiveLoss(0.2, "hardest"), Diagnostics(every=20)
    towers = nn.ModuleList(nn.Linear(WIDTH, 64) for _ in range(2))
    optimiser = torch.optim.AdamW(towers.parameters(), lr=1e-3)
    diagnostics.attach(loss)
    for _ in range(STEPS):
        rows = torch.randperm(ITEMS)[:BATCH]
        loss(*(tower(x[rows]) for tower, x in zip(towers, given, strict=True))).backward()
        optimiser.step()
        optimiser.zero_grad()
    return diagnostics


if __name__ == "__main__":
    torch.set_num_threads(1)
    with mpl.rc_context({"svg.hashsalt": "hardneg", "svg.fonttype": "none"}):
        seen = watched_training()
        seen.figure().savefig(FILE, metadata={"Date": None})
        print(FILE, *seen.findings, sep="\n")
