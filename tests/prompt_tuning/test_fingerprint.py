"""The fingerprint of what a prompt was trained for: it has every part that changes the output."""

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSeq2SeqLM

from igrag.captioning.language_model import LanguageModel, embedding_weight, load_language_model
from igrag.errors import CheckpointError
from prompt_tuning.fingerprint import NO_ADAPTER, Fingerprint, adapter_hash, fingerprint_of
from prompt_tuning.prompt_file import load_prompt
from prompt_tuning.prompt_tuner import PromptTuner
from tests.prompt_tuning.adapters import load_adapted, save_adapter
from tests.prompt_tuning.models import MARKS, noise, tuner_of
from tests.tiny import WORDS, save_t5


def of(folder: Path, **options: str) -> Fingerprint:
    """Returns the fingerprint of a model's folder."""
    language = load_language_model(str(folder), device="cpu", **options)  # type: ignore[arg-type]
    return fingerprint_of(language.model, language.tokenizer)


def differing(first: Fingerprint, second: Fingerprint) -> list[str]:
    """Returns the names of the parts that differ."""
    return [text.split()[0] for text in first.differences(second)]


def test_fingerprint_depends_on_model_and_tokenizer(tiny_t5: Path, tmp_path: Path) -> None:
    """Equal folders have equal fingerprints; other weights, words or sizes differ by part."""
    words = WORDS.split()
    first = of(tiny_t5)
    assert first == of(save_t5(tmp_path / "same", words=words, seed=0))
    assert first.model == "t5, width 32, 2 + 2 layers" and first.lora == NO_ADAPTER
    other = of(save_t5(tmp_path / "weights", words=words, seed=1))
    assert differing(first, other) == ["embeddings", "weights"]
    swapped = of(save_t5(tmp_path / "words", words=words[::-1], seed=0))
    assert "tokenizer" in differing(first, swapped)
    wide = of(save_t5(tmp_path / "wide", words=words, seed=0, width=64))
    assert "model" in differing(first, wide)


def test_fingerprint_depends_on_one_embedding_template_and_adapter(tiny_t5: Path) -> None:
    """A single changed embedding changes it; template and adapter are the caller's."""
    language = load_language_model(str(tiny_t5), device="cpu", dtype="float32")
    model, tokenizer = language.model, language.tokenizer
    plain = fingerprint_of(model, tokenizer, template="x")
    assert differing(plain, fingerprint_of(model, tokenizer, template="y")) == ["template"]
    assert differing(plain, fingerprint_of(model, tokenizer, template="x", lora="z")) == ["lora"]
    with torch.no_grad():
        embedding_weight(model)[5, 0] += 1
    found = differing(plain, fingerprint_of(model, tokenizer, template="x"))
    assert found == ["embeddings", "weights"]


def test_fingerprint_depends_on_weights_besides_the_embeddings(tiny_t5: Path) -> None:
    """A model that has the embedding matrix of another one has another fingerprint."""
    language = load_language_model(str(tiny_t5), device="cpu", dtype="float32")
    before = fingerprint_of(language.model, language.tokenizer)
    with torch.no_grad():
        language.model.get_parameter("decoder.block.1.layer.1.EncDecAttention.v.weight").mul_(1.1)
    assert differing(before, fingerprint_of(language.model, language.tokenizer)) == ["weights"]


def test_merged_adapter_leaves_the_base_weights_unknown(tiny_t5: Path, tmp_path: Path) -> None:
    """The caller that loaded the model knows its base; an unmerged adapter changes nothing."""
    adapter = save_adapter(tmp_path / "lora", tiny_t5)
    base = of(tiny_t5).weights
    for merge in (False, True):
        language = load_adapted(tiny_t5, adapter, merge=merge)
        found = fingerprint_of(language.model, language.tokenizer, lora=adapter_hash(adapter))
        assert found.weights == (None if merge else base)
        assert language.weights == base
    given = fingerprint_of(language.model, language.tokenizer, lora="x", weights=language.weights)
    assert given.weights == base


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_fingerprint_does_not_depend_on_the_loaded_dtype(tiny_t5: Path, dtype: str) -> None:
    """bfloat16 has the hash of float32; float16, which rounds differently, is not compared."""
    found = of(tiny_t5, dtype=dtype)
    assert of(tiny_t5).differences(found) == []
    assert (found.embeddings is None) == (found.weights is None) == (dtype == "float16")


def test_adapter_hash_is_the_same_loaded_and_on_disk(tiny_t5: Path, tmp_path: Path) -> None:
    """The hash is also the same in half precision if the numbers are."""
    adapter = save_adapter(tmp_path / "lora", tiny_t5)
    loaded = load_adapted(tiny_t5, adapter)
    found = fingerprint_of(loaded.model, loaded.tokenizer)
    assert found.lora == adapter_hash(adapter) != NO_ADAPTER
    assert differing(of(tiny_t5), found) == ["lora"]
    weights = adapter / "adapter_model.safetensors"
    rounded = {name: value.bfloat16() for name, value in load_file(weights).items()}
    hashes = []
    for tensors in (rounded, {name: value.float() for name, value in rounded.items()}):
        save_file(tensors, weights)
        hashes.append(adapter_hash(adapter))
    assert hashes[0] == hashes[1] != found.lora


