"""The command run_evaluation.py, from the arguments to the files."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from numpy.typing import NDArray
from PIL import Image

from evaluation.methods import TrainedPaths
from evaluation.options import EvaluationOptions, check_options, parse_arguments
from igrag.captioning.language_model import LanguageModel
from igrag.config import REPO_ROOT, Config
from igrag.metrics import Metric, MetricScore, TokenizedCorpus, registry, score_captions, tokenize
from igrag.metrics.meteor import Meteor
from tests.command import one_error
from tests.evaluation.conftest import SavePrompt
from tests.evaluation.evaluator import Evaluator
from tests.examples import save_examples
from tests.tiny import CocoFolder

ALL = ["base", "prompt", "lora", "lora+prompt"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Six examples in JSONL."""
    return save_examples(tmp_path / "test.jsonl", count=6, seed=0)


def texts(results: list[dict[str, Any]]) -> list[str]:
    """Returns the captions of COCO results."""
    return [entry["caption"] for entry in results]


@pytest.mark.slow
def test_all_methods_share_one_loaded_model(
    evaluator: Evaluator, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four methods with one loaded model give the captions of each loaded alone."""
    from igrag import from_config

    loads: list[str] = []
    load = from_config.load_language

    def record_load(config: Config, path: str) -> LanguageModel:
        loads.append(path)
        return load(config, path)

    monkeypatch.setattr(from_config, "load_language", record_load)
    code, out, _ = evaluator("--data", data)
    together = evaluator.read("results.json")
    assert code == 0 and list(together) == ALL and len(loads) == 1
    assert len({tuple(texts(together[name])) for name in ALL}) == 4
    merged = "merged into them it costs no time"
    assert merged in out
    for name in ALL:
        code, alone, _ = evaluator("--data", data, "--methods", name, "--overwrite_output_dir")
        assert code == 0 and (merged in alone) == ("lora" in name)
        assert evaluator.read("results.json") == {name: together[name]}
        assert evaluator.read(f"results_{name}.json") == together[name]
    rows = [line.split()[1] for line in out.splitlines() if line.startswith("| ")]
    # The main table, that of what beats what, and that of the captions' diversity.
    expected = ["method", *ALL, "human", "method", *ALL[1:], "method", *ALL, "human"]
    assert [name for name in rows if name.strip("-")] == expected


def test_named_prompt_is_tested_against_another_method(
    evaluator: Evaluator, data: Path, tmp_path: Path, save_prompt: SavePrompt
) -> None:
    """A prompt of prompt_tuning.prompts is a row, and --against adds a paired test."""
    setting = f"prompt_tuning.prompts.other={save_prompt(tmp_path / 'other.pt', seed=2)}"
    words = ("--data", data, "--methods", "base,prompt,other", "--set", setting)
    code, out, _ = evaluator(*words, "--against", "prompt")
    over = evaluator.read("metrics.json")["methods"]["other"]["over"]
    assert code == 0 and [*over] == ["base", "prompt"] and "BLEU-4 over prompt" in out
    code, _, error = evaluator(*words, "--against", "lora")
    assert code == 2 and "--against lora: expected some of base,prompt,other" in error


@pytest.mark.slow
def test_ensemble_is_a_method_of_its_own(
    evaluator: Evaluator, data: Path, paths: TrainedPaths, tmp_path: Path, save_prompt: SavePrompt
) -> None:
    """--ensemble adds a row; of one prompt twice it has the captions of this prompt."""
    words = ("--data", data, "--methods", "base,prompt,lora", "--overwrite_output_dir")
    code, out, _ = evaluator(*words, "--ensemble", paths.prompt, paths.prompt)
    results = evaluator.read("results.json")
    assert code == 0 and [*results] == ["base", "prompt", "lora", "ensemble"]
    assert texts(results["ensemble"]) == texts(results["prompt"]) != texts(results["base"])
    assert "| ensemble " in out
    other = save_prompt(tmp_path / "other.pt", seed=2)
    assert evaluator(*words, "--ensemble", paths.prompt, other)[0] == 0
    sampled = ("--set", "generation_config.do_sample=true")
    code, _, err = evaluator(*words, *sampled, "--ensemble", paths.prompt, other)
    assert code == 2 and "--ensemble: generation_config.do_sample" in one_error(err)


def test_metrics_are_those_of_the_captions(evaluator: Evaluator, data: Path) -> None:
    """metrics.json has the scores of the captions in results.json, and the table shows them."""
    evaluator("--data", data, "--methods", "prompt,base", "--seed", "5")
    results, metrics = evaluator.read("results.json"), evaluator.read("metrics.json")
    lines = [json.loads(line) for line in data.read_text("utf-8").splitlines()]
    assert metrics["images"] == 6 and metrics["reference"] == "base"
    assert metrics["bootstrap"] == {"resamples": 1000, "seed": 5}
    table = (evaluator.output / "table.md").read_text("utf-8")
    for name in ("base", "prompt"):
        found = metrics["methods"][name]
        expected = score_captions(
            texts(results[name]), [line["references"] for line in lines], skip=("meteor",)
        )
        assert found["bleu4"] == expected["bleu4"] and found["cider_d"] == expected["cider_d"]
        assert found["captions_per_second"] > 0
        row = next(line for line in table.splitlines() if line.startswith(f"| {name} "))
        assert f" {expected['cider_d']:.3f} |" in row
    assert [entry["image_id"] for entry in results["base"]] == [1, 2, 3, 4, 5, 6]
    gain = metrics["methods"]["prompt"]["over_reference"]["cider_d"]["difference"]
    base, prompt = (metrics["methods"][name]["cider_d"] for name in ("base", "prompt"))
    assert gain == pytest.approx(prompt - base)
    assert {"METEOR", "SPICE"} <= set(metrics["left_out"]) and found["meteor"] is None
    assert metrics["decoding"]["max_new_tokens"] == 6


def test_meteor_is_computed_by_default(
    untrained: Evaluator, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it is available, METEOR is in the table, the chart and metrics.json."""
    seen: list[TokenizedCorpus] = []

    def compute(self: Meteor, corpus: TokenizedCorpus) -> MetricScore:
        seen.append(corpus)
        return MetricScore(0.25)

    monkeypatch.setattr(Meteor, "unavailable", lambda self: None)
    monkeypatch.setattr(Meteor, "compute", compute)
    code, out, _ = untrained("--data", data, "--meteor", "auto", "--methods", "base")
    metrics = untrained.read("metrics.json")
    assert code == 0 and metrics["methods"]["base"]["meteor"] == 0.25
    assert "METEOR" not in metrics["left_out"] and "METEOR is left out" not in out
    titles, _, row = [line for line in out.splitlines() if line.startswith("|")][:3]
    assert row.split("|")[titles.split("|").index(" METEOR ")] == "  0.250 "
    captions = texts(untrained.read("results_base.json"))
    assert seen[0].hypotheses == [tokenize(caption) for caption in captions]


def test_missing_java_leaves_meteor_out(
    untrained: Evaluator, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """METEOR is left out with the reason, and all other scores are computed."""
    monkeypatch.setenv("PATH", str(tmp_path))
    code, out, _ = untrained("--data", data, "--meteor", "auto")
    assert code == 0 and "METEOR is left out: it needs Java, which is not installed." in out
    assert "| METEOR" not in out and untrained.read("metrics.json")["methods"]["base"]["bleu4"] >= 0


class CaptionLength(Metric):
    """A metric that only this test has: the mean number of words."""

    key, label, maximum, headline = "caption_length", "words", 40.0, True

    def image_statistics(self, corpus: TokenizedCorpus) -> NDArray[Any]:
        """Returns the number of words [N, 1]."""
        return np.array([[len(words)] for words in corpus.hypotheses])


def test_registered_metric_appears_everywhere(
    untrained: Evaluator, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A metric that is registered, and nothing else, is in every file of an evaluation."""
    titles: list[str] = []
    draw = Axes.set_title

    def record_title(self: Axes, title: str) -> object:
        titles.append(title)
        return draw(self, title)

    monkeypatch.setattr(Axes, "set_title", record_title)
    monkeypatch.setattr(registry, "_registered", {**registry._registered})
    registry.register(CaptionLength())
    code, out, _ = untrained("--data", data, "--methods", "base")
    method = untrained.read("metrics.json")["methods"]["base"]
    lengths = [len(tokenize(text)) for text in texts(untrained.read("results_base.json"))]
    assert code == 0 and method["caption_length"] == pytest.approx(np.mean(lengths))
    low, high = method["intervals"]["caption_length"]
    assert low <= method["caption_length"] <= high
    head, _, row = [line.split("|") for line in out.splitlines() if line.startswith("|")][:3]
    assert float(row[[title.strip() for title in head].index("words")]) == pytest.approx(
        np.mean(lengths), abs=1e-3
    )
    assert titles == ["BLEU-4", "CIDEr-D", "ROUGE-L", "words"]
    assert "<th>words</th>" in (untrained.output / "report.html").read_text("utf-8")
    words = ("--methods", "base", "--skip_metrics", "caption_length,rouge_l")
    code, out, _ = untrained("--data", data, *words)
    assert code == 0 and "words is left out: it was skipped." in out
    assert untrained.read("metrics.json")["methods"]["base"]["rouge_l"] is None


def test_untrained_method_is_left_out_or_an_error(untrained: Evaluator, data: Path) -> None:
    """An untrained method is left out with a warning; requested, it is an error before any file."""
    code, out, err = untrained("--data", data, "--methods", "base,lora")
    assert (code, out) == (2, "") and "train_lora.py --all" in one_error(err)
    assert not untrained.output.exists()
    code, out, err = untrained("--data", data)
    assert code == 0 and "not trained, so not compared: prompt, lora, lora+prompt" in err
    assert list(untrained.read("results.json")) == ["base"]


def test_image_never_retrieves_itself(
    untrained: Evaluator, coco: CocoFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither an image nor a copy of it with another id is retrieved; others are."""
    from igrag.captioning.generator import CaptionGenerator

    coco.image(2).write_bytes(coco.image(7).read_bytes())  # The knowledge base has 7's vector.
    with Image.open(
        coco.image(3)
    ) as image:  # No longer an exact copy of the one in the knowledge base.
        image.save(coco.image(3), quality=30)
    prompts: list[str] = []
    generate = CaptionGenerator.generate

    def record_prompts(
        self: CaptionGenerator, texts: Sequence[str], image_vectors: object = None
    ) -> list[str]:
        prompts.extend(texts)
        return generate(self, texts)

    monkeypatch.setattr(CaptionGenerator, "generate", record_prompts)
    code, _, _ = untrained("--captions", coco.captions, "--images", coco.images)
    assert code == 0
    prompts = prompts[1:]  # The first is the warm-up, and captioned again.
    assert len(prompts) == 12
    for number, prompt in enumerate(prompts, 1):
        assert prompt.count("A dog in field") == 3
        assert f"field {number}," not in prompt
    assert "field 7," not in prompts[1]
    assert len(untrained.read("results.json")["base"]) == 12
    report = (untrained.output / "report.html").read_text("utf-8")
    assert report.count("data:image/jpeg") == 12


def test_report_shows_images_of_jsonl(untrained: Evaluator, data: Path, coco: CocoFolder) -> None:
    """With the folder of the images, those of the lines' ids are shown."""
    assert untrained("--data", data, "--images", coco.images, "--limit", "4")[0] == 0
    report = (untrained.output / "report.html").read_text("utf-8")
    assert report.count("data:image/jpeg") == 4


def test_limit_takes_the_first_images(untrained: Evaluator, coco: CocoFolder) -> None:
    """--limit takes the first images of the file, and the others may be missing."""
    coco.image(12).unlink()
    words = ("--captions", coco.captions, "--images", coco.images)
    assert untrained(*words, "--limit", "2")[0] == 0
    assert [each["image_id"] for each in untrained.read("results_base.json")] == [1, 2]
    code, _, err = untrained(*words)
    assert code == 1 and "000000000012.jpg: no such image" in one_error(err)


def test_results_are_scored_without_a_model(
    untrained: Evaluator, coco: CocoFolder, tmp_path: Path
) -> None:
    """Captions of a file in any order are scored, and the file is not changed."""
    captions = json.loads(coco.captions.read_text("utf-8"))["annotations"]
    perfect = [{"image_id": each["image_id"], "caption": each["caption"]} for each in captions[::2]]
    poor = [{**entry, "caption": "a cat"} for entry in perfect]
    path = untrained.output / "results.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"base": poor, "mine": perfect[::-1]}), encoding="utf-8")
    before = path.read_bytes()
    untrained.settings.append("model_config.models.flan-t5.path=/none")
    code, out, _ = untrained("--captions", coco.captions, "--results", path)
    assert code == 0 and path.read_bytes() == before
    metrics = untrained.read("metrics.json")
    assert metrics["methods"]["mine"]["bleu4"] == pytest.approx(1.0)
    assert metrics["reference"] == "base" and metrics["model"] is None
    assert metrics["methods"]["mine"]["over_reference"]["bleu4"]["p_value"] < 0.05
    assert "trainable parameters" not in out
    assert not (untrained.output / "results_mine.json").exists()


def test_results_are_scored_against_jsonl(untrained: Evaluator, data: Path, tmp_path: Path) -> None:
    """A checkpoint's predictions.json can be scored against JSONL."""
    lines = [json.loads(line) for line in data.read_text("utf-8").splitlines()]
    results = [{"image_id": line["image_id"], "caption": line["caption"]} for line in lines]
    path = tmp_path / "predictions.json"
    path.write_text(json.dumps(results), encoding="utf-8")
    assert untrained("--data", data, "--results", path)[0] == 0
    assert untrained.read("metrics.json")["methods"]["predictions"]["bleu4"] == pytest.approx(1.0)
    path.write_text(json.dumps(results[1:]), encoding="utf-8")
    code, _, err = untrained("--data", data, "--results", path)
    assert code == 1 and "1 of 6 images" in one_error(err)


def test_checkpoints_are_compared(untrained: Evaluator, data: Path, checkpoints: Path) -> None:
    """All checkpoints are compared with the base, and the best one's lead is tested."""
    code, out, _ = untrained("--data", data, "--checkpoints", checkpoints)
    metrics = untrained.read("metrics.json")
    names = ["base", "checkpoint-5", "checkpoint-10 = best_model", "checkpoint-20"]
    assert code == 0 and list(metrics["methods"]) == [*names, "human"]
    assert out.count(": in BLEU-4 it ") == 1  # The selected one's.
    scores = {name: metrics["methods"][name]["bleu4"] for name in names[1:]}
    best, second, _ = sorted(
        scores, key=lambda name: (-round(scores[name], 4), not name.endswith("best_model"))
    )
    selection = metrics["checkpoint_selection"]
    assert selection["best"] == best and f"- Best: {best}, BLEU-4 {scores[best]:.3f}." in out
    assert selection["comparisons"][0]["over"] == second and f"lead over {second}" in out
    trained = metrics["methods"]["checkpoint-10 = best_model"]["training"]
    assert trained["trainable_parameters"] == 100 and trained["trainable_percent"] == 2.5
    assert (untrained.output / "results_checkpoint-10_best_model.json").is_file()


def test_prompts_of_another_template_are_logged(untrained: Evaluator, data: Path) -> None:
    """Prompts of another template or of too many tokens are used with a warning."""
    err = untrained("--data", data)[2]
    assert "6 of 6 prompts were not made with the template" in err and "truncated to" not in err
    untrained.settings.append("model_config.max_source_length=5")
    assert (
        "6 of 6 prompts are truncated to 5 tokens"
        in untrained("--data", data, "--overwrite_output_dir")[2]
    )


def test_failure_keeps_the_previous_evaluation(
    untrained: Evaluator, data: Path, tmp_path: Path
) -> None:
    """An error is raised before any file is changed."""
    untrained("--data", data)
    before = {path: path.read_bytes() for path in untrained.output.iterdir()}
    damaged = tmp_path / "damaged.jsonl"
    damaged.write_text(data.read_text("utf-8") + '{"prompt": "a"}\n', encoding="utf-8")
    code, _, err = untrained("--data", damaged)
    assert code == 1 and "damaged.jsonl:7" in one_error(err)
    assert {path: path.read_bytes() for path in untrained.output.iterdir()} == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--limit 4", "images was 6, is 4"),
        *(
            pytest.param(*each, marks=pytest.mark.slow)
            for each in (
                ("--set generation_config.num_beams=1", "num_beams was 4, is 1"),
                ("--methods base,lora", "it has human, lora.prompt, prompt too"),
                ("--set prompt_tuning.weights_path={prompt}", "prompt was .*, is .*other.pt"),
                ("--results {results}", "model was .*, is None"),
            )
        ),
    ],
)
def test_other_evaluation_is_not_overwritten(
    evaluator: Evaluator, data: Path, paths: TrainedPaths, monkeypatch: pytest.MonkeyPatch,
    words: str, message: str,
) -> None:  # fmt: skip
    """Another evaluation is an error before any caption; the option replaces the files."""
    from evaluation import setup

    assert evaluator("--data", data)[0] == 0
    before = {path: path.read_bytes() for path in evaluator.output.iterdir()}
    prompt = shutil.copyfile(paths.prompt, paths.prompt.with_name("other.pt"))
    results = shutil.copyfile(evaluator.output / "results.json", data.with_name("all.json"))
    typed = ["--data", data, *words.format(prompt=prompt, results=results).split()]
    with monkeypatch.context() as patch:
        patch.setattr(setup, "caption_dataset", None)
        code, out, err = evaluator(*typed)
    assert (code, out) == (2, "") and re.search(
        f"{message}.*--overwrite_output_dir", one_error(err)
    )
    assert {path: path.read_bytes() for path in evaluator.output.iterdir()} == before
    assert evaluator(*typed, "--overwrite_output_dir")[0] == 0


@pytest.mark.slow
def test_same_evaluation_may_be_repeated(evaluator: Evaluator, data: Path) -> None:
    """It replaces its own files without an option."""
    assert evaluator("--data", data)[0] == 0 and evaluator("--data", data)[0] == 0


@pytest.mark.parametrize("words", ["", "--results none.json --split test"])
def test_output_folder_that_is_a_file_is_an_error(untrained: Evaluator, words: str) -> None:
    """A file as output folder is an error before anything is read."""
    untrained.output.write_text("mine")
    untrained.settings.append("model_config.models.flan-t5.path=/none")
    code, out, err = untrained(*words.split())
    assert (code, out) == (2, "")
    assert f"{untrained.output}: is no folder, expected one; give another" in one_error(err)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--captions a.json", "--captions: the images are missing"),
        ("--results a.json", "--results: the references are missing"),
        ("--captions a.json --images b --data c", "--captions and --data"),
        ("--captions a.json --images b --split val", "--captions and --split"),
        ("--checkpoints a --methods base", "--checkpoints and --methods"),
        ("--checkpoints a --results b --split val", "--checkpoints and --results"),
        ("--checkpoints a --instructions b", "--checkpoints and --instructions"),
        ("--results a --split val --instruction_data b", "--results and --instruction_data"),
        ("--methods ,", "--methods ',': names none"),
        ("--skip_metrics spices", "--skip_metrics spices: expected some of bleu1,"),
        ("--skip_metrics bleu4", "--skip_metrics bleu4: expected some of bleu1,"),
        ("--data pyproject.toml --split val", "--split val: pyproject.toml is one file"),
    ],
)
def test_contradictory_options_are_an_error(untrained: Evaluator, words: str, message: str) -> None:
    """Contradictory options are an error of one line, with exit code 2."""
    code, out, err = untrained(*words.split())
    assert (code, out) == (2, "") and message in one_error(err)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--data none.jsonl", "none.jsonl: no such file"),
        ("--data none --split val", "none: no such folder, expected one with val.jsonl; build it"),
        ("--captions none.json --images .", "none.json: no such file"),
        ("--checkpoints none", "none: holds no checkpoint-N"),
        ("--split val --results none.json", "none.json: no such file"),
        ("--data .", "test.jsonl: no such file"),
    ],
)
def test_missing_files_are_an_error(untrained: Evaluator, words: str, message: str) -> None:
    """Missing files are an error of one line, with exit code 1."""
    code, out, err = untrained(*words.split())
    assert (code, out) == (1, "") and message in one_error(err)


