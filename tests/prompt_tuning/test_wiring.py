"""Each setting has its effect: setup makes what the parts make by hand."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from igrag.captioning.language_model import LanguageModel
from igrag.config import Config
from igrag.config.choices import Initialization
from igrag.errors import ConfigError, DataError
from igrag.from_config import build_template
from igrag.retrieval.knowledge_base import Match
from prompt_tuning import setup, setup_examples
from prompt_tuning.prompt_file import PromptFile, load_prompt, save_prompt
from prompt_tuning.prompt_training import _overrides as overrides_of
from prompt_tuning.prompt_training import parse_arguments
from prompt_tuning.prompt_tuner import PromptTuner
from prompt_tuning.settings import PromptTrainingSettings
from tests.prompt_tuning.models import MARKS, make_tuner, noise
from tests.prompt_tuning.training import Trainer, losses, record_of

CONFIG = Config.load(overrides=["model_config.device=cpu"])
TEMPLATE = build_template(CONFIG.prompt_config)


def settings_of(trainer: Trainer, **settings: object) -> PromptTrainingSettings:
    """Returns the settings of a training."""
    arguments, _ = parse_arguments(trainer.words(trainer.output / "run", **settings))
    return PromptTrainingSettings.load(arguments.config, overrides_of(arguments))


def tuner_for(trainer: Trainer, **settings: object) -> PromptTuner:
    """Returns the tuner of a training, before its first step."""
    loaded = settings_of(trainer, **settings)
    accelerator = setup.start_accelerator(loaded, "cpu")
    language = setup.load_frozen_model(loaded, CONFIG, accelerator)
    train, val = setup_examples.load_examples(loaded, language.tokenizer, accelerator)
    vectors = setup_examples.find_image_vectors(loaded, CONFIG, train, val, accelerator)
    template = setup_examples.matching_template(
        loaded, CONFIG.prompt_config, train, val, accelerator
    )
    return setup.build_tuner(loaded, CONFIG.prompt_config, language, template, vectors)


def initial_prompt(trainer: Trainer, **settings: object) -> torch.Tensor:
    """Returns the prompt that training would start from."""
    return tuner_for(trainer, **settings).plain_prompt()


def expected_prompt(
    language: LanguageModel, initialization: Initialization, **options: Any
) -> torch.Tensor:
    """Returns the same, made without any settings."""
    return make_tuner(language, 4, initialization, **options).plain_prompt()


def rewrite(path: Path, *, but: int = 0) -> None:
    """Builds a file's prompts with the template, all but the last few."""
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    for line in lines[: len(lines) - but]:
        line["prompt"] = TEMPLATE.build([Match(1, 0.9, (line["caption"],))])
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")


def data_of(trainer: Trainer) -> tuple[Path, Path]:
    """Returns the files that train and validate."""
    train, val = (trainer._settings[f"data.{side}_file"] for side in ("train", "val"))
    return Path(str(train)), Path(str(val))


def test_template_is_in_the_fingerprint(trainer: Trainer) -> None:
    """Captioning with another template than that of the examples is refused."""
    for path in data_of(trainer):
        rewrite(path)
    output = trainer.train(training__num_train_epochs=1, evaluation__eval_steps="null")
    marks = load_prompt(output / "best_model" / "prompt_embeddings.pt").fingerprint
    assert marks is not None and marks.template == TEMPLATE.fingerprint()
    assert None not in marks.to_dict().values()


