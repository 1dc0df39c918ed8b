"""Values that are not finite, in what is loaded and in what is computed."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from igrag.captioning.generator import CaptionGenerator, Decoding
from igrag.captioning.language_model import LanguageModel, load_language_model
from igrag.errors import CheckpointError, ModelError
from igrag.retrieval.image_encoder import ImageEncoder
from igrag.retrieval.text_encoder import TextEncoder
from tests.command import Command, one_error
from tests.prompt_tuning.adapters import save_adapter

NAN = float("nan")


def change_weights(folder: Path, ending: str, factor: float) -> Path:
    """Multiplies the weights whose names end so."""
    file = next(folder.glob("*model.safetensors"))
    weights = load_file(file)
    changed = [name for name in weights if name.endswith(ending)]
    assert changed, sorted(weights)
    for name in changed:
        weights[name] = weights[name] * factor
    save_file(weights, file, metadata={"format": "pt"})
    return folder


def caption(language: LanguageModel) -> list[str]:
    """Captions a prompt."""
    decoding = Decoding(max_new_tokens=4, num_beams=1)
    generator = CaptionGenerator(language.model, language.tokenizer, decoding=decoding)
    return generator.generate(["a dog in the field"])


def test_adapter_of_nan_is_refused(command: Command, tiny_t5: Path, tmp_path: Path) -> None:
    """The command names the file and the tensor, and writes no empty caption."""
    adapter = change_weights(save_adapter(tmp_path / "lora", tiny_t5), "lora_A.weight", NAN)
    image = next((tmp_path / "coco" / "images").iterdir())
    code, out, err = command(
        "--i", image, settings=("lora_config.enabled=true", f"lora_config.weights_path={adapter}")
    )
    assert (code, out) == (1, "")
    message = one_error(err)
    assert "adapter_model.safetensors: " in message and "values that are not finite" in message


def test_base_model_of_nan_is_refused(tiny_t5: Path, tmp_path: Path) -> None:
    """The error names the model and the tensor."""
    model = change_weights(shutil.copytree(tiny_t5, tmp_path / "t5"), "wo.weight", NAN)
    with pytest.raises(ModelError, match=r"t5: .*wo\.weight holds values that are not finite"):
        load_language_model(str(model), device="cpu")


def test_clip_model_of_nan_is_refused(tiny_clip: Path, tmp_path: Path) -> None:
    """Both towers of the encoder are looked at when they are loaded."""
    model = change_weights(shutil.copytree(tiny_clip, tmp_path / "clip"), "fc1.weight", NAN)
    for tower in (ImageEncoder, TextEncoder):
        with pytest.raises(ModelError, match=r"clip: .*fc1\.weight holds values that are not"):
            tower(str(model), device="cpu")


def test_float16_overflow_is_an_error_that_names_the_fix(tiny_t5: Path, tmp_path: Path) -> None:
    """A model beyond float16's range captions in float32, and is an error in float16."""
    ending, fix = "SelfAttention.o.weight", r"not finite in float16, .* bfloat16 or float32"
    model = change_weights(shutil.copytree(tiny_t5, tmp_path / "t5"), ending, 8e4)
    assert caption(load_language_model(str(model), device="cpu", dtype="float32"))[0]
    with pytest.raises(ModelError, match=f"computes values that are {fix}"):  # what it computes
        caption(load_language_model(str(model), device="cpu", dtype="float16"))
    change_weights(model, ending, 100.0)
    with pytest.raises(ModelError, match=f"holds values that are {fix}"):  # and its weights
        load_language_model(str(model), device="cpu", dtype="float16")


def test_one_spoiled_value_beyond_the_sample_is_an_error(tiny_t5: Path) -> None:
    """What loading does not look at shows in the logits; a step of a training is left to itself."""
    language = load_language_model(str(tiny_t5), device="cpu", dtype="float32")
    with torch.no_grad():
        language.model.get_parameter("encoder.block.0.layer.1.layer_norm.weight")[0] = NAN
    with pytest.raises(ModelError, match=r"not finite in float32, .*; use a model"):
        caption(language)
    ids = torch.tensor([[3, 4, 1]])
    assert language.model(input_ids=ids, labels=ids).loss.isnan()


def test_feed_forward_output_of_t5_stays_in_float32(tiny_t5: Path) -> None:
    """In float16 the layers on the library's own list are float32, and a caption is written."""
    language = load_language_model(str(tiny_t5), device="cpu", dtype="float16")
    parameters = dict(language.model.named_parameters())
    kept = {name for name, value in parameters.items() if value.dtype == torch.float32}
    assert kept == {name for name in parameters if name.endswith(".wo.weight")}
    assert caption(language)[0]


def test_adapter_damaged_in_one_value_is_refused(tiny_t5: Path, tmp_path: Path) -> None:
    """Every value of an adapter is looked at."""
    adapter = save_adapter(tmp_path / "lora", tiny_t5)
    weights = load_file(adapter / "adapter_model.safetensors")
    name = sorted(weights)[-1]
    weights[name][-1, -1] = float("inf")
    save_file(weights, adapter / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match="values that are not finite"):
        load_language_model(str(tiny_t5), device="cpu", lora_path=adapter)