@pytest.mark.parametrize("change", ["alpha", "weights", "use_rslora", "alpha_pattern", "names"])
def test_adapter_hash_depends_on_weights_scale_and_targets(
    tiny_t5: Path, tmp_path: Path, change: str
) -> None:
    """Another weight, scale or target module gives another hash."""
    first = adapter_hash(save_adapter(tmp_path / "a", tiny_t5, seed=3, alpha=64))
    folder = save_adapter(tmp_path / "b", tiny_t5, seed=3, alpha=64)
    assert adapter_hash(folder) == first
    config, weights = folder / "adapter_config.json", folder / "adapter_model.safetensors"
    tensors = load_file(weights)
    if change == "alpha":
        folder = save_adapter(tmp_path / "c", tiny_t5, seed=3, alpha=65)
    elif change == "weights":
        tensors[min(tensors)][0, 0] += 0.5
        save_file(tensors, weights)
    elif change in ("use_rslora", "alpha_pattern"):
        value = True if change == "use_rslora" else {"q": 8}
        content = json.loads(config.read_text("utf-8"))
        config.write_text(json.dumps({**content, change: value}), "utf-8")
    else:
        save_file({name.replace(".q.", ".k."): v for name, v in tensors.items()}, weights)
    assert adapter_hash(folder) != first


def test_adapter_hash_depends_on_modules_to_save(tiny_t5: Path, tmp_path: Path) -> None:
    """PEFT's modules_to_save are part of an adapter, and so of its hash."""
    hashes = []
    for shift in (0.0, 0.5):
        config = LoraConfig(r=4, target_modules=["q"], modules_to_save=["final_layer_norm"])
        torch.manual_seed(3)
        model = get_peft_model(AutoModelForSeq2SeqLM.from_pretrained(tiny_t5), config)
        for name, tensor in model.named_parameters():
            if "modules_to_save" in name:
                tensor.data += shift
        model.save_pretrained(str(tmp_path / str(shift)))
        hashes.append(adapter_hash(tmp_path / str(shift)))
        loaded = load_adapted(tiny_t5, tmp_path / str(shift))
        assert fingerprint_of(loaded.model, loaded.tokenizer).lora == hashes[-1]
    assert hashes[0] != hashes[1]


def test_hash_of_a_plain_adapter_is_that_of_earlier_versions(tmp_path: Path) -> None:
    """Prompts that earlier versions trained on a plain adapter still belong to it."""
    tensors = {"a.lora_A.weight": torch.ones(2, 3), "a.lora_B.weight": torch.zeros(3, 2)}
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text('{"r": 2, "lora_alpha": 4}')
    assert adapter_hash(tmp_path).startswith("a29eced6448262e1")


def test_differences_name_both_fingerprints() -> None:
    """Names are complete, hashes are abbreviated, and unknown parts are not compared."""
    other = replace(MARKS, model="t5, width 64", embeddings="d" * 64)
    assert MARKS.differences(other) == [
        "model t5, width 32 instead of t5, width 64",
        f"embeddings {'a' * 12}... instead of {'d' * 12}...",
    ]
    assert MARKS.differences(MARKS) == []
    for field in fields(MARKS):
        unknown = replace(MARKS, **{field.name: None})
        assert MARKS.differences(unknown) == unknown.differences(MARKS) == []
        assert field.name not in MARKS.compared(unknown)


def test_fingerprint_survives_a_dict() -> None:
    """Keys of later versions are ignored, and missing ones are unknown."""
    assert Fingerprint.from_dict(MARKS.to_dict()) == MARKS
    assert Fingerprint.from_dict({**MARKS.to_dict(), "clip": "x"}) == MARKS
    assert Fingerprint.from_dict({"model": "t5"}) == Fingerprint("t5", None, None, None, None)
    with pytest.raises(ValueError, match="lora"):
        Fingerprint.from_dict({"lora": 3})


def test_tuner_saves_and_checks_the_fingerprint(
    language: LanguageModel, tiny_t5: Path, tmp_path: Path
) -> None:
    """A prompt is saved with its fingerprint, and every loader refuses it for another model."""
    path = tmp_path / "prompt_embeddings.pt"
    tuner = tuner_of(language, noise(3))
    tuner.save_prompt(path)
    assert load_prompt(path).fingerprint == of(tiny_t5)
    folder = save_t5(tmp_path / "other", words=WORDS.split(), seed=1)
    other = load_language_model(str(folder), device="cpu", dtype="float32")
    with pytest.raises(CheckpointError, match=r"embeddings .* instead of"):
        PromptTuner.from_file(other.model, other.tokenizer, path)
    with pytest.raises(CheckpointError, match=r"embeddings .* instead of"):
        tuner_of(other, noise(3)).load_prompt(path, "named")
    given = replace(of(tiny_t5), template="x")
    again = PromptTuner.from_file(language.model, language.tokenizer, path, fingerprint=given)
    assert again.fingerprint == given
