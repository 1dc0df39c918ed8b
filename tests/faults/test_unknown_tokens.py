"""Text that the model's tokenizer turns into unknown tokens."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from igrag.captioning.generator import CaptionGenerator, Decoding
from igrag.captioning.language_model import load_language_model
from igrag.data.tokenization import tokenized_dataset
from igrag.data.unknown_tokens import unknown_shares
from igrag.errors import DataError

KNOWN = {"prompt": "a dog runs in the field", "caption": "a dog"}
CHINESE = {"prompt": "a dog 一只狗在草地上奔跑着追球", "caption": "一只狗在草地上 , a dog"}


@pytest.fixture
def tokenizer(tiny_t5: Path) -> PreTrainedTokenizerBase:
    """A tokenizer that knows English words alone."""
    loaded: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(tiny_t5)
    return loaded


def tokenize(path: Path, tokenizer: PreTrainedTokenizerBase, *examples: dict[str, str]) -> None:
    """Tokenizes examples as a training does."""
    file = path / "train.jsonl"
    file.write_text("\n".join(map(json.dumps, examples)), encoding="utf-8")
    tokenized_dataset(
        file, tokenizer, max_source_length=64, max_target_length=16, cache_dir=path / "cache"
    )


def test_some_unknown_captions_are_a_warning_with_count_share_and_example(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase, caplog: pytest.LogCaptureFixture
) -> None:
    """Captions and prompts are counted each, those with known tokens between included."""
    with caplog.at_level(logging.WARNING):
        tokenize(tmp_path, tokenizer, KNOWN, CHINESE, KNOWN, KNOWN)
    prompts, captions = caplog.messages
    assert "1 of 4 prompts (25%) turn into unknown tokens" in prompts
    assert "1 of 4 captions (25%) turn into unknown tokens" in captions
    assert "一只狗" in captions and "mT5" in captions


def test_captions_that_are_all_unknown_are_an_error(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    """A training on nothing but unknown tokens is refused."""
    unknown = {**KNOWN, "caption": "Собака бежит , dog"}
    with pytest.raises(DataError, match=r"2 of 2 captions \(100%\) turn into unknown tokens"):
        tokenize(tmp_path, tokenizer, unknown, unknown)


def test_share_counts_characters_and_not_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    """A whole sentence may be a single unknown token."""
    texts = ["a dog", "a 一二三四五六七八九"]
    assert unknown_shares(tokenizer, texts, tokenizer(texts)["input_ids"]) == [0.0, 0.9]


def test_captioning_warns_once_of_prompts_in_another_alphabet(
    tiny_t5: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A knowledge base of Chinese captions and an English model are a warning, not a silence."""
    language = load_language_model(str(tiny_t5), device="cpu")
    generator = CaptionGenerator(
        language.model, language.tokenizer, decoding=Decoding(max_new_tokens=2, num_beams=1)
    )
    with caplog.at_level(logging.WARNING):
        generator.generate(["a dog in the field"])
        assert caplog.messages == []
        for _ in range(2):
            generator.generate(["a caption : 一只狗在草地上奔跑"])
    (message,) = caplog.messages
    assert "unknown tokens" in message and "一只狗" in message


def test_text_of_megabytes_is_cut_before_it_is_tokenized(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prompt of 1 MB costs what its beginning costs, and is truncated as before."""
    longest: list[int] = []
    call = type(tokenizer).__call__

    def record(self: Any, text: Any = None, **options: Any) -> Any:
        given = options.get("text_target", text)
        longest.extend(map(len, [given] if isinstance(given, str) else given))
        return call(self, text, **options)

    monkeypatch.setattr(type(tokenizer), "__call__", record)
    tokenize(tmp_path, tokenizer, {"prompt": "a dog " * 170_000, "caption": "a cat " * 170_000})
    assert 0 < max(longest) < 10_000
