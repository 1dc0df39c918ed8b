"""The soft prompt against PEFT's own: the same numbers, tokens and folder."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import (
    LoraConfig,
    MultitaskPromptTuningConfig,
    PeftModel,
    PrefixTuningConfig,
    PromptTuningConfig,
    get_peft_model,
)
from safetensors.torch import save_file
from transformers import AutoModelForSeq2SeqLM

from igrag.captioning.language_model import LanguageModel
from igrag.errors import CheckpointError
from prompt_tuning import peft_format
from prompt_tuning.peft_format import export_peft, import_peft
from prompt_tuning.prompt_file import PromptFile
from tests.prompt_tuning.models import batch_of, inputs_of, noise, tuner_of


def peft_twin(language: LanguageModel, prompt: torch.Tensor, folder: Path) -> PeftModel:
    """Loads the prompt with PEFT for a model of its own."""
    export_peft(
        PromptFile(prompt, "random", None), folder, base_model=language.name,
        model_config=language.model.config,
    )  # fmt: skip
    base = AutoModelForSeq2SeqLM.from_pretrained(language.name)
    return PeftModel.from_pretrained(base, str(folder)).eval()


@pytest.mark.parametrize("length", [1, 5, 20, 100])
def test_loss_and_logits_equal_those_of_peft(
    language: LanguageModel, tmp_path: Path, length: int
) -> None:
    """PEFT loads the exported prompt and computes the same to 1e-5, on a padded batch."""
    prompt = noise(length)
    tuner = tuner_of(language, prompt)
    batch = batch_of(language.tokenizer)
    with torch.no_grad():
        ours = tuner(**batch)
        theirs = peft_twin(language, prompt, tmp_path / "peft")(**batch)
        without = language.model(**batch)
    torch.testing.assert_close(ours.loss, theirs.loss, atol=1e-5, rtol=0)
    torch.testing.assert_close(ours.logits, theirs.logits, atol=1e-5, rtol=1e-5)
    assert (ours.logits - without.logits).abs().max() > 1e-2


@pytest.mark.parametrize("num_beams", [1, 3])
def test_generated_tokens_equal_those_of_peft(
    language: LanguageModel, tmp_path: Path, num_beams: int
) -> None:
    """Tokens are the same for greedy decoding and beams, on a padded batch."""
    prompt = noise(6, seed=4)
    batch = batch_of(language.tokenizer)
    inputs = inputs_of(batch)
    options: dict[str, Any] = {"max_new_tokens": 8, "num_beams": num_beams, "do_sample": False}
    ours = tuner_of(language, prompt).generate(**inputs, **options)
    theirs = peft_twin(language, prompt, tmp_path / "peft").generate(**inputs, **options)
    assert torch.equal(ours, theirs)


def test_exported_prompt_is_imported_exactly(language: LanguageModel, tmp_path: Path) -> None:
    """The values are the same; the fingerprint is unknown."""
    folder = tmp_path / "peft"
    for seed in (0, 1):  # The second one takes the first one's place.
        peft_twin(language, noise(7, seed=seed), folder)
        found = import_peft(folder)
        assert torch.equal(found.embeddings, noise(7, seed=seed))
        assert (found.initialization, found.fingerprint) == ("unknown", None)
    assert sorted(entry.name for entry in folder.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    assert [entry.name for entry in tmp_path.iterdir()] == ["peft"]
    assert len({entry.stat().st_mode for entry in folder.iterdir()}) == 1  # Both for all to read.


def test_failed_export_keeps_the_earlier_folder(
    language: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error between the two files leaves the earlier adapter complete."""
    folder = tmp_path / "peft"
    peft_twin(language, noise(7), folder)

    def fail(*arguments: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(peft_format, "save", fail)
    with pytest.raises(OSError, match="No space left"):
        peft_twin(language, noise(3), folder)
    assert torch.equal(import_peft(folder).embeddings, noise(7))
    assert [entry.name for entry in tmp_path.iterdir()] == ["peft"]


def test_half_precision_is_imported_as_float32(language: LanguageModel, tmp_path: Path) -> None:
    """A prompt that was trained in bfloat16 has the same values in float32."""
    folder = tmp_path / "peft"
    peft_twin(language, noise(4), folder)
    half = noise(4).bfloat16()
    save_file({"prompt_embeddings": half}, folder / "adapter_model.safetensors")
    found = import_peft(folder).embeddings
    assert found.dtype == torch.float32 and torch.equal(found, half.float())


def test_prompt_trained_by_peft_is_imported(language: LanguageModel, tmp_path: Path) -> None:
    """A folder that PEFT saved is read, with PEFT's initial values."""
    config = PromptTuningConfig(
        task_type="SEQ_2_SEQ_LM", num_virtual_tokens=3, num_transformer_submodules=1
    )
    model: Any = get_peft_model(AutoModelForSeq2SeqLM.from_pretrained(language.name), config)
    model.save_pretrained(tmp_path / "theirs")
    values = model.prompt_encoder["default"].embedding.weight
    assert torch.equal(import_peft(tmp_path / "theirs").embeddings, values.detach())


def test_prompt_of_two_submodules_is_imported_as_peft_uses_it(
    language: LanguageModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of PEFT's default of 2 x P tokens the first P are taken: its own loss is that of these."""
    config = PromptTuningConfig(task_type="SEQ_2_SEQ_LM", num_virtual_tokens=3)
    model: Any = get_peft_model(AutoModelForSeq2SeqLM.from_pretrained(language.name), config)
    model.save_pretrained(str(tmp_path / "theirs"))
    found = import_peft(tmp_path / "theirs")
    assert "holds 2 prompts of 3 tokens" in caplog.text
    batch = {"input_ids": torch.tensor([[5, 6, 1]]), "labels": torch.tensor([[7, 1]])}
    batch["attention_mask"] = torch.ones_like(batch["input_ids"])
    tuner = tuner_of(language, found.embeddings)
    assert torch.allclose(tuner(**batch).loss, model.eval()(**batch).loss)


@pytest.mark.parametrize("config", [PrefixTuningConfig, MultitaskPromptTuningConfig])
def test_other_prompts_of_peft_are_named(tmp_path: Path, config: Any) -> None:
    """Prefix tuning and multitask prompt tuning are called what they are."""
    config(task_type="SEQ_2_SEQ_LM", num_virtual_tokens=3).save_pretrained(str(tmp_path))
    with pytest.raises(CheckpointError, match=r"_TUNING \((prefix|multitask prompt) tuning: .*\)"):
        import_peft(tmp_path)


def test_lora_adapter_is_no_soft_prompt(language: LanguageModel, tmp_path: Path) -> None:
    """A folder with another type of adapter is refused."""
    config = LoraConfig(r=2, target_modules=["q"], task_type="SEQ_2_SEQ_LM")
    model = get_peft_model(AutoModelForSeq2SeqLM.from_pretrained(language.name), config)
    model.save_pretrained(str(tmp_path / "lora"))
    with pytest.raises(CheckpointError, match=r"json: found peft_type LORA, .* PROMPT_TUNING"):
        import_peft(tmp_path / "lora")


def test_damaged_peft_folder_is_refused(language: LanguageModel, tmp_path: Path) -> None:
    """Files are missing, truncated, or of another number of tokens than the config has."""
    folder = tmp_path / "peft"
    with pytest.raises(CheckpointError, match=r"adapter_config\.json"):
        import_peft(folder)
    peft_twin(language, noise(4), folder)
    config = folder / "adapter_config.json"
    content = json.loads(config.read_text("utf-8"))
    config.write_text(json.dumps({**content, "num_virtual_tokens": 5}), "utf-8")
    with pytest.raises(CheckpointError, match=r"expected .*\[5, H\]"):
        import_peft(folder)
    for wrong, message in (
        ("[]", "found peft_type list"),
        ("{}", "found peft_type None"),
        ('{"peft_type": "PROMPT_TUNING"}', "found num_virtual_tokens None"),
        ("{", "not valid JSON"),
    ):
        config.write_text(wrong, "utf-8")
        with pytest.raises(CheckpointError, match=rf"adapter_config\.json.*{message}"):
            import_peft(folder)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (None, "missing or damaged"),
        (b"short", "missing or damaged"),
        ({}, r'expected "prompt_embeddings" \[4, H\]'),
        ({"lora_A": noise(4)}, r'lora_A.*expected "prompt_embeddings"'),
        ({"prompt_embeddings": noise(8)}, r"\[8, 32\].* \[4, H\]"),
        ({"prompt_embeddings": noise(4)[0]}, r"\[32\].* \[4, H\]"),
        ({"prompt_embeddings": noise(4) / 0}, "no finite numbers"),
        ({"prompt_embeddings": torch.ones(4, 3, dtype=torch.long)}, "no finite numbers"),
    ],
)
def test_damaged_peft_weights_are_refused(
    language: LanguageModel, tmp_path: Path, tensors: dict[str, torch.Tensor] | bytes, message: str
) -> None:
    """The error has the file, what it holds and what was expected."""
    folder = tmp_path / "peft"
    peft_twin(language, noise(4), folder)
    path = folder / "adapter_model.safetensors"
    path.unlink()
    if isinstance(tensors, bytes):
        path.write_bytes(tensors)
    elif tensors is not None:
        save_file(tensors, path)
    with pytest.raises(CheckpointError, match=rf"adapter_model\.safetensors: .*{message}"):
        import_peft(folder)
