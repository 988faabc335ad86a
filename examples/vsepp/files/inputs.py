"""Opening a user's file: it must be a file that can be read, else a message says what it is."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from vsepp.errors import InputError, MissingInputError

HEAD = 512
CLOUD = "a Git LFS pointer, not the file itself: run `git lfs pull`"
KINDS = (
    (b"\x93NUMPY", "a numpy array (.npy)"),
    (b"PK\x03\x04", "a zip archive (.npz, .pth, .zip): unpack it"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"\x1f\x8b", "compressed by gzip: unpack it (gunzip)"),
    (b"BZh", "compressed by bzip2: unpack it (bunzip2)"),
    (b"\xfd7zXZ", "compressed by xz: unpack it (unxz)"),
    (b"\x89HDF", "an HDF5 file"),
    (b"MATLAB 5.0", "a MATLAB file"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"\x89PNG", "a PNG picture"),
    (b"GIF8", "a GIF picture"),
    (b"%PDF", "a PDF document"),
    (b"%!PS", "a PostScript program"),
    (b"version https://git-lfs", CLOUD),
    (b"\xff\xfe", "UTF-16 text: convert it (iconv -f UTF-16 -t UTF-8)"),
    (b"\xfe\xff", "UTF-16 text: convert it (iconv -f UTF-16 -t UTF-8)"),
    *(
        (bytes([0x80, protocol]), "a Python pickle, which is not opened")
        for protocol in range(2, 6)
    ),
)
"""How files begin that turn up under another kind's name."""


def read_input(path: Path, what: str, remedy: str) -> bytes:
    """The content of a file; ``what`` it should hold and the ``remedy`` go into the message."""
    require_file(path, what, remedy)
    try:
        return path.read_bytes()
    except (OSError, MemoryError) as error:
        raise InputError(f"{path} cannot be read ({reason(error)}): {remedy}") from error


def first_bytes(path: Path, count: int = HEAD) -> bytes:
    """How a file begins."""
    try:
        with path.open("rb") as stream:
            return stream.read(count)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({reason(error)}): check its permissions and the disk"
        ) from error


def require_file(path: Path, what: str, remedy: str) -> None:
    """Refuse what is no regular file: reading a pipe or a device would never end."""
    if os.path.isfile(path):
        return
    found = what_stands_at(path)
    if found:
        raise MissingInputError(f"no {what} at {path}, which is {found}: {remedy}")
    raise MissingInputError(f"no {what} at {path}: {remedy}")


def what_stands_at(path: Path) -> str:
    """What a path is that is no regular file; empty where there is nothing."""
    if os.path.islink(path) and not os.path.exists(path):
        return f"a link to {os.readlink(path)}, where nothing is"
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return ""
    return "a folder" if stat.S_ISDIR(mode) else "a pipe, socket or device"


def kind_of(path: Path) -> str:
    """What a file is, from how it begins."""
    head = first_bytes(path)
    if not head:
        return "empty (0 bytes)"
    for start, kind in KINDS:
        if head.startswith(start):
            return kind
    if head.lstrip()[:9].lower().startswith((b"<!doctype", b"<html")):
        return "a web page: the download went wrong"
    try:
        text = head[: HEAD - 4].decode("utf-8")
    except UnicodeDecodeError:
        return f"of an unknown kind (it begins with the bytes {head[:8].hex(' ')})"
    return f"text that begins {text[:30]!r}"


def reason(error: BaseException) -> str:
    """What went wrong, without the file's name that the message has already."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error).splitlines() or [type(error).__name__])[0] or type(error).__name__
