"""The captioning command: captions, JSON, and one error line for each mistake."""

import io
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from PIL import Image
from transformers import AutoModelForSeq2SeqLM

from igrag.config import REPO_ROOT
from igrag.data.images import open_image
from igrag.retrieval.build import build_knowledge_base
from igrag.retrieval.image_encoder import ImageEncoder
from igrag.retrieval.text_encoder import TextEncoder
from tests.command import Command, one_error
from tests.tiny import CocoFolder


def test_default_output_is_matches_then_caption(command: Command, coco: CocoFolder) -> None:
    """The retrieved captions come with their scores, the nearest first, then the caption."""
    code, out, err = command("--i", coco.image(4), "--top_k", 3)
    lines = out.splitlines()
    assert code == 0 and lines[0] == str(coco.image(4))
    assert lines[1].split() == ["1.000", "A", "dog", "in", "field", "4,", "way", "0."]
    assert len(lines) == 5 and lines[4].strip().startswith("Caption:")
    assert err.count("note: ") == 1 and "coco_flan_t5.yaml" in err


def test_json_has_every_field(command: Command, coco: CocoFolder) -> None:
    """One object a line: the image, the caption, and how it came about."""
    code, out, _ = command("--json", "--input", coco.images)
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and len(rows) == coco.count
    assert set(rows[0]) == {
        "image", "caption", "retrieved", "prompt", "clip_score", "model", "prompt_tuning", "lora",
        "seconds",
    }  # fmt: skip
    assert rows[0]["prompt_tuning"] is False and rows[0]["lora"] is False
    assert rows[4]["retrieved"][0]["image_id"] == 5
    assert rows[4]["retrieved"][0]["captions"] == [
        "A dog in field 5, way 0.", "A dog in field 5, way 1.",
    ]  # fmt: skip
    assert rows[4]["retrieved"][0]["captions"][0] in rows[4]["prompt"]


def test_json_has_the_clip_score(command: Command, coco: CocoFolder, tmp_path: Path) -> None:
    """`clip_score` is the caption's CLIPScore; an encoder that reads no text gives null."""
    without = command("--json", "--i", coco.image(1))
    assert json.loads(without[1])["clip_score"] is None
    assert "note: no clip_score: image encoder" in without[2]
    clip = str(REPO_ROOT / "demo" / "models" / "clip-mini")
    images = ImageEncoder(clip, device="cpu")
    build_knowledge_base(
        coco.captions, coco.images, tmp_path / "clip", encoder=images, progress=False
    )
    settings = (
        f"retrieval_config.encoder={clip}", f"knowledge_base_config.path={tmp_path / 'clip'}",
    )  # fmt: skip
    found = json.loads(command("--json", "--i", coco.image(1), settings=settings)[1])
    image = images.encode([open_image(coco.image(1))])
    text = TextEncoder(clip, device="cpu").encode([f"A photo depicts {found['caption']}"])
    expected = 2.5 * max(float(image[0] @ text[0]), 0)
    assert found["clip_score"] == pytest.approx(expected, abs=1e-4)


def test_one_failure_does_not_stop_the_rest(
    command: Command, coco: CocoFolder, tmp_path: Path
) -> None:
    """The others are captioned; the failure is listed at the end, and the exit code is 1."""
    bad = tmp_path / "bad.jpg"
    bad.write_text("no image")
    code, out, err = command("--json", "--i", coco.image(1), bad, coco.image(2))
    assert code == 1
    assert [Path(json.loads(line)["image"]).name for line in out.splitlines()] == [
        coco.image(1).name, coco.image(2).name,
    ]  # fmt: skip
    assert str(bad) in one_error(err) and "1 of 3 images have no caption." in err


def test_every_input_counts(command: Command, coco: CocoFolder) -> None:
    """--i given again adds images, in the order of the command line."""
    words = ["--i", coco.image(3), "--i", coco.image(1), coco.image(2)]
    code, out, _ = command("--json", *words)
    assert code == 0
    assert [Path(json.loads(line)["image"]) for line in out.splitlines()] == [
        coco.image(3), coco.image(1), coco.image(2),
    ]  # fmt: skip


@pytest.mark.parametrize("beside", [False, True])
def test_every_input_that_is_wrong_is_listed(
    command: Command, coco: CocoFolder, tmp_path: Path, beside: bool
) -> None:
    """Missing files, names too long and empty folders are each an error; folders are no images."""
    names = ("nope1.jpg", "n" * 300 + ".jpg", "e")
    wrong = [tmp_path / name for name in names]
    (tmp_path / "e").mkdir()
    more = [coco.image(1)] if beside else []
    code, out, err = command("--json", "--i", *wrong, *more)
    assert code == 1 and len(out.splitlines()) == len(more)
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 3 and all(any(str(path) in line for line in errors) for path in wrong)
    assert f"2 of {2 + len(more)} images have no caption." in err


