"""Small batches beside the plain formulas: ``python -m benchmarks.small [--threads N] [--only NAME ...] [--write]``.

The sizes of most training runs, where the number of operations counts more than what they compute. Process time
with one thread, wall time with several; contenders take turns, and a ratio is the median of those within a round.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor

from benchmarks import formulas
from benchmarks.document import write
from benchmarks.machine import RESULTS, ROOT, setting
from hardneg import (
    ContrastiveLoss,
    InfoNCELoss,
    MultiSimilarityLoss,
    NTXentLoss,
    SigmoidLoss,
    SupConLoss,
    TopK,
    TripletLoss,
)

SIZES = ((32, 128), (128, 256), (128, 1024), (512, 512), (1024, 512))
ROUNDS, SAMPLE_SECONDS = 15, 0.03
ROWS = RESULTS / "small.jsonl"
DOCUMENT = ROOT / "docs" / "benchmarks.md"

Step = Callable[..., Tensor]
PAIRS: dict[str, tuple[Step, Step]] = {
    "hardest (VSE++)": (ContrastiveLoss(formulas.MARGIN), formulas.hardest),
    "all (VSE0)": (ContrastiveLoss(formulas.MARGIN, "all"), formulas.every),
    "semi-hard": (ContrastiveLoss(formulas.MARGIN, "semihard"), formulas.semi_hard),
    "8 hardest": (ContrastiveLoss(formulas.MARGIN, TopK(formulas.NEIGHBOURS)), formulas.nearest),
    "InfoNCE": (InfoNCELoss(formulas.TEMPERATURE), formulas.info_nce),
    "SigLIP": (SigmoidLoss(formulas.SIGMOID_TEMPERATURE, formulas.SIGMOID_BIAS), formulas.sigmoid),
}
LABELS: dict[str, tuple[Step, Step]] = {
    "semi-hard triplets": (TripletLoss(formulas.MARGIN), formulas.semi_hard_labelled),
    "SupCon": (SupConLoss(formulas.TEMPERATURE), formulas.sup_con),
    "NT-Xent": (NTXentLoss(formulas.TEMPERATURE), formulas.nt_xent),
    "multi-similarity": (MultiSimilarityLoss(), formulas.multi_similarity),
    "batch-hard triplets": (
        TripletLoss(formulas.MARGIN, "hardest", "hardest"),
        formulas.batch_hard,
    ),
}
OF_QUERIES = InfoNCELoss(formulas.TEMPERATURE, directions="queries")
MINED: dict[str, tuple[Step, Step]] = {
    "InfoNCE, 4 own negatives": (
        lambda q, c, own: OF_QUERIES(q, c, own_negatives=own),
        formulas.info_nce_beside_own,
    ),
}
CASES = PAIRS | LABELS | MINED
OWN = 4


def inputs(n: int, d: int, name: str) -> tuple[Tensor, ...]:
    """Pairs as noisy copies, perhaps with negatives of every query, or rows in classes of four."""
    made = torch.Generator().manual_seed(0)
    x = torch.randn(n, d, generator=made).requires_grad_()
    if name in LABELS:
        return x, torch.arange(n) // 4
    noise = torch.randn(n, d, generator=made)
    pairs = x, (x.detach() + 3 * noise).requires_grad_()
    if name not in MINED:
        return pairs
    return *pairs, torch.randn(n, OWN, d, generator=made).requires_grad_()


def run(step: Step, given: tuple[Tensor, ...], calls: int, clock: Callable[[], float]) -> float:
    """Seconds of a forward and a backward pass."""
    started = clock()
    for _ in range(calls):
        for x in given:
            x.grad = None
        step(*given).backward()
    return (clock() - started) / calls


def compare(ours: Step, plain: Step, given: tuple[Tensor, ...]) -> dict[str, float]:
    """Milliseconds of both, and the ratio."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    for step in (ours, plain):
        run(step, given, 3, clock)
    calls = max(1, round(SAMPLE_SECONDS / run(plain, given, 3, clock)))
    seconds: dict[Step, list[float]] = {ours: [], plain: []}
    for place in range(ROUNDS):
        for step in (ours, plain) if place % 2 else (plain, ours):
            seconds[step].append(run(step, given, calls, clock))
    pairs = zip(seconds[ours], seconds[plain], strict=True)
    return {
        "milliseconds": round(median(seconds[ours]) * 1e3, 4),
        "plain_milliseconds": round(median(seconds[plain]) * 1e3, 4),
        "ratio": round(median(a / b for a, b in pairs), 3),
    }


def table() -> str:
    """The last ratio of every case at every size, on one thread."""
    lines = ROWS.read_text(encoding="utf-8").splitlines()
    last = {}
    for row in map(json.loads, lines):
        if row["threads"] == 1:
            last[row["case"], tuple(row["shape"])] = row["ratio"]
    heads = [f"{n:,} x {d:,}" for n, d in SIZES]
    rows = [
        [name, *(f"{last[name, size]:.2f}" if (name, size) in last else "-" for size in SIZES)]
        for name in CASES
    ]
    grid = [["forward + backward, x plain formula", *heads], ["---"] * (len(SIZES) + 1), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in grid)


def main() -> None:
    """Measure every case at every size, a row at a time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=[], help="parts of names")
    parser.add_argument(
        "--write",
        action="store_true",
        help="the table in docs/benchmarks.md, of the rows there are",
    )
    options = parser.parse_args()
    if options.write:
        write(DOCUMENT, "small", table())
        return
    torch.set_num_threads(options.threads)
    for n, d in SIZES:
        for name, (ours, plain) in CASES.items():
            if options.only and not any(part in name for part in options.only):
                continue
            found = compare(ours, plain, inputs(n, d, name))
            row = {"case": name, "shape": [n, d], **found, **setting(options.threads)}
            print(
                f"{n:5} x {d:4}  {name:18}  {found['milliseconds']:8.3f} ms, {found['ratio']:.2f} x plain"
            )
            with ROWS.open("a", encoding="utf-8") as rows:
                rows.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
