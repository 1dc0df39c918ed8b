"""Opening images: the right pixels or a one-line error."""

from __future__ import annotations

import errno
import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from igrag.data.images import list_images, open_image, read_image
from igrag.errors import ImageError


def pixel(image: Image.Image, x: int = 0, y: int = 0) -> tuple[int, ...]:
    """Reads one pixel of an RGB image."""
    assert image.mode == "RGB"
    value = image.getpixel((x, y))
    assert isinstance(value, tuple)
    return value


def png_header(width: int, height: int) -> bytes:
    """Returns a PNG that declares a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(b"\0")
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def assert_refused(path: Path, *words: str) -> None:
    """Checks that opening fails in one line that names the file and the given words."""
    with pytest.raises(ImageError) as caught:
        open_image(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    for word in words:
        assert word in message


def test_16_bit_grays_are_scaled_and_not_clipped(tmp_path: Path) -> None:
    """A 16-bit PNG keeps its grays where a plain conversion turns nearly all of it white."""
    values = np.array([[0, 257 * 100, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    image = open_image(tmp_path / "deep.png")
    assert [pixel(image, x) for x in range(3)] == [(0,) * 3, (100,) * 3, (255,) * 3]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 128, 255]], np.int32), [0, 128, 255]),
        (np.array([[0, 257 * 7, 65535]], np.int32), [0, 7, 255]),
        (np.array([[-10, 0, 10]], np.int32), [0, 128, 255]),
        (np.array([[0.0, 0.2, 1.0]], np.float32), [0, 51, 255]),
        (np.array([[0.0, 51.0, 255.0]], np.float32), [0, 51, 255]),
        (np.array([[np.nan, 0.2, 1.0]], np.float32), [0, 51, 255]),
        (np.array([[5e8, 5e8, 5e8]], np.float32), [0, 0, 0]),
    ],
)
def test_deep_tiffs_are_scaled(
    tmp_path: Path, values: np.ndarray[tuple[int, int], np.dtype[np.generic]], expected: list[int]
) -> None:
    """32-bit and floating-point grays are brought to 8 bits from the range that they use."""
    Image.fromarray(values).save(tmp_path / "deep.tif")
    image = open_image(tmp_path / "deep.tif")
    assert [pixel(image, x)[0] for x in range(3)] == expected


def test_cmyk_is_converted(tmp_path: Path) -> None:
    """A CMYK JPEG comes out in its colors."""
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "print.jpg", quality=95)
    red, green, blue = pixel(open_image(tmp_path / "print.jpg"), 8, 8)
    assert red > 240
    assert green < 15
    assert blue < 15


@pytest.mark.parametrize(
    ("mode", "color"), [("RGBA", (255, 0, 0, 0)), ("LA", (0, 0)), ("RGBA", (0, 0, 0, 0))]
)
def test_transparency_is_composited_over_white(
    tmp_path: Path, mode: str, color: tuple[int, ...]
) -> None:
    """Fully transparent pixels are white, whatever color hides under them."""
    Image.new(mode, (4, 4), color).save(tmp_path / "clear.png")
    assert pixel(open_image(tmp_path / "clear.png")) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["P", "L", "1", "RGB"])
def test_transparent_color_is_composited_over_white(tmp_path: Path, mode: str) -> None:
    """Transparency by a palette entry or a color key counts as well."""
    key = (0, 0, 0) if mode == "RGB" else 0
    Image.new(mode, (4, 4), key).save(tmp_path / "clear.png", transparency=key)
    assert pixel(open_image(tmp_path / "clear.png")) == (255, 255, 255)


def test_half_transparency_is_mixed_with_white(tmp_path: Path) -> None:
    """Half-transparent black over white is gray."""
    Image.new("RGBA", (4, 4), (0, 0, 0, 128)).save(tmp_path / "half.png")
    assert pixel(open_image(tmp_path / "half.png")) == (127, 127, 127)


def test_exif_rotation_is_applied(tmp_path: Path) -> None:
    """An image taken with a rotated camera is upright."""
    image = Image.new("RGB", (40, 20), "white")
    image.paste("black", (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    image.save(tmp_path / "side.jpg", exif=exif, quality=95)
    upright = open_image(tmp_path / "side.jpg")
    assert upright.size == (20, 40)
    assert pixel(upright, 10, 5)[0] < 10
    assert pixel(upright, 10, 35)[0] > 245


def test_broken_exif_is_ignored(tmp_path: Path) -> None:
    """Damaged EXIF data does not make a readable image unreadable."""
    path = tmp_path / "exif.jpg"
    Image.new("RGB", (8, 8), "red").save(path, exif=b"Exif\0\0MM\0*\0\0\xff\xff")
    assert open_image(path).size == (8, 8)


def test_animation_is_its_first_frame(tmp_path: Path) -> None:
    """An animated GIF is its first frame."""
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    assert pixel(open_image(tmp_path / "moving.gif")) == (255, 0, 0)


def test_huge_image_is_refused_before_decoding(tmp_path: Path) -> None:
    """A header of 20,000 x 20,000 pixels is refused; Pillow's own limit reports it."""
    (tmp_path / "huge.png").write_bytes(png_header(20_000, 20_000))
    assert_refused(tmp_path / "huge.png", "too large")


def test_image_that_pillow_only_warns_of_is_refused(tmp_path: Path) -> None:
    """Between Pillow's warning and its error our limit decides, names the size and warns not."""
    (tmp_path / "big.png").write_bytes(png_header(10_000, 10_000))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_refused(tmp_path / "big.png", "10000 x 10000")


