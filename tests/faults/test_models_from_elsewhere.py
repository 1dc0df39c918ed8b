"""Models and adapters as they lie on the hub: odd, but whole."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, T5Config, T5ForConditionalGeneration

from igrag.captioning.generator import CaptionGenerator, Decoding
from igrag.captioning.language_model import LanguageModel, load_language_model
from igrag.errors import ModelError
from tests.tiny import WORDS


def caption(language: LanguageModel) -> str:
    """Captions a prompt."""
    decoding = Decoding(max_new_tokens=4, num_beams=1)
    generator = CaptionGenerator(language.model, language.tokenizer, decoding=decoding)
    return generator.generate(["a dog in the field"])[0]


def remove_key(file: Path, key: str) -> None:
    """Removes a key of a JSON file."""
    content = json.loads(file.read_text("utf-8"))
    del content[key]
    file.write_text(json.dumps(content), "utf-8")


def test_lora_adapter_with_a_bias_runs_without_being_merged(
    tiny_t5: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Where it is to be merged it stays separate, with a note and the same caption."""
    torch.manual_seed(0)
    lora = LoraConfig(
        r=4, target_modules=["q", "v"], lora_bias=True, init_lora_weights=False,
        task_type="SEQ_2_SEQ_LM",
    )  # fmt: skip
    base = AutoModelForSeq2SeqLM.from_pretrained(tiny_t5)
    get_peft_model(base, lora).save_pretrained(str(tmp_path / "lora"))
    found = [
        load_language_model(
            str(tiny_t5), device="cpu", lora_path=tmp_path / "lora", merge_lora=merge
        )
        for merge in (True, False)
    ]
    assert "has a bias (lora_bias)" in caplog.text
    assert caption(found[0]) == caption(found[1])


def test_ids_of_generation_config_alone_are_taken_from_there(tiny_t5: Path, tmp_path: Path) -> None:
    """A config.json without decoder_start_token_id is completed; without both it is an error."""
    expected = caption(load_language_model(str(tiny_t5), device="cpu"))
    model = shutil.copytree(tiny_t5, tmp_path / "t5")
    generation = json.loads((model / "generation_config.json").read_text("utf-8"))
    assert generation["decoder_start_token_id"] == 0
    remove_key(model / "config.json", "decoder_start_token_id")
    assert caption(load_language_model(str(model), device="cpu")) == expected
    remove_key(model / "generation_config.json", "decoder_start_token_id")
    with pytest.raises(ModelError, match=r"t5: neither .* has decoder_start_token_id"):
        load_language_model(str(model), device="cpu")


def test_model_with_spiece_model_alone_loads(tmp_path: Path) -> None:
    """The tokenizer of t5-v1_1 and mT5, which have no tokenizer.json, needs sentencepiece."""
    import sentencepiece

    (tmp_path / "text.txt").write_text("\n".join([WORDS, WORDS.title()] * 20), "utf-8")
    folder = tmp_path / "t5"
    folder.mkdir()
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "text.txt"), model_prefix=str(folder / "spiece"), vocab_size=120,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    (folder / "spiece.vocab").unlink()
    settings = {"tokenizer_class": "T5Tokenizer", "extra_ids": 0}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    untyped: dict[str, Any] = {"decoder_start_token_id": 0}
    config = T5Config(
        vocab_size=256, d_model=16, d_kv=4, d_ff=16, num_layers=1, num_heads=2, **untyped
    )
    T5ForConditionalGeneration(config).save_pretrained(folder)
    language = load_language_model(str(folder), device="cpu")
    ids = language.tokenizer("a dog in the field")["input_ids"]
    assert ids[-1] == language.tokenizer.eos_token_id
    assert language.tokenizer.unk_token_id not in ids
    assert "dog" in AutoTokenizer.from_pretrained(folder).decode(ids)
