"""Results of reading whole datasets are remembered."""

from pathlib import Path

import datasets
import pytest
from datasets import Dataset

from igrag.captioning.prompt_template import PromptTemplate, count_other_prompts
from igrag.data import checks
from igrag.data.arrow_cache import content_key, remembered
from igrag.data.checks import refuse_shared_images
from igrag.errors import DataError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path / "cache"


def examples(*image_ids: str) -> Dataset:
    """Examples of images."""
    return Dataset.from_dict(
        {
            "image_id": image_ids,
            "references": [["a dog"]] * len(image_ids),
            "prompt": [f"Describe {each}" for each in image_ids],
        }
    )


def test_result_is_made_once_for_a_key(cache: Path) -> None:
    """Another key has another result, and a damaged file is made again."""
    made: list[str] = []

    def make(value: str) -> str:
        made.append(value)
        return value

    for key in ("a", "b", "a"):
        assert remembered([key], lambda key=key: make(key)) == key  # type: ignore[misc]
    assert made == ["a", "b"]
    for file in cache.rglob("*.json"):
        file.write_text("{half")
    assert remembered(["a"], lambda: make("again")) == "again"


def test_files_of_the_same_content_are_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No image is looked up at a second start; with other examples all are."""
    files = [tmp_path / name for name in ("train.jsonl", "val.jsonl")]
    for file in files:
        file.write_text(file.name)
    train, val = examples("1", "2"), examples("3")
    refuse_shared_images(files[0], files[1], train, val)
    with monkeypatch.context() as patch:
        patch.setattr(checks, "_images", lambda dataset: pytest.fail("read again"))
        refuse_shared_images(files[0], files[1], examples("1", "2"), examples("3"))
    for _ in range(2):  # An error is one at every start.
        with pytest.raises(DataError, match="both hold the image 2 "):
            refuse_shared_images(files[0], files[1], train, examples("2"))


def test_prompts_are_counted_once_for_a_template(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same examples are counted again for another template."""
    rows = examples("1", "2")
    assert content_key(rows) == content_key(examples("1", "2")) != content_key(examples("1", "3"))
    text = "{instruction}\n{captions}"
    template, other = (PromptTemplate(text, instruction=each) for each in ("Describe", "Name"))
    count = count_other_prompts(template, rows)
    with monkeypatch.context() as patch:
        patch.setattr(PromptTemplate, "fits", lambda self, prompt: pytest.fail("read again"))
        assert count_other_prompts(template, rows) == count
    assert count_other_prompts(other, rows) == 2
