"""Opens images safely: returns an RGB image, or raises a one-line error that names the file."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from igrag.errors import ImageError
from igrag.inputs import HEAD, actual_content, common_stand_in

# Pillow's own default: an image above it decodes to more than 256 MB of RGB.
MAX_PIXELS = 89_478_485
_LONGEST_NAME = 100  # characters of a file name in an error
# Never one whose decoder is a program of its own, as PostScript's is: Pillow goes by the content,
# and starts it for a file of any name. AVIF and HEIF are there with the libraries for them.
_FORMATS = (
    "JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "MPO", "AVIF", "HEIF",
)  # fmt: skip
HEIF_SUFFIXES = frozenset({".heic", ".heif"})
SUFFIXES = HEIF_SUFFIXES | {
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff",
    ".avif", ".jp2", ".ppm", ".pgm", ".pbm", ".pnm",
}  # fmt: skip
# An image of more pixels is decoded at a fraction of its size, since encoders look at a few hundred
# rows; the photos of a telephone (12 megapixels) are not.
_FULL_PIXELS = 1 << 24
_STRIP_ROWS = 512
_UNKNOWN, _EMPTY = "not an image in a known format", "the file is empty"
_ORIENTATION = 0x0112  # EXIF's tag


def open_image(
    path: str | Path, *, max_pixels: int = MAX_PIXELS, shortest_edge: int | None = None
) -> Image.Image:
    """Reads one image upright, in RGB with 8 bits.

    The EXIF rotation is applied, 16-bit and floating-point grays are scaled to 8 bits instead of
    being clipped, transparency is composited over white, and an animation is its first frame.

    Args:
        path: The image file.
        max_pixels: Maximum of width times height, checked before decoding. Pillow itself refuses
            twice `PIL.Image.MAX_IMAGE_PIXELS`, whatever is allowed here.
        shortest_edge: The shorter edge that is needed: a JPEG that is much larger is decoded at a
            half, a quarter or an eighth of its size.

    Returns:
        An image in mode RGB.

    Raises:
        ImageError: The file is missing, not an image, truncated, or too large.
    """
    path = Path(path)
    with _as_image_errors(str(path), partial(_describe_file, path)):
        _check_is_file(path)
        return _read(path, str(path), max_pixels, shortest_edge)


def read_image(
    stream: BinaryIO,
    name: str,
    *,
    max_pixels: int = MAX_PIXELS,
    shortest_edge: int | None = None,
) -> Image.Image:
    """Reads one image from a stream, such as an upload; otherwise as `open_image`.

    Args:
        stream: The image's bytes; it can seek.
        name: Names the image in errors. No file of this name is opened.
        max_pixels: Maximum of width times height, checked before decoding.
        shortest_edge: See `open_image`.

    Returns:
        An image in mode RGB.

    Raises:
        ImageError: The bytes are not an image, truncated, or too large.
    """
    with _as_image_errors(name, partial(_describe_stream, stream)):
        return _read(stream, name, max_pixels, shortest_edge)


def list_images(path: Path) -> list[Path]:
    """Lists the images directly inside a folder, sorted by name.

    Args:
        path: A folder; hidden files and files without an image suffix are skipped. See
            `image_folder.list_folder` for more.

    Raises:
        ImageError: The folder is missing, is not a folder, or holds no image.
    """
    path = Path(path)
    try:
        if not path.is_dir():
            raise ImageError(f"{path}: {'not a folder' if path.exists() else 'no such folder'}")
        images = [
            entry
            for entry in sorted(path.iterdir())
            if entry.suffix.lower() in SUFFIXES
            and not entry.name.startswith(".")
            and entry.is_file()
        ]
    except OSError as error:
        raise ImageError(f"{path}: the folder cannot be read ({error.strerror})") from error
    if not images:
        known = ", ".join(sorted(SUFFIXES))
        raise ImageError(f"{path}: the folder holds no images (files ending in {known})")
    return images


def file_in(folder: Path, name: str, *, listed_in: Path) -> Path:
    """Returns the file that an annotation file names, which must lie in the folder of its images.

    Args:
        folder: The folder; it may be a link itself.
        name: The `file_name` of an entry.
        listed_in: The annotation file, for the error.

    Raises:
        ImageError: The name, or a link that it goes through, leads out of the folder.
    """
    path = Path(folder) / name
    if path.parent == Path(folder) and path.name != ".." and not os.path.islink(path):  # noqa: PTH114
        return path  # Most are; following every part of a million paths takes a minute.
    try:
        inside = Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))
    except (OSError, ValueError):  # What no file can be called; opening it is another error.
        return path
    if not inside:
        # What is read ends up in reports: data from elsewhere must not choose which files.
        raise ImageError(
            f"{listed_in}: found file_name {name[:_LONGEST_NAME]!r}, which leads out of {folder}, "
            "expected a file in that folder; copy the image there, or change the entry"
        )
    return path


@cache
def _known_formats() -> tuple[str, ...]:
    """Returns those of the formats that this Pillow reads."""
    Image.init()
    knows_heif()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def is_image(path: Path) -> bool:
    """Returns whether a file begins as an image does."""
    try:
        with warnings.catch_warnings(), Image.open(path, formats=_known_formats()):
            return True
    except Exception:  # Pillow's readers raise nearly anything on other files.
        return False


@cache
def knows_heif() -> bool:
    """Returns whether .heic files can be opened: where pillow-heif is installed."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


