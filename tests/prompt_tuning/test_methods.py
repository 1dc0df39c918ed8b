"""Prompt and adapter switched on and off: each method generates what it generates alone."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from igrag.captioning.generator import Decoding
from igrag.captioning.language_model import LanguageModel, load_language_model
from igrag.errors import CheckpointError
from prompt_tuning.available_prompts import AvailablePrompts, find_prompts
from prompt_tuning.fingerprint import NO_ADAPTER, adapter_hash, fingerprint_of
from prompt_tuning.methods import ConfiguredPrompt, open_methods, open_prompt
from prompt_tuning.prompt_file import PromptFile, load_prompt, save_prompt
from prompt_tuning.without_adapter import WithoutAdapter
from tests.prompt_tuning.adapters import load_adapted, save_adapter
from tests.prompt_tuning.models import batch_of, noise, tuner_of

TEMPLATE = "the template's hash"
PLAIN, ADAPTED = noise(5, seed=1), noise(3, seed=2)


@dataclass(frozen=True)
class Files:
    """A prompt for the model, one for the adapted model, and the adapter."""

    model: Path
    prompt: Path
    prompt_on_lora: Path
    lora: Path

    def find(self, **other: Path) -> AvailablePrompts:
        """Looks up what is available, with some paths replaced."""
        files = replace(self, **other)
        return find_prompts(files.prompt, files.prompt_on_lora, files.lora)


@pytest.fixture(scope="module")
def files(tiny_t5: Path, tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Everything that can be trained."""
    folder = tmp_path_factory.mktemp("trained")
    files = Files(tiny_t5, folder / "a.pt", folder / "b.pt", save_adapter(folder / "lora", tiny_t5))
    language = load_language_model(str(tiny_t5), device="cpu", dtype="float32")
    for path, values, lora in (
        (files.prompt, PLAIN, NO_ADAPTER),
        (files.prompt_on_lora, ADAPTED, adapter_hash(files.lora)),
    ):
        marks = fingerprint_of(
            language.model,
            language.tokenizer,
            template=TEMPLATE,
            lora=lora,
            weights=language.weights,
        )
        save_prompt(path, PromptFile(values, "vocab", marks))
    return files


@pytest.fixture
def adapted(files: Files) -> LanguageModel:
    """The model with its adapter, not merged."""
    return load_adapted(files.model, files.lora)


def generated(model: Any, language: LanguageModel) -> list[list[int]]:
    """Returns the tokens that a model generates for a padded batch."""
    batch = batch_of(language.tokenizer)
    tokens: Tensor = model.generate(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        generation_config=Decoding(max_new_tokens=8, num_beams=2).to_generation_config(
            language.model
        ),
    )
    found: list[list[int]] = tokens.tolist()
    return found


def test_each_method_generates_as_if_loaded_alone(
    files: Files, language: LanguageModel, adapted: LanguageModel
) -> None:
    """One model with an unmerged adapter gives what separately loaded models give, in any order."""
    methods = open_methods(adapted, files.find(), template=TEMPLATE)
    assert list(methods) == ["base", "prompt", "lora", "lora+prompt"]
    with_lora = load_adapted(files.model, files.lora)
    expected = {
        "base": generated(language.model, language),
        "prompt": generated(tuner_of(language, PLAIN), language),
        "lora": generated(with_lora.model, with_lora),
        "lora+prompt": generated(tuner_of(with_lora, ADAPTED), with_lora),
    }
    assert len({str(tokens) for tokens in expected.values()}) == 4
    for name in [*methods, *reversed(methods)]:
        assert generated(methods[name], adapted) == expected[name], name