def test_max_pixels_can_be_set(tmp_path: Path) -> None:
    """A smaller limit refuses an image that the default accepts."""
    Image.new("RGB", (20, 20)).save(tmp_path / "small.png")
    assert open_image(tmp_path / "small.png", max_pixels=400).size == (20, 20)
    with pytest.raises(ImageError, match="20 x 20"):
        open_image(tmp_path / "small.png", max_pixels=399)


def test_truncated_jpeg_is_refused(tmp_path: Path) -> None:
    """Half a JPEG is not silently completed with gray."""
    path = tmp_path / "half.jpg"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    assert_refused(path, "truncated")


def test_text_file_named_jpg_is_refused(tmp_path: Path) -> None:
    """A suffix does not make an image."""
    (tmp_path / "text.jpg").write_text("not an image at all")
    assert_refused(tmp_path / "text.jpg", "not an image")


def test_empty_image_file_is_refused(tmp_path: Path) -> None:
    """An empty file is called empty."""
    (tmp_path / "nothing.jpg").touch()
    assert_refused(tmp_path / "nothing.jpg", "empty")


def test_missing_image_and_folder_are_refused(tmp_path: Path) -> None:
    """What is not a file is named as what it is."""
    assert_refused(tmp_path / "missing.jpg", "no such image")
    assert_refused(tmp_path, "folder")


def test_path_that_the_system_refuses_is_an_image_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name too long and a folder that is closed are one line too, a folder's listing included."""
    assert_refused(tmp_path / ("a" * 300 + ".jpg"), "name too long")
    with pytest.raises(ImageError, match="name too long"):
        list_images(tmp_path / ("a" * 300))
    (tmp_path / "a.png").touch()

    def closed(path: Path) -> bool:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "is_file", closed)  # A superuser's tests could open it.
    assert_refused(tmp_path / "a.png", "cannot be read (Permission denied)")
    with pytest.raises(ImageError, match=r"the folder cannot be read .Permission denied"):
        list_images(tmp_path)


def test_images_of_a_folder_are_sorted_by_name(tmp_path: Path) -> None:
    """Images are sorted by name; other files, hidden files and subfolders are skipped."""
    for name in ("b.JPG", "a.png", "notes.txt", "._a.png"):
        (tmp_path / name).touch()
    (tmp_path / "c.jpg").mkdir()
    assert [path.name for path in list_images(tmp_path)] == ["a.png", "b.JPG"]


def test_folder_without_images_is_refused(tmp_path: Path) -> None:
    """A folder without images, a missing one and a file each get their line."""
    with pytest.raises(ImageError, match="no images"):
        list_images(tmp_path)
    with pytest.raises(ImageError, match="no such folder"):
        list_images(tmp_path / "missing")
    (tmp_path / "a.png").touch()
    with pytest.raises(ImageError, match="not a folder"):
        list_images(tmp_path / "a.png")


@pytest.mark.parametrize(
    "content",
    [b"", b"no image", b"<!doctype html>", png_header(20_000, 20_000), png_header(9, 9)],
    ids=["empty", "text", "page", "huge", "truncated"],
)
def test_stream_has_the_errors_of_a_file(tmp_path: Path, content: bytes) -> None:
    """What cannot be opened is the same error from a stream, under the name that it is given."""
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(ImageError) as of_file:
        open_image(path)
    with pytest.raises(ImageError) as of_stream:
        read_image(io.BytesIO(content), "a.png")
    assert str(of_stream.value) == str(of_file.value).replace(str(path), "a.png")


def test_stream_is_read_and_its_name_is_not(tmp_path: Path) -> None:
    """The image is that of the bytes, even under the name of a file that exists."""
    other = tmp_path / "other.png"
    Image.new("RGB", (3, 3), "red").save(other)
    stream = io.BytesIO()
    Image.new("RGB", (2, 2), "blue").save(stream, "PNG")
    stream.seek(0)
    image = read_image(stream, str(other))
    assert image.size == (2, 2) and pixel(image) == (0, 0, 255)


@pytest.mark.parametrize(
    ("name", "size", "decoded"),
    [
        ("a.jpg", (900, 700), (450, 350)),
        ("a.jpg", (640, 427), (640, 427)),  # A half would be smaller than what is needed.
        ("a.jpg", (224, 224), (224, 224)),
        ("a.jpg", (100, 50), (100, 50)),
        ("a.png", (900, 700), (900, 700)),
    ],
)
def test_large_jpeg_is_decoded_at_a_fraction(
    tmp_path: Path, name: str, size: tuple[int, int], decoded: tuple[int, int]
) -> None:
    """Never below the edge that is needed, and only on request; it is as upright as the whole."""
    rotated = Image.Exif()
    rotated[0x0112] = 6
    image = Image.new("RGB", size, "red")
    image.paste("blue", (0, 0, size[0], size[1] // 2))
    image.save(tmp_path / name, exif=rotated)
    reduced = open_image(tmp_path / name, shortest_edge=224)
    whole = open_image(tmp_path / name)
    assert (reduced.size, whole.size) == (decoded[::-1], size[::-1])
    corner = pixel(reduced, reduced.width - 1, 0)
    assert corner == pytest.approx(pixel(whole, whole.width - 1, 0), abs=4)
    assert corner[2] > 200 > corner[0]
