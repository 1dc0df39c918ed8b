"""Training prompts whose captions are drawn from the nearest images: data.sample_retrieved."""

import json
from pathlib import Path
from random import Random

import pytest
from datasets import Dataset

from igrag.captioning.language_model import LanguageModel
from igrag.captioning.prompt_template import PromptTemplate
from igrag.config import Config
from igrag.data.batching import IMAGE_ROW, Collator
from igrag.data.retrieved import describe_retrieved, retrieved_dataset
from igrag.data.tokenization import tokenized_dataset
from igrag.errors import DataError
from igrag.from_config import build_template
from igrag.retrieval.knowledge_base import Match
from igrag.training.record import TrainingRecord
from prompt_tuning import prompt_training
from prompt_tuning.caption_sampling import CaptionSampler
from prompt_tuning.global_batches import GlobalBatches
from tests.command import one_error
from tests.prompt_tuning.training import Trainer

NEAREST, SHOWN, SEED = 8, 5, 3
_WORDS = ("dog", "cat", "horse", "bird", "man", "woman", "car", "bus", "street", "field", "beach")


@pytest.fixture
def template() -> PromptTemplate:
    """The template of the shipped configuration, which shows five captions."""
    return build_template(Config.load().prompt_config)


@pytest.fixture
def data(tmp_path: Path, template: PromptTemplate) -> Path:
    """Twelve examples that list the captions of eight similar images."""
    return save_listed(tmp_path / "listed.jsonl", template, seed=0)


def save_listed(path: Path, template: PromptTemplate, *, seed: int) -> Path:
    """Saves examples that list the captions of similar images."""
    rng = Random(seed)
    with path.open("w", encoding="utf-8") as stream:
        for number in range(12):
            captions = [f"a {' and a '.join(rng.sample(_WORDS, 2))}" for _ in range(NEAREST)]
            matches = [Match(n, 1 - n / 100, (text,)) for n, text in enumerate(captions)]
            line = {
                "image_id": 100 * seed + number,
                "prompt": template.build(matches[:SHOWN]),
                "caption": f"a {rng.choice(_WORDS)} sits",
                "retrieved": describe_retrieved(matches, captions_per_match=1),
            }
            stream.write(json.dumps(line) + "\n")
    return path


def tokenized(path: Path, language: LanguageModel) -> Dataset:
    """Tokenizes the examples."""
    cache = path.parent / "cache"
    return tokenized_dataset(
        path, language.tokenizer, max_source_length=200, max_target_length=16, cache_dir=cache
    )


def make_sampler(
    path: Path, language: LanguageModel, template: PromptTemplate, *, count: int = NEAREST
) -> CaptionSampler:
    """Returns a sampler of the examples."""
    return CaptionSampler(
        tokenized(path, language),
        retrieved_dataset(path, count=count, cache_dir=path.parent / "cache"),
        template,
        language.tokenizer,
        shown=SHOWN,
        max_source_length=200,
        seed=SEED,
    )


def test_each_epoch_shows_other_captions_nearest_first(
    data: Path, language: LanguageModel, template: PromptTemplate
) -> None:
    """A prompt shows five of the eight in their order; another epoch draws others."""
    sampler = make_sampler(data, language, template)
    lines = [json.loads(line) for line in data.read_text("utf-8").splitlines()]
    drawn = set()
    for index, line in enumerate(lines):
        listed = [entry["captions"][0] for entry in line["retrieved"]]
        for epoch in range(4):
            prompt = sampler.prompt(epoch, index)
            assert template.fits(prompt)
            shown = [text[2:] for text in prompt.splitlines() if text.startswith("- ")]
            remaining = iter(listed)
            assert len(shown) == SHOWN and all(text in remaining for text in shown)
            if index == 0:
                drawn.add(prompt)
    assert len(drawn) > 2