def test_without_adapter_restores_the_model(files: Files, adapted: LanguageModel) -> None:
    """Afterwards it is frozen, in eval mode and with its adapter on, also after an error."""
    model: Any = adapted.model
    batch = batch_of(adapted.tokenizer)

    class Failing:
        def generate(self, **options: object) -> Tensor:
            raise RuntimeError("out of memory")

    with torch.no_grad():
        before = model(**batch).logits
        generated(WithoutAdapter(model, model), adapted)
        with pytest.raises(RuntimeError, match="out of memory"):
            generated(WithoutAdapter(model, Failing()), adapted)
        assert torch.equal(model(**batch).logits, before)
        with model.disable_adapter():
            assert not torch.equal(model(**batch).logits, before)
    generated(WithoutAdapter(model, model), adapted)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not any(module.training for module in model.modules())


def test_open_methods_without_an_adapter(files: Files, language: LanguageModel) -> None:
    """Only the methods without an adapter are opened; the base method is the model itself."""
    nothing = AvailablePrompts(prompt=None, prompt_on_lora=None, has_lora=False)
    base: Any = language.model
    assert open_methods(language, nothing, template=TEMPLATE) == {"base": base}
    found = open_methods(language, replace(nothing, prompt=files.prompt), template=TEMPLATE)
    assert list(found) == ["base", "prompt"]


@pytest.mark.parametrize(
    ("absent", "expected"),
    [
        ({"prompt", "prompt_on_lora"}, ["base", "lora"]),
        ({"prompt"}, ["base", "lora", "lora+prompt"]),
        ({"prompt_on_lora"}, ["base", "prompt", "lora"]),
    ],
)
def test_open_methods_leaves_out_methods_without_a_prompt(
    files: Files, adapted: LanguageModel, absent: set[str], expected: list[str]
) -> None:
    """The other methods keep their order."""
    missing: dict[str, Any] = dict.fromkeys(absent)
    trained = replace(files.find(), **missing)
    assert list(open_methods(adapted, trained, template=TEMPLATE)) == expected


def test_prompt_trained_on_the_adapter_is_preferred(files: Files, tmp_path: Path) -> None:
    """A prompt of the base model is used with the adapter, with a note; never the reverse."""
    whole = AvailablePrompts(files.prompt, files.prompt_on_lora, has_lora=True)
    assert files.find() == whole
    nothing = tmp_path / "nothing"
    assert files.find(prompt=nothing) == replace(whole, prompt=None)
    plain = replace(whole, prompt_on_lora=files.prompt)
    apart = files.find(prompt_on_lora=nothing)
    assert apart == plain and "trained without the LoRA adapter" in apart.notes["lora+prompt"]
    assert files.find(lora=nothing) == AvailablePrompts(files.prompt, None, has_lora=False)
    nothing.mkdir()
    assert files.find(lora=nothing) == AvailablePrompts(files.prompt, None, has_lora=False)
    # Each file in the other's place; both places may name one file.
    assert files.find(prompt=files.prompt_on_lora) == replace(whole, prompt=None)
    assert files.find(prompt_on_lora=files.prompt) == plain
    other = save_adapter(tmp_path / "other", files.model, seed=8)
    assert files.find(lora=other) == plain
    refused = files.find(prompt=nothing / "none", lora=other)
    assert refused == AvailablePrompts(None, None, has_lora=True)
    assert "was trained on another LoRA adapter" in refused.notes["lora+prompt"]


def test_prompt_without_fingerprint_is_used_for_both_models(files: Files, tmp_path: Path) -> None:
    """A file without a fingerprint fits both models; a damaged one is an error."""
    old = tmp_path / "old.pt"
    torch.save(PLAIN, old)
    assert files.find(prompt=old, prompt_on_lora=old) == AvailablePrompts(old, old, has_lora=True)
    old.write_bytes(b"damaged")
    for place in ("prompt", "prompt_on_lora"):
        with pytest.raises(CheckpointError, match=r"old\.pt"):
            files.find(**{place: old})


