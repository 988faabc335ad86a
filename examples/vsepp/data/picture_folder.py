"""The folder of a data set's pictures. Names come from files that a stranger may have written, so
one that leads out of the folder is refused.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath

from vsepp.errors import InputError
from vsepp.files.inputs import what_stands_at

COCO_PARTS = ("train2014", "val2014")
UNPRINTABLE = re.compile("[\\x00-\\x1f\\x7f\\ud800-\\udfff]")


class PictureFolder:
    """The pictures under a folder.

    The folders of the layout (the folder itself, COCO's train2014 and val2014) may be links to
    another disk. A link inside them must stay inside them, or ``within`` other folders: the folder
    of data sets, if nothing else is said.
    """

    def __init__(self, folder: Path, within: Sequence[Path] | None = None) -> None:
        self.folder = folder
        within = (folder.parent.parent,) if within is None else within
        layout = (folder, *within, *(folder / part for part in COCO_PARTS))
        self.roots = {Path(os.path.realpath(one)) for one in layout}
        self.parents: dict[Path, bool] = {}

    def picture(self, name: str, where: str, between: str = "") -> Path:
        """The path of a picture, in a folder ``between`` if there is one; ``where`` its name
        stands goes into the message.
        """
        for part in (name, between or "."):
            if leads_out(part) or not part.strip() or UNPRINTABLE.search(part):
                raise InputError(
                    f"{where}: {part!r} is no name of a picture inside {self.folder}: expected a "
                    "relative name without '..'; what it names is not read"
                )
        path = self.folder / between / name
        if not self.inside(path):
            raise InputError(
                f"{where}: {name!r} links to {os.path.realpath(path)}, outside {self.folder}: it is "
                "not read; copy the picture there (cp -L), or link the whole folder"
            )
        return path

    def inside(self, path: Path) -> bool:
        """Whether a path stays inside once links are followed; each folder is looked at once."""
        if path.parent not in self.parents:
            self.parents[path.parent] = self.within_roots(path.parent)
        return self.parents[path.parent] and (not os.path.islink(path) or self.within_roots(path))

    def within_roots(self, path: Path) -> bool:
        """Whether a path, links followed, lies under a folder of the layout."""
        real = Path(os.path.realpath(path))
        return any(real.is_relative_to(root) for root in self.roots)


def leads_out(name: str) -> bool:
    """Whether a name is absolute or climbs up, in the notation of any system."""
    windows = PureWindowsPath(name)  # It knows both kinds of slash.
    return ".." in windows.parts or bool(windows.anchor)


def like_named(path: Path) -> str:
    """What stands in a missing picture's place: a folder, or a file whose name is written almost
    so.
    """
    found = what_stands_at(path)
    if found:
        return f" (there is {found})"
    try:
        names = os.listdir(path.parent)
    except OSError:
        return ""
    near = [name for name in names if folded(name) == folded(path.name)]
    return f" (there is {near[0]!r}, whose name differs in case or accents)" if near else ""


def folded(name: str) -> str:
    """A name regardless of case and of how its accents are composed."""
    return unicodedata.normalize("NFC", name).casefold()
