"""Writes the demo's images and annotations in COCO's formats, and the images to try.

python -m demo.build --stages pictures
"""

import json
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from demo.drawing.canvas import HEIGHT as FULL_HEIGHT
from demo.drawing.canvas import WIDTH as FULL_WIDTH
from demo.drawing.render import Rendered, render
from demo.world.kinds import KINDS
from demo.world.scenes import Scene, Thing, sample_scene
from demo.world.splits import SPLIT_SIZES, CaptionedScene, captioned_scenes
from igrag.config import REPO_ROOT

# Keeps the 2,600 images under 8 MB.
IMAGE_SIZE = WIDTH, HEIGHT = 192, 137
_JPEG_QUALITY = 40
_INPUT_QUALITY = 88
_SHEET_COLUMNS, _SHEET_ROWS = 5, 6
_SHEET_QUALITY = 74
_CAPTION_ROOM = 46
_LICENSE = {
    "id": 1,
    "name": "Apache License 2.0; NOTICE tells of the artwork of Noto Color Emoji",
    "url": "https://www.apache.org/licenses/LICENSE-2.0",
}
_INPUT_COUNT = 10
# What a caption tells of must be seen: an image that hides more of a thing is drawn again.
_LEAST_VISIBLE = 0.4
# The image that the first command of the README captions.
_FIRST_INPUT = (
    "802",
    Scene(
        "park", "day", Thing(KINDS["dog"], 1, "brown"), "play",
        Thing(KINDS["tree"], 1, None), "in front of",
    ),
)  # fmt: skip


def build_images(root: Path, seed: int) -> None:
    """Writes root/coco, root/contact_sheet.jpg and the images to try.

    Args:
        root: The demo folder. The repository's own has its images to try in input/ beside it,
            another one within.
        seed: Decides the pixels; what the scenes are is fixed in `demo/world/splits.py`.

    Raises:
        FontMissingError: If the emoji font is not installed.
    """
    categories = {kind.name: number for number, kind in enumerate(KINDS.values(), 1)}
    seen: set[bytes] = set()
    for split in SPLIT_SIZES:
        scenes = captioned_scenes(split)
        images = [_draw(item, seed, seen) for item in scenes]
        _write_split(root / "coco", split, scenes, images, categories)
        if split == "dev":
            _write_contact_sheet(root / "contact_sheet.jpg", scenes, images)
    inputs = REPO_ROOT if root.resolve() == REPO_ROOT / "demo" else root
    _write_inputs(inputs / "input", seed)


def file_name(image_id: int) -> str:
    """Returns the file name that COCO gives an image."""
    return f"{image_id:012d}.jpg"


def _draw(item: CaptionedScene, seed: int, seen: set[bytes]) -> Rendered:
    """Draws an image that is unlike all that were `seen` and hides nothing."""
    for rendered in _showing_all(f"{seed}-{item.image_id}", item.scene, IMAGE_SIZE):
        pixels = sha256(rendered.image.tobytes()).digest()
        if pixels not in seen:
            seen.add(pixels)
            return rendered
    raise RuntimeError(f"image {item.image_id}: no draw of its scene is new and shows all of it")


def _showing_all(seed: str, scene: Scene, size: tuple[int, int]) -> Iterator[Rendered]:
    """Draws a scene again and again, ever wider apart, and yields what hides nothing."""
    for attempt in range(100):
        rendered = render(Random(f"{seed}-{attempt}"), scene, size, apart=4 * attempt)
        if rendered.least_visible() >= _LEAST_VISIBLE:
            yield rendered


def _write_split(
    folder: Path,
    split: str,
    scenes: list[CaptionedScene],
    images: list[Rendered],
    categories: dict[str, int],
) -> None:
    _write_images(folder / split, scenes, images)
    annotations = folder / "annotations"
    annotations.mkdir(exist_ok=True)
    common = {
        "info": {
            "description": f"igrag's demo of COCO, {split} split",
            "version": "1.0",
            "year": 2026,
            "contributor": "igrag",
        },
        "licenses": [_LICENSE],
        "images": [_image_entry(item.image_id) for item in scenes],
    }
    # The ids of annotations do not repeat between the splits either.
    first = 1 + list(SPLIT_SIZES).index(split) * 100_000
    captions = {**common, "annotations": list(_caption_entries(scenes, first))}
    instances = {
        **common,
        "annotations": list(_instance_entries(scenes, images, categories, first)),
        "categories": [
            {
                "supercategory": KINDS[name].supercategory,
                "id": number,
                "name": name,
                # Not in COCO's files, but in LVIS's, which have the same form.
                "synonyms": [singular for singular, _ in KINDS[name].words],
            }
            for name, number in categories.items()
        ],
    }
    _write_json(annotations / f"captions_{split}.json", captions)
    _write_json(annotations / f"instances_{split}.json", instances)


