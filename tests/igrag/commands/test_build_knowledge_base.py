"""The command line that builds a knowledge base."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from igrag.commands.build_knowledge_base import command
from igrag.config import REPO_ROOT
from igrag.data.images import open_image
from igrag.retrieval.image_encoder import ImageEncoder
from igrag.retrieval.knowledge_base import KnowledgeBase
from tests.tiny import CocoFolder, save_coco

SCRIPT = REPO_ROOT / "scripts" / "build_knowledge_base.py"


def arguments(coco: CocoFolder, output: Path, clip: Path, *more: str) -> list[str]:
    """Returns the command line for the tiny model."""
    paths = ["--captions", coco.captions, "--images", coco.images, "--output", output]
    options = ["--device", "cpu", "--workers", "0", "--set", f"retrieval_config.encoder={clip}"]
    return [*map(str, paths), *options, *more]


def test_image_finds_its_own_captions_first(
    tmp_path: Path, coco: CocoFolder, tiny_clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the command line to the search: an image's own captions come first at 1.0."""
    output = tmp_path / "kb"
    assert command(arguments(coco, output, tiny_clip, "--batch-size", "5")) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{output}: 12 images, 8 dimensions\n"
    assert printed.err == ""  # It is no terminal: no bar goes into a log.
    encoder = ImageEncoder(str(tiny_clip), device="cpu")
    opened = KnowledgeBase.open(output, encoder=encoder.identity)
    match = opened.search(encoder.encode([open_image(coco.image(7))]), 3)[0][0]
    assert match.image_id == 7
    assert match.score == pytest.approx(1, abs=1e-6)
    assert match.captions == ("A dog in field 7, way 0.", "A dog in field 7, way 1.")


def test_skipped_images_are_listed_on_stderr(
    tmp_path: Path, coco: CocoFolder, tiny_clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Unreadable images and images without captions are named, each once, and it exits 0."""
    coco.image(4).write_text("no image")
    coco.edit(lambda data: data["annotations"].__delitem__(slice(0, 2)))
    (coco.images / "stranger.png").touch()
    assert command(arguments(coco, tmp_path / "kb", tiny_clip)) == 0
    error = capsys.readouterr().err
    assert "warning: 2 images left out:" in error
    assert error.count(coco.image(4).name) == 1
    assert f"{coco.image(1).name}: has no captions" in error
    assert "warning: 1 images in the folder but not in the captions file:\n  stranger" in error


def test_limit_takes_the_first(tmp_path: Path, coco: CocoFolder, tiny_clip: Path) -> None:
    """With --limit only the first images of the file are taken."""
    command(arguments(coco, tmp_path / "kb", tiny_clip, "--limit", "4"))
    assert list(KnowledgeBase.open(tmp_path / "kb").image_ids) == [1, 2, 3, 4]


@pytest.mark.parametrize("option", ["--overwrite_output_dir", "--overwrite-output-dir", "--force"])
def test_existing_output_needs_overwrite_option(
    tmp_path: Path,
    coco: CocoFolder,
    tiny_clip: Path,
    option: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A knowledge base is only replaced with --overwrite_output_dir, or its earlier name."""
    command(arguments(coco, tmp_path / "kb", tiny_clip, "--limit", "4"))
    assert command(arguments(coco, tmp_path / "kb", tiny_clip)) == 1
    assert "--overwrite_output_dir replaces it" in capsys.readouterr().err
    assert command(arguments(coco, tmp_path / "kb", tiny_clip, option)) == 0
    assert len(KnowledgeBase.open(tmp_path / "kb")) == 12


def test_repeated_image_id_is_refused(
    tmp_path: Path, coco: CocoFolder, tiny_clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two images with one id are an error, not a guess."""
    coco.edit(lambda data: data["images"].append(data["images"][0]))
    assert command(arguments(coco, tmp_path / "kb", tiny_clip)) == 1
    assert "the id 1 is there twice" in capsys.readouterr().err


@pytest.mark.parametrize(
    "option", [["--workers", "-1"], ["--batch-size", "0"], ["--limit", "x"], ["--no-such-option"]]
)
def test_wrong_options_exit_with_2(
    tmp_path: Path, coco: CocoFolder, tiny_clip: Path, option: list[str]
) -> None:
    """Impossible numbers and unknown options are the usage's exit code."""
    with pytest.raises(SystemExit) as caught:
        command(arguments(coco, tmp_path / "kb", tiny_clip, *option))
    assert caught.value.code == 2


@pytest.mark.slow
def test_killed_build_is_resumed(
    tmp_path: Path, tiny_clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """After kill -9 in the middle the same command continues, and the result is whole."""
    coco = save_coco(tmp_path / "coco", count=400)
    words = arguments(coco, tmp_path / "kb", tiny_clip, "--batch-size", "1")
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), *words], cwd=tmp_path, stderr=subprocess.DEVNULL
    )
    record = tmp_path / "kb.partial" / "shards" / "000000.json"
    deadline = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < deadline:
        if record.exists():
            break
        time.sleep(0.002)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "kb").exists()
    assert command(arguments(coco, tmp_path / "kb", tiny_clip)) == 0
    assert "continued an interrupted build after" in capsys.readouterr().err
    opened = KnowledgeBase.open(tmp_path / "kb")
    assert list(opened.image_ids) == list(range(1, 401))
    encoder = ImageEncoder(str(tiny_clip), device="cpu")
    ids = [1, 5, 6, 7, 8, 200, 400]
    queries = encoder.encode([open_image(coco.image(image_id)) for image_id in ids])
    assert [found[0].image_id for found in opened.search(queries, 1)] == ids


@pytest.mark.slow
def test_help_and_wrong_inputs_answer_quickly(tmp_path: Path) -> None:
    """The help, and inputs or an output that cannot be, answer without loading torch."""
    (tmp_path / "kb").touch()
    coco = save_coco(tmp_path / "coco", count=1)
    found = ["--captions", str(coco.captions), "--output", "new"]
    wrong = ["--captions", "c.json", "--images", "i", "--output", "kb"]
    code = (
        "import runpy, sys\n"
        "sys.argv = sys.argv[1:]\n"
        "try:\n"
        "    runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "finally:\n"
        "    assert 'torch' not in sys.modules, 'torch was imported'\n"
    )
    for options, exit_code, words in (
        (["--help"], 0, "OUTPUT.partial"),
        (wrong, 1, "error: kb: is a file"),
        ([*wrong, "--set", "retrieval_config.encodr=x"], 2, "encodr"),
        ([*wrong, "--output", "new"], 1, "error: c.json: no such file"),
        ([*found, "--images", "i"], 1, "error: i: no such folder"),
        ([*found, "--images", str(tmp_path)], 1, "holds none of the 1 images"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", code, str(SCRIPT), *options],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == exit_code, done.stderr
        assert words in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
