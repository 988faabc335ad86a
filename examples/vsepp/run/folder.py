"""The folder of a run: one run each, begun with settings that stay."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vsepp.files.writing import read_json, remove_folder, to_disk, write_text
from vsepp.run.lock import run_lock
from vsepp.run.state_folder import newest_state
from vsepp.settings import Options, Settings

NOTED = "settings.json"
PLACE = "data.json"
CHANGEABLE = (
    "data.skip_corrupt",
    "schedule.epochs",
    "schedule.validate_every",
    "schedule.chunk",
    "schedule.learning_rate",
    "schedule.backbone_rate",
    "schedule.decay_after",
    "schedule.clip",
    "schedule.rise",
)
"""Settings that a run may be resumed with other values of: what they say about the rest of the
training leaves the meaning of what is done. The result lists them."""


@contextmanager
def run_in(folder: Path) -> Iterator[None]:
    """Hold the folder of a run; one that was replaced too early comes back."""
    with run_lock(folder):
        put_back(folder)
        try:
            yield
        finally:
            put_back(folder)


def check_folder(folder: Path, settings: Settings, options: Options) -> list[str]:
    """Refuse to mix two runs in one folder, before anything is built; returns the settings that a
    resumed run changes.
    """
    if not (folder / NOTED).is_file():
        if folder.exists() and any(not leftover(path) for path in folder.iterdir()):
            raise FileExistsError(f"{folder} holds other files: choose another --out")
        return []
    if options.resume:
        return changes_of(folder, settings)
    if not options.overwrite:
        raise FileExistsError(
            f"{folder} holds a run: pass --resume to go on with it, --overwrite to replace it, "
            "or another --out"
        )
    return []


def changes_of(folder: Path, settings: Settings) -> list[str]:
    """The settings in which a resumed run differs from what the folder notes; those that cannot
    change while a run is under way are refused.
    """
    before = noted_settings(folder)
    changed = before.differences(settings)
    fixed = [one for one in changed if one.partition(":")[0] not in CHANGEABLE]
    if any(one.startswith("data.digest:") for one in fixed):
        raise ValueError(
            f"{folder} was begun with other data: what --data names has changed since; put back what "
            "was there, or start a run in another --out"
        )
    if fixed:
        raise ValueError(
            f"{folder} was begun with other settings ({'; '.join(fixed)}): "
            "resume with the same ones, or start a run in another --out"
        )
    return changed


def noted_settings(folder: Path) -> Settings:
    """The settings that a run's folder notes."""
    path = folder / NOTED
    try:
        return Settings.from_record(read_json(path))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not the settings of a run ({error!r})") from error


def begin_folder(folder: Path, settings: Settings, options: Options) -> None:
    """Note the settings of a run that is about to begin: a mistake found earlier leaves no run.

    A run that is to be replaced is set aside until the new one has its first checkpoint.
    """
    if options.overwrite and not options.resume and (folder / NOTED).is_file():
        os.replace(folder, set_aside(folder))
    if not (folder / NOTED).is_file():
        note(folder, settings)


def note(folder: Path, settings: Settings) -> None:
    """Write the settings down, unless they stand there already."""
    text = json.dumps(settings.record(), indent=1)
    if not (folder / NOTED).is_file() or (folder / NOTED).read_bytes() != text.encode():
        write_text(folder / NOTED, text)


def note_place(folder: Path, root: Path | None) -> None:
    """Write down what ``--data`` named: of this machine alone, so it is no setting, and in no model."""
    if root is not None:
        write_text(folder / PLACE, json.dumps({"data": str(root.resolve())}, indent=1))


def data_place(run: Path, given: Path | None) -> Path | None:
    """What ``--data`` names; without it what it named when a run was trained, if that is still there.

    ``run`` is the run's folder, or a file in it.
    """
    folder = run if run.is_dir() else run.parent
    if given is not None or not all((folder / name).is_file() for name in (NOTED, PLACE)):
        return given
    named = read_json(folder / PLACE).get("data")
    if not isinstance(named, str):
        raise ValueError(f"{folder / PLACE} names no data: pass --data")
    if not Path(named).exists():
        return None
    print(f"data: {named}, as the run was trained on (--data names others)", file=sys.stderr)
    return Path(named)


def set_aside(folder: Path) -> Path:
    """Where a run waits until the one that replaces it has a checkpoint."""
    return folder.with_name(f".{folder.name}.replaced")


def put_back(folder: Path) -> None:
    """Bring back a run that was set aside for one which never had a checkpoint; remove what killed
    runs were about to write.
    """
    old = set_aside(folder)
    if old.is_dir():
        if newest_state(folder) is not None:
            shutil.rmtree(old)
        else:
            if folder.is_dir():
                remove_folder(folder)
            os.replace(old, folder)
            to_disk(folder.parent)
    remove_unfinished(folder)


def forget_replaced(folder: Path) -> None:
    """The new run has a checkpoint: remove the one that it replaces."""
    if set_aside(folder).is_dir():
        shutil.rmtree(set_aside(folder))


def remove_unfinished(folder: Path) -> None:
    """Remove what a killed run was about to write or to remove."""
    beside = folder.parent.glob(f".{folder.name}.removed.unfinished")
    for path in [*filter(leftover, folder.glob(".*")), *beside]:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def leftover(path: Path) -> bool:
    """Whether a path is something that a killed run was about to write."""
    return path.name.startswith(".") and path.name.endswith(".unfinished")
