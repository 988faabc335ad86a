"""The files of a model, in a folder or on the Hub."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["config_told", "weights_file"]

WEIGHTS = "model.safetensors"
PICKLED = (
    "only model.safetensors is read: a pickle (pytorch_model.bin, *.pt, *.pth.tar) may run code; "
    "export the model again"
)


@contextmanager
def config_told(name: Any) -> Iterator[None]:
    """Turn what a broken configuration raises into a message that names the model."""
    check_folder(name)
    try:
        yield
    # JSON that is damaged, nested without end, or no object; arguments that are missing.
    except (UnicodeDecodeError, RecursionError, AttributeError, TypeError, KeyError) as error:
        raise ValueError(f"{name}: config.json is not of an image-text model ({error})") from error
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def check_folder(name: Any) -> None:
    """A folder that is there, or the name of a repository, which has one slash at most.

    Raises:
        ValueError: where the name can only be a path, and nothing is there.
    """
    text = str(name)
    is_path = isinstance(name, Path) or text.startswith((".", "~")) or text.count("/") > 1
    if (is_path or os.path.isabs(text)) and not Path(text).is_dir():
        there = "it is a file" if Path(text).is_file() else "there is none"
        hint = "; write os.path.expanduser for ~" if text.startswith("~") else ""
        raise ValueError(f"{text}: expected a folder, and {there}{hint}")


def weights_file(model_id: str, **options: Any) -> Path:
    """The safetensors file of a folder, or of a repository; there is no other kind.

    Raises:
        ValueError: where there is none.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    folder = Path(model_id)
    if folder.is_dir():
        path = folder / WEIGHTS
        if not path.is_file():
            raise ValueError(f"no {WEIGHTS}: {PICKLED}")
        return path
    try:
        return Path(hf_hub_download(repo_id=model_id, filename=WEIGHTS, **options))
    except EntryNotFoundError as error:
        raise ValueError(f"no {WEIGHTS}: {PICKLED}") from error
