"""Whether a PNG file holds all its pixels: Pillow takes one whose compressed data stop after some
rows, or whose end is lost, and leaves what is missing black.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from math import ceil

SIGNATURE = b"\x89PNG\r\n\x1a\n"
HEADER = struct.Struct(">IIBBBBB")
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""By colour type: grey, colour, palette, grey and alpha, colour and alpha."""
PASSES = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
"""First column and row of each pass of an interlaced file, and the steps between them."""
BLOCK = 1 << 20


def check_png_end(content: bytes) -> None:
    """Refuse a decodable PNG file that lacks pixels or its end."""
    chunks = dict[bytes, list[bytes]]()
    for kind, data in chunks_of(content):
        chunks.setdefault(kind, []).append(data)
    if b"IEND" not in chunks:
        raise ValueError("it ends early: the mark of a PNG file's end is missing")
    expected = size_of_pixels(*HEADER.unpack(chunks[b"IHDR"][0]))
    missing = expected - inflated_size(chunks[b"IDAT"], expected)
    if missing > 0:
        raise ValueError(f"{missing:,} of the {expected:,} bytes of its pixels are missing")


def chunks_of(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The kinds and contents of a PNG file's complete chunks, up to its end."""
    at, kind = len(SIGNATURE), b""
    while kind != b"IEND" and at + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, at)
        kind = content[at + 4 : at + 8]
        if at + 12 + length > len(content):
            return
        yield kind, content[at + 8 : at + 8 + length]
        at += 12 + length


def size_of_pixels(
    width: int, height: int, depth: int, colour: int, _method: int, _filter: int, interlaced: int
) -> int:
    """The bytes that the compressed data must hold, by the fields of the header."""
    size = 0
    for x, y, across, down in PASSES if interlaced else ((0, 0, 1, 1),):
        columns, rows = ceil((width - x) / across), ceil((height - y) / down)
        if columns > 0 and rows > 0:
            size += rows * (1 + ceil(columns * depth * CHANNELS[colour] / 8))
    return size


def inflated_size(pieces: list[bytes], enough: int) -> int:
    """How many bytes compressed pieces hold; counting stops where there are enough."""
    stream, size = zlib.decompressobj(), 0
    for piece in pieces:
        rest = piece
        while rest and size < enough:
            size += len(stream.decompress(rest, BLOCK))
            rest = stream.unconsumed_tail
    return size
