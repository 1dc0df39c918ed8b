"""The figures of the documents: steps that are run once, blocks, and figures outside of them."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from benchmarks.figures import comparison, documents, tables
from benchmarks.figures.__main__ import check
from benchmarks.figures.outputs import Output
from benchmarks.figures.steps import Step, current_commit, measuring_commit, run_steps
from demo.language import requests
from igrag.config import REPO_ROOT
from igrag.errors import DataError

_PARTS = ("covered", "not covered")
_FIGURES = REPO_ROOT / "docs" / "figures"


def _run(difference: float, p: float, score: float, *, image: bool = False) -> dict[str, Any]:
    found = {"difference": difference, "low": 0, "high": 1, "p_value": p}
    others = (*comparison.BASELINES, *(comparison.IMAGE_AGAINST if image else ()))
    over = {name: {"bleu4": found, "cider_d": found} for name in others}
    method = {"bleu4": score, "cider_d": 2 * score, "rouge_l": score, "over": over}
    method["training"] = {
        "trainable_parameters": 2560, "trainable_percent": 0.137, "size_bytes": 12393,
        "training_seconds": 170.4,
    }  # fmt: skip
    names = (*comparison.IMAGE_METHODS, *comparison.SHUFFLED) if image else ()
    methods = dict.fromkeys((*comparison.TRAINED, *names), method)
    groups = [{"by": "coverage", "group": name, "images": 3, "methods": methods} for name in _PARTS]
    return {"methods": methods, "retrieval_quality": groups}


def _summary(*, image: bool = False) -> dict[str, Any]:
    untrained: dict[str, Any] = {
        "methods": {
            name: {"bleu4": 0.5, "cider_d": 1.0, "rouge_l": 0.25} for name in comparison.UNTRAINED
        },
        "instruction": {
            "text": "Describe it.",
            "scores": [{}, {}],
            "data": "val.jsonl",
            "images": 100,
        },
        "images": 6,
    }
    untrained["retrieval_quality"] = [
        {"by": "coverage", "group": name, "images": 3, "methods": untrained["methods"]}
        for name in _PARTS
    ]
    runs = [
        _run(0.1, 0.002, 0.6, image=image),
        _run(0.2, 0.004, 0.7, image=image),
        _run(0.3, 0.02, 0.8),
    ]
    return comparison.summarize(untrained, runs)


def test_documents_show_the_written_figures() -> None:
    """Every block of every document is what docs/figures says."""
    assert check(_FIGURES) == 0


@pytest.mark.parametrize("path", list(documents.documents(REPO_ROOT)), ids=lambda path: path.name)
def test_document_has_no_score_outside_of_blocks(path: Path) -> None:
    """No score is typed by hand, where nothing would correct it."""
    assert documents.loose_scores(path.read_text(encoding="utf-8")) == []


def test_planted_wrong_figure_is_found(tmp_path: Path) -> None:
    """A figure that is changed in a block is replaced, and one outside is listed."""
    (tmp_path / "covered.json").write_text(json.dumps(_summary()), encoding="utf-8")
    empty = "<!-- figures: covered scores lang=en -->\n<!-- end figures -->\n"
    filled = documents.fill_blocks(empty, tmp_path)
    assert "| prompt | 0.700 (0.600–0.800) |" in filled
    assert documents.fill_blocks(filled.replace("0.700", "0.900"), tmp_path) == filled
    assert documents.loose_scores(filled) == []
    assert documents.loose_scores(f"{filled} It gains +0.05, or 86.5%.") == ["+0.05", "86.5%"]
    assert documents.loose_scores("`--set a=0.03` and version 0.1 or 0.2.0") == []


@pytest.mark.parametrize(("block", "problem"), [("none scores", "none.json"), ("covered x", "x:")])
def test_block_of_unknown_figure_is_refused(tmp_path: Path, block: str, problem: str) -> None:
    """A block that names a file or a view which does not exist is an error."""
    (tmp_path / "covered.json").write_text("{}", encoding="utf-8")
    text = f"<!-- figures: {block} lang=en -->\n<!-- end figures -->\n"
    with pytest.raises(DataError, match=problem):
        documents.fill_blocks(text, tmp_path)


def test_summary_has_mean_lowest_highest_and_largest_p() -> None:
    """Trained methods have the spread of the seeds; what needs no training has one value."""
    summary = _summary()
    assert summary["methods"]["prompt"]["scores"]["bleu4"] == {
        "mean": pytest.approx(0.7), "low": 0.6, "high": 0.8,
    }  # fmt: skip
    assert summary["methods"]["nearest"]["scores"]["bleu4"]["mean"] == 0.5
    assert summary["methods"]["nearest"]["scores"]["clip_score"] is None
    over = summary["methods"]["lora"]["over"]["nearest"]["cider_d"]
    assert over == {"mean": pytest.approx(0.2), "low": 0.1, "high": 0.3, "largest_p": 0.02}


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_sentences_say_what_beats_what(lang: str) -> None:
    """A method beats a baseline only if every seed does, significantly."""
    summary = _summary()
    text = tables.sentences(summary, lang)
    assert text.count("\n") == 2 * len(comparison.TRAINED)
    assert {"en": "beats nearest by +0.200", "zh": "高于 nearest，差值 +0.200"}[lang] in text
    assert "0.020" in text
    summary["methods"]["prompt"]["over"]["nearest"]["bleu4"]["largest_p"] = 0.3
    changed = tables.sentences(summary, lang)
    assert {"en": "is not told apart from nearest", "zh": "与 nearest 并非"}[lang] in changed
    assert {"en": "p up to 0.300", "zh": "p 最大 0.300"}[lang] in changed


def test_parts_stand_beside_the_whole() -> None:
    """The table has covered, not covered and all images, and each part has its sentences."""
    summary = _summary()
    table = tables.parts_table(summary, "en")
    assert "BLEU-4: covered (3) | BLEU-4: not covered (3) | BLEU-4: all (6)" in table
    assert tables.parts_sentences(summary, "en").count("**prompt**, BLEU-4: beats base") == 2


def test_image_tokens_are_compared_with_what_they_are_added_to() -> None:
    """Seeds without image tokens do not count; controls are rows, and claim nothing."""
    summary = _summary(image=True)
    assert summary["image_seeds"] == 2
    table = tables.image_table(summary, "en")
    assert "over prompt: not covered" in table and "over lora: all" in table
    assert "| image-prompt-shuffled, BLEU-4 | +0.150 (+0.100 … +0.200), p ≤ 0.0040 |" in table
    over = summary["methods"]["image-prompt"]["over"]["prompt"]["bleu4"]
    over["largest_p"] = 0.983
    assert "(+0.100 … +0.200), p up to 0.983 |" in tables.image_table(summary, "en")
    assert "| lora+image-prompt-shuffled | 0.650" in tables.scores_table(summary, "en")
    assert "**lora+image-prompt**" in tables.sentences(summary, "en")
    assert "shuffled" not in tables.sentences(summary, "en")


def test_costs_are_those_that_other_jobs_do_not_change() -> None:
    """The table has parameters and size; how long trainings took side by side is no cost."""
    assert tables.costs_table(_summary(), "en").splitlines() == [
        "| Method | Trainable parameters | Share | Size on disk |",
        "| --- | ---: | ---: | ---: |",
        *(f"| {name} | 2,560 | 0.14% | 12 kB |" for name in comparison.TRAINED),
    ]


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_chosen_instruction_is_shown(lang: str) -> None:
    """The documents say which instruction was chosen, of how many and on which images."""
    text = tables.instruction_sentence(_summary(), lang)
    for word in ("Describe it.", "2", "100", "`val.jsonl`"):
        assert word in text


def test_chosen_instruction_is_one_of_the_base_models_own() -> None:
    """The documents say that the base model was trained with the instruction that was chosen."""
    own = {request.format("first") for request in requests.SELECT}
    for benchmark in comparison.BENCHMARKS:
        figures = json.loads((_FIGURES / f"{benchmark.name}.json").read_text(encoding="utf-8"))
        assert figures["instruction"]["text"] in own


def test_steps_run_once_and_in_order(tmp_path: Path) -> None:
    """A step that has finished is not repeated, until one of its files changes."""
    source, log = tmp_path / "in.txt", tmp_path / "log.txt"
    source.write_text("a", encoding="utf-8")

    def words(name: str) -> tuple[str, ...]:
        return ("-c", f"open({str(log)!r}, 'a').write({name!r})")

    first = Step("first", words("1"), (source,))
    second = Step("second", words("2"), after=(first,))
    for _ in range(2):
        run_steps([second, first], tmp_path / "work", jobs=2, threads=1)
        assert log.read_text(encoding="utf-8") == "12"
    source.write_text("other", encoding="utf-8")
    run_steps([first, second], tmp_path / "work", jobs=1, threads=1)
    assert log.read_text(encoding="utf-8") == "1212"


def test_commit_is_that_of_the_clone(tmp_path: Path) -> None:
    """The commit is marked where files differ from it, and is None without git."""
    clones = [tmp_path / name for name in ("none", "clean", "changed")]
    words = ("-c", "user.name=A", "-c", "user.email=a@b", "commit", "--quiet", "--message=One")
    for clone in clones:
        clone.mkdir()
        (clone / "a.txt").write_text("a", encoding="utf-8")
    for clone in clones[1:]:
        for each in (("init", "--quiet"), ("add", "a.txt"), words):
            subprocess.run(["git", *each], cwd=clone, check=True)
    (clones[2] / "a.txt").write_text("b", encoding="utf-8")
    none, clean, changed = map(current_commit, clones)
    assert none is None
    assert clean is not None and re.fullmatch("[0-9a-f]{7,}", clean)
    assert changed is not None and re.fullmatch("[0-9a-f]{7,}-dirty", changed)


def test_figure_has_the_commits_of_its_steps(tmp_path: Path) -> None:
    """A figure names the commits of all its steps, and none where a step has not recorded one."""
    first = Step("first", ("-c", ""))
    second = Step("second", ("-c", ""), after=(first,))
    run_steps([second], tmp_path, jobs=1, threads=1)
    assert measuring_commit([second], tmp_path) == current_commit(REPO_ROOT)
    record = tmp_path / "first" / "done.json"
    done = json.loads(record.read_text())
    record.write_text(json.dumps({**done, "commit": "0000000"}), encoding="utf-8")
    (tmp_path / "second" / "done.json").write_text(json.dumps({**done, "commit": "1111111"}))
    assert measuring_commit([second], tmp_path) == "0000000, 1111111"
    record.write_text(json.dumps({"digest": done["digest"]}), encoding="utf-8")
    assert measuring_commit([second], tmp_path) is None


def test_failing_step_is_named_and_not_done(tmp_path: Path) -> None:
    """A command that fails ends the run with the path of its log."""
    step = Step("broken", ("-c", "raise SystemExit(3)"))
    with pytest.raises(DataError, match=r"broken/step\.log: exit code 3"):
        run_steps([step], tmp_path, jobs=1, threads=1)
    assert not step.is_done(tmp_path)


def test_output_shows_the_part_that_is_asked_for(tmp_path: Path) -> None:
    """What a command prints around the figures is left out."""
    output = Output("hello", ("-c", "print('x\\nfigures: 1\\n2')"), (), pattern=r"figures.*")
    run_steps([output.step()], tmp_path, jobs=1, threads=1)
    assert output.read(tmp_path)["output"] == "figures: 1\n2"


def test_only_the_final_comparison_reads_the_test_split() -> None:
    """No script but the comparison, and what draws and builds the split, names it."""
    allowed = {"evaluation/options.py", "benchmarks/figures/__main__.py", "demo/world/splits.py"}
    found = set()
    for folder in ("benchmarks", "demo", "evaluation", "igrag", "lora_training", "prompt_tuning"):
        for path in (REPO_ROOT / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            if '"test"' in text or "test.jsonl" in text or "_test.json" in text:
                found.add(path.relative_to(REPO_ROOT).as_posix())
    assert found - {"igrag/config/choices.py"} == allowed
