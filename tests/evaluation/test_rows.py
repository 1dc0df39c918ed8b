"""The rows nearest, instruction and human of a comparison, from the command line to the files."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from evaluation.dataset import read_jsonl
from evaluation.instructions import _neighbor
from evaluation.rows import in_order
from igrag import from_config
from igrag.captioning.generator import CaptionGenerator
from igrag.config import Config
from tests.command import one_error
from tests.evaluation.evaluator import Evaluator
from tests.tiny import CocoFolder

SUBJECTS = ("dog", "cat", "horse", "bird", "man", "woman")
INSTRUCTIONS = ("describe the picture", "generate a caption")
ROWS = ["base", "nearest", "instruction", "human"]


def save_data(path: Path, *, first_id: int, references: int = 2) -> Path:
    """Saves six lines whose prompts are made with the template of the configuration."""
    prompts = Config.load().prompt_config
    lines = []
    for number, subject in enumerate(SUBJECTS):
        captions = f"- a {subject} on the street\n- a {subject} in a house"
        prompt = prompts.template.replace("{objects}\n", "")
        prompt = prompt.format(instruction=prompts.instruction, captions=captions)
        texts = [f"the {subject} sits on the street, {n}" for n in range(references)]
        line = {"prompt": prompt, "caption": texts[0], "references": texts}
        lines.append({**line, "image_id": first_id + number})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder of a test and a val split without common images."""
    folder = tmp_path / "data"
    folder.mkdir()
    save_data(folder / "test.jsonl", first_id=1)
    save_data(folder / "val.jsonl", first_id=100)
    return folder


@pytest.fixture
def instructions(tmp_path: Path) -> Path:
    """A file of two instructions."""
    path = tmp_path / "mine.yaml"
    path.write_text(f"instructions: {json.dumps(INSTRUCTIONS)}\n", encoding="utf-8")
    return path


