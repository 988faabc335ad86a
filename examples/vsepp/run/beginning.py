"""Where a run begins: in a folder of its own, or at the newest state of one that was stopped."""

from __future__ import annotations

from pathlib import Path

from vsepp.run.folder import begin_folder, note, note_place
from vsepp.run.progress import Progress
from vsepp.run.screen import Screen
from vsepp.run.state_folder import whole_state
from vsepp.run.training_state import Parts, load_state
from vsepp.settings import Options, Settings


def begin_or_go_on(
    parts: Parts,
    folder: Path,
    settings: Settings,
    options: Options,
    changed: list[str],
    screen: Screen,
    root: Path | None = None,
) -> Progress:
    """Note a new run, or load the newest state into ``parts`` if that is asked for and there is one.

    All processes call, the first one writes, also where the data are (``root``). Says which settings
    are ``changed`` from there on.
    """
    writes, progress = parts.accelerator.is_main_process, Progress()
    if writes:
        begin_folder(folder, settings, options)
    parts.accelerator.wait_for_everyone()
    state = whole_state(folder) if options.resume else None
    if state is not None:
        progress = load_state(parts, state)
        for said in progress.go_on(settings.schedule.epochs, changed, folder):
            screen.say(said)
    if writes:
        note(folder, settings)
        note_place(folder, root)
    return progress
