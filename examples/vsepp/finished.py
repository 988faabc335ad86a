"""A finished run, read from its folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hardneg.metrics import RetrievalMetrics
from vsepp.retrieval import from_record


@dataclass(frozen=True)
class Run:
    """A finished run, read from its folder."""

    name: str
    recipe: str
    result: dict[str, Any]
    gallery: dict[str, Any]

    def retrieval(self, protocol: str) -> RetrievalMetrics:
        """The test result under a protocol."""
        return from_record(self.result["results"][protocol])


def read_run(folder: Path) -> Run:
    """The result that a run left in its folder."""
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
    result = json.loads(path.read_text(encoding="utf-8"))
    gallery = folder / "gallery.json"
    shown = json.loads(gallery.read_text(encoding="utf-8")) if gallery.is_file() else {}
    return Run(folder.name, result["recipe"], result, shown)
