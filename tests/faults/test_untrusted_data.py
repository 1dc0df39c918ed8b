"""Models, adapters and data from elsewhere run no code and choose no files to read."""

from __future__ import annotations

import ast
import json
import os
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evaluation.dataset import find_files, read_coco
from igrag.captioning.adapter_config import check_adapter_config, check_fits
from igrag.config import REPO_ROOT
from igrag.data.coco import CaptionedImage
from igrag.data.images import file_in, open_image
from igrag.errors import CheckpointError, IgragError, ImageError, KnowledgeBaseError
from igrag.retrieval.build_plan import plan_build
from igrag.retrieval.image_encoder import EncoderIdentity
from igrag.retrieval.knowledge_base import KnowledgeBase
from tests.tiny import CocoFolder

PACKAGES = ("igrag", "prompt_tuning", "lora_training", "evaluation", "scripts", "benchmarks")
# PEFT's own loader gets a model that is loaded already, and knows no such option; the others are
# this project's, with the option inside.
WITHOUT_OPTION = ("PeftModel", "PromptTuner", "cls")


def calls_of_loaders(file: Path) -> Iterator[ast.Call]:
    """Yields the calls `Class.from_pretrained(...)` and `pipeline(...)` in a file."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        if isinstance(called, ast.Name) and called.id == "pipeline":
            yield node
        if isinstance(called, ast.Attribute) and called.attr == "from_pretrained":
            owner = called.value.id if isinstance(called.value, ast.Name) else ""
            if owner not in WITHOUT_OPTION:
                yield node


def test_no_loader_may_run_the_code_of_a_model() -> None:
    """Every call of a library's from_pretrained has trust_remote_code=False, or goes by igrag.hub.

    Left out, the library asks on the terminal, and runs the code after one letter.
    """
    files = [file for package in PACKAGES for file in (REPO_ROOT / package).rglob("*.py")]
    without = [
        f"{file.relative_to(REPO_ROOT)}:{call.lineno}"
        for file in files
        for call in calls_of_loaders(file)
        if not any(
            option.arg == "trust_remote_code"
            and isinstance(option.value, ast.Constant)
            and option.value.value is False
            for option in call.keywords
        )
    ]
    assert without == []
    assert len(files) > 50


def test_caller_cannot_ask_for_the_code_of_a_model(tmp_path: Path) -> None:
    """igrag.hub passes trust_remote_code=False whatever options it is given."""
    from igrag.hub import load_cached_first

    def load(path: str, **options: Any) -> dict[str, Any]:
        return options

    assert load_cached_first(load, str(tmp_path), trust_remote_code=True) == {
        "trust_remote_code": False
    }


@pytest.mark.slow
def test_code_in_a_model_folder_is_not_run(
    tmp_path: Path, knowledge_base: Path, coco: CocoFolder, tiny_clip: Path
) -> None:
    """A model of an unknown type with code of its own is refused, with `y` waiting on stdin."""
    model, marker = tmp_path / "model", tmp_path / "run"
    model.mkdir()
    (model / "code.py").write_text(f"open({str(marker)!r}, 'w')\nclass Config: pass\n")
    auto_map = {"AutoConfig": "code.Config", "AutoModelForSeq2SeqLM": "code.Config"}
    config = {"model_type": "mine", "auto_map": auto_map, "is_encoder_decoder": True}
    (model / "config.json").write_text(json.dumps(config))
    done = subprocess.run(
        [sys.executable, "main.py", "--i", str(coco.image(1)), "--model", str(model),
         "--set", f"retrieval_config.encoder={tiny_clip}",
         "--set", f"knowledge_base_config.path={knowledge_base}"],
        cwd=REPO_ROOT, input="y\n" * 9, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
    assert not marker.exists()


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """An image next to the folder of images."""
    Image.new("RGB", (8, 8)).save(tmp_path / "private.jpg")
    return tmp_path / "private.jpg"


def leading_out(coco: CocoFolder, outside: Path, how: str) -> str:
    """Returns a file_name that leads to the image outside."""
    if how == "absolute":
        return str(outside)
    if how == "parent":
        return os.path.relpath(outside, coco.images)
    (coco.images / "link.jpg").symlink_to(outside)
    (coco.images / "folder").symlink_to(outside.parent)
    return {"link": "link.jpg", "folder": "folder/private.jpg"}[how]


@pytest.mark.parametrize("how", ["absolute", "parent", "link", "folder"])
def test_file_name_cannot_lead_out_of_the_folder(
    coco: CocoFolder, outside: Path, tmp_path: Path, how: str
) -> None:
    """Neither building nor evaluation reads a file outside; the error names the entry."""
    name = leading_out(coco, outside, how)

    def rename(data: dict[str, Any]) -> None:
        data["images"][2]["file_name"] = name

    coco.edit(rename)
    with (
        pytest.raises(ImageError, match=f"captions.json: found file_name '{name}', which leads"),
        plan_build(coco.captions, coco.images, tmp_path / "kb"),
    ):
        pytest.fail("it was planned")
    with pytest.raises(ImageError, match="which leads out of"):
        read_coco(coco.captions, image_dir=coco.images)


def test_training_data_reads_nothing_outside(coco: CocoFolder, outside: Path) -> None:
    """A caption file for training names no file outside either."""
    from lora_training.settings import DataSettings
    from lora_training.splits import choose_images

    def rename(data: dict[str, Any]) -> None:
        data["images"][2]["file_name"] = str(outside)

    settings = DataSettings(
        captions_path=coco.captions,
        images_path=coco.images,
        sample_count=12,
        train_ratio=0.5,
        output_data=coco.images.parent / "data",
    )
    assert [len(split.images) for split in choose_images(settings)] == [6, 6]
    coco.edit(rename)
    with pytest.raises(ImageError, match="which leads out of"):
        choose_images(settings)


def test_report_shows_no_file_behind_a_link(coco: CocoFolder, outside: Path) -> None:
    """Images that JSONL finds by id are not shown if they are links out of the folder."""
    assert find_files(coco.images, [1]) == {1: coco.image(1)}
    (coco.images / "99.jpg").symlink_to(outside)
    with pytest.raises(ImageError, match="which leads out of"):
        find_files(coco.images, [1, 99])


def test_files_inside_the_folder_are_found(coco: CocoFolder, tmp_path: Path) -> None:
    """A path inside, a link inside, and a folder that is a link itself are all fine."""
    inside, name = coco.image(1), coco.image(1).name
    (coco.images / "again.jpg").symlink_to(inside)
    linked = tmp_path / "linked"
    linked.symlink_to(coco.images)
    for folder, file_name in (
        (coco.images, name),
        (coco.images, str(inside)),
        (coco.images, "again.jpg"),
        (coco.images, f"../{coco.images.name}/{name}"),
        (linked, name),
    ):
        assert open_image(file_in(folder, file_name, listed_in=coco.captions)).size == (48, 40)


def test_postscript_is_no_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A .jpg that is PostScript starts no Ghostscript: it is not an image in a known format."""
    from PIL import EpsImagePlugin

    started: list[object] = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *given, **_: started.append(given))
    file = tmp_path / "a.jpg"
    file.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with pytest.raises(ImageError, match="not an image in a known format"):
        open_image(file)
    assert started == []


