"""Images read by worker processes, however these are started."""

import subprocess
import sys
from pathlib import Path

import pytest

from igrag.config import REPO_ROOT
from tests.tiny import CocoFolder

READ = """
import multiprocessing, sys
from pathlib import Path
from igrag.retrieval.image_encoder import ImageEncoder
from igrag.retrieval.image_loader import read_images

method, model, *paths = sys.argv[1:]
multiprocessing.set_start_method(method)
preprocess = ImageEncoder(model, device="cpu").preprocess
batches = read_images(list(map(Path, paths)), preprocess, batches=[[0, 1], [2]], workers=1)
print([len(pixels) for pixels, _ in batches])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="has one way to start a process")
@pytest.mark.parametrize("method", ["fork", pytest.param("forkserver", marks=pytest.mark.slow)])
def test_workers_run_with_every_start_method(
    method: str, tiny_clip: Path, coco: CocoFolder
) -> None:
    """Their parent is the build, or a server of processes, which later Pythons begin with."""
    paths = [str(coco.image(number)) for number in (1, 2, 3)]
    done = subprocess.run(
        [sys.executable, "-c", READ, method, str(tiny_clip), *paths],
        cwd=REPO_ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1:] == ["[2, 1]"], done.stderr
