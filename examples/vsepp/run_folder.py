"""The folder of a run: one run each, begun with settings that stay."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from vsepp.files import write_text
from vsepp.settings import Options, Settings


def prepare_folder(folder: Path, settings: Settings, options: Options) -> None:
    """Refuse to mix two runs in one folder; note the settings of this one."""
    noted = folder / "settings.json"
    remove_unfinished(folder)
    if noted.is_file() and not options.overwrite:
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
        return
    if folder.exists() and any(folder.iterdir()):
        if not noted.is_file():
            raise FileExistsError(f"{folder} holds other files: choose another --out")
        shutil.rmtree(folder)
    write_text(noted, json.dumps(settings.record(), indent=1))


def remove_unfinished(folder: Path) -> None:
    """Remove what a killed run was about to write."""
    for path in folder.glob(".*.unfinished"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
