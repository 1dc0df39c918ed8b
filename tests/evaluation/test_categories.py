"""The main category of an image, and whether a caption names it."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from demo.world.kinds import KINDS
from demo.world.splits import CaptionedScene, captioned_scenes
from evaluation.categories import (
    SYNONYMS,
    CategoryNames,
    Instances,
    NamesMainCategory,
    main_categories,
    read_instances_of,
)
from evaluation.human import score_references
from igrag.config import REPO_ROOT
from igrag.config.yaml_file import load_yaml
from igrag.data.coco import DetectedObject, ImageId, InstancesFile, read_instances_file
from igrag.errors import DataError
from igrag.metrics import score_captions, tokenize

ANNOTATIONS = REPO_ROOT / "demo" / "coco" / "annotations"
LARGE, SMALL = (0.0, 0.0, 0.8, 0.8), (0.4, 0.4, 0.1, 0.1)


def thing(label: str, box: tuple[float, float, float, float] = SMALL) -> DetectedObject:
    """Returns an object, small unless its box is given."""
    return DetectedObject(label, box)


def main_of(objects: Sequence[DetectedObject], *captions: str) -> str | None:
    """Returns the main category of an image with COCO's names."""
    names = CategoryNames(dict.fromkeys(("dog", "dining table", "person"), ()))
    return names.main_category(objects, [tokenize(text) for text in captions])


def test_main_category_is_what_most_captions_name() -> None:
    """The area decides only between categories that captions name alike."""
    objects = [thing("dining table", LARGE), thing("dog")]
    assert main_of(objects, "a dog on a dining table", "a dog") == "dog"
    assert main_of(objects, "a dining table with a dog") == "dining table"
    assert main_of(objects, "a dog on a dining table") == "dog"
    assert main_of(objects, "nothing of it") == "dining table"
    assert main_of([thing("dog"), thing("person"), thing("dog")], "all") == "dog"
    assert main_of([], "a dog") is None


@pytest.mark.parametrize(
    ("caption", "category"),
    [
        ("Two DOGS.", "dog"), ("a puppy", "dog"), ("three men", "person"), ("people", "person"),
        ("some children", "person"), ("hot dogs", "hot dog"), ("buses", "bus"),
        ("knives", "knife"), ("puppies", "dog"), ("teddy bears", "teddy bear"),
        ("a TV", "tv"), ("sheep", "sheep"), ("a herd of cattle", "cow"),
    ],
)  # fmt: skip
def test_names_are_found_as_whole_words(caption: str, category: str) -> None:
    """Names and synonyms of COCO's categories are found in singular and plural."""
    synonyms = load_yaml(SYNONYMS)
    names = CategoryNames(synonyms)
    assert names.position(category, tokenize(caption)) is not None
    assert names.position(category, ["x", *tokenize(caption)]) != 0
    assert names.position("giraffe", tokenize(caption)) is None
    assert names.position("car", tokenize("a carrot on a card")) is None


def test_synonyms_are_those_of_cocos_categories() -> None:
    """The shipped file has COCO's 80 categories, each with a list of texts."""
    synonyms = load_yaml(SYNONYMS)
    assert len(synonyms) == 80
    assert all(isinstance(text, str) for words in synonyms.values() for text in words)


def test_synonyms_of_the_file_replace_the_shipped_ones() -> None:
    """A category's own list counts, as LVIS writes it; without one the shipped one counts."""
    file = InstancesFile(
        {1: [thing("bear")]}, {1: "a.jpg"}, {"bear": ("teddy_(toy)",), "cat": None}
    )
    names = Instances([file], {"bear": ["cub"], "cat": ["kitten"]}).names
    assert names.position("bear", ["teddies"]) == names.position("cat", ["kittens"]) == 0
    assert names.position("bear", ["cub"]) is None


def _largest(objects: Sequence[DetectedObject]) -> str:
    return max(objects, key=lambda item: item.box[2] * item.box[3]).label


def test_rule_finds_the_main_thing_of_demo_scenes() -> None:
    """The rule agrees with what the val images were drawn from, and area or order do not."""
    file = read_instances_file(ANNOTATIONS / "instances_val.json")
    words = {
        name: tuple(word for pair in kind.words for word in pair) for name, kind in KINDS.items()
    }
    names = CategoryNames({name: words[name] for name in file.synonyms})
    scenes = captioned_scenes("val")

    def share(rule: Callable[[CaptionedScene, Sequence[DetectedObject]], str | None]) -> float:
        right = [
            rule(item, file.objects[item.image_id]) == item.scene.main.kind.name for item in scenes
        ]
        return sum(right) / len(right)

    def named(item: CaptionedScene, objects: Sequence[DetectedObject]) -> str | None:
        return names.main_category(objects, [tokenize(text) for text in item.captions])

    assert share(named) > 0.98
    assert share(lambda _, objects: _largest(objects)) < 0.95
    assert share(lambda _, objects: objects[0].label) < 0.6


def make_instances(labels: Mapping[ImageId, str]) -> Instances:
    """Returns one object for each image."""
    file = InstancesFile(
        {key: [thing(label)] for key, label in labels.items()},
        {key: f"{key}.jpg" for key in labels},
        dict.fromkeys(labels.values()),
    )
    return Instances([file], {})


def test_score_is_the_share_of_images_with_a_category() -> None:
    """Images without a known category do not count; intervals come from the bootstrap."""
    instances = make_instances({1: "dog", 2: "cat", 3: "car"})
    references = [("a dog", "one dog"), ("a cat", "it sits"), ("a car", "cars"), ("x", "y")]
    images = [(index + 1, texts) for index, texts in enumerate(references)]
    metric = NamesMainCategory(main_categories(instances, images, []), instances.names)
    captions = ["dogs", "a dog", "a car", "a car"]
    found = score_captions(captions, references, skip=("meteor",), extra=[metric])
    assert found[metric.key] == pytest.approx(2 / 3)
    human = score_references(references, skip=("meteor",), extra=[metric])
    assert human[metric.key] == pytest.approx((1 + 0.5 + 1) / 3)


def test_instances_of_other_images_are_an_error() -> None:
    """A file that lists none of the images names its path and an id."""
    with pytest.raises(DataError, match=r"--instances a\.json: lists objects of none of the 1 im"):
        main_categories(make_instances({1: "dog"}), [(7, ("a dog",))], [Path("a.json")])


def test_demo_files_are_read() -> None:
    """The demo's instances give every val image a main category."""
    instances = read_instances_of([ANNOTATIONS / "instances_val.json"])
    images = [(item.image_id, item.captions) for item in captioned_scenes("val")[:20]]
    assert None not in main_categories(instances, images, [])
