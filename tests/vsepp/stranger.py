"""Files as a stranger might send them: pickles that would run code, HTML in every field."""

import copy
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch


class Harmful:
    """Creates a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return Path.touch, (self.target,)


def harmful_files(target: Path, folder: Path) -> Iterator[bytes]:
    """A plain pickle, and the same inside torch's own format."""
    yield pickle.dumps(Harmful(target), protocol=2)
    torch.save({"state": Harmful(target)}, folder / "harmful.pt")
    yield (folder / "harmful.pt").read_bytes()


def leaves(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """The path to every value and every key of a JSON content."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield (*path, key), True
            yield from leaves(part, (*path, key))
    elif isinstance(value, list):
        for number, part in enumerate(value[:2]):
            yield from leaves(part, (*path, number))
    else:
        yield path, False


def replaced(content: Any, path: tuple, is_key: bool, new: Any) -> Any:
    """A copy with the value at a path, or the last key of it, replaced."""
    changed = copy.deepcopy(content)
    inner = changed
    for step in path[:-1]:
        inner = inner[step]
    if is_key:
        inner[new] = inner.pop(path[-1])
    else:
        inner[path[-1]] = new
    return changed
