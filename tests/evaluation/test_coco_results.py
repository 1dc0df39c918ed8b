"""Caption files in COCO's results format."""

import json
from pathlib import Path
from typing import Any

import pytest

from evaluation.coco_results import match_results, read_results, select_results, write_results
from igrag.errors import DataError, UsageError
from tests.evaluation.example_results import make_dataset

ENTRIES = [{"image_id": 1, "caption": "a dog"}, {"image_id": 2, "caption": "  a  cat "}]


def save(path: Path, content: Any) -> Path:
    """Saves JSON, creating the folder."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["base.json", "results_base.json"])
def test_method_of_a_list_is_named_after_its_file(tmp_path: Path, name: str) -> None:
    """A file in COCO's results format holds the captions of one method."""
    assert read_results([save(tmp_path / name, ENTRIES)]) == {"base": {1: "a dog", 2: "a cat"}}


def test_object_holds_several_methods(tmp_path: Path) -> None:
    """The results.json of an evaluation can be read together with further files."""
    first = save(tmp_path / "results.json", {"base": ENTRIES, "lora": ENTRIES[:1]})
    found = read_results([first, save(tmp_path / "mine.json", ENTRIES)])
    assert list(found) == ["base", "lora", "mine"] and found["lora"] == {1: "a dog"}


def test_files_of_equal_name_are_named_after_their_folders(tmp_path: Path) -> None:
    """checkpoint-N/predictions.json of several checkpoints can be compared."""
    paths = [save(tmp_path / f"checkpoint-{n}" / "predictions.json", ENTRIES) for n in (1, 2)]
    assert list(read_results(paths)) == ["checkpoint-1/predictions", "checkpoint-2/predictions"]


def test_same_method_twice_is_an_error(tmp_path: Path) -> None:
    """Two files of the same method are an error, since one would be lost."""
    paths = [save(tmp_path / "all.json", {"base": ENTRIES}), save(tmp_path / "base.json", ENTRIES)]
    with pytest.raises(UsageError, match="base occurs twice"):
        read_results(paths)


def test_methods_can_be_selected(tmp_path: Path) -> None:
    """Methods keep the order of the file; a missing one is an error that lists those there are."""
    path = save(tmp_path / "results.json", {"base": ENTRIES, "prompt": ENTRIES, "lora": ENTRIES})
    assert list(select_results([path], ("lora", "base"))) == ["base", "lora"]
    with pytest.raises(UsageError, match="--methods lore: expected some of base,prompt,lora"):
        select_results([path], ("lore",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "is empty"),
        ([], "found an empty list"),
        ("a dog", "found a str"),
        ({"base": {"1": "a dog"}}, "base: found a dict"),
        (["a dog"], r"\[0\]: found a str"),
        ([{"caption": "a dog"}], r'\[0\]: expected a number or text "image_id", found None'),
        ([{"image_id": True, "caption": "a"}], '"image_id", found True'),
        ([{"image_id": 1.0, "caption": "a"}], '"image_id", found 1.0'),
        ([{"image_id": 1}], '"caption", found None'),
        ([{"image_id": 1, "caption": ["a"]}], '"caption", found'),
        ([*ENTRIES, ENTRIES[1]], r"\[2\]: the image 2 occurs twice"),
    ],
)
def test_invalid_file_is_an_error(tmp_path: Path, content: Any, message: str) -> None:
    """The error has the file, the entry, what was found and what was expected."""
    path = save(tmp_path / "mine.json", content)
    with pytest.raises(DataError, match=message) as caught:
        read_results([path])
    assert str(path) in str(caught.value)


def test_captions_are_sorted_by_image() -> None:
    """Captions have the order of the images; those of images that are not scored are dropped."""
    dataset = make_dataset((("a",), ("b",)), ids=[2, 1])
    dataset = type(dataset)(dataset.path, dataset.images, frozenset({"1", "2", "3"}))
    assert match_results("base", {1: "one", 3: "three", 2: ""}, dataset) == ("", "one")


def test_missing_captions_are_an_error() -> None:
    """Images without a caption are an error: the score would be one of other images."""
    with pytest.raises(DataError, match=r"base: 2 of 3 images .* \(the first is 1\)"):
        match_results("base", {2: "a"}, make_dataset())


@pytest.mark.parametrize(("known", "odd"), [((1, 2, 3), "01"), (("1", "2", "3"), 4)])
def test_captions_of_unknown_images_are_an_error(known: tuple[Any, ...], odd: Any) -> None:
    """The error shows the id, and one of the captions file."""
    results = {**dict.fromkeys(known, "a"), odd: "b"}
    with pytest.raises(DataError, match=f"{odd!r}, which is not in .*such as {known[0]!r}"):
        match_results("base", results, make_dataset(ids=known))


@pytest.mark.parametrize("ids", [(1, 2, 3), ("a", "b", "3")])
def test_written_results_can_be_read(tmp_path: Path, ids: tuple[Any, ...]) -> None:
    """All methods are in one file and each in its own; ids keep their type."""
    dataset = make_dataset(ids=ids)
    captions = {"base": ["é", "", "c"], "lora+prompt": ["d", "e", "f"]}
    paths = write_results(tmp_path, captions, dataset)
    assert [path.name for path in paths] == [
        "results.json", "results_base.json", "results_lora+prompt.json",
    ]  # fmt: skip
    for found in (read_results(paths[:1]), read_results(paths[1:])):
        assert {name: [*match_results(name, found[name], dataset)] for name in found} == captions
    assert json.loads(paths[1].read_text("utf-8"))[0] == {"image_id": ids[0], "caption": "é"}


def test_files_of_previous_methods_are_removed(tmp_path: Path) -> None:
    """Files of methods that only the previous evaluation had are removed, and no others."""
    own = save(tmp_path / "results_mine.json", ENTRIES)
    texts = ["a", "b", "c"]
    write_results(tmp_path, {"base": texts, "checkpoint-3 = best_model": texts}, make_dataset())
    assert (tmp_path / "results_checkpoint-3_best_model.json").is_file()
    write_results(tmp_path, {"base": texts}, make_dataset())
    assert {path.name for path in tmp_path.iterdir()} == {
        "results.json", "results_base.json", own.name,
    }  # fmt: skip


def test_current_folder_has_a_name_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path without a folder gets the name of the current folder."""
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    for folder in (Path(), Path("mine")):
        save(folder / "results_base.json", ENTRIES)
    found = read_results([Path("results_base.json"), Path("mine/results_base.json")])
    assert list(found) == [f"{tmp_path.name}/base", "mine/base"]
