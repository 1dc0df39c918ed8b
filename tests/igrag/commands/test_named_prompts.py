"""Captioning with soft prompts by name: --prompt, and requests in a file."""

import json
from pathlib import Path

import pytest

from igrag.captioning.captioner import Captioner
from igrag.config import Config
from igrag.errors import ConfigError
from prompt_tuning.fingerprint import NO_ADAPTER
from tests.command import Command, one_error
from tests.igrag.commands.test_caption_methods import ON, Settings, save_random_prompt
from tests.tiny import CocoFolder


@pytest.fixture
def named(tmp_path: Path, tiny_t5: Path) -> Settings:
    """Two soft prompts of different lengths, `a` and `b`, and a third that is configured.

    With `a` the tiny model generates nothing, as without a prompt; with the others a word.
    """
    settings = save_random_prompt(tmp_path / "default.pt", tiny_t5)
    for name, length, seed in (("a", 3, 3), ("b", 5, 1)):
        path = tmp_path / f"{name}.pt"
        save_random_prompt(path, tiny_t5, seed=seed, length=length)
        settings += (f"prompt_tuning.prompts.{name}={path}",)
    return settings


def save_requests(path: Path, *requests: dict[str, object]) -> Path:
    """Saves requests as JSONL."""
    path.write_text("".join(json.dumps(each) + "\n" for each in requests), encoding="utf-8")
    return path


def rows_of(out: str) -> list[dict[str, object]]:
    """Parses lines of JSON."""
    return [json.loads(line) for line in out.splitlines()]


def test_prompt_by_name_captions_as_the_configured_one(
    command: Command, coco: CocoFolder, named: Settings, tmp_path: Path
) -> None:
    """--prompt NAME gives the caption that the same file gives as weights_path, and names it."""
    image = coco.image(1)
    found = rows_of(command("--json", "--i", image, "--prompt", "b", settings=named)[1])[0]
    as_configured = (*ON, f"prompt_tuning.weights_path={tmp_path / 'b.pt'}")
    expected = rows_of(command("--json", "--i", image, settings=as_configured)[1])[0]
    plain = rows_of(command("--json", "--i", image, settings=named)[1])[0]
    assert found["caption"] == expected["caption"] != plain["caption"]
    assert (found["prompt_name"], found["prompt_tuning"]) == ("b", True)
    assert "prompt_name" not in plain and plain["prompt_tuning"] is False


def test_several_prompts_give_a_caption_each(
    command: Command, coco: CocoFolder, named: Settings
) -> None:
    """--prompt twice: two captions below one list of matches, or two JSON lines for each image."""
    words = ("--i", coco.image(1), coco.image(2), "--prompt", "b", "--prompt", "a")
    rows = rows_of(command("--json", *words, settings=named)[1])
    assert [(Path(str(row["image"])), row["prompt_name"]) for row in rows] == [
        (coco.image(number), name) for number in (1, 2) for name in "ba"
    ]
    assert rows[0]["caption"] != rows[1]["caption"]
    lines = command(*words, "--top_k", 2, settings=named)[1].splitlines()
    assert len(lines) == 10 and lines[3] == f"  b: {rows[0]['caption']}"
    assert lines[4] == f"  a: {rows[1]['caption']}"