@pytest.fixture
def prompts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The prompts that are captioned; a caption is right if the second instruction asks for it."""
    seen: list[str] = []

    def generate(
        self: CaptionGenerator, texts: Sequence[str], image_vectors: object = None
    ) -> list[str]:
        seen.extend(texts)
        right = [re.search(r"- a (\w+)", text) for text in texts]
        return [
            f"the {found[1]} sits on the street" if found and INSTRUCTIONS[1] in text else "a bus"
            for found, text in zip(right, texts, strict=True)
        ]

    monkeypatch.setattr(CaptionGenerator, "generate", generate)
    return seen


def captions(evaluator: Evaluator, method: str) -> list[str]:
    """Returns the captions that were written of a method."""
    return [each["caption"] for each in evaluator.read("results.json")[method]]


def test_default_comparison_has_all_rows(
    untrained: Evaluator, data: Path, instructions: Path, prompts: list[str]
) -> None:
    """Rows are in table, metrics.json, report and captions files, in one order."""
    code, out, _ = untrained("--data", data, "--instructions", instructions)
    assert code == 0
    assert list(untrained.read("metrics.json")["methods"]) == ROWS
    assert list(untrained.read("results.json")) == ROWS[:3]
    assert captions(untrained, "nearest") == [f"a {subject} on the street" for subject in SUBJECTS]
    names = [line.split()[1] for line in out.splitlines() if line.startswith("| ")]
    assert [name for name in names if name.strip("-")] == ["method", *ROWS] * 2  # and diversity
    report = (untrained.output / "report.html").read_text("utf-8")
    assert report.count("<dt>nearest</dt>") == report.count("<dt>human</dt>") == 6
    human = untrained.read("metrics.json")["methods"]["human"]
    assert human["captions_per_second"] is None and human["images"] == 6
    assert human["over"]["nearest"]["bleu4"]["difference"] == pytest.approx(
        human["bleu4"] - untrained.read("metrics.json")["methods"]["nearest"]["bleu4"]
    )


def test_instruction_is_chosen_on_other_images(
    untrained: Evaluator, data: Path, instructions: Path, prompts: list[str]
) -> None:
    """The best instruction on val replaces that of the configuration, for its row alone."""
    words = ("--instructions", instructions, "--instruction_limit", 4)
    assert untrained("--data", data, "--methods", "base,instruction", *words)[0] == 0
    configured = Config.load().prompt_config.instruction
    assert [INSTRUCTIONS[1] in text for text in captions(untrained, "base")] == [False] * 6
    assert captions(untrained, "instruction")[1] == "the cat sits on the street"
    choice = untrained.read("metrics.json")["instruction"]
    assert choice["text"] == INSTRUCTIONS[1] and choice["images"] == 4
    assert choice["data"].endswith("val.jsonl")
    assert [each["text"] for each in choice["scores"]] == [configured, *INSTRUCTIONS]
    scores = [each["bleu4"] for each in choice["scores"]]
    assert scores[2] > max(scores[:2])
    tried = prompts[: 3 * 4]
    for number, text in enumerate((configured, *INSTRUCTIONS)):
        assert all(prompt.startswith(f"{text}\n\nCaptions") for prompt in tried[4 * number :][:4])
    assert "of 3 instructions on 4 images of" in (untrained.output / "table.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("scored", "expected"), [("test", "val.jsonl"), ("val", "train.jsonl"), ("train", "val.jsonl")]
)
def test_instruction_is_chosen_on_a_split_that_is_not_scored(
    untrained: Evaluator, data: Path, instructions: Path, prompts: list[str],
    scored: str, expected: str,
) -> None:  # fmt: skip
    """It is chosen on val, and on train where val is scored."""
    save_data(data / "train.jsonl", first_id=200)
    words = ("--methods", "instruction", "--split", scored, "--instructions", instructions)
    assert untrained("--data", data, *words)[0] == 0
    assert untrained.read("metrics.json")["instruction"]["data"].endswith(expected)


@pytest.mark.parametrize("name", ["test.jsonl", "copy.jsonl", "numbers.jsonl"])
def test_choice_on_scored_images_is_an_error(
    untrained: Evaluator, data: Path, prompts: list[str], name: str
) -> None:
    """Neither the scored file nor one that shares images with it may choose the instruction."""
    test = data / "test.jsonl"
    if name == "copy.jsonl":  # One common image.
        save_data(data / name, first_id=6)
    if name == "numbers.jsonl":  # Common prompts, in files without ids.
        text = re.sub(r', "image_id": \d+', "", test.read_text("utf-8"))
        (data / name).write_text(text, encoding="utf-8")
        test.write_text(text, encoding="utf-8")
    code, out, err = untrained("--data", test, "--instruction_data", data / name)
    found = {
        "test.jsonl": "is the file that is scored",
        "copy.jsonl": "holds 1 images of .*by their ids",
        "numbers.jsonl": r"holds 6 images of .*by prompts and references",
    }
    assert (code, out, prompts) == (2, "", []) and not untrained.output.exists()
    assert re.search(rf"--instruction_data .*{found[name]}", one_error(err))


def test_compressed_split_is_found(data: Path) -> None:
    """A split next to the scored one may be compressed."""
    scored = read_jsonl(data / "test.jsonl")
    assert _neighbor(scored) == data / "val.jsonl"
    packed = (data / "val.jsonl").rename(data / "val.jsonl.gz")
    assert _neighbor(scored) == packed
    assert _neighbor(replace(scored, path=packed)) is None
    save_data(data / "train.jsonl", first_id=200)
    assert _neighbor(replace(scored, path=packed)) == data / "train.jsonl"
    packed.unlink()
    assert _neighbor(scored) is None


def test_val_that_shares_images_chooses_nothing(
    untrained: Evaluator, data: Path, prompts: list[str]
) -> None:
    """A val.jsonl with scored images is not taken by default: the row is left out."""
    save_data(data / "val.jsonl", first_id=6)
    code, out, _ = untrained("--data", data)
    assert code == 0 and "instruction is left out: its instruction would be chosen on" in out
    assert (
        "which holds 1 images of"
        in untrained.read("metrics.json")["methods_left_out"]["instruction"]
    )
    code, _, err = untrained("--data", data, "--methods", "instruction", "--overwrite_output_dir")
    assert code == 2 and "--methods instruction: its instruction would be" in one_error(err)


def test_prompts_of_another_form_leave_rows_out(
    untrained: Evaluator, data: Path, prompts: list[str]
) -> None:
    """Prompts that the template did not make have no first caption and no instruction."""
    test = data / "test.jsonl"
    test.write_text(test.read_text("utf-8").replace("Caption:", "C:", 1), encoding="utf-8")
    code, out, _ = untrained("--data", data)
    assert code == 0 and list(untrained.read("metrics.json")["methods"]) == ["base", "human"]
    assert "nearest is left out: 1 of 6 prompts were not made with the template" in out
    assert "instruction is left out: 1 of 12 prompts were not made with the template" in out
    code, _, err = untrained("--data", data, "--methods", "nearest", "--overwrite_output_dir")
    assert code == 2 and "--methods nearest: 1 of 6 prompts were not" in one_error(err)


def test_single_references_leave_human_out(
    untrained: Evaluator, data: Path, prompts: list[str]
) -> None:
    """Without any image of two references there is no row human, and the reason is given."""
    save_data(data / "test.jsonl", first_id=1, references=1)
    code, out, _ = untrained("--data", data)
    assert code == 0 and "human is left out: no image has more than one reference." in out
    code, _, err = untrained("--data", data, "--methods", "base,human", "--overwrite_output_dir")
    assert code == 2 and "--methods human: no image has more than one" in one_error(err)


def test_rows_without_a_model_load_none(
    untrained: Evaluator, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows nearest and human alone need no language model."""
    monkeypatch.setattr(from_config, "load_language", None)
    code, out, _ = untrained("--data", data, "--methods", "human,nearest")
    assert "captioned by" not in out and "trainable" not in out and "captions/s" not in out
    assert code == 0 and list(untrained.read("metrics.json")["methods"]) == ["nearest", "human"]
    assert untrained.read("metrics.json")["reference"] == "nearest"
    code, _, _ = untrained("--data", data, "--methods", "human", "--overwrite_output_dir")
    assert code == 0 and list(untrained.read("metrics.json")["methods"]) == ["human"]


