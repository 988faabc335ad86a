"""The folders ``state-<step>/`` of a run, their checksums, and which of them to go on from.

``manifest.json`` lists the SHA-256 of every file. It is written last, and the folder gets its name
only when all of it is on disk. The two newest states are kept, so that damage to one of them
is not the end of the run.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from vsepp.files.writing import full_disk_told, read_json, remove_folder, to_disk
from vsepp.run.progress import FILE as PROGRESS
from vsepp.run.progress import Progress, read_progress

MANIFEST = "manifest.json"
FORMAT = "hardneg vsepp state 1"
NAME = re.compile(r"state-(\d{9,})")
KEPT = 2
BLOCK = 2**22


def states_of(folder: Path) -> list[Path]:
    """The states of a run, the oldest first."""
    found = [(NAME.fullmatch(path.name), path) for path in folder.glob("state-*") if path.is_dir()]
    return [path for _, path in sorted((int(name[1]), path) for name, path in found if name)]


def newest_state(folder: Path) -> Path | None:
    """The newest state of a run, if it has one; ``whole_state`` also looks into its files."""
    return max(states_of(folder), key=lambda path: int(path.name[6:]), default=None)


def write_state(folder: Path, files: Mapping[str, bytes], progress: Progress) -> None:
    """Write a state's files with their checksums, give it its name, and remove what is too old."""
    final = folder / f"state-{progress.step:09d}"
    unfinished = folder / f".{final.name}.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    before = newest_state(folder)
    comfort = f"{before.name} is unharmed" if before else "there was no checkpoint before it"
    try:
        with full_disk_told(final, comfort):
            fill(unfinished, {**files, PROGRESS: progress.text().encode()})
            if final.exists():
                remove_folder(final)
            os.replace(unfinished, final)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    to_disk(folder)
    remove_older(folder)


def fill(folder: Path, files: Mapping[str, bytes]) -> None:
    """The files, then the list of their checksums, all of it on disk."""
    folder.mkdir(parents=True)
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    manifest = json.dumps({"format": FORMAT, "sha256": sums}, indent=1).encode()
    for name, content in {**files, MANIFEST: manifest}.items():
        (folder / name).write_bytes(content)
        to_disk(folder / name)
    to_disk(folder)


def remove_older(folder: Path) -> None:
    """Remove states and models that neither of the two newest states needs."""
    states = states_of(folder)
    for path in states[:-KEPT]:
        remove_folder(path)
    needed = set()
    for path in states[-KEPT:]:
        try:
            needed.add(read_progress(path).best_file)
        except (OSError, ValueError):
            continue  # a damaged state needs nothing
    for path in folder.glob("best-*.pt"):
        if path.name not in needed:
            path.unlink()


def whole_state(folder: Path) -> Path | None:
    """The newest state, if there is one; an error that names the way out if it is damaged."""
    states = states_of(folder)
    if not states:
        return None
    fault = fault_of(states[-1])
    if not fault:
        return states[-1]
    whole = next((path for path in reversed(states[:-1]) if not fault_of(path)), None)
    if whole is None:
        raise ValueError(f"{fault}. No other state of {folder} is whole: begin anew by --overwrite")
    doomed = " ".join(str(path) for path in states[states.index(whole) + 1 :])
    raise ValueError(
        f"{fault}. The state before it, {whole.name}, is whole: `rm -r {doomed}`, and the same "
        "command with --resume goes on from there"
    )


def fault_of(state: Path) -> str:
    """What is wrong with a state, or nothing: each of its files and its best model is read."""
    try:
        for name, expected in read_manifest(state).items():
            check_sum(state / name, expected)
        progress = read_progress(state)
        if progress.best_file:
            check_sum(state.parent / progress.best_file, progress.best_sha256)
    except (OSError, ValueError) as error:
        return str(error)
    return ""


def read_manifest(state: Path) -> dict[str, str]:
    """The checksums of a state's files by name."""
    path = state / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: the state is incomplete, or of a version that wrote no checksums"
        )
    content = read_json(path)
    sums = content.get("sha256")
    if content.get("format") != FORMAT or not isinstance(sums, dict) or PROGRESS not in sums:
        raise ValueError(f"{path} is not the list of a state's files ({FORMAT!r}): it is damaged")
    strange = [name for name in sums if Path(name).name != name]
    if strange:
        raise ValueError(f"{path} names {strange[0]!r}, which is not in its folder: refused")
    return sums


def check_sum(path: Path, expected: str) -> None:
    """Refuse a file that is missing or is not the one that was written."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing")
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    if digest.hexdigest() != expected:
        raise ValueError(f"{path} is damaged: its content is not what was written (SHA-256)")