def test_unreadable_images_are_errors_before_models_are_loaded(
    command: Command, tmp_path: Path
) -> None:
    """An image that is damaged, alone, does not wait for a model that is not even there."""
    (tmp_path / "bad.jpg").write_text("no image")
    missing = "model_config.models.flan-t5.path=no/such/model"
    code, out, err = command("--i", tmp_path / "bad.jpg", settings=(missing,))
    assert (code, out) == (1, "") and "bad.jpg: not an image" in one_error(err)
    settings = (missing, "prompt_config.objects.source=instances",
                f"prompt_config.objects.instances_path={tmp_path / 'none.json'}",
                "retrieval_config.encoder=no/such/encoder")  # fmt: skip
    code, _, err = command("--i", REPO_ROOT / "input" / "802.jpg", settings=settings)
    assert code == 1 and "none.json: no such file" in one_error(err)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_output_survives_any_name_and_any_encoding(
    command: Command, coco: CocoFolder, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    """What stdout cannot show is escaped, and JSON stays JSON in UTF-8."""
    names = [b"\xff.jpg", "\u00e4\U0001f600.jpg".encode()]
    folder = coco.images.parent / "odd"
    folder.mkdir()
    for name in names:
        (folder / os.fsdecode(name)).write_bytes(coco.image(1).read_bytes())
    shown = {}
    for option in ((), ("--json",)):
        written = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding, "strict"))
        code, _, err = command("--i", folder, *option)
        assert code == 0, err
        shown[option] = written.getvalue()
    assert rb"odd/\udcff.jpg" in shown[()]
    images = [json.loads(line.decode("utf-8"))["image"] for line in shown["--json",].splitlines()]
    assert {os.fsencode(Path(image).name) for image in images} == set(names)


def test_verbose_logs_knowledge_base_and_model(command: Command, coco: CocoFolder) -> None:
    """With --verbose stderr names the knowledge base and the model; without, neither."""
    told = command("--verbose", "--i", coco.image(1))[2]
    assert f"{coco.count} images" in told and "torch.float32 on cpu" in told
    assert "INFO" not in command("--i", coco.image(1))[2]


def test_empty_folder_does_not_stop_the_rest(
    command: Command, coco: CocoFolder, tmp_path: Path
) -> None:
    """A folder without images next to an image is one more failure."""
    code, out, err = command("--json", "--i", coco.image(1), tmp_path)
    assert code == 1 and len(out.splitlines()) == 1
    assert str(tmp_path) in one_error(err)


def _truncated(path: Path, coco: CocoFolder) -> None:
    whole = coco.image(1).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def _huge(path: Path) -> None:
    header = struct.pack(">IIBBBBB", 20000, 20000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    )


@pytest.mark.parametrize("kind", ["missing", "empty folder", "text", "truncated", "huge"])
def test_unreadable_image_is_one_error(
    command: Command, coco: CocoFolder, tmp_path: Path, kind: str
) -> None:
    """Each wrong input is named in one line, with exit code 1."""
    path = tmp_path / "wrong.jpg"
    if kind == "empty folder":
        path.mkdir()
    elif kind == "text":
        path.write_text("hello")
    elif kind == "truncated":
        _truncated(path, coco)
    elif kind == "huge":
        _huge(path)
    code, out, err = command("--i", path)
    assert (code, out) == (1, "")
    assert str(path) in one_error(err)


def _unusual(kind: str, path: Path) -> None:
    """Saves the same gray ramp in an unusual way; shown rightly, it is brighter on the right."""
    ramp = np.tile(np.linspace(0, 255, 48), (40, 1))
    gray = Image.fromarray(ramp.astype(np.uint8))
    if kind == "16-bit":
        Image.fromarray((ramp * 257).astype(np.uint16)).save(path, "PNG")
    elif kind == "CMYK":
        gray.convert("RGB").convert("CMYK").save(path, "JPEG")
    elif kind == "transparent":
        Image.merge("LA", (gray, Image.new("L", gray.size, 128))).save(path, "PNG")
    else:
        exif = Image.Exif()
        exif[0x0112] = 3  # upside down
        gray.rotate(180).save(path, "JPEG", exif=exif)


@pytest.mark.parametrize("kind", ["16-bit", "CMYK", "transparent", "EXIF-rotated"])
def test_unusual_images_match_as_their_plain_form(
    command: Command, tmp_path: Path, kind: str
) -> None:
    """An unusual file is opened rightly: the same image saved plainly gets the same matches."""
    unusual, plain = tmp_path / "unusual.jpg", tmp_path / "plain.png"
    _unusual(kind, unusual)
    ramp = np.tile(np.linspace(0, 255, 48), (40, 1))
    shown = ramp * 128 / 255 + 127 if kind == "transparent" else ramp
    Image.fromarray(shown.astype(np.uint8)).save(plain)
    code, out, _ = command("--json", "--i", unusual, plain)
    first, second = (json.loads(line)["retrieved"] for line in out.splitlines())
    assert code == 0
    for one, other in zip(first, second, strict=True):
        assert one["score"] == pytest.approx(other["score"], abs=0.02)


