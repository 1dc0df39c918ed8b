"""The command line that builds and audits training data."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from igrag import from_config
from igrag.commands.build_knowledge_base import command as build_knowledge_base
from igrag.config import REPO_ROOT
from igrag.data.coco import DetectedObject
from igrag.errors import ConfigError, DataError, UsageError
from igrag.retrieval.image_encoder import ImageEncoder
from igrag.retrieval.knowledge_base import KnowledgeBase
from lora_training import data_builder
from lora_training.data_builder import build_data, load_settings
from lora_training.settings import LoraSettings
from lora_training.train_lora import main, parse_arguments
from tests.shared_work import in_threads
from tests.tiny import CocoFolder, save_coco

SCRIPT = REPO_ROOT / "lora_training" / "train_lora.py"

BUILT = [
    "data.json", "train.jsonl", "train.vectors.json", "train.vectors.npy", "val.jsonl",
    "val.vectors.json", "val.vectors.npy",
]  # fmt: skip


class Workspace:
    """A knowledge base of twelve images, its config, and the command line over them."""

    def __init__(self, path: Path, coco: CocoFolder, clip: Path, t5: Path) -> None:
        self.path, self.coco, self.output = path, coco, path / "data"
        paths = ["--captions", coco.captions, "--images", coco.images, "--output", path / "kb"]
        encoder = ["--device", "cpu", "--workers", "0", "--set", f"retrieval_config.encoder={clip}"]
        build_knowledge_base([*map(str, paths), *encoder])
        self.config = path / "config.yaml"
        self.configure(max_source_length=512, clip=clip, t5=t5)

    def configure(self, *, max_source_length: int, clip: Path, t5: Path) -> None:
        """Writes the main configuration."""
        content = {
            "model_config": {
                "default": "tiny",
                "models": {"tiny": {"path": str(t5)}},
                "device": "cpu",
                "max_source_length": max_source_length,
            },
            "retrieval_config": {"encoder": str(clip), "top_k": 3},
            "knowledge_base_config": {"path": str(self.path / "kb")},
        }
        defaults = (REPO_ROOT / "configs" / "config.yaml").read_text(encoding="utf-8")
        import yaml

        whole = yaml.safe_load(defaults)
        for section, keys in content.items():
            whole[section].update(keys)
        self.config.write_text(json.dumps(whole), encoding="utf-8")  # JSON is YAML

    def configure_objects(self, **objects: object) -> None:
        """Sets keys of the section of objects."""
        whole = json.loads(self.config.read_text(encoding="utf-8"))
        whole["prompt_config"]["objects"].update(objects)
        self.config.write_text(json.dumps(whole), encoding="utf-8")

    def words(self, *more: str) -> list[str]:
        """Returns the command line; the images are those of the knowledge base."""
        settings = {
            "captions_path": self.coco.captions,
            "images_path": self.coco.images,
            "val_captions_path": "null",
            "val_images_path": "null",
        }
        sets = [
            word for key, value in settings.items() for word in ("--set", f"data.{key}={value}")
        ]
        return [
            *("--build_data", "--main_config", str(self.config)),
            *("--output_data", str(self.output), "--train_ratio", "0.75"),
            *sets,
            *more,
        ]

    def run(self, *more: str) -> int:
        """Runs the command in this process."""
        return main(parse_arguments(self.words(*more)))

    def lines(self, name: str) -> list[dict[str, Any]]:
        """Returns the examples of a file."""
        text = (self.output / name).read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    def files(self) -> dict[str, bytes]:
        """Returns the files of the output folder, without an unfinished build's."""
        found = [path for path in self.output.iterdir() if path.is_file()]
        return {path.name: path.read_bytes() for path in found}


@pytest.fixture
def workspace(tmp_path: Path, coco: CocoFolder, tiny_clip: Path, tiny_t5: Path) -> Workspace:
    """A knowledge base and its configuration, with captioned images."""
    return Workspace(tmp_path, coco, tiny_clip, tiny_t5)


