"""What leaving diagnostics on costs: ``python -m benchmarks.diagnostics [--only NAME ...]``.

Training steps with ``Diagnostics`` attached to the loss beside the same steps without, which take turns step by step.
A training that is watched takes ``(EVERY - 1) * quiet + look`` for ``EVERY`` steps, where both are medians. Process
time on one thread. Two linear towers stand for small models: larger ones make the share smaller.
"""

from __future__ import annotations

import argparse
import json
import time
from statistics import median

import torch
from torch import nn

from benchmarks.machine import RESULTS, setting
from hardneg import ContrastiveLoss, InfoNCELoss
from hardneg.diagnostics import Diagnostics

ROWS = RESULTS / "diagnostics.jsonl"
EVERY, STEPS, SHOWN_EVERY = 50, 120, 5
"""Steps between looks; steps that are timed, with more looks among them."""
WIDTH, HIDDEN, OUT = 512, 1024, 256
SIZES = (32, 128, 512)
LOSSES = {"hardest (VSE++)": ContrastiveLoss, "InfoNCE": InfoNCELoss}


class Training:
    """Two towers and a loss, with or without diagnostics."""

    def __init__(self, loss: nn.Module, rows: int, looked_at: bool) -> None:
        torch.manual_seed(0)
        self.towers = nn.ModuleList(self.tower() for _ in range(2))
        self.optimiser = torch.optim.AdamW(self.towers.parameters())
        self.loss, self.given = loss, torch.randn(2, rows, WIDTH)
        self.diagnostics = Diagnostics(SHOWN_EVERY) if looked_at else None
        if self.diagnostics is not None:
            self.diagnostics.attach(loss)

    @staticmethod
    def tower() -> nn.Module:
        return nn.Sequential(nn.Linear(WIDTH, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, OUT))

    def seconds(self) -> float:
        """Seconds of a step."""
        started = time.process_time()
        self.loss(*(f(x) for f, x in zip(self.towers, self.given, strict=True))).backward()
        self.optimiser.step()
        self.optimiser.zero_grad()
        return time.process_time() - started


def compare(name: str, rows: int) -> dict[str, object]:
    """Milliseconds of a step without and with diagnostics, and with a look; the ratio over ``EVERY`` steps."""
    plain, watched = (Training(LOSSES[name](), rows, looked_at) for looked_at in (False, True))
    alone, quiet, looks = [], [], []
    for place in range(STEPS):
        if place % 2:
            alone.append(plain.seconds())
        (looks if place % SHOWN_EVERY == 0 else quiet).append(watched.seconds())
        if not place % 2:
            alone.append(plain.seconds())
    each, silent, seen = (median(x[len(x) // 10 :]) * 1e3 for x in (alone, quiet, looks))
    return {
        "plain_milliseconds": round(each, 4),
        "quiet_milliseconds": round(silent, 4),
        "look_milliseconds": round(seen, 4),
        "ratio": round(((EVERY - 1) * silent + seen) / (EVERY * each), 4),
        "look_share": round((seen - silent) / (EVERY * each), 4),
    }


def main() -> None:
    """Measure every loss at every size, a row at a time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=[], help="parts of names")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for rows in SIZES:
        for name in LOSSES:
            if options.only and not any(part in name for part in options.only):
                continue
            found = compare(name, rows)
            row = {"case": name, "shape": [rows, OUT], "every": EVERY, **found, **setting(1)}
            print(
                f"{rows:4} x {OUT}  {name:16}  {found['plain_milliseconds']:8.3f} ms a step, "
                f"{found['ratio']:.4f} x with diagnostics, {found['look_share']:.4f} by looks"
            )
            with ROWS.open("a", encoding="utf-8") as written:
                written.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