@pytest.mark.parametrize(
    "suffix", ["jpg", "png", "webp", "gif", "bmp", "tiff", "ppm", "jp2", "avif"]
)
def test_usual_formats_are_still_read(tmp_path: Path, suffix: str) -> None:
    """What people caption is in the list of formats, where this Pillow has the library for it."""
    from PIL import features

    needed = {"webp": "webp", "jp2": "jpg_2000", "avif": "avif"}
    if suffix in needed and not features.check(needed[suffix]):
        with pytest.raises(ImageError):  # there is none that could be opened
            open_image(tmp_path / f"a.{suffix}")
        return
    Image.new("RGB", (16, 16), "red").save(tmp_path / f"a.{suffix}")
    assert open_image(tmp_path / f"a.{suffix}").size == (16, 16)


@pytest.fixture
def small_base(tmp_path: Path) -> Path:
    """A knowledge base of five images."""
    rows = np.eye(5, 8, dtype=np.float32)
    entries = [CaptionedImage(n, f"{n}.jpg", (f"caption {n}",)) for n in range(5)]
    identity = EncoderIdentity("clip", 8, "0", {})
    KnowledgeBase.write(tmp_path / "kb", vectors=rows, entries=entries, encoder=identity)
    return tmp_path / "kb"


def forget_checksums(path: Path) -> None:
    """Makes a knowledge base one of an earlier version."""
    manifest = json.loads((path / "knowledge_base.json").read_text())
    del manifest["sha256"]
    (path / "knowledge_base.json").write_text(json.dumps(manifest))