def _write_images(folder: Path, scenes: list[CaptionedScene], images: list[Rendered]) -> None:
    """Writes the images, and removes those that an earlier build left."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {file_name(item.image_id) for item in scenes}
    for stale in folder.glob("*.jpg"):
        if stale.name not in wanted:
            stale.unlink()
    for item, rendered in zip(scenes, images, strict=True):
        path = folder / file_name(item.image_id)
        rendered.image.save(path, "JPEG", quality=_JPEG_QUALITY, optimize=True)


def _image_entry(image_id: int) -> dict[str, Any]:
    return {
        "license": 1,
        "file_name": file_name(image_id),
        "height": HEIGHT,
        "width": WIDTH,
        "id": image_id,
    }


def _caption_entries(scenes: Iterable[CaptionedScene], first: int) -> Iterator[dict[str, Any]]:
    number = first
    for item in scenes:
        for caption in item.captions:
            yield {"image_id": item.image_id, "id": number, "caption": caption}
            number += 1


def _instance_entries(
    scenes: Iterable[CaptionedScene],
    images: Iterable[Rendered],
    categories: dict[str, int],
    first: int,
) -> Iterator[dict[str, Any]]:
    number = first
    for item, rendered in zip(scenes, images, strict=True):
        for name, (x, y, width, height) in rendered.boxes:
            yield {
                "segmentation": [],
                "area": width * height,
                "iscrowd": 0,
                "image_id": item.image_id,
                "bbox": [x, y, width, height],
                "category_id": categories[name],
                "id": number,
            }
            number += 1


def _write_json(path: Path, data: object) -> None:
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    path.write_text(text + "\n", encoding="utf-8")


def _scene_key(scene: Scene) -> tuple[object, ...]:
    """Returns all that a scene says, hashable; without a companion it has no relation."""
    things = [
        (thing.kind.name, thing.count, thing.color) if thing else None
        for thing in (scene.main, scene.companion)
    ]
    relation = scene.relation if scene.companion else None
    return (scene.place, scene.time, scene.pose, relation, *things)


def input_scenes(seed: int) -> list[tuple[str, Scene]]:
    """Makes the scenes of the images to try, by file name without its ending.

    No split holds any of them, and each is of another kind and place.
    """
    known = {_scene_key(item.scene) for split in SPLIT_SIZES for item in captioned_scenes(split)}
    rng = Random(f"{seed}-input")
    scenes = [_FIRST_INPUT]
    kinds = {_FIRST_INPUT[1].main.kind.name}
    places = {_FIRST_INPUT[1].place}
    while len(scenes) < _INPUT_COUNT + 1:
        scene = sample_scene(rng)
        name = scene.main.kind.name
        if name in kinds or scene.place in places or _scene_key(scene) in known:
            continue
        kinds.add(name)
        places.add(scene.place)
        scenes.append((f"{name} {scene.place}".replace(" ", "_"), scene))
    return scenes


def _write_inputs(folder: Path, seed: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, scene in input_scenes(seed):
        drawn = next(_showing_all(f"{seed}-input-{name}", scene, (FULL_WIDTH, FULL_HEIGHT)))
        drawn.image.save(folder / f"{name}.jpg", "JPEG", quality=_INPUT_QUALITY, optimize=True)


def _write_contact_sheet(path: Path, scenes: list[CaptionedScene], images: list[Rendered]) -> None:
    """Writes images with one of their captions below each, on one sheet."""
    gap = 6
    wide, high = WIDTH + gap, HEIGHT + _CAPTION_ROOM
    size = (_SHEET_COLUMNS * wide + gap, _SHEET_ROWS * high + gap)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(12)
    shown = list(zip(scenes, images, strict=True))[: _SHEET_COLUMNS * _SHEET_ROWS]
    for index, (item, rendered) in enumerate(shown):
        x = gap + index % _SHEET_COLUMNS * wide
        y = gap + index // _SHEET_COLUMNS * high
        sheet.paste(rendered.image, (x, y))
        lines = _wrapped(item.captions[0], font, WIDTH)
        draw.multiline_text((x, y + HEIGHT + 1), "\n".join(lines[:3]), "black", font, spacing=1)
    sheet.save(path, "JPEG", quality=_SHEET_QUALITY, optimize=True)


def _wrapped(text: str, font: Any, width: int) -> list[str]:
    """Breaks a text into lines no wider than `width` pixels."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
