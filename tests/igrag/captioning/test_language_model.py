"""Loading the frozen language model and a LoRA adapter on top of it."""

import json
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoTokenizer, T5Config, T5ForConditionalGeneration

from igrag.captioning.language_model import load_language_model, load_tokenizer
from igrag.config import REPO_ROOT
from igrag.errors import CheckpointError, ModelError

WEIGHTS = "model.safetensors"


@pytest.fixture
def folder(tmp_path: Path, tiny_t5: Path) -> Path:
    """A copy of the tiny model, a test's own to damage."""
    return Path(shutil.copytree(tiny_t5, tmp_path / "t5"))


def save_variant(folder: Path, **changes: Any) -> Path:
    """Saves a model with another architecture over a copy's weights; the tokenizer stays."""
    config = T5Config.from_pretrained(folder)
    for key, value in changes.items():
        setattr(config, key, value)
    T5ForConditionalGeneration(config).save_pretrained(folder)
    return folder


def save_adapter(
    model: Path, path: Path, *, targets: Sequence[str] = ("q", "v"), alpha: int = 16
) -> Path:
    """Saves a LoRA adapter that changes the model's outputs."""
    from peft import LoraConfig

    lora = LoraConfig(
        r=4,
        lora_alpha=alpha,
        target_modules=list(targets),
        task_type="SEQ_2_SEQ_LM",
        init_lora_weights=False,
    )
    return save_peft(model, path, lora)


def save_peft(model: Path, path: Path, config: Any) -> Path:
    """Saves an adapter of any of PEFT's types."""
    from peft import get_peft_model

    torch.manual_seed(7)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        base = T5ForConditionalGeneration.from_pretrained(model, dtype=torch.float32)
        get_peft_model(base, config).save_pretrained(path, save_embedding_layers=False)
    return path


