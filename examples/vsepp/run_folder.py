"""The folder of a run: one run each, begun with settings that stay."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from vsepp.files import write_text
from vsepp.settings import Options, Settings

NOTED = "settings.json"


def check_folder(folder: Path, settings: Settings, options: Options) -> None:
    """Refuse to mix two runs in one folder, before anything is built."""
    noted = folder / NOTED
    remove_unfinished(folder)
    if not noted.is_file():
        if folder.exists() and any(folder.iterdir()):
            raise FileExistsError(f"{folder} holds other files: choose another --out")
    elif not options.overwrite:
        if not options.resume:
            raise FileExistsError(
                f"{folder} holds a run: pass --resume to go on with it, --overwrite to replace it, "
                "or another --out"
            )
        before = Settings.from_record(json.loads(noted.read_text(encoding="utf-8")))
        if changed := before.differences(settings):
            raise ValueError(
                f"{folder} was begun with other settings ({'; '.join(changed)}): "
                "resume with the same ones, or start a run in another --out"
            )


def begin_folder(folder: Path, settings: Settings, options: Options) -> None:
    """Note the settings of a run that is about to begin: a mistake found earlier leaves no run."""
    if folder.exists() and options.overwrite:
        shutil.rmtree(folder)
    if not (folder / NOTED).is_file():
        write_text(folder / NOTED, json.dumps(settings.record(), indent=1))


def remove_unfinished(folder: Path) -> None:
    """Remove what a killed run was about to write."""
    for path in folder.glob(".*.unfinished"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
