"""numpy's ``.npy`` files, checked before a number is read; nothing in them is ever unpickled."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vsepp.errors import InputError
from vsepp.files.inputs import first_bytes, kind_of, reason, require_file

MAGIC = b"\x93NUMPY"
READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


class Header(NamedTuple):
    """What a file says of the array in it, and how many bytes follow."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    content: int


def read_array(path: Path, what: str, remedy: str) -> np.ndarray:
    """The array of a file, memory-mapped."""
    require_file(path, what, remedy)
    if first_bytes(path, len(MAGIC)) != MAGIC:
        raise InputError(
            f"{path} is {kind_of(path)}: expected {what} as a numpy array (.npy); {remedy}"
        )
    check_header(path, read_header(path, remedy), remedy)
    try:
        with warnings.catch_warnings():
            # numpy warns of headers that Python 2 wrote, as the released files'.
            warnings.simplefilter("ignore")
            return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError, OverflowError, MemoryError) as error:
        raise InputError(f"{path} cannot be read ({reason(error)}): {remedy}") from error


def read_header(path: Path, remedy: str) -> Header:
    """The header of a file that begins as an array does."""
    try:
        with path.open("rb") as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            version = np.lib.format.read_magic(stream)
            if version not in READERS:
                raise ValueError(f"format {version[0]}.{version[1]} is for structured arrays")
            shape, _, dtype = READERS[version](stream)
            content = path.stat().st_size - stream.tell()
    # The header is a Python literal: broken ones raise what its tokenizer and parser meet.
    except Exception as error:
        raise InputError(
            f"{path} cannot be read ({reason(error)}): it is truncated or no .npy file; {remedy}"
        ) from error
    return Header(shape, dtype, content)


def check_header(path: Path, header: Header, remedy: str) -> None:
    """Refuse arrays of Python objects, and sizes that are not those of the file."""
    shape, dtype, content = header
    if dtype.hasobject:
        raise InputError(
            f"{path} holds Python objects (dtype object): expected numbers; a pickle may run code, "
            "so it is not opened. Save it again as one array of numbers"
        )
    if dtype.kind == "V":
        raise InputError(
            f"{path} has dtype {dtype}: expected plain numbers; save it again as float32"
        )
    declared = math.prod(shape) * dtype.itemsize
    if min(shape, default=1) < 0 or declared > content:
        raise InputError(
            f"{path} cannot be read (it declares {dtype} {shape}, {declared:,} bytes, and holds "
            f"{content:,}): it is truncated; {remedy}"
        )
    if declared < content:
        raise InputError(
            f"{path} declares {dtype} {shape}, {declared:,} bytes, and holds {content:,}: it is "
            f"damaged, or two arrays were saved into it; {remedy}"
        )
    if declared == 0:
        raise InputError(f"{path} is {dtype} {shape}: it holds no numbers; {remedy}")
