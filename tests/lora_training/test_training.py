"""LoRA training from the command line: what it saves, keeps and refuses."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForSeq2SeqLM

from igrag.captioning.language_model import load_language_model
from igrag.config import REPO_ROOT
from igrag.errors import ConfigError, DataError, TrainingError, UsageError
from igrag.training.trackers import SAMPLES
from lora_training import settings
from lora_training.settings import DEFAULT_SETTINGS, LoraSettings
from lora_training.train_lora import main, parse_arguments
from lora_training.trainer import AdapterTrainer, Scorer
from tests.examples import save_examples
from tests.finished_runs import CopyRun
from tests.lora_training.training import WEIGHTS, Trainer, adapters, losses, record_of
from tests.tiny import CocoFolder


def logits(model: torch.nn.Module) -> torch.Tensor:
    """Returns the outputs [1, 3, V] for some tokens."""
    tokens, decoder_tokens = torch.tensor([[5, 9, 20, 33, 1]]), torch.tensor([[0, 8, 12]])
    with torch.inference_mode():
        output: torch.Tensor = model.eval()(
            input_ids=tokens, decoder_input_ids=decoder_tokens
        ).logits
    return output


@pytest.mark.usefixtures("real_curves")
def test_lora_training_writes_checkpoints_best_record_and_curves(
    trainer: Trainer, capfd: pytest.CaptureFixture[str]
) -> None:
    """Only these files are written, and the library's own logs are not printed."""
    output = trainer.train()
    assert sorted(path.name for path in output.iterdir()) == [
        "all_results.json",
        "best",
        "checkpoint-10",
        "checkpoint-3",
        "checkpoint-6",
        "checkpoint-9",
        "training_curves.png",
    ]
    assert (output / "training_curves.png").read_bytes().startswith(b"\x89PNG")
    assert not list(output.rglob("training_args.bin"))
    record = record_of(output)
    assert (record.method, record.best_folder) == ("lora", "best")
    assert [evaluation.step for evaluation in record.evaluations] == [0, 3, 6, 9, 10]
    assert [step.step for step in record.history] == list(range(1, 11))
    assert record.history[4].epoch == 1.0
    # q and v of 4 self- and 2 cross-attentions: A [4, 32] and B [32, 4] each.
    assert record.model.trainable_parameters == 12 * 2 * 4 * 32
    assert record.model.size_bytes == (output / "best" / WEIGHTS).stat().st_size
    printed = capfd.readouterr()
    first, second, *table = printed.out.splitlines()
    assert first.endswith(f"trainable params: 3,072 / {record.model.total_parameters:,} "
                          f"({record.model.trainable_percent:.4f}%)")  # fmt: skip
    files = [trainer.data / "train.jsonl", trainer.data / "val.jsonl"]
    assert second == (
        f"37 training examples ({files[0]}), 10 validation examples ({files[1]}), on cpu"
    )
    assert [word for line in table if (word := line.split()[0]) != "note:"] == [
        "step", "0", "3", "6", "9", "10", "best:", "results:",
    ]  # fmt: skip
    assert "{" not in printed.out + printed.err


