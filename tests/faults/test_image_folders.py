"""Folders as they are: odd suffixes, other files, subfolders, and images that are too big."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from igrag.data import image_folder
from igrag.data.image_folder import list_folder
from igrag.data.images import _FULL_PIXELS, open_image
from igrag.errors import ImageError


def save(path: Path, *, size: tuple[int, int] = (8, 8), format: str = "PNG") -> Path:
    """Saves a small image of a format under any name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, "red").save(path, format)
    return path


def test_images_of_every_suffix_and_of_none_are_listed(tmp_path: Path) -> None:
    """Suffixes count in any case; a file without one is an image if it opens."""
    names = ["a.JPE", "b.jfif", "c.jp2", "d.PPM", "e.webp", "f.avif", "g"]
    formats = ["JPEG", "JPEG", "JPEG2000", "PPM", "WEBP", "PNG", "GIF"]
    for name, format in zip(names, formats, strict=True):
        save(tmp_path / name, format=format)
    (tmp_path / "Makefile").write_text("all:")
    listed = list_folder(tmp_path)
    assert [path.name for path in listed.images] == names
    assert listed.others == ["Makefile"]


def test_what_is_passed_over_is_counted_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other files, broken links, subfolders and .heic without its library stand in one line."""
    monkeypatch.setattr(image_folder, "knows_heif", lambda: False)
    save(tmp_path / "a.png")
    save(tmp_path / "sub" / "b.png")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "photo.heic").write_bytes(b"x")
    line = list_folder(tmp_path).describe_others()
    assert line == (
        "4 entries are no images and are passed over: gone.jpg, notes.txt, photo.heic and 1 more"
        "; --recursive searches subfolders; pip install pillow-heif reads .heic"
    )


def test_recursive_finds_images_of_subfolders(tmp_path: Path) -> None:
    """Subfolders are searched, a link to a folder is not: it may lead back."""
    save(tmp_path / "sub" / "deep" / "b.png")
    (tmp_path / "sub" / "loop").symlink_to(tmp_path)
    with pytest.raises(ImageError, match=r"holds no images .*--recursive"):
        list_folder(tmp_path)
    assert list_folder(tmp_path, recursive=True).images == [tmp_path / "sub" / "deep" / "b.png"]


def test_big_image_is_reduced_upright_and_a_photo_is_not(tmp_path: Path) -> None:
    """12 megapixels keep every pixel; beyond, the image keeps its shape and its EXIF rotation."""
    photo = save(tmp_path / "photo.jpg", size=(4032, 3024), format="JPEG")
    assert open_image(photo).size == (4032, 3024)
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by a quarter
    for name in ("big.jpg", "big.png"):
        Image.new("RGB", (6000, 4000), "red").save(tmp_path / name, exif=exif)
        found = open_image(tmp_path / name)
        assert found.size == (2000, 3000)
        assert found.width * found.height <= _FULL_PIXELS
        assert found.getpixel((5, 5))[0] > 250  # type: ignore[index]


_READ = """
import sys
from pathlib import Path
from igrag.data.images import open_image
images = [open_image(Path(sys.argv[1])) for _ in range(8)]
status = Path("/proc/self/status").read_text()
print(int(status.split("VmHWM:")[1].split()[0]) // 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_batch_of_eight_big_images_stays_below_one_and_a_half_gigabytes(tmp_path: Path) -> None:
    """Eight transparent images of 88 megapixels, each 352 MB as it is, need less than 1.5 GB.

    getrusage would not do: a process begins with the peak of the one that started it.
    """
    Image.new("RGBA", (11000, 8000), (255, 0, 0, 128)).save(tmp_path / "big.png", compress_level=1)
    found = subprocess.run(
        [sys.executable, "-c", _READ, str(tmp_path / "big.png")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert int(found.stdout) < 1400