@pytest.mark.parametrize("side", ["train", "val"])
def test_example_of_another_template_is_reported(
    trainer: Trainer, side: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With one other prompt in the data, the soft prompt is not tied to the template."""
    other = data_of(trainer)[side == "val"]
    for path in data_of(trainer):
        rewrite(path, but=2 * (path == other))
    assert tuner_for(trainer).fingerprint.template is None
    count = {"train": 37, "val": 10}[side]
    note = f"note: {other}: 2 of {count} prompts were not made with the template"
    assert note in capsys.readouterr().err


def test_init_text_defaults_to_the_template(trainer: Trainer, language: LanguageModel) -> None:
    """init_text null means the template's instruction."""
    found = initial_prompt(trainer, prompt_tuning__initialization="text")
    assert torch.equal(found, expected_prompt(language, "text", text=TEMPLATE.instruction))
    text = {"prompt_tuning__initialization": "text", "prompt_tuning__init_text": "red ball"}
    found = initial_prompt(trainer, **text)
    assert torch.equal(found, expected_prompt(language, "text", text="red ball"))


def test_init_scale_and_seed_are_used(trainer: Trainer, language: LanguageModel) -> None:
    """A random prompt has init_scale and the seed."""
    found = initial_prompt(trainer, prompt_tuning__init_scale=0.5, training__seed=7)
    assert torch.equal(found, expected_prompt(language, "random", scale=0.5, seed=7))


def test_init_file_is_used(trainer: Trainer) -> None:
    """The prompt of init_file is the initial one."""
    path = trainer.output / "other.pt"
    save_prompt(path, PromptFile(noise(4), "vocab", MARKS))
    file = {"prompt_tuning__initialization": "file", "prompt_tuning__init_file": path}
    found = initial_prompt(trainer, **file)
    assert torch.equal(found, noise(4))


def test_sizes_of_parametrizations_are_used(trainer: Trainer) -> None:
    """The bottleneck is the width of residual's MLP, sampled_embeddings what superpos mixes."""
    residual = {"reparameterization": "residual", "bottleneck": 5}
    tuner = tuner_for(trainer, **{f"prompt_tuning__{key}": residual[key] for key in residual})
    shapes = [list(each.shape) for each in tuner.trainable_parameters()]
    assert [5, 32] in shapes and [32, 5] in shapes
    superpos = {"reparameterization": "superpos", "sampled_embeddings": 9}
    tuner = tuner_for(trainer, **{f"prompt_tuning__{key}": superpos[key] for key in superpos})
    assert [list(each.shape) for each in tuner.trainable_parameters()] == [[4, 9]]


def test_skip_bad_lines_applies_to_both_files(trainer: Trainer) -> None:
    """Without skip_bad_lines a bad line is an error."""
    for path in data_of(trainer):
        with path.open("a", encoding="utf-8") as stream:
            stream.write("no JSON\n")
    with pytest.raises(DataError, match=r"train\.jsonl:38"):
        tuner_for(trainer)
    data = record_of(trainer.train(data__skip_bad_lines="true")).data
    assert (data["train_examples"], data["val_examples"]) == (37, 10)


def test_eval_steps_null_validates_after_every_epoch(trainer: Trainer) -> None:
    """With eval_steps null, 37 examples make 5 steps an epoch."""
    output = trainer.train(evaluation__eval_steps="null")
    assert [found.step for found in record_of(output).evaluations] == [0, 5, 10]


def test_accumulation_equals_one_big_batch(trainer: Trainer) -> None:
    """8 micro-batches of 2 train as one of 16, though their targets differ in length."""
    runs = [
        trainer.train(
            name,
            training__per_device_train_batch_size=size,
            training__gradient_accumulation_steps=steps,
            training__learning_rate=0.01,
            evaluation__eval_steps="null",
        )
        for name, size, steps in (("micro", 2, 8), ("big", 16, 1))
    ]
    assert losses(runs[0]) == pytest.approx(losses(runs[1]), rel=1e-6)
    assert len(losses(runs[0])) == 6
    for step in (3, 6):
        files = [run / f"checkpoint-{step}" / "prompt_embeddings.pt" for run in runs]
        micro, big = (load_prompt(file).embeddings for file in files)
        torch.testing.assert_close(micro, big, atol=1e-6, rtol=0)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seed_out_of_range_is_refused(trainer: Trainer, seed: int) -> None:
    """The error names the key, before anything is loaded."""
    with pytest.raises(ConfigError, match=rf"training\.seed: found {seed}, expected"):
        settings_of(trainer, training__seed=seed)


def test_largest_seed_trains(trainer: Trainer) -> None:
    """It trains with dropout, too, whose seed is derived from it."""
    largest = {"training__seed": 2**32 - 1, "training__model_dropout": "true"}
    output = trainer.train(training__num_train_epochs=1, **largest)
    assert len(losses(output)) == 5


@pytest.mark.parametrize("text", ["''", "'  '"])
def test_empty_init_text_is_refused(trainer: Trainer, text: str) -> None:
    """An empty text does not mean the instruction: the error names the key."""
    with pytest.raises(ConfigError, match=r"prompt_tuning\.init_text: .*expected a text, or null"):
        settings_of(trainer, prompt_tuning__init_text=text)
