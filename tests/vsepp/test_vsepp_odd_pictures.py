"""Picture files of all sorts: decoded as a viewer shows them, or told before training; with
``--skip-corrupt`` left out and counted.
"""

import io
import os
import struct
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from accelerate import Accelerator
from PIL import Image

from odd_inputs import LARGE_FILE_POINTER, RAW, Change, begin, compressed, pickled, refused
from vsepp.data.batches import ShuffledBatches, training_loader
from vsepp.data.pairs import Pairs, read_splits, vocabulary_of
from vsepp.data.picture_check import check_pictures
from vsepp.data.picture_decoding import decode, without_warnings
from vsepp.errors import InputError
from vsepp.settings import Schedule

SKIP = replace(RAW, skip_corrupt=True)
COLOURS = ((250, 10, 10), (10, 250, 10), (10, 10, 250), (250, 250, 10))


def quarters(width: int = 64, height: int = 48) -> Image.Image:
    """Red, green, blue and yellow quarters, row by row."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    halves = (slice(None, height // 2), slice(height // 2, None))
    for number, colour in enumerate(COLOURS):
        columns = (slice(None, width // 2), slice(width // 2, None))[number % 2]
        pixels[halves[number // 2], columns] = colour
    return Image.fromarray(pixels)


def saved(picture: Image.Image, kind: str, **how: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **how)
    return stream.getvalue()


def turned(orientation: int) -> bytes:
    """Pixels turned so that EXIF's orientation turns them back."""
    back = {3: 2, 6: 90, 8: 270}
    pixels = {
        1: quarters(),
        2: quarters().transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: quarters().rotate(180),
        4: quarters().transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: quarters().transpose(Image.Transpose.TRANSPOSE),
        6: quarters().rotate(back[6], expand=True),
        7: quarters().transpose(Image.Transpose.TRANSVERSE),
        8: quarters().rotate(back[8], expand=True),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(pixels, "JPEG", exif=exif, quality=95)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, more: bytes = b"", depth: int = 8) -> bytes:
    """A PNG that claims a size; its pixels are those of 4 x 4."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(13 * 4)))
    return b"\x89PNG\r\n\x1a\n" + head + more + pixels + chunk(b"IEND", b"")


def png_of(pixels: np.ndarray, passes: Sequence[tuple[slice, slice]], keep: float = 1) -> bytes:
    """A PNG of these passes, whose compressed data stop after a part of the rows' bytes."""
    parts = [part for part in (pixels[one] for one in passes) if part.size]
    rows = b"".join(b"\0" + row.tobytes() for part in parts for row in part)
    size, interlaced = pixels.shape[1::-1], len(passes) > 1
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, interlaced))
    data = chunk(b"IDAT", zlib.compress(rows[: round(keep * len(rows))]))
    return b"\x89PNG\r\n\x1a\n" + head + data + chunk(b"IEND", b"")


WHOLE = [(slice(None), slice(None))]
ADAM7 = [
    (slice(y, None, down), slice(x, None, across))
    for x, y, across, down in (
        *[(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)],
        *[(0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)],
    )
]
PIXELS = np.asarray(quarters())


def bmp(width: int, height: int) -> bytes:
    sizes = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 100, 0, 0, 54) + sizes