def test_missing_or_damaged_knowledge_base_is_one_error(
    command: Command, coco: CocoFolder, knowledge_base: Path
) -> None:
    """A knowledge base that is not there or has lost bytes is named, with exit code 1."""
    vectors = knowledge_base / "vectors.npy"
    vectors.write_bytes(vectors.read_bytes()[:-40])
    code, _, err = command("--i", coco.image(1))
    assert code == 1 and str(knowledge_base) in one_error(err)
    shutil.rmtree(knowledge_base)
    code, _, err = command("--i", coco.image(1))
    assert code == 1 and "build one with scripts/build_knowledge_base.py" in one_error(err)


def test_another_encoder_is_refused(command: Command, coco: CocoFolder, other_clip: Path) -> None:
    """A knowledge base opened with another encoder than it was built with: both are named."""
    code, _, err = command(
        "--i", coco.image(1), settings=(f"retrieval_config.encoder={other_clip}",)
    )
    error = one_error(err)
    assert code == 1 and "clip-8" in error and "clip-12" in error


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--model", "flan-t6"], 2, "did you mean flan-t5?"),
        (["--model", "~nobodyhere/x"], 2, "expected one of flan-t5"),
        (["--model", "nobody/no-such-model"], 1, "nobody/no-such-model"),
        (["--top_k", "0"], 2, "retrieval_config.top_k"),
        (["--device", "gpu"], 2, "model_config.device"),
        (["--config", "/no/such.yaml"], 2, "/no/such.yaml"),
        (["--set", "prompt_tuning.enabled=true", "--set", "prompt_tuning.weights_path=none"], 1,
         "prompt_tuning.enabled"),
        (["--set", "lora_config.enabled=true", "--set", "lora_config.weights_path=none"], 1,
         "train_lora.py --all"),
        (["--set", "prompt_config.template='{instruction}'"], 2, "{captions}"),
        (["--set", "prompt_config.objects.source=instances"], 2, "instances_path"),
    ],
)  # fmt: skip
def test_wrong_settings_are_one_error(
    command: Command, coco: CocoFolder, words: list[str], code: int, message: str
) -> None:
    """Nothing that is asked for is silently ignored: each mistake is one line and a code."""
    found, out, err = command("--i", coco.image(1), *words)
    assert (found, out) == (code, "")
    assert message in one_error(err)


def test_adapter_is_used_and_reported(
    command: Command, coco: CocoFolder, tiny_t5: Path, tmp_path: Path
) -> None:
    """With lora_config.enabled the adapter changes the caption, and the JSON has "lora": true."""
    torch.manual_seed(5)
    config = LoraConfig(r=8, lora_alpha=400, target_modules=["q", "v"], init_lora_weights=False)
    model = get_peft_model(AutoModelForSeq2SeqLM.from_pretrained(tiny_t5), config)
    model.save_pretrained(str(tmp_path / "adapter"))
    switch = ("lora_config.enabled=true", f"lora_config.weights_path={tmp_path / 'adapter'}")
    plain = json.loads(command("--json", "--i", coco.image(1))[1])
    adapted = json.loads(command("--json", "--i", coco.image(1), settings=switch)[1])
    assert adapted["lora"] is True and plain["lora"] is False
    assert adapted["caption"] != plain["caption"]


def test_objects_from_a_coco_file_reach_the_prompt(
    command: Command, coco: CocoFolder, tmp_path: Path
) -> None:
    """With objects from an instances file the prompt lists them with their positions."""
    instances = {
        "images": [{"id": 1, "file_name": coco.image(1).name, "width": 48, "height": 40}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 9, "bbox": [0, 0, 8, 8]}],
        "categories": [{"id": 9, "name": "horse"}],
    }
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(instances))
    switch = (
        "prompt_config.objects.source=instances",
        f"prompt_config.objects.instances_path={path}",
    )
    row = json.loads(command("--json", "--i", coco.image(1), settings=switch)[1])
    assert "\nObjects in the picture:\n- horse: top left\n" in row["prompt"]


def test_interruption_during_imports_prints_nothing(tmp_path: Path) -> None:
    """Ctrl-C in the first moments, while the imports run, ends it without a traceback."""
    (tmp_path / "pydantic.py").write_text(
        "print('importing', flush=True)\nimport time; time.sleep(600)"
    )
    process = subprocess.Popen(
        [sys.executable, "main.py", "--i", "x"], cwd=REPO_ROOT, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "importing\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=120) == ("", "")
    assert process.returncode == -signal.SIGINT


def test_help_answers_without_torch() -> None:
    """--help and a misspelt key must not wait for torch: it is not even imported."""
    script = (
        "import sys, runpy; sys.argv = ['main.py', '--i', 'x', '--set', 'a.b=1']\n"
        "try: runpy.run_path('main.py', run_name='__main__')\n"
        "except SystemExit as end: assert end.code == 2, end.code\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", script], cwd=REPO_ROOT, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    assert "unknown key" in finished.stderr
