"""COCO's results format, read strictly and written for other tools."""

import json
from pathlib import Path
from typing import Any

import pytest

from evaluation.results_files import choose_results, match_results, read_results, write_results
from igrag.errors import DataError, UsageError
from tests.evaluation.outcomes import split_of

ENTRIES = [{"image_id": 1, "caption": "a dog"}, {"image_id": 2, "caption": "  a  cat "}]


def save(path: Path, content: Any) -> Path:
    """Saves JSON in a folder that is made."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["base.json", "results_base.json"])
def test_a_list_goes_by_its_file(tmp_path: Path, name: str) -> None:
    """Plain COCO results are one method's."""
    assert read_results([save(tmp_path / name, ENTRIES)]) == {"base": {1: "a dog", 2: "a cat"}}


def test_an_object_holds_several_methods(tmp_path: Path) -> None:
    """What was written by an evaluation is read again, and further files stand beside it."""
    first = save(tmp_path / "results.json", {"base": ENTRIES, "lora": ENTRIES[:1]})
    found = read_results([first, save(tmp_path / "mine.json", ENTRIES)])
    assert list(found) == ["base", "lora", "mine"] and found["lora"] == {1: "a dog"}


def test_namesakes_go_by_their_folders(tmp_path: Path) -> None:
    """checkpoint-N/predictions.json of several checkpoints can be compared."""
    paths = [save(tmp_path / f"checkpoint-{n}" / "predictions.json", ENTRIES) for n in (1, 2)]
    assert list(read_results(paths)) == ["checkpoint-1/predictions", "checkpoint-2/predictions"]


def test_a_name_can_be_there_only_once(tmp_path: Path) -> None:
    """One of the two would be lost."""
    paths = [save(tmp_path / "all.json", {"base": ENTRIES}), save(tmp_path / "base.json", ENTRIES)]
    with pytest.raises(UsageError, match="base is there twice"):
        read_results(paths)


def test_methods_can_be_chosen(tmp_path: Path) -> None:
    """In the order of the file; one that is not there is an error that names those that are."""
    path = save(tmp_path / "results.json", {"base": ENTRIES, "prompt": ENTRIES, "lora": ENTRIES})
    assert list(choose_results([path], ("lora", "base"))) == ["base", "lora"]
    with pytest.raises(UsageError, match="--methods lore: expected some of base,prompt,lora"):
        choose_results([path], ("lore",))


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
        ([*ENTRIES, ENTRIES[1]], r"\[2\]: the image 2 is there twice"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, content: Any, message: str) -> None:
    """With the file, the entry, what was found and what was expected."""
    path = save(tmp_path / "mine.json", content)
    with pytest.raises(DataError, match=message) as caught:
        read_results([path])
    assert str(path) in str(caught.value)


def test_captions_come_in_the_order_of_the_images() -> None:
    """Whatever the file's order; empty ones stay, and those of images beyond do not matter."""
    split = split_of((("a",), ("b",)), ids=[2, 1])
    split = type(split)(split.path, split.images, frozenset({1, 2, 3}))
    assert match_results("base", {1: "one", 3: "three", 2: ""}, split) == ("", "one")


def test_missing_captions_are_an_error() -> None:
    """Scoring only what is there would be the score of other images."""
    with pytest.raises(DataError, match=r"base: 2 of 3 images .* \(the first is 1\)"):
        match_results("base", {2: "a"}, split_of())


@pytest.mark.parametrize(("known", "odd"), [((1, 2, 3), "1"), (("1", "2", "3"), 1)])
def test_numbers_are_not_texts(known: tuple[Any, ...], odd: Any) -> None:
    """The message shows which of the two the captions file has."""
    results = {**dict.fromkeys(known, "a"), odd: "b"}
    with pytest.raises(DataError, match=f"{odd!r}, which is not in .*such as {known[0]!r}"):
        match_results("base", results, split_of(ids=known))


@pytest.mark.parametrize("ids", [(1, 2, 3), ("a", "b", "3")])
def test_written_results_can_be_read(tmp_path: Path, ids: tuple[Any, ...]) -> None:
    """All methods in one file and each in its own, with ids of their kind."""
    split = split_of(ids=ids)
    captions = {"base": ["é", "", "c"], "lora+prompt": ["d", "e", "f"]}
    paths = write_results(tmp_path, captions, split)
    assert [path.name for path in paths] == [
        "results.json", "results_base.json", "results_lora+prompt.json",
    ]  # fmt: skip
    for found in (read_results(paths[:1]), read_results(paths[1:])):
        assert {name: [*match_results(name, found[name], split)] for name in found} == captions
    assert json.loads(paths[1].read_text("utf-8"))[0] == {"image_id": ids[0], "caption": "é"}


def test_what_is_in_the_folder_belongs_together(tmp_path: Path) -> None:
    """Files of methods that the last evaluation had and this one has not are gone; no others."""
    own = save(tmp_path / "results_mine.json", ENTRIES)
    texts = ["a", "b", "c"]
    write_results(tmp_path, {"base": texts, "checkpoint-3 = best_model": texts}, split_of())
    assert (tmp_path / "results_checkpoint-3_best_model.json").is_file()
    write_results(tmp_path, {"base": texts}, split_of())
    assert {path.name for path in tmp_path.iterdir()} == {
        "results.json", "results_base.json", own.name,
    }  # fmt: skip


def test_namesakes_are_told_apart_by_their_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder that one is in has a name too."""
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    for folder in (Path(), Path("mine")):
        save(folder / "results_base.json", ENTRIES)
    found = read_results([Path("results_base.json"), Path("mine/results_base.json")])
    assert list(found) == [f"{tmp_path.name}/base", "mine/base"]
