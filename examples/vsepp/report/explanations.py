"""What a reader of the page has to know: the losses in words, chance, the drop at the switch."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb
from statistics import mean
from typing import Any

from vsepp.evaluate import COCO_FOLDS
from vsepp.report.finished import Run, differing, value_of
from vsepp.settings import Loss

LEVELS = (1, 5, 10)
STRATEGIES = {
    "all": "every other pair of the batch is a negative: the sum of hinges, VSE0",
    "hardest": "the negative with the highest score alone: the max of hinges, VSE++",
    "semihard": "the hardest negative that scores below the positive",
    "selective": "the hardest negative, the mean of all where it ties with the positive (SelHN)",
    "topk": "the K hardest negatives",
    "random": "K negatives at random",
    "window": "the negatives of some ranks, 0 the hardest",
    "distance": "negatives drawn by their distance",
}
LOSSES = {
    "contrastive": "hinges",
    "infonce": "InfoNCE, a cross-entropy over the candidates",
    "sigmoid": "the sigmoid loss: every pair by itself",
    "unified": "the unified pair loss, a smooth maximum of hinges",
}


def explained(runs: Sequence[Run]) -> list[dict[str, str]]:
    """The loss of each recipe in words."""
    first = {run.label: run.settings.loss for run in reversed(runs)}
    labels = dict.fromkeys(run.label for run in runs)
    return [{"label": label, "words": in_words(first[label])} for label in labels]


def in_words(loss: Loss) -> str:
    """A loss, and the negatives that it hears."""
    margin = f" with margin {loss.margin:g}" if loss.loss in ("contrastive", "unified") else ""
    strategy = STRATEGIES[loss.written[0]]
    written = f"{loss.negatives}: " if loss.written[1] else ""
    switch = ""
    if switches(loss):
        switch = f", after {loss.warmup_epochs:g} epochs of all negatives"
    return f"{LOSSES[loss.loss]}{margin}; {written}{strategy}{switch}"


def switches(loss: Loss) -> bool:
    """Whether a run begins with all negatives and goes on with others."""
    return loss.warmup_epochs > 0 and loss.negatives != "all"


def switch_notes(runs: Sequence[Run]) -> list[str]:
    """Why the loss of a recipe drops, for each that switches to fewer negatives."""
    first = {run.label: run.settings for run in reversed(runs) if switches(run.settings.loss)}
    return [
        f"{label}: the loss drops after epoch {settings.loss.warmup_epochs:g} because it then adds up "
        f"fewer terms, not because anything was learnt at that step. Up to there an anchor's loss is the "
        f"sum over all {settings.schedule.batch_size - 1} other pairs of the batch, from there on that "
        "of the chosen negatives alone"
        for label, settings in first.items()
        if settings.loss.loss == "contrastive"
    ]


def chance_rsum(images: int, captions: int) -> float:
    """The rsum of a model that guesses: an image has ``captions / images`` right captions."""
    right = max(1, round(captions / images))
    text_to_image = [min(1.0, level / images) for level in LEVELS]
    image_to_text = [1 - comb(captions - right, k) / comb(captions, k) for k in within(captions)]
    return 100 * (sum(text_to_image) + sum(image_to_text))


def within(captions: int) -> list[int]:
    """The levels of recall, none above the number of candidates."""
    return [min(level, captions) for level in LEVELS]


def chance_of(run: Run, part: str, protocol: str = "") -> float | None:
    """The chance level of a run on a part; None where an earlier version left no sizes. COCO's 1k
    is the mean over folds.
    """
    sizes = run.result.get("sizes", {}).get(part, [])
    if len(sizes) != 2 or not 0 < sizes[0] <= sizes[1] <= 10_000_000:
        return None
    folds = COCO_FOLDS if protocol == "1k" else 1
    return chance_rsum(max(1, sizes[0] // folds), max(1, sizes[1] // folds))


def chance_notes(runs: Sequence[Run]) -> list[str]:
    """What guessing would reach under each protocol, where that is known."""
    known: dict[str, float] = {}
    for run in runs:
        for protocol in run.result["results"]:
            level = chance_of(run, "test", protocol)
            if level is not None:
                known.setdefault(protocol, level)
    return [f"{level:.1f} ({protocol})" for protocol, level in known.items()]


def settings_table(runs: Sequence[Run]) -> dict[str, Any]:
    """The settings in which recipes differ, a column each; none where there is one recipe."""
    first = {run.label: run for run in reversed(runs)}
    shown = [first[label] for label in dict.fromkeys(run.label for run in runs)]
    names = differing(shown)
    rows = [[name, *(str(value_of(run, name)) for run in shown)] for name in names]
    return {"heads": [run.label for run in shown], "rows": rows}


def mining_notes(runs: Sequence[Run]) -> list[str]:
    """What mining finds at the end of the training, for each recipe."""
    said = []
    for label in dict.fromkeys(run.label for run in runs):
        ends = [run.result["history"][-1].get("mining") for run in runs if run.label == label]
        found = [one for one in ends if one]
        if found:
            share = mean(one["active_anchors"] for one in found)
            gap = mean(one["positive"] - one["negative"] for one in found)
            said.append(
                f"{label}: at the end {share:.0%} of the anchors have a negative within the margin, "
                f"and on average positives score {abs(gap):.2f} {'above' if gap > 0 else 'below'} "
                "their hardest negatives"
            )
    return said
