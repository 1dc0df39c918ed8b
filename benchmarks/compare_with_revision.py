"""Trains on the demo data with the code of an earlier revision and with this one's, and compares.

python benchmarks/compare_with_revision.py REVISION [--lora] [--examples N]

Both train one epoch on the same examples, by the typed command, on one CPU thread, with the same
seed. Prints whether the trained tensors are equal bit for bit; exit code 1 if they are not. The
revision is checked out into a temporary git worktree.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

_ROOT = Path(__file__).resolve().parent.parent
_SEED = 42
Tensors = dict[str, Tensor]


def main(words: Sequence[str] | None = None) -> int:
    """Trains in both trees, prints what is equal, and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("revision", help="a commit, tag or branch of this repository")
    add("--lora", action="store_true", help="compare LoRA adapters too, not only soft prompts")
    add("--examples", type=int, metavar="N",
        help="train on the first N examples, validate on as many; default: all")  # fmt: skip
    arguments = parser.parse_args(words)
    if arguments.examples is not None and arguments.examples < 1:
        parser.error(f"--examples {arguments.examples}: expected a whole number of at least 1")
    try:
        with tempfile.TemporaryDirectory(prefix="igrag_compare_") as name:
            equal = _compare(arguments, Path(name))
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return int(not equal)


def _compare(arguments: argparse.Namespace, folder: Path) -> bool:
    data = _write_examples(folder / "data", arguments.examples)
    trainings = {"prompt": _train_prompt} | ({"adapter": _train_adapter} if arguments.lora else {})
    equal = True
    with _worktree(arguments.revision, folder / "tree") as tree:
        for name, train in trainings.items():
            before = train(tree, data, folder / f"{name}_before")
            now = train(_ROOT, data, folder / f"{name}_now")
            equal &= _tell(name, arguments.revision, before, now)
    return equal


def _write_examples(folder: Path, count: int | None) -> Path:
    """Copies the first examples of the demo data, for both trees to read the same."""
    folder.mkdir()
    for split in ("train", "val"):
        source = _ROOT / "demo" / "data" / f"{split}.jsonl"
        with source.open(encoding="utf-8") as lines:
            content = "".join(islice(lines, count))
        (folder / source.name).write_text(content, encoding="utf-8")
    return folder


@contextmanager
def _worktree(revision: str, folder: Path) -> Iterator[Path]:
    """Checks a revision out into a folder, which git forgets again afterwards."""
    _call(["git", "worktree", "add", "--detach", "--quiet", str(folder), revision], cwd=_ROOT)
    try:
        yield folder
    finally:
        _call(["git", "worktree", "remove", "--force", str(folder)], cwd=_ROOT)


def _train_prompt(tree: Path, data: Path, output: Path) -> Tensors:
    """Trains a soft prompt with the code of a tree."""
    files = (f"data.{split}_file={data / split}.jsonl" for split in ("train", "val"))
    _train(tree, "prompt_tuning/prompt_training.py", output, *files)
    content = torch.load(_trained(output, "prompt_embeddings.pt"), weights_only=True)
    return {name: value for name, value in content.items() if isinstance(value, Tensor)}


def _train_adapter(tree: Path, data: Path, output: Path) -> Tensors:
    """Trains a LoRA adapter with the code of a tree."""
    _train(tree, "lora_training/train_lora.py", output, f"data.output_data={data}")
    return load_file(_trained(output, "adapter_model.safetensors"))


def _train(tree: Path, script: str, output: Path, *settings: str) -> None:
    print(f"training: {script} in {tree}", file=sys.stderr)
    common = ("training.num_train_epochs=1", f"training.seed={_SEED}")
    overrides = [word for pair in (*common, *settings) for word in ("--set", pair)]
    options = ["--train", "--device", "cpu", "--output_dir", str(output), *overrides]
    _call([sys.executable, script, *options], cwd=tree)


def _trained(output: Path, name: str) -> Path:
    """Finds the file in the one checkpoint of a training."""
    found = list(output.glob(f"checkpoint-*/{name}"))
    if len(found) != 1:
        raise RuntimeError(f"{output}: found {len(found)} checkpoints with {name}, expected one")
    return found[0]


def _call(command: Sequence[str], *, cwd: Path) -> None:
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        *_, last = ["nothing on stderr", *done.stderr.splitlines()]
        raise RuntimeError(f"{' '.join(command[:3])}: exit code {done.returncode}: {last}")


def _tell(name: str, revision: str, before: Tensors, now: Tensors) -> bool:
    """Prints how two trainings' tensors compare; returns whether they are the same bits."""
    if before.keys() != now.keys():
        print(f"{name}: {revision} has the tensors {', '.join(before)}, now {', '.join(now)}")
        return False
    other = [key for key in before if _bits(before[key]) != _bits(now[key])]
    if not other:
        count = sum(tensor.numel() for tensor in now.values())
        print(f"{name}: equal bit for bit to {revision}, all {count:,} numbers")
        return True
    print(f"{name}: {len(other)} of {len(now)} tensors are not those of {revision}")
    for key in other:
        print(f"  {key}: {_difference(before[key], now[key])}")
    return False


def _bits(tensor: Tensor) -> tuple[str, torch.Size, bytes]:
    """Returns all of a tensor; unlike with ==, 0 is not -0, and NaN is NaN."""
    flat = tensor.contiguous().reshape(-1).view(torch.uint8)
    return str(tensor.dtype), tensor.shape, flat.numpy().tobytes()


def _difference(before: Tensor, now: Tensor) -> str:
    if (before.dtype, before.shape) != (now.dtype, now.shape):
        return f"was {before.dtype} {list(before.shape)}, is {now.dtype} {list(now.shape)}"
    return f"up to {float((before.double() - now.double()).abs().max()):.1e} apart"


if __name__ == "__main__":
    sys.exit(main())
