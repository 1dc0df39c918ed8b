"""Validation: loss, captions and BLEU equal a user's own computation."""

from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from igrag.captioning.generator import CaptionGenerator, Decoding, prepare_decoding
from igrag.captioning.language_model import load_language_model
from igrag.data.batching import Collator
from igrag.data.examples import iter_examples
from igrag.data.tokenization import tokenized_dataset
from igrag.metrics import bleu
from prompt_tuning.validation import Validation
from tests.examples import save_examples
from tests.prompt_tuning.models import make_tuner


@pytest.mark.parametrize("num_beams", [1, 3])
def test_validation_equals_generator_bleu_and_loss(
    tiny_t5: Path, tmp_path: Path, num_beams: int
) -> None:
    """Captions are those of the generator, BLEU is theirs, and the loss that of one batch."""
    language = load_language_model(str(tiny_t5), device="cpu", dtype="float32")
    tuner = make_tuner(language, 6, "vocab")
    path = save_examples(tmp_path / "val.jsonl", count=11, seed=2)
    data = tokenized_dataset(
        path, language.tokenizer, max_source_length=64, max_target_length=16, cache_dir=tmp_path
    )
    decoding = Decoding(max_new_tokens=7, num_beams=num_beams)
    validation = Validation(
        data, language.tokenizer, prepare_decoding(language.model, decoding), batch_size=4,
        accelerator=Accelerator(cpu=True),
    )  # fmt: skip
    result = validation.score(tuner.eval(), title="test")
    examples = list(iter_examples(path))
    generator = CaptionGenerator(language.model, language.tokenizer, decoding=decoding)
    generator.switch_to(tuner)
    captions = generator.generate([example.prompt for example in examples])
    assert result.captions == captions
    assert result.bleu == bleu(captions, [example.references for example in examples])
    with torch.no_grad():
        loss = float(tuner(**Collator(0)([data[index] for index in range(11)])).loss)
    assert result.loss == pytest.approx(loss, abs=1e-5)
    results = validation.coco_results(result.captions)
    assert [each["image_id"] for each in results] == [example.image_id for example in examples]


def test_encoder_runs_once_a_batch(
    tiny_t5: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loss and captions come from the same encoder states."""
    language = load_language_model(str(tiny_t5), device="cpu", dtype="float32")
    tuner = make_tuner(language, 2)
    path = save_examples(tmp_path / "val.jsonl", count=8, seed=2)
    data = tokenized_dataset(
        path, language.tokenizer, max_source_length=64, max_target_length=16, cache_dir=tmp_path
    )
    encoder = language.model.get_encoder()
    calls, forward = [], encoder.forward

    def count(*arguments: object, **options: object) -> object:
        calls.append(1)
        return forward(*arguments, **options)

    monkeypatch.setattr(encoder, "forward", count)
    validation = Validation(
        data, language.tokenizer, prepare_decoding(language.model, Decoding()), batch_size=4,
        accelerator=Accelerator(cpu=True),
    )  # fmt: skip
    validation.score(tuner.eval(), title="test")
    assert len(calls) == 2