@contextmanager
def _as_image_errors(name: str, describe: Callable[[], str]) -> Iterator[None]:
    """Turns whatever is raised inside into an `ImageError`.

    Args:
        name: The image's name in the error.
        describe: Describes what is no image.
    """
    try:
        yield
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name}: the image is too large ({_one_line(error)})") from None
    except UnidentifiedImageError:
        raise ImageError(f"{name}: {describe()}") from None
    except Exception as error:
        # Pillow's decoders raise nearly anything on damaged files (OSError, SyntaxError,
        # struct.error, IndexError, ...): for the caller they all mean that the image is unusable.
        reason = getattr(error, "strerror", None) or _one_line(error)
        raise ImageError(f"{name}: the image cannot be read ({reason})") from error


def _read(
    source: Path | BinaryIO, name: str, max_pixels: int, shortest_edge: int | None = None
) -> Image.Image:
    # Pillow warns of large images, corrupt EXIF data and the like; here max_pixels decides,
    # and what can be read is read.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(source, formats=_known_formats()) as image:
            _check_size(name, image.size, max_pixels)
            if shortest_edge is not None:
                scale = shortest_edge / min(image.size)
                width, height = (math.ceil(edge * scale) for edge in image.size)
                image.draft(image.mode, (width, height))  # Other formats ignore it.
            return _decode(image)


def _describe_file(path: Path) -> str:
    """Returns what a file is that is no image."""
    return actual_content(path) or (_UNKNOWN if path.stat().st_size else _EMPTY)


def _describe_stream(stream: BinaryIO) -> str:
    """Returns what a stream holds that is no image."""
    stream.seek(0)
    head = stream.read(HEAD)
    return common_stand_in(head) or (_UNKNOWN if head else _EMPTY)


def _decode(image: Image.Image) -> Image.Image:
    """Decodes an image to upright RGB; a big one at a fraction of its size, 1 over 2, 3, ...

    Only one copy of it at its own size is in memory, none of a JPEG.
    """
    width, height = image.size
    factor = math.ceil(math.sqrt(width * height / _FULL_PIXELS))
    if factor < 2:
        image.load()
        return _to_rgb(_upright(image))
    orientation = image.getexif().get(_ORIENTATION, 1)
    image.draft(image.mode, (-(-width // factor), -(-height // factor)))  # JPEG's own reduction
    image.load()
    factor = math.ceil(math.sqrt(image.width * image.height / _FULL_PIXELS))
    small = _to_rgb(image) if factor < 2 else _reduce(image, factor)
    small.getexif()[_ORIENTATION] = orientation
    return _upright(small)


def _reduce(image: Image.Image, factor: int) -> Image.Image:
    """Reduces an image to RGB strip by strip: each conversion of the whole would be a copy."""
    size = (-(-image.width // factor), -(-image.height // factor))
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):  # scaled by their whole range
        return _to_rgb(image.resize(size, Image.Resampling.NEAREST))
    small = Image.new("RGB", size)
    rows = _STRIP_ROWS * factor
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        small.paste(_to_rgb(strip).reduce(factor), (0, top // factor))
    return small


def _check_is_file(path: Path) -> None:
    # Before Python 3.14, is_file raises OSError for a name too long or in an unreadable folder.
    if not path.is_file():
        found = "is not an image file" if path.exists() else "no such image file"
        raise ImageError(f"{path}: {'is a folder, not an image' if path.is_dir() else found}")


def _check_size(name: str, size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise ImageError(
            f"{name}: the image is too large ({width} x {height} pixels, at most "
            f"{max_pixels} in all are accepted)"
        )


def _upright(image: Image.Image) -> Image.Image:
    """Applies the EXIF rotation; damaged EXIF data is no reason to lose a readable image."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        return image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        image = _to_8_bits(image)
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    white = Image.new("RGBA", layer.size, "white")
    return Image.alpha_composite(white, layer).convert("RGB")


def _to_8_bits(image: Image.Image) -> Image.Image:
    """Scales deep grays to 0..255; `convert` alone would clip them to white.

    16-bit modes have a known range. For modes I (32-bit) and F the smallest usual one that holds
    the values is assumed (0..1 for F, 0..255, 0..65535), or else their own range.
    """
    values = np.nan_to_num(np.asarray(image, dtype=np.float64))
    low, high = float(values.min()), float(values.max())
    usual = [65535.0] if image.mode.startswith("I;16") else [255.0, 65535.0]
    if image.mode == "F":
        usual.insert(0, 1.0)
    limit = next((limit for limit in usual if low >= 0 and high <= limit), None)
    if limit is None:
        values, limit = values - low, (high - low) or 1.0
    return Image.fromarray(np.rint(values * (255.0 / limit)).astype(np.uint8))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
