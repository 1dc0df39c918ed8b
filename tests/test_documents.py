"""Every command in the documents runs as it is written, in a clone whose data are few."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from igrag.config import REPO_ROOT

# Each with its translation, if it has one.
DOCUMENTS = (
    ("README.md", None),
    ("prompt_tuning/README.md", "prompt_tuning/README.en.md"),
    ("lora_training/README.md", "lora_training/README.en.md"),
    ("lora_training/MICROTUNING_METHOD.md", "lora_training/MICROTUNING_METHOD.en.md"),
    ("demo/README.md", None),
)
# Read together with the document, in one clone.
_BESIDE = {
    "demo/README.md": [f"demo/models/{name}/README.md" for name in ("clip-mini", "t5-mini")],
}
TRANSLATED = [pair for pair in DOCUMENTS if pair[1]]
_BLOCK = re.compile(r"^```bash\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`((?:python|torchrun) [^`]+)`")
# CI calls make itself; what takes an hour has a smaller test in tests/benchmarks or tests/demo.
_NOT_RUN = re.compile(
    r"make .*|sudo apt .*|python -m demo\.build.*"
    r"|python benchmarks/(real_shapes|sweep_prompt_tuning)\.py"
)
# What keeps a training short; the commands stay as they are written.
_TRAININGS = (
    "prompt_tuning/config/prompt_tuning.yaml",
    "prompt_tuning/config/on_lora.yaml",
    "lora_training/config/lora_config.yaml",
)
_LEFT_BEHIND = (".git", ".venv", ".*_cache", "__pycache__", "checkpoints", "results")


def commands(document: str) -> list[str]:
    """Lists what a document tells to type: in its bash blocks, one a line, and in its text."""
    text = (REPO_ROOT / document).read_text(encoding="utf-8")
    lines = "\n".join(_BLOCK.findall(text)).replace("\\\n", " ").splitlines()
    typed = [found for line in lines if (found := line.split(" #")[0].strip())]
    return [*typed, *_INLINE.findall(_BLOCK.sub("", text))]


def shorten_lines(path: Path, count: int) -> None:
    """Keeps the first lines of a JSONL file."""
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(lines[:count]) + "\n", encoding="utf-8")


def shorten_captions(path: Path, count: int) -> None:
    """Keeps the first images of a COCO captions file, with their captions."""
    content = json.loads(path.read_text(encoding="utf-8"))
    content["images"] = content["images"][:count]
    ids = {image["id"] for image in content["images"]}
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] in ids]
    path.write_text(json.dumps(content), encoding="utf-8")


def shorten_training(path: Path) -> None:
    """Sets one epoch of small batches, key by key: the file stays a YAML that users know."""
    text = path.read_text(encoding="utf-8")
    for key, value in (("num_train_epochs", 1), ("per_device_train_batch_size", 4)):
        text, found = re.subn(rf"({key}: )\d+", rf"\g<1>{value}", text)
        assert found == 1, (path, key)
    path.write_text(text, encoding="utf-8")


def name_the_miniature(path: Path) -> None:
    """Lets the config of the real models name those available."""
    text = path.read_text(encoding="utf-8")
    for real, mini in (
        ("google/flan-t5-base", "demo/models/t5-mini"),
        ("openai/clip-vit-base-patch32", "demo/models/clip-mini"),
    ):
        assert real in text
        text = text.replace(f": {real}", f": {mini}")
    path.write_text(text, encoding="utf-8")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A copy of the project with little data, and a COCO and a photo where a user has them."""
    root = tmp_path / "igrag"
    ignore = shutil.ignore_patterns(*_LEFT_BEHIND)
    shutil.copytree(REPO_ROOT, root, ignore=ignore)
    demo = root / "demo"
    shutil.rmtree(root / "lora_training" / "data", ignore_errors=True)
    for split, count in (("train", 16), ("val", 4), ("test", 4)):
        shorten_lines(demo / "data" / f"{split}.jsonl", count)
        shorten_captions(demo / "coco" / "annotations" / f"captions_{split}.json", count)
    for name in _TRAININGS:
        shorten_training(root / name)
    name_the_miniature(root / "configs" / "coco_flan_t5.yaml")
    annotations = root / "COCO" / "annotations"
    annotations.mkdir(parents=True)
    for name, split in (("train2017", "train"), ("val2017", "val")):
        source = demo / "coco" / "annotations" / f"captions_{split}.json"
        shutil.copyfile(source, annotations / f"captions_{name}.json")
        (root / "COCO" / name).symlink_to(demo / "coco" / split)
    for name in ("photo.jpg", "a.jpg", "b.jpg"):
        shutil.copyfile(root / "input" / "802.jpg", root / name)
    return root


def words_of(command: str) -> list[str]:
    """Splits a command; its programs are those of this Python."""
    program, *words = shlex.split(command)
    if program == "torchrun":
        return [sys.executable, "-m", "torch.distributed.run", *words]
    assert program == "python", command
    return [sys.executable, *words]


@pytest.mark.parametrize(("document", "twin"), TRANSLATED)
def test_both_languages_have_the_same_commands(document: str, twin: str) -> None:
    """What the Chinese document tells to type, the English one does too."""
    assert commands(document) == commands(twin)


@pytest.mark.parametrize("document", [document for document, _ in DOCUMENTS])
def test_every_command_runs(document: str, clone: Path) -> None:
    """In the order of the document, each with exit code 0, in what was a fresh clone."""
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "PYTHONWARNINGS": "ignore",
        "TMPDIR": str(clone.parent),  # A sweep of the user's own stands in the usual place.
    }
    written = [each for name in (document, *_BESIDE.get(document, ())) for each in commands(name)]
    found = [each for each in dict.fromkeys(written) if not _NOT_RUN.fullmatch(each)]
    assert len(found) >= 3
    for command in found:
        done = subprocess.run(
            words_of(command), cwd=clone, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