@pytest.fixture(scope="module")
def adapter(tiny_t5: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter for the tiny model."""
    return save_adapter(tiny_t5, tmp_path_factory.mktemp("adapters") / "adapter")


def load(path: Path | str, **options: Any) -> Any:
    """Loads on the CPU."""
    return load_language_model(str(path), device="cpu", **options)


def logits(model: Any) -> torch.Tensor:
    """Returns the outputs [1, 3, V] for some tokens."""
    tokens = torch.tensor([[5, 9, 20, 33, 1]])
    with torch.inference_mode():
        output: torch.Tensor = model(
            input_ids=tokens, decoder_input_ids=torch.tensor([[0, 8, 12]])
        ).logits
    return output


def test_frozen_in_eval_mode(tiny_t5: Path, adapter: Path) -> None:
    """Nothing can be trained and no dropout is active, with an adapter just as without."""
    for options in ({}, {"lora_path": adapter, "merge_lora": False}):
        loaded = load(tiny_t5, **options)
        assert not any(weight.requires_grad for weight in loaded.model.parameters())
        assert not any(module.training for module in loaded.model.modules())
        assert loaded.lora_path == options.get("lora_path")
        assert loaded.name == str(tiny_t5)
        assert loaded.tokenizer("a dog")["input_ids"][-1] == loaded.model.config.eos_token_id


def test_loaded_weights_equal_saved_weights(tiny_t5: Path) -> None:
    """The weights that were saved are the weights that compute, in the dtype asked for."""
    saved = T5ForConditionalGeneration.from_pretrained(tiny_t5).eval()
    torch.testing.assert_close(logits(load(tiny_t5).model), logits(saved), atol=1e-4, rtol=0)
    assert load(tiny_t5, dtype="bfloat16").model.dtype == torch.bfloat16
    assert load(tiny_t5, attn_implementation="sdpa").model.config._attn_implementation == "sdpa"


def test_tied_embeddings_are_not_missing_weights(folder: Path) -> None:
    """A model whose output layer is its embedding is whole without it."""
    save_variant(folder, tie_word_embeddings=True)
    saved = load_file(folder / WEIGHTS)
    saved.pop("lm_head.weight", None)
    save_file(saved, folder / WEIGHTS, metadata={"format": "pt"})
    loaded = load(folder)
    head, embeddings = loaded.model.lm_head.weight, loaded.model.shared.weight
    assert head.data_ptr() == embeddings.data_ptr()


def test_model_that_is_not_seq2seq_is_refused(tiny_clip: Path) -> None:
    """A model that is no seq2seq model is refused with what it is, by its tokenizer too."""
    for loader in (load, load_tokenizer):
        with pytest.raises(ModelError, match="found a clip model, expected a seq2seq model"):
            loader(str(tiny_clip))


@pytest.mark.parametrize("name", ["/no/such/folder", "some-org/some-model"])
def test_unreachable_model_is_named(name: str) -> None:
    """A missing folder, or a hub id while offline, is named with what to do."""
    with pytest.raises(ModelError, match=f"^{name}: no such folder.*offline.*local folder"):
        load(name)


@pytest.mark.parametrize(
    "problem",
    [
        OSError(28, "No space left on device"),
        ImportError("this tokenizer needs sentencepiece"),
        ValueError("attention flash_attention_2 is not supported"),
    ],
)
def test_reasons_other_than_the_hub_are_in_the_error(
    monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    """An error of a model that the hub has is shown with its own reason, on one line."""

    def fail(*args: object, **kwargs: object) -> None:
        raise OSError(f"could not load:\n{problem}") from problem

    monkeypatch.setattr(AutoConfig, "from_pretrained", fail)
    with pytest.raises(ModelError) as caught:
        load("some-org/some-model")
    assert str(caught.value).startswith("some-org/some-model: the language model cannot be loaded")
    assert str(problem) in str(caught.value)
    assert "offline" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_library_is_not_an_incomplete_folder(
    monkeypatch: pytest.MonkeyPatch, tiny_t5: Path
) -> None:
    """A folder is not blamed for a library that is not installed."""

    def fail(*args: object, **kwargs: object) -> None:
        raise ImportError("this tokenizer needs sentencepiece")

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", fail)
    with pytest.raises(ModelError, match=r"cannot be loaded \(this tokenizer needs sentencepiece"):
        load(tiny_t5)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", b"{"),
        (WEIGHTS, b"not safetensors at all"),
        (WEIGHTS, b""),
        (WEIGHTS, None),
        ("tokenizer.json", b"{"),
        ("config.json", b"[]"),
        ("config.json", b'{"model_type": "t5", "d_model": "wide"}'),
        ("tokenizer.json", b"{}"),
        ("tokenizer.json", b"[]"),
        ("tokenizer_config.json", b"[]"),
        ("generation_config.json", b"[]"),
    ],
)
def test_damaged_folder_is_named(folder: Path, file: str, content: bytes | None) -> None:
    """Damaged or missing files of a model are one error that names the folder."""
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_bytes(content)
    with pytest.raises(ModelError, match=f"^{folder}: not a complete language model folder"):
        load(folder)


def test_missing_weights_are_refused(folder: Path) -> None:
    """A weight that is not in the file is an error, where the library makes one up at random."""
    saved = load_file(folder / WEIGHTS)
    name = "decoder.block.1.layer.0.SelfAttention.q.weight"
    del saved[name]
    save_file(saved, folder / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=f"weights are missing .{name}"):
        load(folder)


def test_tokenizer_larger_than_the_embeddings_is_refused(folder: Path) -> None:
    """Tokens without an embedding mean that tokenizer and model come from different places."""
    save_variant(folder, vocab_size=40)
    with pytest.raises(ModelError, match=r"tokenizer has \d+ tokens and the model 40 embeddings"):
        load(folder)


def test_embeddings_may_be_more_than_the_tokens(folder: Path) -> None:
    """Flan-T5 itself has more embeddings than tokens."""
    save_variant(folder, vocab_size=128)
    assert load(folder).model.get_input_embeddings().weight.shape[0] == 128


def difference(first: Any, second: Any) -> float:
    """Returns the greatest difference between two models' logits, as a share of the greatest."""
    one, two = logits(first.model), logits(second.model)
    return float((one - two).abs().max() / one.abs().max())


def both_ways(model: Path, adapter: Path, **options: Any) -> list[Any]:
    """Loads an adapter merged, and separate from the weights."""
    return [load(model, lora_path=adapter, merge_lora=merge, **options) for merge in (True, False)]


def test_merged_adapter_computes_the_same(tiny_t5: Path, adapter: Path) -> None:
    """Merged or separate, the adapter gives the same outputs, and not the base's."""
    merged, beside = both_ways(tiny_t5, adapter)
    # float32 rounds at every step: its error grows with the logits, so that a bound must be a
    # share of theirs. On exact numbers the two ways are one, see below.
    assert difference(merged, beside) < 1e-5
    assert difference(merged, load(tiny_t5)) > 1e-3
    assert not any("lora" in name for name, _ in merged.model.named_parameters())


def test_merged_and_separate_adapter_differ_by_rounding_only(tmp_path: Path) -> None:
    """On the demo's model too: in float64 the two are one, to the last digits."""
    model = REPO_ROOT / "demo" / "models" / "t5-mini"
    adapter = save_adapter(model, tmp_path / "adapter", alpha=2)
    assert difference(*both_ways(model, adapter, dtype="float64")) < 1e-12
    assert difference(*both_ways(model, adapter, dtype="float32")) < 1e-5


@pytest.mark.parametrize("target", ["lm_head", "shared", "embed_tokens"])
def test_adapter_on_shared_weights_is_not_merged(
    tiny_t5: Path, tmp_path: Path, target: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Merged it would change the other layers too; it is kept separate, with a warning."""
    adapter = save_adapter(tiny_t5, tmp_path, targets=["q", target])
    merged, beside = both_ways(tiny_t5, adapter)
    assert torch.equal(logits(merged.model), logits(beside.model))
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert target in warning and "it is not merged" in warning


def test_adapter_on_unshared_weights_is_merged(
    tiny_t5: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Tied embeddings do not matter to an adapter on other layers."""
    adapter = save_adapter(tiny_t5, tmp_path, targets=["q", "wi_0", "wo"])
    merged, beside = both_ways(tiny_t5, adapter)
    assert not any("lora" in name for name, _ in merged.model.named_parameters())
    assert difference(merged, beside) < 1e-5 and caplog.text == ""


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_missing_adapter_is_refused(
    tmp_path: Path, tiny_t5: Path, adapter: Path, name: str
) -> None:
    """A folder that lacks one of an adapter's two files is refused with how to go on."""
    copy = Path(shutil.copytree(adapter, tmp_path / "adapter"))
    (copy / name).unlink()
    with pytest.raises(CheckpointError, match=f"{copy}: .*{name} is missing.*train_lora.py --all"):
        load(tiny_t5, lora_path=copy)


@pytest.mark.parametrize(
    "changes",
    [
        {"d_model": 48},
        {"num_layers": 3, "num_decoder_layers": 3},
        {"num_layers": 1, "num_decoder_layers": 1},
    ],
)
def test_adapter_of_another_model_is_refused(
    folder: Path, adapter: Path, changes: dict[str, int]
) -> None:
    """An adapter for a wider, deeper or shallower model does not fit, and both are named."""
    save_variant(folder, **changes)
    with pytest.raises(CheckpointError, match=f"{adapter}: this adapter does not fit {folder}"):
        load(folder, lora_path=adapter)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("adapter_config.json", "{"),
        ("adapter_model.safetensors", "damaged"),
        ("adapter_config.json", None),
    ],
)
def test_damaged_adapter_is_refused(
    tmp_path: Path, tiny_t5: Path, adapter: Path, name: str, content: str | None
) -> None:
    """Damaged files, or a config that aims at layers the model has not, are one error."""
    copy = Path(shutil.copytree(adapter, tmp_path / "adapter"))
    if content is None:
        config = json.loads((copy / name).read_text())
        content = json.dumps({**config, "target_modules": ["nowhere"]})
    (copy / name).write_text(content)
    with pytest.raises(CheckpointError, match=f"{copy}.*(not valid JSON|does not fit {tiny_t5})"):
        load(tiny_t5, lora_path=copy)


@pytest.mark.parametrize("kind", ["IA3", "LOHA", "ADALORA", "PROMPT_TUNING"])
def test_adapters_of_other_types_are_refused(tiny_t5: Path, tmp_path: Path, kind: str) -> None:
    """PEFT would load them too; they are refused by their type, before the model is loaded."""
    import peft

    configs = {
        "IA3": peft.IA3Config(target_modules=["q"], feedforward_modules=[]),
        "LOHA": peft.LoHaConfig(target_modules=["q"]),
        "ADALORA": peft.AdaLoraConfig(target_modules=["q"], total_step=10),
        "PROMPT_TUNING": peft.PromptTuningConfig(num_virtual_tokens=3),
    }
    configs[kind].task_type = "SEQ_2_SEQ_LM"
    path = save_peft(tiny_t5, tmp_path / "other", configs[kind])
    message = rf"adapter_config\.json: found an adapter of the type {kind}, expected LORA"
    for model in (tiny_t5, "/no/such/model"):
        with pytest.raises(CheckpointError, match=message):
            load(model, lora_path=path)
