"""Finished runs, read from their folders, which may come from anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hardneg.metrics import RetrievalMetrics
from vsepp.files.writing import read_json
from vsepp.report.run_schema import (
    GALLERY,
    METRICS,
    MINED,
    MINING,
    RESULT,
    SIZES,
    check,
    check_newer,
)
from vsepp.retrieval import from_record
from vsepp.settings import Settings


@dataclass(frozen=True)
class Run:
    """A finished run, read from its folder."""

    name: str
    recipe: str
    settings: Settings
    result: dict[str, Any]
    gallery: dict[str, Any]
    label: str = ""
    """What tells the runs that differ in their seed alone from others: the recipe, with the settings
    of these runs where there are others of the recipe.
    """

    def retrieval(self, protocol: str) -> RetrievalMetrics:
        """The test result under a protocol."""
        values = self.result["results"][protocol]
        return from_record({way: values[way] for way in METRICS})


def read_run(folder: Path) -> Run:
    """The result that a run left in its folder; values that no run writes are refused."""
    path = folder / "result.json"
    if not path.is_file():
        begun = (folder / "settings.json").is_file()
        raise FileNotFoundError(
            f"no {path}: "
            + (
                "the run has not finished; go on with it by --resume"
                if begun
                else "name a run's folder, as runs/<recipe>-seed<seed>"
            )
        )
    result = read_json(path)
    check(path, result, RESULT)
    if not result["history"]:
        raise ValueError(
            f"{path} was not written by a run: expected history to be a list of epochs"
        )
    for row in result["history"]:
        check_newer(path, row, "mining", MINING)
    check_newer(path, result, "sizes", SIZES)
    settings = Settings.from_record(result["settings"])
    shown = folder / "gallery.json"
    gallery = read_json(shown) if shown.is_file() else {}
    if gallery:
        check(shown, gallery, GALLERY)
        check_newer(shown, gallery, "mined", MINED)
    return Run(folder.name, result["recipe"], settings, result, gallery, result["recipe"])


def read_runs(paths: Sequence[Path]) -> tuple[list[Run], list[str]]:
    """The finished runs under some paths, run folders or folders of them, and a line about each
    folder that is none. Files beside the runs, which ``runs/*`` names too, need no word.
    """
    runs, left_out = [], []
    folders = [path for path in paths if not path.is_file()] or paths
    for folder in dict.fromkeys(one for path in folders for one in run_folders(path)):
        try:
            runs.append(read_run(folder))
        except (OSError, ValueError) as error:
            left_out.append(str(error))
    if not runs:
        raise FileNotFoundError("; ".join(left_out))
    return labelled(runs), left_out


def labelled(runs: Sequence[Run]) -> list[Run]:
    """The runs with labels by which they are grouped: runs of one recipe whose settings differ in
    more than the seed are no seeds of each other.
    """
    told = []
    for run in runs:
        apart = differing([one for one in runs if one.recipe == run.recipe])
        own = [f"{name.partition('.')[2]} {value_of(run, name)}" for name in apart]
        told.append(replace(run, label=f"{run.recipe} ({', '.join(own)})" if own else run.recipe))
    return told


def differing(runs: Sequence[Run]) -> list[str]:
    """The settings in which some runs differ, as ``part.name``, the seed aside."""
    records = [run.settings.record() for run in runs]
    return [
        f"{part}.{name}"
        for part, values in records[0].items()
        for name in values
        if (part, name) != ("schedule", "seed")
        and any(one[part][name] != records[0][part][name] for one in records)
    ]


def value_of(run: Run, name: str) -> Any:
    """A run's setting by its name ``part.name``."""
    part, _, own = name.partition(".")
    return getattr(getattr(run.settings, part), own)


def run_folders(path: Path) -> list[Path]:
    """The folder itself if a run wrote there, else the folders of runs inside it."""
    marks = ("result.json", "settings.json")
    if any((path / mark).is_file() for mark in marks) or not path.is_dir():
        return [path]
    inside = sorted({one.parent for mark in marks for one in path.glob(f"[!.]*/{mark}")})
    return inside or [path]