def test_nearest_of_coco_is_the_best_match(
    untrained: Evaluator, coco: CocoFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With retrieval it is the caption of the best match, never of the image or of a copy."""
    coco.image(2).write_bytes(coco.image(7).read_bytes())  # The knowledge base has 7's vector.
    with Image.open(coco.image(3)) as image:
        image.save(coco.image(3), quality=30)
    words = ("--captions", coco.captions, "--images", coco.images)
    prompts: list[str] = []
    generate = CaptionGenerator.generate

    def record(
        self: CaptionGenerator, texts: Sequence[str], image_vectors: object = None
    ) -> list[str]:
        prompts.extend(texts)
        return generate(self, texts)

    monkeypatch.setattr(CaptionGenerator, "generate", record)
    code, out, _ = untrained(*words)
    assert code == 0 and "instruction is left out: its instruction must be chosen on images" in out
    shown = [re.findall(r"^- (.*)$", prompt, re.M)[0] for prompt in prompts[1:]]
    assert captions(untrained, "nearest") == shown
    assert all(f"field {n}," not in text for n, text in enumerate(shown, 1))


@pytest.mark.slow  # test_nearest_of_coco_is_the_best_match covers its captions
def test_nearest_of_coco_needs_no_model(
    untrained: Evaluator, coco: CocoFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Retrieval alone gives the same captions as with a language model."""
    words = ("--captions", coco.captions, "--images", coco.images, "--methods")
    assert untrained(*words, "base,nearest")[0] == 0
    expected = captions(untrained, "nearest")
    monkeypatch.setattr(from_config, "load_language", None)
    assert untrained(*words, "nearest", "--overwrite_output_dir")[0] == 0
    assert captions(untrained, "nearest") == expected


def test_instruction_for_coco_is_chosen_on_given_data(
    untrained: Evaluator, coco: CocoFolder, data: Path, instructions: Path, prompts: list[str]
) -> None:
    """Prompts of retrieval get the instruction that was chosen on a JSONL file."""
    words = ("--captions", coco.captions, "--images", coco.images, "--instructions", instructions)
    code, _, err = untrained(
        *words, "--instruction_data", data / "val.jsonl", "--methods", "instruction,base"
    )
    assert code == 0, err
    assert untrained.read("metrics.json")["instruction"]["text"] == INSTRUCTIONS[1]
    scored = prompts[3 * 6 :]
    assert sum(prompt.startswith(f"{INSTRUCTIONS[1]}\n\nCaptions") for prompt in scored) == 13


def test_captions_of_files_get_the_row_human(
    untrained: Evaluator, data: Path, tmp_path: Path
) -> None:
    """The other two rows need retrieval and a model; files of their names are these rows."""
    path = tmp_path / "mine.json"
    entries: list[dict[str, Any]] = [
        {"image_id": number + 1, "caption": f"a {subject}"}
        for number, subject in enumerate(SUBJECTS)
    ]
    path.write_text(json.dumps(entries), encoding="utf-8")
    words = ("--data", data / "test.jsonl", "--results", path)
    code, out, _ = untrained(*words)
    assert code == 0 and list(untrained.read("metrics.json")["methods"]) == ["mine", "human"]
    for name in ("nearest", "instruction"):
        assert f"{name} is left out: captions from files are scored without retrieval" in out
    path.write_text(json.dumps({"nearest": entries, "mine": entries}), encoding="utf-8")
    code, out, _ = untrained(*words, "--overwrite_output_dir")
    assert code == 0 and "nearest is left out" not in out and "mine: in BLEU-4 it is no" in out
    code, _, _ = untrained(*words, "--methods", "mine", "--overwrite_output_dir")
    assert code == 0 and list(untrained.read("metrics.json")["methods"]) == ["mine"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("instructions: []", r"found \[\], expected one key instructions with a list"),
        ("instruction: [a]", "found instruction, expected one key instructions"),
        ("instructions: [a, 7]", "found 7 as number 2, expected a text"),
        (None, "no such file"),
    ],
)
def test_invalid_file_of_instructions_is_an_error(
    untrained: Evaluator, data: Path, instructions: Path, content: str | None, message: str
) -> None:
    """The error has the file, what was found and what was expected."""
    if content is None:
        instructions.unlink()
    else:
        instructions.write_text(content, encoding="utf-8")
    code, out, err = untrained("--data", data, "--instructions", instructions)
    assert (code, out) == (2, "") and re.search(rf"mine\.yaml: .*{message}", one_error(err))


def test_rows_stand_around_the_methods() -> None:
    """Baselines come first and human last; other names keep their order."""
    names = ["human", "lora", "prompt", "instruction", "mine", "base", "nearest"]
    assert in_order(names) == ["base", "nearest", "instruction", "lora", "prompt", "mine", "human"]