@pytest.fixture
def no_encoder(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails if an encoder is loaded once the knowledge base is there."""

    def fail(*args: object, **kwargs: object) -> None:
        raise AssertionError("the encoder was loaded")

    monkeypatch.setattr(ImageEncoder, "__init__", fail)


@pytest.mark.usefixtures("no_encoder")
def test_build_reuses_the_vectors_of_the_knowledge_base(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    """Images of the knowledge base need no encoder; examples are split by image without leaks."""
    capsys.readouterr()
    assert workspace.run() == 0
    printed = capsys.readouterr()
    assert f"{workspace.output / 'train.jsonl'}: 9 examples, 9 vectors from" in printed.out
    assert f"{workspace.output / 'val.jsonl'}: 3 examples, 3 vectors from" in printed.out
    assert "%" not in printed.err  # no bar where stderr is no terminal
    ids = {
        name: [line["image_id"] for line in workspace.lines(name)]
        for name in ("train.jsonl", "val.jsonl")
    }
    assert sorted(ids["train.jsonl"] + ids["val.jsonl"]) == list(range(1, 13))
    for line in workspace.lines("train.jsonl"):
        metadata = line["metadata"]
        assert isinstance(metadata, dict)
        assert len(metadata["retrieved"]) == 3
        assert line["image_id"] not in [image_id for image_id, _ in metadata["retrieved"]]
    files = [str(workspace.output / name) for name in ("train.jsonl", "val.jsonl")]
    assert main(parse_arguments(["--audit", *files])) == 0
    assert capsys.readouterr().out == "0 prompts contain their own target or reference.\n"
    assert sorted(workspace.files()) == BUILT


def test_audit_lists_leaks_and_exits_with_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A prompt with its own caption is listed with its file and number, and the exit code is 1."""
    file = tmp_path / "train.jsonl"
    lines = [
        {"prompt": "- a cat", "caption": "a dog"},
        {"prompt": "- A dog.", "caption": "a dog", "image_id": 5},
    ]
    file.write_text("\n".join(map(json.dumps, lines)))
    assert main(parse_arguments(["--audit", str(file)])) == 1
    printed = capsys.readouterr().out
    assert printed == (
        f"{file}: example 2 (image 5): a dog\n1 prompts contain their own target or reference.\n"
    )
    with pytest.raises(DataError, match="no such file"):
        main(parse_arguments(["--audit", str(tmp_path / "nothing.jsonl")]))


@pytest.mark.usefixtures("no_encoder")
def test_data_builder_builds_as_train_lora_does(workspace: Workspace) -> None:
    """Its command has the options of --build_data, with underscores or hyphens, and --audit."""
    workspace.run()
    words = [word for word in workspace.words() if word != "--build_data"]
    before = workspace.files()
    assert data_builder.main(data_builder.parse_arguments(words)) == 0
    assert workspace.files() == before
    hyphens = [word.replace("_", "-") if word.startswith("--") else word for word in words]
    parsed = data_builder.parse_arguments([*hyphens, "--seed", "1", "--overwrite-output-dir"])
    assert data_builder.main(parsed) == 0
    assert workspace.files() != before
    files = [str(workspace.output / name) for name in ("train.jsonl", "val.jsonl")]
    assert data_builder.main(data_builder.parse_arguments(["--audit", *files])) == 0


@pytest.mark.usefixtures("no_encoder")
def test_second_build_with_the_same_settings_does_nothing(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same command a second time changes no file and prints so."""
    workspace.run()
    before = workspace.files()
    times = {path: path.stat().st_mtime_ns for path in workspace.output.iterdir()}
    capsys.readouterr()
    assert workspace.run() == 0
    assert "already built with these settings" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in workspace.output.iterdir()} == times
    assert workspace.files() == before


@pytest.mark.usefixtures("no_encoder")
def test_data_of_other_settings_need_overwrite(
    workspace: Workspace, tiny_clip: Path, tiny_t5: Path
) -> None:
    """Data of other settings is refused as a matter of usage, and replaced only when forced."""
    workspace.run()
    before = workspace.files()
    changes = (["--seed", "1"], ["--sample-count", "8"], ["--train-ratio", "0.5"])
    for options in changes:
        with pytest.raises(UsageError, match="--overwrite_output_dir"):
            workspace.run(*options)
    workspace.configure(max_source_length=40, clip=tiny_clip, t5=tiny_t5)
    with pytest.raises(UsageError, match="--overwrite_output_dir"):
        workspace.run()
    assert UsageError.exit_code == 2
    assert workspace.files() == before
    workspace.configure(max_source_length=512, clip=tiny_clip, t5=tiny_t5)
    assert workspace.run("--sample-count", "8", "--force-rebuild") == 0
    assert (len(workspace.lines("train.jsonl")), len(workspace.lines("val.jsonl"))) == (6, 2)


def interrupt(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    """Runs until train is built and val has started."""
    search = KnowledgeBase.search
    calls = []

    def interrupted(self: KnowledgeBase, *args: object, **kwargs: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return search(self, *args, **kwargs)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(KnowledgeBase, "search", interrupted)
        with pytest.raises(KeyboardInterrupt):
            workspace.run(*words)


@pytest.mark.usefixtures("no_encoder")
def test_interrupted_build_leaves_no_files_and_can_be_repeated(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted between its two files, a build leaves neither, and the same command builds."""
    interrupt(workspace, monkeypatch)
    assert workspace.files() == {}
    assert workspace.run() == 0
    assert sorted(workspace.files()) == BUILT


@pytest.mark.usefixtures("no_encoder")
def test_interrupted_rebuild_keeps_the_old_data(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until both new files are finished the old ones stay, with their record."""
    workspace.run()
    before = workspace.files()
    interrupt(workspace, monkeypatch, "--seed", "1", "--force-rebuild")
    assert workspace.files() == before


@pytest.mark.usefixtures("no_encoder")
@pytest.mark.parametrize("moved", [0, 1])
def test_killed_rebuild_leaves_no_mixture_of_two_builds(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, moved: int
) -> None:
    """A build that is killed while it moves its files leaves no mixture, and can be repeated."""
    workspace.run()
    before = workspace.files()
    replace, done = Path.replace, []

    def killed(self: Path, target: Path) -> Path:
        if target.suffix == ".jsonl" and self.parent != target.parent:
            done.append(target)
            if len(done) > moved:
                raise KeyboardInterrupt
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            workspace.run("--seed", "1", "--force-rebuild")
    assert "train.jsonl" not in workspace.files()
    with pytest.raises(UsageError, match="--overwrite_output_dir"):
        workspace.run()
    assert workspace.run("--seed", "1") == 0
    after = workspace.files()
    assert sorted(after) == sorted(before)
    assert all(after[name] != before[name] for name in before)


@pytest.mark.usefixtures("no_encoder")
def test_data_without_a_record_are_not_replaced(workspace: Workspace) -> None:
    """Files without a record may be the user's own work, and are named as such."""
    workspace.output.mkdir()
    (workspace.output / "train.jsonl").write_text("mine")
    with pytest.raises(UsageError, match=r"holds train\.jsonl without data\.json"):
        workspace.run()
    assert workspace.files() == {"train.jsonl": b"mine"}
    assert workspace.run("--force-rebuild") == 0
    (workspace.output / "val.jsonl").unlink()
    with pytest.raises(UsageError, match=r"train\.jsonl, data\.json alone"):
        workspace.run()


def test_images_outside_the_knowledge_base_are_encoded(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    """Other images of known ids are encoded, unreadable ones listed, and copies not retrieved."""
    strangers = save_coco(workspace.path / "strangers", count=6, seed=9)
    # The image 5 is an exact copy of the knowledge base's 7, under other captions.

    def change_captions(data: dict[str, Any]) -> None:
        for note in data["annotations"]:
            note.update(caption="Other words.")

    strangers.edit(change_captions)
    shutil.copy(workspace.coco.image(7), strangers.image(5))
    strangers.image(2).write_text("no image")
    workspace.coco = strangers
    capsys.readouterr()
    assert workspace.run() == 0
    printed = capsys.readouterr()
    assert printed.out.count(" 0 vectors from the knowledge base") == 2
    assert printed.err.count("skipped: ") == 1
    assert strangers.image(2).name in printed.err
    lines = workspace.lines("train.jsonl") + workspace.lines("val.jsonl")
    assert sorted(line["image_id"] for line in lines) == [1, 3, 4, 5, 6]
    prompts = {line["image_id"]: str(line["prompt"]) for line in lines}
    assert "field 7," not in prompts[5]
    record = json.loads(workspace.files()["data.json"])
    skipped = [split["skipped"] for split in record["splits"].values()]
    assert sum(skipped) == 1


def test_two_processes_build_the_data_that_one_builds(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files and vectors have the same bytes, where a build of one process was interrupted too."""
    workspace.coco = save_coco(workspace.path / "strangers", count=9, seed=9)
    workspace.coco.image(2).write_text("no image")
    monkeypatch.setattr("lora_training.chunks._CHUNK", 2)
    workspace.run()
    whole = workspace.files()
    settings, config, model = load_settings(parse_arguments(workspace.words()))
    shutil.rmtree(workspace.output)
    interrupt(workspace, monkeypatch)
    started = json.loads((workspace.output / ".unfinished" / "train.progress.json").read_bytes())
    assert started["images"] == 2
    in_threads(2, lambda each: build_data(settings.data, config, model, each, overwrite=False))
    assert workspace.files() == whole


def save_instances(coco: CocoFolder, path: Path, *, label: str = "zebra") -> Path:
    """Saves an instances file of the images but the last, one object each at the left."""
    images = json.loads(coco.captions.read_text())["images"][:-1]
    notes = [{"image_id": one["id"], "category_id": 1, "bbox": [0, 16, 8, 8]} for one in images]
    data = {"images": images, "annotations": notes, "categories": [{"id": 1, "name": label}]}
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


@pytest.mark.usefixtures("no_encoder")
def test_prompts_contain_objects_of_the_instances_file(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    """Objects of an instances file are in the prompts, without opening an image."""
    file = save_instances(workspace.coco, workspace.path / "instances.json")
    workspace.configure_objects(source="instances", instances_path=str(file))
    for image_id in range(1, 13):
        workspace.coco.image(image_id).write_text("no image")
    assert workspace.run() == 0
    lines = workspace.lines("train.jsonl") + workspace.lines("val.jsonl")
    shown = {line["image_id"]: "\n- zebra: left\nCaption:" in str(line["prompt"]) for line in lines}
    assert shown == {image_id: image_id < 12 for image_id in range(1, 13)}
    assert "1 of " in capsys.readouterr().err
    assert workspace.run() == 0
    assert "already built with these settings" in capsys.readouterr().out
    assert str(workspace.path) not in workspace.files()["data.json"].decode()
    save_instances(workspace.coco, file, label="lion")
    with pytest.raises(UsageError, match="--overwrite_output_dir"):
        workspace.run()
    workspace.configure_objects(source="none")
    with pytest.raises(UsageError, match="--overwrite_output_dir"):
        workspace.run()


@pytest.mark.usefixtures("no_encoder")
def test_prompts_contain_objects_of_a_detection_model(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A detection model gets the opened image; one that cannot be opened is left out."""

    class Detector:
        def __init__(self, path: str, *, device: str, threshold: float) -> None:
            assert (path, device) == ("some/detr", "cpu")

        def __call__(self, image: Image.Image, name: str) -> list[DetectedObject]:
            return [DetectedObject(f"{image.width} pixels of {name}", (0.0, 0.0, 0.1, 0.1))]

    monkeypatch.setattr(from_config, "ModelDetector", Detector)
    workspace.configure_objects(source="detector", detector="some/detr", threshold=0.5)
    workspace.coco.image(5).write_text("no image")
    assert workspace.run() == 0
    lines = workspace.lines("train.jsonl") + workspace.lines("val.jsonl")
    assert sorted(line["image_id"] for line in lines) == [1, 2, 3, 4, *range(6, 13)]
    for line in lines:
        name = workspace.coco.image(int(str(line["image_id"]))).name
        assert f"\n- 48 pixels of {name}: top left\nCaption:" in str(line["prompt"])
    assert f"skipped: {workspace.coco.image(5)}" in capsys.readouterr().err
    workspace.configure_objects(source="detector", detector="some/detr", threshold=0.6)
    with pytest.raises(UsageError, match="--overwrite_output_dir"):
        workspace.run()


def test_val_captions_with_train_images_are_refused(workspace: Workspace) -> None:
    """Val captions that hold an image of the train captions are an error."""
    words = [word for word in workspace.words() if word not in ("--train_ratio", "0.75")]
    words += ["--set", f"data.val_captions_path={workspace.coco.captions}"]
    with pytest.raises(ConfigError, match="set both or neither"):
        main(parse_arguments(words))
    words += ["--set", f"data.val_images_path={workspace.coco.images}"]
    with pytest.raises(DataError, match=r"12 images .* must not be in both splits"):
        main(parse_arguments(words))
    link = workspace.path / "link"
    link.symlink_to(workspace.coco.images)
    with pytest.raises(DataError, match=r"12 images .*000000000001\.jpg\) are also in"):
        main(parse_arguments([*words, "--set", f"data.val_images_path={link}"]))


def test_val_captions_may_number_other_images_alike(workspace: Workspace) -> None:
    """Two sets that both number their images from 1 can train and validate."""
    others = save_coco(workspace.path / "others", count=5, seed=9)
    words = [word for word in workspace.words() if word not in ("--train_ratio", "0.75")]
    words += ["--set", f"data.val_captions_path={others.captions}"]
    words += ["--set", f"data.val_images_path={others.images}"]
    assert main(parse_arguments(words)) == 0
    assert [len(workspace.lines(name)) for name in ("train.jsonl", "val.jsonl")] == [12, 5]


@pytest.mark.usefixtures("no_encoder")
def test_all_builds_trains_and_resumes(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    """--all builds and trains; a second time it builds nothing and resumes."""
    capsys.readouterr()
    settings = ("training.per_device_train_batch_size=4", "training.max_new_tokens=4", "lora.r=2")
    sets = [word for setting in settings for word in ("--set", setting)]
    output = workspace.path / "checkpoints"
    words = ["--all", "--output_dir", str(output), *sets]
    assert workspace.run(*words, "--set", "training.num_train_epochs=1") == 0
    printed = capsys.readouterr()
    assert f"{workspace.output / 'train.jsonl'}: 9 examples" in printed.out
    assert "9 training examples (" in printed.out and "), 3 validation examples (" in printed.out
    assert "note:" not in printed.err  # the prompts fit the template
    best = (output / "best" / "adapter_model.safetensors").read_bytes()
    resume = ("--resume_from_checkpoint", "latest")
    assert workspace.run(*words, *resume, "--set", "training.num_train_epochs=1") == 0
    assert "already built with these settings" in capsys.readouterr().out
    assert (output / "best" / "adapter_model.safetensors").read_bytes() == best


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--all --audit a.jsonl", "--audit and --all: found both"),
        ("--build-data --audit a.jsonl", "--audit and --build_data: found both"),
        (
            "--build-data --train-ratio 0.5 --set data.val_captions_path=a.json",
            "--train_ratio and --set data.val_captions_path=a.json: found both",
        ),
        ("--train --sample_count 5", "--sample_count: is only for --build_data or --all"),
        ("--train --force-rebuild", "--force_rebuild: is only for --build_data or --all"),
        ("--build_data --output_dir x", "--output_dir: is only for --train or --all"),
        ("--build_data --resume_from_checkpoint latest", "--resume_from_checkpoint: is only for"),
        ("--audit a.jsonl --seed 0", "--audit and --seed: found both"),
    ],
)
def test_options_without_effect_are_refused(words: str, message: str) -> None:
    """Options that contradict each other, or would do nothing, are named."""
    with pytest.raises(UsageError, match=message):
        main(parse_arguments(words.split()))


@pytest.mark.parametrize("name", ["run #1", "2026", "null", "a: b", 'quoted "\\ n', "été"])
@pytest.mark.parametrize("option", ["--output_dir", "--output_data"])
def test_folder_options_accept_names_that_yaml_would_change(
    option: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder may be named like a number, a comment or null in YAML."""
    seen: list[LoraSettings] = []
    load = LoraSettings.load

    def keep(path: Path, overrides: list[str], **options: Any) -> LoraSettings:
        seen.append(load(path, overrides, **options))
        raise KeyboardInterrupt

    monkeypatch.setattr(LoraSettings, "load", keep)
    for folder in (Path(name), tmp_path / name):
        with pytest.raises(KeyboardInterrupt):
            main(parse_arguments(["--train", option, str(folder)]))
        settings = seen.pop()
        found = {
            "--output_dir": settings.training.output_dir,
            "--output_data": settings.data.output_data,
        }
        assert found[option] in (folder, REPO_ROOT / folder)


@pytest.mark.slow
def test_usage_errors_exit_with_2_before_heavy_imports(tmp_path: Path) -> None:
    """Without an action, or with a wrong value, the exit code is 2 and nothing heavy is loaded."""
    code = (
        "import runpy, sys\n"
        "sys.argv = sys.argv[1:]\n"
        "try:\n"
        "    runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "finally:\n"
        "    assert 'torch' not in sys.modules, 'torch was imported'\n"
    )
    for options, words in (
        ([], "--build_data"),
        (["--build-data", "--sample-count", "0"], "error: --sample_count: found 0"),
        (["--build-data", "--set", "data.sample_count=0"], "error: --set data.sample_count: found"),
        (["--train", "--set", "model.name=t6"], "error: model.name t6: expected one of flan-t5"),
        (["--build-data", "--set", "data.sede=1"], "seed"),
        (["--train", "--set", "lora.rank=8"], "lora.rank"),
        (["--train", "--report_to", "weights"], "error: --report_to: found"),
        (["--bild-data"], "unrecognized arguments"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", code, str(SCRIPT), *options],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2, done.stderr
        assert words in done.stderr
        assert "Traceback" not in done.stderr