JPEG, PNG, GIF = (saved(quarters(), kind) for kind in ("JPEG", "PNG", "GIF"))
CLEAR = quarters().convert("RGBA")
CLEAR.putpixel((40, 30), (0, 0, 0, 0))
SHADES = np.asarray(quarters().convert("L"))
PALETTE = quarters().quantize(8)
FRAMES = [quarters(), Image.new("RGB", (64, 48), "black")]
SHOWN = {
    "JPEG": saved(quarters(), "JPEG", quality=95),
    "JPEG, progressive": saved(quarters(), "JPEG", progressive=True, quality=95),
    "JPEG, data after its end": saved(quarters(), "JPEG", quality=95) + b"more",
    "JPEG, CMYK": saved(quarters().convert("CMYK"), "JPEG", quality=95),
    "PNG": PNG,
    "PNG, palette": saved(PALETTE, "PNG"),
    "PNG, palette and transparency": saved(PALETTE, "PNG", transparency=bytes([255] * 7)),
    "PNG, alpha": saved(quarters().convert("RGBA"), "PNG"),
    "PNG, a transparent colour": saved(quarters(), "PNG", transparency=(1, 2, 3)),
    "PNG, animated": saved(FRAMES[0], "PNG", save_all=True, append_images=FRAMES[1:]),
    "PNG, interlaced": png_of(PIXELS, ADAM7),
    "PNG, data after its end": PNG + b"more",
    "GIF": GIF,
    "GIF, animated": saved(FRAMES[0], "GIF", save_all=True, append_images=FRAMES[1:]),
    "BMP": saved(quarters(), "BMP"),
    "WebP": saved(quarters(), "WEBP", lossless=True),
    "TIFF": saved(quarters(), "TIFF"),
    "TIFF, compressed": saved(quarters(), "TIFF", compression="tiff_lzw"),
    "TIFF, pages": saved(FRAMES[0], "TIFF", save_all=True, append_images=FRAMES[1:]),
    "PPM": saved(quarters(), "PPM"),
    "broken EXIF": saved(quarters(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff", quality=95),
    **{f"turned, EXIF {number}": turned(number) for number in range(1, 9)},
}
GREY = {
    "8 bits": saved(Image.fromarray(SHADES), "PNG"),
    "JPEG": saved(Image.fromarray(SHADES), "JPEG", quality=95),
    "with alpha": saved(Image.fromarray(SHADES).convert("LA"), "PNG"),
    "16 bits": saved(Image.fromarray(SHADES.astype(np.uint16) * 257), "PNG"),
    "16 bits, TIFF": saved(Image.fromarray(SHADES.astype(np.uint16) * 257), "TIFF"),
}
SIZES = {
    "1 x 1": saved(quarters(1, 1), "PNG"),
    **{
        f"{width} x {height}, interlaced": png_of(PIXELS[:height, :width], ADAM7)
        for width, height in ((1, 1), (1, 9), (3, 2), (4, 5), (5, 1), (9, 9))
    },
    **{
        f"{kind}, odd width": saved(quarters(13, 7).convert(kind), "PNG")
        for kind in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
    },
    **{
        f"{2**bits} colours": saved(quarters(13, 7).quantize(2**bits), "PNG", bits=bits)
        for bits in (1, 2, 4, 8)
    },
    "1 x 60": saved(quarters(1, 60), "PNG"),
    "90 x 1": saved(quarters(90, 1), "PNG"),
    "100,000 pixels": saved(quarters(400, 250), "JPEG"),
    "nine million": saved(Image.new("RGB", (3_000, 3_000)), "PNG"),
    "black and white": saved(quarters().convert("1"), "PNG"),
    "hue and value": saved(quarters().convert("YCbCr"), "JPEG"),
}
BOMB_TEXT = chunk(b"zTXt", b"k\0\0" + zlib.compress(b"A" * (80 << 20), 9))
BROKEN: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", r"it is empty \(0 bytes\)"),
    "zeros": (bytes(2_000), r"it is text|of an unknown kind"),
    "text": (b"no picture", r"it is text that begins 'no picture'"),
    "a web page": (b"<html><body>404", r"it is a web page: the download went wrong"),
    "Git's pointer": (LARGE_FILE_POINTER.encode(), r"a Git LFS pointer.*git lfs pull"),
    "an array": (b"\x93NUMPY\x01\0" + bytes(99), r"it is a numpy array"),
    "an archive": (b"PK\x03\x04" + bytes(99), r"it is a zip archive"),
    "PDF": (b"%PDF-1.4\n", r"it is a PDF document"),
    "PostScript, which Pillow would run": (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(x) run\n",
        r"it is a PostScript program; expected one of JPEG",
    ),
    "SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", r"it is text that begins .<svg"),
    "another format of Pillow's": (saved(quarters(), "TGA"), r"expected one of JPEG, PNG"),
    "JPEG, only its start": (b"\xff\xd8\xff\xe0", r"begins as a JPEG picture, and the rest is mis"),
    "JPEG, its header": (JPEG[:160], r"cannot be decoded"),
    "JPEG, half": (JPEG[: len(JPEG) // 2], r"cannot be decoded"),
    "JPEG, its end lost": (JPEG[:-60], r"cannot be decoded .*truncated"),
    "PNG, half": (PNG[: len(PNG) // 2], r"cannot be decoded"),
    "PNG, its header": (PNG[:20], r"cannot be decoded"),
    "PNG, flipped bits": (PNG[:45] + bytes([PNG[45] ^ 255]) + PNG[46:], r"cannot be decoded"),
    "PNG, its end lost": (PNG[:-1], r"ends early: the mark of a PNG file's end is missing"),
    "PNG, nothing after its pixels": (PNG[:-12], r"cannot be decoded \(it ends early"),
    "PNG, half of its rows": (png_of(PIXELS, WHOLE, 0.5), r"4,632 of the 9,264 bytes of its pixel"),
    "PNG, all rows but one": (png_of(PIXELS, WHOLE, 47 / 48), r"193 of the 9,264 bytes of its pix"),
    "PNG, interlaced, part of its rows": (png_of(PIXELS, ADAM7, 0.7), r"cannot be decoded"),
    "PNG without pixels": (PNG[:33] + chunk(b"IEND", b""), r"cannot be decoded"),
    "PNG, 0 x 0": (png(0, 0), r"cannot be decoded"),
    "PNG of unknown depth": (png(4, 4, depth=3), r"cannot be decoded"),
    "GIF, half": (GIF[:100], r"cannot be decoded"),
    "GIF, its header": (b"GIF89a\x04\0\x04\0\0\0\0", r"cannot be decoded"),
    "BMP, odd sizes": (bmp(-5, -5), r"cannot be decoded"),
    "BMP, no pixels": (bmp(4, 4), r"cannot be decoded"),
    "WebP, half": (saved(quarters(), "WEBP")[:60], r"cannot be decoded"),
    "TIFF, half": (saved(quarters(), "TIFF")[:60], r"cannot be decoded"),
    "PPM, half": (saved(quarters(), "PPM")[:90], r"cannot be decoded"),
    "claims 20,000 x 20,000": (png(20_000, 20_000), r"cannot be decoded .*(400000000|20,000)"),
    "claims 11,000 x 11,000": (png(11_000, 11_000), r"claims 11,000 x 11,000 pixels, expected at"),
    "claims 2 billion each": (png(2**31 - 1, 2**31 - 1), r"cannot be decoded"),
    "GIF, claims 65,535 each": (b"GIF89a" + b"\xff" * 4 + bytes(3) + GIF[13:], r"cannot be deco"),
    "a text chunk of 80 MB": (png(4, 4, BOMB_TEXT), r"cannot be decoded .*too large"),
    "100,000 x 1": (saved(Image.new("RGB", (100_000, 1)), "PNG"), r"sides that differ by a factor"),
    "1 x 3,000": (saved(Image.new("L", (1, 3_000)), "PNG"), r"it is 1 x 3,000 pixels, expected"),
    "32 bits, floats": (saved(Image.new("F", (9, 9)), "TIFF"), r"holds 32 bits a pixel"),
    "32 bits, whole numbers": (saved(Image.new("I", (9, 9)), "TIFF"), r"holds 32 bits a pixel"),
}


def picture(root: Path, number: int = 1) -> Path:
    return root / "f8k" / "images" / f"{number:04d}.jpg"


@pytest.mark.parametrize("name", SHOWN)
def test_it_is_decoded_as_a_viewer_shows_it(root: Path, name: str) -> None:
    picture(root).write_bytes(SHOWN[name])
    assert begin(root, RAW).train.notes == ()
    with without_warnings():
        pixels = np.asarray(decode(picture(root))).astype(int)
    assert pixels.shape == (48, 64, 3)
    for number, colour in enumerate(COLOURS):
        middle = pixels[12 + 24 * (number // 2), 16 + 32 * (number % 2)]
        assert np.abs(middle - colour).max() <= 20, (number, middle)


@pytest.mark.parametrize("name", GREY)
def test_grey_keeps_its_shades(root: Path, name: str) -> None:
    picture(root).write_bytes(GREY[name])
    begin(root, RAW)
    pixels = np.asarray(decode(picture(root))).astype(int)
    assert np.abs(pixels - SHADES[:, :, None]).max() <= 8


def test_transparency_becomes_white(root: Path) -> None:
    picture(root).write_bytes(saved(CLEAR, "PNG"))
    assert decode(picture(root)).getpixel((40, 30)) == (255, 255, 255)


@pytest.mark.parametrize("name", SIZES)
def test_any_size_becomes_the_networks(root: Path, name: str) -> None:
    picture(root).write_bytes(SIZES[name])
    train = begin(root, RAW).train
    for seeds in (None, [3]):
        assert train.images.batch([1], seeds)[0].shape == (1, 3, 16, 16)
    ten = begin(root, replace(RAW, crop="10c")).train
    assert ten.images.batch([1], None)[0].shape == (1, 10, 3, 16, 16)


@pytest.mark.parametrize("name", BROKEN)
def test_it_is_told_at_the_start_or_left_out_and_counted(root: Path, name: str) -> None:
    content, message = BROKEN[name]
    picture(root).write_bytes(content)
    refused(root, RAW, r"0001\.jpg cannot be decoded .*--skip-corrupt .*1 of 4 pictures")
    refused(root, RAW, message)
    train = begin(root, SKIP).train
    assert "1 of 4 pictures of" in str(train)
    assert "are left out; the first: " in str(train)
    read, kept = train.images.batch(range(4), None)
    assert (len(read), kept) == (3, [0, 2, 3])
    assert train.images.thumbnail(1) is None


@pytest.mark.parametrize("change", [compressed, pickled], ids=["compressed", "a pickle"])
def test_other_files_are_no_pictures(root: Path, change: Change) -> None:
    change(picture(root))
    refused(root, RAW, r"0001\.jpg cannot be decoded \(it is (compressed by gzip|a Python pickle)")
    assert not (picture(root).parent / "harm").exists()


@pytest.mark.parametrize("first", [0, 4, 6], ids=["train", "dev", "test"])
def test_every_split_is_looked_at_and_one_without_pictures_is_refused(
    root: Path, first: int
) -> None:
    count = {0: 4, 4: 2, 6: 3}[first]
    picture(root, first).write_bytes(b"")
    refused(root, RAW, rf"{first:04d}\.jpg cannot be decoded .*1 of {count} pictures")
    begin(root, SKIP)
    for number in range(first, first + count):
        picture(root, number).write_bytes(b"")
    refused(root, SKIP, rf"{count} of {count} pictures of .* cannot be decoded: expected some")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_that_breaks_later_is_one_line(root: Path, workers: int) -> None:
    splits = check_pictures(read_splits(RAW, root))
    pairs = Pairs(splits.train, vocabulary_of(RAW, splits), seed=0)
    picture(root).write_bytes(b"gone")
    loader = training_loader(
        ShuffledBatches(pairs, Schedule(batch_size=20)), workers, Accelerator(cpu=True)
    )
    with pytest.raises(InputError, match=r"0001\.jpg cannot be decoded .*'gone'") as caught:
        list(loader)
    assert len(str(caught.value).splitlines()) == 1
    assert "Traceback" not in str(caught.value)
    os.unlink(picture(root))
    with pytest.raises(InputError, match=r"0001\.jpg cannot be decoded \(it is no longer there"):
        list(loader)


@pytest.mark.parametrize("left", [0, 1])
def test_an_epoch_without_a_picture_is_no_epoch(root: Path, left: int) -> None:
    splits = check_pictures(read_splits(SKIP, root))
    pairs = Pairs(splits.train, vocabulary_of(SKIP, splits), seed=0)
    loader = training_loader(
        ShuffledBatches(pairs, Schedule(batch_size=4)), 0, Accelerator(cpu=True)
    )
    for number in range(left, 4):
        picture(root, number).unlink()
    if left:
        assert sum(batch.skipped for batch in loader) == 15
    else:
        with pytest.raises(InputError, match=r"not one training picture could .*\(20 pairs\)"):
            list(loader)