@pytest.mark.parametrize("words", ["--limit 0", "--limit x", "--seed -1", "--split none"])
def test_invalid_values_are_an_error(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Invalid values are errors of the parser, with exit code 2."""
    with pytest.raises(SystemExit, match="2"):
        parse_arguments(words.split())
    assert words.split()[0] in capsys.readouterr().err


def options_of(*words: str) -> EvaluationOptions:
    """Returns the checked options of a command line."""
    return check_options(parse_arguments(words))


def test_defaults(tmp_path: Path) -> None:
    """The default is the test split of the demo data; each comparison has its own folder."""
    options = options_of()
    assert options.data == REPO_ROOT / "demo" / "data" / "test.jsonl" and options.data.is_file()
    assert options.images is not None and options.images.is_dir()
    assert options.methods is None and options.captions is None
    results = REPO_ROOT / "evaluation" / "results"
    assert options.output_dir == results
    assert options_of("--checkpoints", "a").output_dir == results / "checkpoints"
    assert options_of("--results", "a", "--captions", "b").output_dir == results / "files"
    assert options_of("--split", "val").output_dir == results / "val"
    assert options_of("--split", "test").output_dir == results
    (tmp_path / "val.jsonl").touch()
    options = options_of("--data", str(tmp_path), "--split", "val")
    assert options.data == tmp_path / "val.jsonl" and options.images is None
    assert options_of("--methods", " lora ,base,lora").methods == ("lora", "base")


@pytest.mark.parametrize(
    ("former", "current"),
    [
        ("--force", "--overwrite_output_dir"),
        ("--overwrite-output-dir", "--overwrite_output_dir"),
        ("--report_pictures 7", "--report_images 7"),
        ("--report-images=7", "--report_images=7"),
        ("--pictures=a-b", "--images=a-b"),
        ("--output-dir=a-b/--c", "--output_dir=a-b/--c"),
        ("--meteor off", "--skip_metrics meteor"),
    ],
)
def test_former_options_are_accepted(former: str, current: str) -> None:
    """Options of earlier versions and hyphens mean the same as today's options."""
    assert options_of(*former.split()) == options_of(*current.split()) != options_of()


def test_script_runs_from_any_folder(tmp_path: Path) -> None:
    """The script finds its packages from any folder, without installation."""
    script = REPO_ROOT / "evaluation" / "run_evaluation.py"
    done = subprocess.run(
        [sys.executable, script, "--help"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "--checkpoints" in done.stdout