@pytest.mark.slow
def test_training_time_ends_with_the_last_step(
    trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Validations in between count and the last one does not, as for prompt tuning."""
    call, delay = Scorer.__call__, 0.4

    def score_late(self: Scorer, shares: Any) -> dict[str, float]:
        time.sleep(delay)
        return call(self, shares)

    monkeypatch.setattr(Scorer, "__call__", score_late)
    record = record_of(trainer.train(training__eval_steps=5))
    assert record.training_seconds == record.history[-1].seconds
    assert record.history[4].seconds + delay < record.history[5].seconds


@pytest.mark.slow
def test_lora_training_improves_loss_and_captions(trainer: Trainer) -> None:
    """The validation loss falls, and BLEU-1 rises."""
    output = trainer.train(training__num_train_epochs=6, training__eval_steps=30)
    untuned, tuned = record_of(output).evaluations
    assert tuned.loss < 0.5 * untuned.loss
    assert tuned.bleu1 > untuned.bleu1 + 0.2


def test_best_adapter_computes_the_same_in_peft_and_merged(
    copy_run: CopyRun, tiny_t5: Path
) -> None:
    """PEFT and captioning, with the adapter merged or not, compute the same logits."""
    best = copy_run() / "best"
    names = ["adapter_config.json", WEIGHTS, "base_model.json"]
    assert sorted(path.name for path in best.iterdir()) == names
    base = AutoModelForSeq2SeqLM.from_pretrained(tiny_t5)
    before = logits(base)
    plain = logits(PeftModel.from_pretrained(base, best))
    for merged in (True, False):
        ours = load_language_model(str(tiny_t5), device="cpu", lora_path=best, merge_lora=merged)
        torch.testing.assert_close(logits(ours.model), plain, atol=1e-4, rtol=1e-5)
    assert (plain - before).abs().max() > 0.1
    config = json.loads((best / "adapter_config.json").read_text("utf-8"))
    assert config["base_model_name_or_path"] == str(tiny_t5)
    assert (config["peft_type"], config["task_type"]) == ("LORA", "SEQ_2_SEQ_LM")


@pytest.mark.slow
def test_best_adapter_equals_the_best_checkpoint(copy_run: CopyRun) -> None:
    """It is a copy of the checkpoint with the highest recorded BLEU-4, to four digits, in bytes."""
    output = copy_run(training__eval_steps=2)
    record = record_of(output)
    assert record.best is not None and record.best.checkpoint is not None
    for name in (WEIGHTS, "adapter_config.json", "base_model.json"):
        best = (output / "best" / name).read_bytes()
        assert best == (output / record.best.checkpoint / name).read_bytes()
    highest = max(found.bleu4 for found in record.evaluations[1:])
    assert round(record.best.bleu4, 4) == round(highest, 4)
    assert len(set(adapters(output).values())) == 5


@pytest.mark.slow
def test_lora_training_leaves_the_base_model_unchanged(
    trainer: Trainer, tiny_t5: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every tensor of the base model is bit-identical after training."""
    trainers: list[AdapterTrainer] = []
    train = AdapterTrainer.train

    def keep(self: AdapterTrainer, **options: Any) -> object:
        trainers.append(self)
        return train(self, **options)

    monkeypatch.setattr(AdapterTrainer, "train", keep)
    trainer.train()
    after = trainers[0].model.unload().state_dict()
    before = AutoModelForSeq2SeqLM.from_pretrained(tiny_t5).state_dict()
    assert set(before) == set(after)
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.slow
def test_same_seed_gives_the_same_adapter(trainer: Trainer, copy_run: CopyRun) -> None:
    """The same command gives the same bytes, another seed gives others."""
    runs = [copy_run("a"), trainer.train("b"), trainer.train("c", "--seed", "1")]
    first, second, other = [adapters(output) for output in runs]
    assert first == second
    assert first["best"] != other["best"]


@pytest.mark.parametrize("action", ["--train", "--all"])
def test_file_in_place_of_the_output_folder_is_refused_first(trainer: Trainer, action: str) -> None:
    """The error comes before any data are built or the model is loaded."""
    file = trainer.output / "run"
    file.write_text("mine")
    words = trainer.words(file / "new", action, model__name="some-org/some-model")
    with pytest.raises(UsageError, match=r"run: is no folder, expected one; .*--output_dir"):
        main(parse_arguments(words))
    assert file.read_text() == "mine"


def test_earlier_run_is_refused_before_building_data(trainer: Trainer, copy_run: CopyRun) -> None:
    """A second training into the same folder is refused before any data are built."""
    output = copy_run()
    before = (output / "all_results.json").read_bytes()
    elsewhere = trainer.output / "data"
    for words in (trainer.words(output), trainer.words(output, "--all")):
        arguments = parse_arguments([*words, "--output_data", str(elsewhere)])
        with pytest.raises(UsageError, match=r"earlier training .*--resume_from_checkpoint latest"):
            main(arguments)
    assert (output / "all_results.json").read_bytes() == before
    assert not elsewhere.exists()


@pytest.mark.slow
def test_save_total_limit_keeps_the_best_and_the_newest(trainer: Trainer) -> None:
    """Older checkpoints are removed, but never the best one."""
    output = trainer.train(training__save_total_limit=1, training__eval_steps=2)
    record = record_of(output)
    assert record.best is not None
    left = {path.name for path in output.glob("checkpoint-*")}
    tail = next(step for step in (10, 8) if f"checkpoint-{step}" != record.best.checkpoint)
    assert left == {record.best.checkpoint, f"checkpoint-{tail}"}


@pytest.mark.slow
def test_early_stopping_after_patience_validations(trainer: Trainer) -> None:
    """A tiny learning rate changes no BLEU-4, so that training stops, and stays so when resumed."""
    settings = {
        "training__learning_rate": 1e-12,
        "training__early_stopping_patience": 2,
        "training__eval_steps": 1,
    }
    output = trainer.train(**settings)
    assert len(losses(output)) == 3
    before = adapters(output)
    trainer.train("run", "--resume_from_checkpoint", "latest", **settings)
    assert adapters(output) == before and len(losses(output)) == 3


@pytest.mark.slow
def test_eval_steps_null_validates_after_every_epoch(copy_run: CopyRun) -> None:
    """With eval_steps null there is one validation after each epoch."""
    output = copy_run(training__eval_steps="null")
    assert [found.step for found in record_of(output).evaluations] == [0, 5, 10]


def test_loss_that_is_not_finite_stops_lora_training(trainer: Trainer) -> None:
    """The error names the settings to change."""
    with pytest.raises(TrainingError, match=r"step 1: .* is inf, .*; lower training\.learning"):
        trainer.train(training__learning_rate=1e4, lora__lora_alpha=10**38)


def test_missing_training_data_is_an_error(trainer: Trainer) -> None:
    """The error for a missing train.jsonl names the command that builds it."""
    (trainer.data / "train.jsonl").unlink()
    with pytest.raises(DataError, match=r"train\.jsonl: no such file; .*data_builder"):
        trainer.train()


def test_image_in_train_and_val_is_refused(trainer: Trainer) -> None:
    """The image is named with both files; an equal id with other captions is another image."""
    train, val = (trainer.data / f"{name}.jsonl" for name in ("train", "val"))
    line = json.loads(train.read_text("utf-8").splitlines()[6])
    lines = val.read_text("utf-8")
    shared = {**line, "prompt": "another one", "references": line["references"][::-1]}
    val.write_text(lines + json.dumps(shared) + "\n", encoding="utf-8")
    message = rf"{train} and {val}: both hold the image 7 .*--overwrite_output_dir"
    with pytest.raises(DataError, match=message):
        trainer.train()
    assert not (trainer.output / "run").exists()
    other = {**shared, "references": ["a cat"]}
    val.write_text(lines + json.dumps(other) + "\n", encoding="utf-8")
    trainer.train(training__num_train_epochs=1)


def test_target_truncated_to_the_end_token_is_refused(trainer: Trainer) -> None:
    """Labels of only the end token would train the model to generate nothing."""
    with pytest.raises(TrainingError, match=r"raise training\.max_target_length"):
        trainer.train(training__max_target_length=1)


def test_second_gpu_is_refused_with_cuda_visible_devices(
    trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Trainer knows only cuda:0; the error for cuda:1 names CUDA_VISIBLE_DEVICES."""
    monkeypatch.setattr("lora_training.setup.resolve_device", lambda name: torch.device("cuda:1"))
    with pytest.raises(UsageError, match="CUDA_VISIBLE_DEVICES=1"):
        trainer.train()


@pytest.mark.slow
def test_adapter_of_a_bfloat16_model_is_saved_in_float32(trainer: Trainer) -> None:
    """With a bfloat16 model the adapter is float32 all the same, and its run resumes."""
    words, settings = ("--dtype", "bfloat16"), {"training__mixed_precision": "bf16"}
    output = trainer.train("run", *words, **settings)
    weights = load_file(output / "best" / WEIGHTS)
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    assert record_of(output).evaluations[-1].loss < record_of(output).evaluations[0].loss
    trainer.train("run", *words, "--resume_from_checkpoint", "latest", **settings)
    assert record_of(output).config["precision"] == {
        "dtype": "bfloat16",
        "attn_implementation": "eager",
        "mixed_precision": "bf16",
    }


def test_missing_tensorboard_is_named(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error of --report_to tensorboard names what to install, before anything is loaded."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install tensorboard"):
        trainer.train("run", "--report_to", "tensorboard")


def test_event_files_have_sample_captions_with_images(trainer: Trainer, coco: CocoFolder) -> None:
    """TensorBoard shows the captions of every validation as a table, and their images once."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    images = {"training__report_to": "tensorboard", "training__report_images": coco.images}
    output = trainer.train(**images, training__num_train_epochs=1, training__eval_steps=5)
    written = next((output / "runs").rglob("events.out.*"))  # in a folder of the run's own
    events = accumulator.EventAccumulator(str(written.parent))
    events.Reload()
    texts = events.Tensors("val/captions/text_summary")
    assert [text.step for text in texts] == [0, 5]
    table = texts[-1].tensor_proto.string_val[0].decode()
    assert table.count("\n") == SAMPLES + 1
    shown = [tag for tag in events.Tags()["images"] if tag.startswith("val/images/")]
    assert len(shown) == SAMPLES
    assert [image.step for image in events.Images(shown[0])] == [0]


def test_overwriting_replaces_the_run_once_everything_is_checked(
    trainer: Trainer, copy_run: CopyRun
) -> None:
    """A run that cannot start leaves the earlier one; one that can removes its files, no others."""
    output = copy_run()
    (output / "notes.txt").write_text("mine")
    before = adapters(output)
    for wrong in ({"lora__target_modules": "[query]"}, {"training__max_target_length": 1}):
        with pytest.raises((ConfigError, TrainingError)):
            trainer.train("run", "--overwrite_output_dir", **wrong)
    assert adapters(output) == before
    options = {"training__num_train_epochs": 1, "training__eval_steps": 4}
    trainer.train("run", "--overwrite_output_dir", **options)
    assert sorted(path.name for path in output.iterdir()) == [
        "all_results.json",
        "best",
        "checkpoint-4",
        "checkpoint-5",
        "notes.txt",
        "training_curves.png",
    ]


def test_rebuilding_data_alone_keeps_the_run(trainer: Trainer, copy_run: CopyRun) -> None:
    """--force-rebuild replaces the data alone: with --all, an earlier run is refused as before."""
    output = copy_run()
    before = adapters(output)
    with pytest.raises(UsageError, match=r"earlier training run .*--overwrite_output_dir"):
        main(parse_arguments(trainer.words(output, "--all", "--force-rebuild")))
    assert adapters(output) == before


def test_given_files_are_trained_on(
    trainer: Trainer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """data.train_file and data.val_file replace the files of output_data, each for itself."""
    other = save_examples(tmp_path / "other.jsonl", count=9, seed=7)
    trainer.train(data__train_file=other, training__num_train_epochs=1)
    val = trainer.data / "val.jsonl"
    line = f"9 training examples ({other}), 10 validation examples ({val}), on cpu"
    assert line in capsys.readouterr().out


def test_default_data_are_what_was_built_or_else_the_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The demo data replace those of the default folder only, and never after --all."""
    monkeypatch.setattr(settings, "BUILT_DATA", tmp_path)
    data = LoraSettings.load(DEFAULT_SETTINGS, [f"data.output_data={tmp_path}"]).data
    demo = REPO_ROOT / "demo" / "data"
    assert data.files(built=False) == (demo / "train.jsonl", demo / "val.jsonl")
    built = (tmp_path / "train.jsonl", tmp_path / "val.jsonl")
    assert data.files(built=True) == built
    built[0].touch()
    assert data.files(built=False) == built
    other = tmp_path / "other"
    data = LoraSettings.load(DEFAULT_SETTINGS, [f"data.output_data={other}"]).data
    assert data.files(built=False) == (other / "train.jsonl", other / "val.jsonl")
    sets = [f"data.output_data={other}", "data.train_file=a.jsonl", "data.val_file=b.jsonl"]
    data = LoraSettings.load(DEFAULT_SETTINGS, sets).data
    assert [file.name for file in data.files(built=False)] == ["a.jsonl", "b.jsonl"]
    assert data.files(built=True) == (other / "train.jsonl", other / "val.jsonl")


def test_leftovers_of_a_killed_run_are_removed_on_resume(
    trainer: Trainer, copy_run: CopyRun
) -> None:
    """A run that was killed while it copied the best adapter leaves a temporary folder."""
    output = copy_run()
    leftover = output / ".best.abcdefgh.tmp"
    leftover.mkdir()
    trainer.train("run", "--resume_from_checkpoint", "latest")
    assert not leftover.exists()
