"""From a picture file to RGB pixels, or an error that names the file.

Only Pillow's decoders of picture formats are used: its PostScript reader would start another
program on a stranger's file.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from vsepp.data.png_end import check_png_end
from vsepp.errors import InputError
from vsepp.files.inputs import kind_of, reason, what_stands_at

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
MAX_PIXELS = 100_000_000
MAX_ASPECT = 100
"""The short side is scaled to the crop's, so a longer picture would need gigabytes."""
ORIENTATION = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each of EXIF's orientations."""
ALPHA = ("RGBA", "LA", "PA", "La", "RGBa")
ADVICE = "fetch it again, or pass --skip-corrupt to leave such images out and count them"


class UndecodableError(InputError):
    """A picture that cannot be decoded; ``--skip-corrupt`` leaves it out."""


def decode(path: Path, scale: tuple[int, int] | None = None) -> Image.Image:
    """The picture in RGB, upright, its first frame; transparency becomes white.

    ``scale`` lets a JPEG be decoded at a fraction of its size, which is quicker.
    """
    try:
        with path.open("rb") as file, Image.open(file, formats=FORMATS) as picture:
            check_size(*picture.size)
            if scale is not None:
                picture.draft("RGB", scale)
            pixels = upright(picture, in_colour(picture))
        if picture.format == "PNG":
            check_png_end(path.read_bytes())
        return pixels
    # Pillow's decoders raise whatever their parsing of broken bytes meets: OSError, SyntaxError,
    # ValueError, struct.error, IndexError, DecompressionBombError, MemoryError and more.
    except Exception as error:
        raise UndecodableError(
            f"{path} cannot be decoded ({fault(path, error)}): {ADVICE}"
        ) from error


def fault(path: Path, error: Exception) -> str:
    """What is wrong with a picture file."""
    if not path.is_file():
        return what_stands_at(path) or "it is no longer there"
    if isinstance(error, Image.UnidentifiedImageError):
        kind = kind_of(path)
        if kind.endswith("picture"):
            return f"it begins as {kind}, and the rest is missing or broken"
        return f"it is {kind}; expected one of {', '.join(FORMATS)}"
    return reason(error)


def check_size(width: int, height: int) -> None:
    """Refuse pictures that would fill the memory."""
    if width < 1 or height < 1:
        raise ValueError(f"it claims {width} x {height} pixels")
    if width * height > MAX_PIXELS:
        raise ValueError(
            f"it claims {width:,} x {height:,} pixels, expected at most {MAX_PIXELS:,} of them"
        )
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ValueError(
            f"it is {width:,} x {height:,} pixels, expected sides that differ by a factor of "
            f"{MAX_ASPECT} at most"
        )


def in_colour(picture: Image.Image) -> Image.Image:
    """The picture in RGB with eight bits a channel."""
    if picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format == "PNG"):
        # Pillow would clip all values above 255 to white.
        levels = np.asarray(picture.convert("I"), dtype=np.int64) >> 8
        return Image.fromarray(levels.clip(0, 255).astype(np.uint8)).convert("RGB")
    if picture.mode in ("I", "F"):
        raise ValueError("it holds 32 bits a pixel, whose range is unknown; save it with 8")
    if picture.mode in ALPHA or "transparency" in picture.info:
        opaque = picture.convert("RGBA")
        ground = Image.new("RGBA", opaque.size, "white")
        return Image.alpha_composite(ground, opaque).convert("RGB")
    return picture.convert("RGB")


def upright(picture: Image.Image, pixels: Image.Image) -> Image.Image:
    """Turn the pixels as the picture's EXIF data ask, which is how annotators saw it."""
    try:
        turn = UPRIGHT.get(picture.getexif().get(ORIENTATION, 1))
    # Broken EXIF data leave the pixels as good as they are.
    except Exception:
        turn = None
    return pixels if turn is None else pixels.transpose(turn)


def shrunk(picture: Image.Image, side: int) -> bytes:
    """A picture as a small JPEG."""
    small = picture.copy()
    small.thumbnail((side, side))
    content = io.BytesIO()
    small.save(content, format="JPEG", quality=85)
    return content.getvalue()


@contextmanager
def without_warnings() -> Iterator[None]:
    """Silence Pillow, which warns of harmless oddities file by file. Filters belong to the whole
    process: enter this in the main thread, around threads rather than within them.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