@pytest.mark.parametrize("enabled", [False, True])
def test_requests_are_answered_in_order_in_mixed_batches(
    command: Command, coco: CocoFolder, named: Settings, tmp_path: Path, enabled: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """One batch of three prompts gives what each gives alone, ids included."""
    batches = []
    caption = Captioner.caption_retrieved_with_prompts

    def counted(self: Captioner, retrieved, prompt_names):  # type: ignore[no-untyped-def]
        batches.append([name for each in prompt_names for name in each])
        return caption(self, retrieved, prompt_names)

    monkeypatch.setattr(Captioner, "caption_retrieved_with_prompts", counted)
    monkeypatch.chdir(coco.images)
    switch = ON if enabled else ()
    path = save_requests(
        tmp_path / "requests.jsonl",
        {"image": coco.image(3).name, "prompt_name": "b", "id": "x"},
        {"image": coco.image(1).name, "id": 7},
        {"image": coco.image(2).name, "prompt_name": "a"},
        {"image": coco.image(3).name, "prompt_name": "a"},
    )
    code, out, err = command("--json", "--requests", path, settings=(*named, *switch))
    assert (code, batches) == (0, [["b", "default" if enabled else None, "a", "a"]]), err
    rows = rows_of(out)
    assert [(row.get("id"), row.get("prompt_name")) for row in rows] == [
        ("x", "b"), (7, None), (None, "a"), (None, "a"),
    ]  # fmt: skip
    for row in rows:
        name = row.get("prompt_name")
        words = ("--prompt", name) if name else ()
        alone = command("--json", "--i", row["image"], *words, settings=(*named, *switch))[1]
        assert rows_of(alone)[0]["caption"] == row["caption"]
        assert row["prompt_tuning"] is (enabled or name is not None)


def test_batch_without_names_uses_what_is_enabled(
    command: Command, coco: CocoFolder, named: Settings, tmp_path: Path
) -> None:
    """A request without a name gets no prompt of the others, alone in its batch or resumed."""
    path, output = tmp_path / "requests.jsonl", tmp_path / "answers.jsonl"
    image = str(coco.image(1))
    save_requests(path, {"image": image, "prompt_name": "b"}, {"image": image})
    settings = (*named, "generation_config.batch_size=1")
    words = ("--requests", path, "--json", "--output", output)
    assert command(*words, settings=settings)[0] == 0
    first, second = rows_of(output.read_text())
    plain = rows_of(command("--json", "--i", image, settings=named)[1])[0]["caption"]
    assert second["caption"] == plain != first["caption"]
    output.write_text(output.read_text().splitlines(keepends=True)[0])
    assert command(*words, "--resume", settings=settings)[0] == 0
    assert rows_of(output.read_text())[1]["caption"] == plain


def test_prompt_of_requests_without_one_is_the_option(
    command: Command, coco: CocoFolder, named: Settings, tmp_path: Path
) -> None:
    """--prompt holds for the lines that name none."""
    path = save_requests(
        tmp_path / "requests.jsonl",
        {"image": str(coco.image(1)), "prompt_name": None},
        {"image": str(coco.image(1)), "prompt_name": "b"},
    )
    out = command("--json", "--requests", path, "--prompt", "a", settings=named)[1]
    assert [row["prompt_name"] for row in rows_of(out)] == ["a", "b"]


def test_unknown_prompt_name_is_a_usage_error(
    command: Command, coco: CocoFolder, named: Settings, tmp_path: Path
) -> None:
    """The error has the origin of the name and lists the known ones, before a model is loaded."""
    missing = f"model_config.models.flan-t5.path={tmp_path}"
    code, out, err = command(
        "--i", coco.image(1), "--prompt", "c", settings=(*named, missing)
    )  # fmt: skip
    assert (code, out) == (2, "")
    assert "--prompt c: expected a name of prompt_tuning.prompts (a, b)" in one_error(err)
    path = tmp_path / "requests.jsonl"
    save_requests(path, {"image": "a.jpg"}, {"image": "a.jpg", "prompt_name": "bb"})
    code, _, err = command("--requests", path, settings=(*named, missing))
    expected = f"{path}:2: prompt_name bb: did you mean b? expected a name of"
    assert code == 2 and expected in one_error(err)
    assert "prompt_tuning.prompts (none)" in command("--requests", path, settings=(missing,))[2]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"prompt_name": "a"}', '"image" is missing'),
        ('{"image": 5}', '"image" is a number, expected text'),
        ('{"image": "a.jpg", "prompt": "a"}', 'unknown key "prompt"'),
        ('{"image": "a.jpg", "prompt_name": 1}', '"prompt_name" is a number'),
        ('{"image": "a.jpg", "id": []}', '"id" is a list'),
        ("a.jpg", "not valid JSON"),
    ],
)
def test_request_that_is_wrong_is_an_error_with_its_line(
    command: Command, tmp_path: Path, line: str, expected: str
) -> None:
    """A damaged request is an error of data that names file and line."""
    path = tmp_path / "requests.jsonl"
    path.write_text(f'{{"image": "a.jpg"}}\n\n{line}\n')
    code, _, err = command("--requests", path)
    assert code == 1 and f"{path}:3: {expected}" in one_error(err)


def test_requests_are_resumed_prompt_by_prompt(
    command: Command, coco: CocoFolder, named: Settings, tmp_path: Path
) -> None:
    """--resume captions with the prompts that the file lacks, and answers no request twice."""
    output = tmp_path / "results.jsonl"
    words = ("--i", coco.image(1), coco.image(2), "--json", "--output", output)
    assert command(*words, "--prompt", "a", settings=named)[0] == 0
    both = (*words, "--prompt", "b", "--prompt", "a", "--resume")
    code, _, err = command(*both, settings=named)
    assert code == 0 and "has 2 of 4 images already" in err
    rows = rows_of(output.read_text())
    assert [row["prompt_name"] for row in rows] == ["a", "a", "b", "b"]
    same = {"image": str(coco.image(1)), "prompt_name": "a", "id": 1}
    path = save_requests(tmp_path / "requests.jsonl", same, same)
    answering = ("--requests", path, "--json", "--output", tmp_path / "answers.jsonl")
    assert command(*answering, settings=named)[0] == 0
    whole = (tmp_path / "answers.jsonl").read_text()
    (tmp_path / "answers.jsonl").write_text(whole.splitlines(keepends=True)[0])
    assert command(*answering, "--resume", settings=named)[0] == 0
    assert [row["id"] for row in rows_of((tmp_path / "answers.jsonl").read_text())] == [1, 1]


def test_named_prompt_of_something_else_is_refused(
    command: Command, coco: CocoFolder, named: Settings, tmp_path: Path, tiny_t5: Path
) -> None:
    """A prompt of another adapter, or a file that is missing, is an error as for weights_path."""
    save_random_prompt(tmp_path / "a.pt", tiny_t5, lora="0" * 64)
    code, _, err = command("--i", coco.image(1), "--prompt", "a", settings=named)
    assert code == 1 and "a.pt" in one_error(err) and NO_ADAPTER in err
    (tmp_path / "a.pt").unlink()
    code, _, err = command("--i", coco.image(1), "--prompt", "a", settings=named)
    assert code == 1 and "a.pt" in one_error(err)
    # What is not used is not opened.
    assert command("--i", coco.image(1), "--prompt", "b", settings=named)[0] == 0


def test_options_that_contradict_named_prompts_are_usage_errors(
    command: Command, coco: CocoFolder, named: Settings
) -> None:
    """--compare compares methods, and a request's image stands in its file."""
    code, _, err = command(
        "--i", coco.image(1), "--compare", "--prompt", "a", settings=named
    )  # fmt: skip
    assert code == 2 and "--compare" in one_error(err)
    with pytest.raises(SystemExit) as caught:
        command("--i", coco.image(1), "--requests", "requests.jsonl")
    assert caught.value.code == 2


def test_name_of_the_configured_prompt_is_reserved() -> None:
    """`default` would be two prompts."""
    with pytest.raises(ConfigError, match=r"prompts: .*other names than 'default'"):
        Config.load(overrides=["prompt_tuning.prompts.default=a.pt"])