def test_changed_captions_are_noticed_on_opening(small_base: Path) -> None:
    """One byte of a caption that another one replaced is an error, not another prompt."""
    file = next((small_base / "captions").glob("*.arrow"))
    content = file.read_bytes()
    file.write_bytes(content.replace(b"caption 3", b"caption 4"))
    assert file.read_bytes() != content
    with pytest.raises(KnowledgeBaseError, match=r"another checksum than in knowledge_base\.json"):
        KnowledgeBase.open(small_base)
    forget_checksums(small_base)
    assert KnowledgeBase.open(small_base).captions_of(3) == ("caption 4",)


def test_changed_vectors_are_noticed_by_verify(
    small_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Vectors in another order open, and --verify refuses them."""
    from igrag.commands import build_knowledge_base

    words = ["--verify", "--output", str(small_base)]
    assert build_knowledge_base.command(words) == 0
    assert "5 images, 8 dimensions, all files as they were written" in capsys.readouterr().out
    np.save(small_base / "vectors.npy", np.eye(5, 8, dtype=np.float32)[::-1].copy())
    KnowledgeBase.open(small_base)
    assert build_knowledge_base.command(words) == 1
    assert "vectors.npy has another checksum" in capsys.readouterr().err
    forget_checksums(small_base)
    assert build_knowledge_base.command(words) == 0
    assert "no checksums (an earlier version's)" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["../../other.arrow", "/etc/hostname"])
def test_captions_elsewhere_are_refused(small_base: Path, name: str) -> None:
    """state.json cannot name a file outside its folder, in a knowledge base of any version."""
    forget_checksums(small_base)
    file = small_base / "captions" / "state.json"
    state = json.loads(file.read_text())
    arrow = small_base / "captions" / state["_data_files"][0]["filename"]
    (small_base.parent / "other.arrow").write_bytes(arrow.read_bytes())
    state["_data_files"] = [{"filename": name}]
    file.write_text(json.dumps(state))
    with pytest.raises(KnowledgeBaseError, match="expected one of that folder"):
        KnowledgeBase.open(small_base)


LAYERS = [f"encoder.block.{n}.layer.0.SelfAttention.{each}" for n in range(12) for each in "qkvo"]
ENDLESS = "(([a-z0-9A-Z.]+)+)+!"


def write_config(folder: Path, **changes: object) -> None:
    """Writes adapter_config.json of rank 8 for all q and v."""
    config = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q", "v"]}
    (folder / "adapter_config.json").write_text(json.dumps(config | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"target_modules": r".*SelfAttention\.(q|v)"},
        {"target_modules": "all-linear", "lora_alpha": 0.5, "modules_to_save": None},
        {"rank_pattern": {r"block\.[0-3]\..*\.q": 4}, "alpha_pattern": {"v": 2}},
        {"layers_to_transform": [0, 1], "layers_pattern": "block", "unknown_key": [1]},
    ],
)
def test_usual_adapters_are_accepted(tmp_path: Path, changes: dict[str, object]) -> None:
    """Lists, expressions and patterns as PEFT writes them pass."""
    write_config(tmp_path, **changes)
    check_fits(tmp_path, check_adapter_config(tmp_path), LAYERS, [8, 4])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target_modules": ENDLESS}, "a regular expression that takes too long"),
        pytest.param(
            {"exclude_modules": ENDLESS},
            "a regular expression that takes too long",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"rank_pattern": {ENDLESS: 8}},
            "a regular expression that takes too long",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"modules_to_save": [ENDLESS]},
            "a regular expression that takes too long",
            marks=pytest.mark.slow,
        ),
        ({"target_modules": "(q"}, "found no regular expression"),
        ({"r": "8"}, 'r: found "8", expected a valid integer'),
        ({"r": 0}, "r: found 0, expected greater than or equal to 1"),
        ({"r": 10**9}, "found rank 1000000000, expected the 8 of its weights"),
        ({"rank_pattern": {"q": 10**9}}, "found rank 1000000000, expected the 8"),
        ({"lora_alpha": "16"}, 'lora_alpha: found "16"'),
        ({"target_modules": [1]}, "target_modules: found"),
        ({"megatron_config": {"a": 1}, "megatron_core": "os"}, "megatron_config: found"),
        ({"peft_type": "LOHA"}, "found an adapter of the type LOHA, expected LORA"),
    ],
)
def test_adapter_that_costs_or_runs_without_end_is_refused(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    """An endless expression, a wrong type, a rank of a billion: one line, before PEFT sees it."""
    write_config(tmp_path, **changes)
    with pytest.raises(CheckpointError) as caught:
        check_fits(tmp_path, check_adapter_config(tmp_path), LAYERS, [8, 8])
    assert message in str(caught.value)
    assert "adapter_config.json" in str(caught.value)


def compress(path: Path) -> None:
    """Writes a prompt of a million zeros as a zip file a thousand times smaller."""
    import torch

    torch.save({"prompt_embeddings": torch.zeros(1000, 1000)}, path)
    with zipfile.ZipFile(path) as archive:
        parts = {entry: archive.read(entry) for entry in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def repeat(path: Path) -> None:
    """Writes a prompt of 100,000 rows that are all the same four bytes."""
    import torch

    torch.save({"prompt_embeddings": torch.ones(1).expand(100_000, 32)}, path)


def lengthen(path: Path) -> None:
    """Writes a prompt of more soft tokens than anybody means."""
    import torch

    torch.save({"prompt_embeddings": torch.ones(10_001, 1)}, path)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (compress, "unpacks to 4,0"),
        (repeat, "found 1 values for the shape [100000, 32]"),
        (lengthen, "found 10001 soft tokens, expected at most 10000"),
    ],
)
def test_prompt_that_fills_the_memory_is_refused(
    tmp_path: Path, write: Callable[[Path], None], message: str
) -> None:
    """A small file cannot stand for a large prompt."""
    from prompt_tuning.prompt_file import load_prompt

    write(tmp_path / "prompt.pt")
    with pytest.raises(IgragError) as caught:
        load_prompt(tmp_path / "prompt.pt")
    assert message in str(caught.value)


def test_number_of_soft_tokens_is_bounded() -> None:
    """A billion soft tokens are a mistake in the settings, not an allocation."""
    from prompt_tuning.settings import PromptSettings

    with pytest.raises(ValueError, match="less than or equal to 10000"):
        PromptSettings(prompt_length=10**9)


@pytest.mark.slow
def test_old_adapter_weights_are_named_and_converted(tmp_path: Path) -> None:
    """adapter_model.bin is the old pickle format, and the error's command makes it safetensors."""
    import torch
    from safetensors.torch import load_file

    from igrag.captioning.adapters import check_adapter
    from prompt_tuning.peft_format import import_peft

    write_config(tmp_path)
    torch.save({"a.lora_A.weight": torch.ones(8, 4)}, tmp_path / "adapter_model.bin")
    for read in (check_adapter, import_peft):
        with pytest.raises(CheckpointError, match="old pickle format, expected adapter"):
            read(tmp_path)
    with pytest.raises(CheckpointError) as caught:
        check_adapter(tmp_path)
    command = shlex.split(str(caught.value).partition("in its folder: ")[2])
    subprocess.run([sys.executable, *command[1:]], cwd=tmp_path, check=True)
    assert load_file(tmp_path / "adapter_model.safetensors")["a.lora_A.weight"].shape == (8, 4)
    check_adapter(tmp_path)