def test_draw_depends_on_seed_epoch_and_example_alone(
    data: Path, language: LanguageModel, template: PromptTemplate
) -> None:
    """A run that resumes within an epoch sees the batches of the uninterrupted one."""

    def batches() -> GlobalBatches:
        return GlobalBatches(
            tokenized(data, language),
            Collator(0),
            micro_batch_size=2,
            micro_batches=2,
            seed=SEED,
            sampler=make_sampler(data, language, template),
        )

    whole = [[batch["input_ids"].tolist() for batch in each.micro_batches]
             for each in batches().of_epoch(1)]  # fmt: skip
    resumed = [[batch["input_ids"].tolist() for batch in each.micro_batches]
               for each in batches().of_epoch(1, start=1)]  # fmt: skip
    assert resumed == whole[1:] and len(whole) == 3


def test_all_captions_that_there_are_give_the_prompt_as_it_is(
    data: Path, language: LanguageModel, template: PromptTemplate
) -> None:
    """Five of five: the token ids are those of the file's prompts."""
    sampler = make_sampler(data, language, template, count=SHOWN)
    dataset = tokenized(data, language)
    for index in range(len(dataset)):
        found = sampler.example(7, index)
        assert found == {key: dataset[index][key] for key in ("input_ids", "labels")}


@pytest.mark.slow
def test_training_samples_where_it_is_asked_to(
    trainer: Trainer, data: Path, template: PromptTemplate
) -> None:
    """Off, and with as many captions as a prompt shows, the same prompt is trained."""
    val = save_listed(data.with_name("listed_val.jsonl"), template, seed=1)
    settings = {"data__train_file": data, "data__val_file": val, "training__num_train_epochs": 1}
    found = {}
    for count in ("null", SHOWN, NEAREST):
        output = trainer.train(f"n{count}", data__sample_retrieved=count, **settings)
        found[count] = (output / "best_model" / "prompt_embeddings.pt").read_bytes()
        record = TrainingRecord.read(output / "all_results.json")
        assert record.config["data"]["sample_retrieved"] == (None if count == "null" else count)
    assert found["null"] == found[SHOWN] != found[NEAREST]


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        (None, '"retrieved" lists the captions of 0 similar images, expected 8'),
        ([{"similarity": 0.5, "captions": ["a"]}] * 7, "of 7 similar images, expected 8"),
        ([{"similarity": "x", "captions": ["a"]}] * 8, "of 0 similar images"),
        (["a dog"] * 8, "of 0 similar images"),
    ],
)
def test_examples_that_list_too_few_are_an_error(
    data: Path, entries: object, expected: str
) -> None:
    """The error has file, line, and the setting that builds such data."""
    lines = [json.loads(line) for line in data.read_text("utf-8").splitlines()]
    lines[2]["retrieved"] = entries
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(DataError) as caught:
        retrieved_dataset(data, count=NEAREST, cache_dir=data.parent / "cache")
    message = str(caught.value)
    assert f"{data}:3: " in message and expected in message
    assert "--set data.retrieved=8" in message


def test_settings_that_cannot_be_sampled_are_errors(
    trainer: Trainer, data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Fewer than a prompt shows is a usage error; prompts of another template are one of data."""
    words = trainer.words(trainer.output / "a", data__train_file=data, data__sample_retrieved=3)
    assert prompt_training.command(words) == 2
    assert "sample_retrieved: found 3, expected at least" in one_error(capfd.readouterr().err)
    words = trainer.words(trainer.output / "b", data__sample_retrieved=8)  # the trainer's own data
    assert prompt_training.command(words) == 1
    assert "expected examples of this template" in one_error(capfd.readouterr().err)


def test_drawn_examples_keep_the_vectors_of_their_images(
    data: Path, language: LanguageModel, template: PromptTemplate
) -> None:
    """The captions of an image change from epoch to epoch, its vector does not."""
    sampler = CaptionSampler(
        tokenized(data, language).add_column(IMAGE_ROW, list(range(12))),
        retrieved_dataset(data, count=NEAREST, cache_dir=data.parent / "cache"),
        template,
        language.tokenizer,
        shown=SHOWN,
        max_source_length=200,
        seed=SEED,
    )
    plain = make_sampler(data, language, template)
    for epoch in range(2):
        example = sampler.of_epoch(epoch)[7]
        assert example.pop(IMAGE_ROW) == 7
        assert example == plain.of_epoch(epoch)[7]