def test_open_prompt_loads_values_and_initialization(files: Files, language: LanguageModel) -> None:
    """The loaded prompt is ready to generate."""
    tuner = open_prompt(language, files.prompt, template=TEMPLATE, lora=NO_ADAPTER)
    assert torch.equal(tuner.plain_prompt(), PLAIN) and tuner.initialization == "vocab"
    assert not tuner.training and tuner.enabled


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ((5, "vocab"), []),
        ((7, "vocab"), ["prompt_length", "7", "5"]),
        ((5, "text"), ["initialization", "text", "vocab"]),
    ],
)
def test_open_prompt_warns_of_contradicting_configuration(
    files: Files,
    language: LanguageModel,
    caplog: pytest.LogCaptureFixture,
    settings: tuple[int, str],
    words: list[str],
) -> None:
    """The warning names key, configured and found value.

    It comes with each method, and not for a file that is not configured.
    """
    only = AvailablePrompts(prompt=files.prompt, prompt_on_lora=None, has_lora=False)
    configured = ConfiguredPrompt(files.prompt, *settings)
    tuner = open_prompt(
        language, files.prompt, template=TEMPLATE, lora=NO_ADAPTER, configured=configured
    )
    assert torch.equal(tuner.plain_prompt(), PLAIN)
    warnings = caplog.messages
    assert len(warnings) == bool(words)
    assert all(word in caplog.text for word in words)
    open_methods(language, only, template=TEMPLATE, configured=configured)
    assert caplog.messages == warnings * 2
    caplog.clear()
    other = ConfiguredPrompt(files.prompt_on_lora, *settings)
    open_methods(language, only, template=TEMPLATE, configured=other)
    assert caplog.messages == []


def test_open_prompt_refuses_another_template_or_adapter(
    files: Files, language: LanguageModel, adapted: LanguageModel
) -> None:
    """The error names another template, an additional adapter or a missing one."""
    adapter = adapter_hash(files.lora)
    for model, path, template, lora, reason in (
        (language, files.prompt, "another", NO_ADAPTER, f"{TEMPLATE} instead of another"),
        (language, files.prompt_on_lora, TEMPLATE, NO_ADAPTER, "lora .* instead of none"),
        (adapted, files.prompt, TEMPLATE, adapter, "lora none instead of"),
    ):
        with pytest.raises(CheckpointError, match=reason):
            open_prompt(model, path, template=template, lora=lora)
    open_prompt(adapted, files.prompt, template=TEMPLATE, lora=NO_ADAPTER)
    open_prompt(adapted, files.prompt, template=TEMPLATE, lora=None)


@pytest.mark.parametrize("lora", [None, "unmerged", "merged"])
def test_open_prompt_refuses_other_weights(files: Files, tmp_path: Path, lora: str | None) -> None:
    """A model of equal embeddings and other weights is refused, with and without an adapter."""
    other = tmp_path / "other"
    model = AutoModelForSeq2SeqLM.from_pretrained(files.model)
    with torch.no_grad():
        model.get_parameter("encoder.block.1.layer.1.DenseReluDense.wo.weight").mul_(1.1)
    model.save_pretrained(other)
    AutoTokenizer.from_pretrained(files.model).save_pretrained(other)
    language = load_language_model(
        str(other), device="cpu", dtype="float32",
        lora_path=files.lora if lora else None, merge_lora=lora == "merged",
    )  # fmt: skip
    path = files.prompt_on_lora if lora else files.prompt
    with pytest.raises(CheckpointError, match=r"for something else: weights \w+\.\.\. instead of"):
        open_prompt(language, path, template=TEMPLATE, lora=None)


def test_open_prompt_recognizes_a_merged_adapter(files: Files) -> None:
    """A merged adapter is no longer visible in the model, and is recognized all the same."""
    merged = load_adapted(files.model, files.lora, merge=True)
    adapter = adapter_hash(files.lora)
    tuner = open_prompt(merged, files.prompt_on_lora, template=TEMPLATE, lora=adapter)
    assert torch.equal(tuner.plain_prompt(), load_prompt(files.prompt_on_lora).embeddings)
    with pytest.raises(CheckpointError, match="lora none"):
        open_prompt(merged, files.prompt, template=TEMPLATE, lora=adapter)
