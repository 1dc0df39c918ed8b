"""Every command in the documents is valid and runs; every name in docs/architecture.md exists."""

import gzip
import json
import os
import re
import shlex
import shutil
from importlib import import_module
from importlib.util import find_spec
from itertools import chain, islice
from pathlib import Path
from pkgutil import resolve_name

import pytest

from igrag.commands import SUBCOMMANDS
from igrag.commands.document import MODELS
from igrag.config import REPO_ROOT
from igrag.data.examples import split_file
from tests.forked_commands import run_forked

# The documents whose commands are run, each with its translation if it has one.
DOCUMENTS = (
    ("README.md", "README.zh.md"),
    ("prompt_tuning/README.md", "prompt_tuning/README.en.md"),
    ("lora_training/README.md", "lora_training/README.en.md"),
    ("lora_training/MICROTUNING_METHOD.md", "lora_training/MICROTUNING_METHOD.en.md"),
    ("demo/README.md", None),
)
# Run together with the document, in one clone: what both have is run once.
_RUN_WITH = {
    "README.md": ["lora_training/MICROTUNING_METHOD.md"],
    "demo/README.md": [f"demo/models/{name}/README.md" for name in ("clip-mini", "t5-mini")],
}
_WITH_METEOR = "demo/README.md"
TRANSLATED = [
    *(pair for pair in DOCUMENTS if pair[1]),
    ("docs/configuration.md", "docs/configuration.zh.md"),
]
ALL_DOCUMENTS = sorted(
    path.relative_to(REPO_ROOT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "demo/**/*.md", "*_t*ning/*.md", "evaluation/*.md")
    for path in REPO_ROOT.glob(pattern)
)
_BLOCK = re.compile(r"^```bash\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)
# A command in a comment of a YAML file, which `\` continues in the next one.
_IN_COMMENT = re.compile(r"#.*?\b((?:python3?|torchrun) \S+\.py\b.*)")
_INLINE = re.compile(r"`((?:python3?|torchrun|conda run) [^`]+)`")
# How a document may start the Python of its environment.
_PYTHON = re.compile(r"(conda run -n \w+ )?(\.venv/bin/)?python3?(?= )")
# CI calls make itself; what takes an hour has a smaller test in tests/benchmarks or tests/demo.
_NOT_RUN = re.compile(
    r"(make|git|cd|source|sudo apt|conda env|conda activate|pip install|eval) ?.*"
    r"|python -m (venv|pip|demo\.build).*"
    r"|python benchmarks/(real_shapes|sweep_prompt_tuning|compare_with_revision)\.py.*"
    r"|igrag sweep .*"
    # Their own tests start a server and send it requests.
    r"|(igrag (serve|app|push)|python app\.py|curl|export) ?.*"
)
# Typed scripts -> the module that parses their words.
_SCRIPTS = {
    "app.py": "igrag.commands.app",
    "main.py": "igrag.commands.caption",
    "scripts/build_knowledge_base.py": "igrag.commands.build_knowledge_base",
    "scripts/convert_prompt.py": "igrag.commands.convert_prompt",
}
# What keeps a training short; the commands stay as they are written.
_TRAININGS = (
    "prompt_tuning/config/prompt_tuning.yaml",
    "lora_training/config/lora_config.yaml",
)
_LEFT_BEHIND = (".git", ".venv", ".*_cache", "__pycache__", "checkpoints", "results")


def commands(document: str) -> list[str]:
    """Lists the commands of a document: in its bash blocks, one a line, and in its text."""
    text = (REPO_ROOT / document).read_text(encoding="utf-8")
    lines = "\n".join(_BLOCK.findall(text)).replace("\\\n", " ").splitlines()
    typed = [found for line in lines if (found := re.split(r"(?:^|\s)#", line)[0].strip())]
    return [*typed, *_INLINE.findall(_BLOCK.sub("", text))]


def commands_in_comments(file: Path) -> list[str]:
    """Lists the commands in the comments of a YAML file."""
    text = re.sub(r"\\\n# *", " ", file.read_text(encoding="utf-8"))
    return [found.strip() for found in _IN_COMMENT.findall(text)]


def plain(command: str) -> str:
    """Returns a command as `python ...`, whichever environment it is typed for."""
    return " ".join(_PYTHON.sub("python", command, count=1).split())


def words_of(command: str) -> list[str]:
    """Splits a command; returns what follows `python` to run it."""
    program, *words = shlex.split(command)
    if program == "torchrun":
        return ["-m", "torch.distributed.run", *words]
    if program == "igrag":
        return ["-m", "igrag.commands", *words]
    assert program == "python", command
    return words


def program_of(command: str) -> tuple[str, list[str]] | None:
    """Returns the module that a command runs, and the words for it; None for no Python program."""
    program, *words = shlex.split(command)
    if program == "igrag":
        name = words[0] if words else ""
        return (SUBCOMMANDS[name][0], words[1:]) if name in SUBCOMMANDS else ("", words)
    if program == "torchrun":
        words = words[next(i for i, word in enumerate(words) if word.endswith(".py")) :]
    elif program != "python":
        return None
    if words[0] == "-m":
        return words[1], words[2:]
    script, *words = words
    assert (REPO_ROOT / script).is_file(), command
    return _SCRIPTS.get(script, script.removesuffix(".py").replace("/", ".")), words


def check_words(command: str) -> None:
    """Makes sure that the program of a command exists and has the command's options."""
    found = program_of(command)
    if found is None:
        program, *words = shlex.split(command)
        files = [word for word in words if re.fullmatch(r"[\w.-]+\.(txt|yml)", word)]
        assert all((REPO_ROOT / file).is_file() for file in files), command
        if program == "make":
            targets = re.findall(r"^([\w-]+):", (REPO_ROOT / "Makefile").read_text(), re.MULTILINE)
            assert set(words) - {word for word in words if "=" in word} <= set(targets), command
        return
    module, words = found
    if not module:  # igrag --help, igrag --version
        assert words in (["--help"], ["--version"]), command
        return
    if module == "venv":
        return
    assert find_spec(module) is not None, command
    if re.match(r"demo|benchmarks", module):  # They parse inside main(): nothing to call.
        path = REPO_ROOT / module.replace(".", "/")
        file = path / "__main__.py" if path.is_dir() else path.with_suffix(".py")
        source = file.read_text(encoding="utf-8")
        options = [word.partition("=")[0] for word in words if word.startswith("--")]
        assert [option for option in options if f'"{option}"' not in source] == [], command
        return
    assert not re.search(r" --[a-z]+-", command), f"{command}: expected options with underscores"
    parse_arguments = import_module(module).parse_arguments
    try:
        parse_arguments(words)
    except SystemExit as done:
        assert done.code == 0, command  # --help


@pytest.mark.parametrize("document", ALL_DOCUMENTS)
def test_every_command_is_valid(document: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every program that a document names exists and accepts the options that stand there."""
    for command in commands(document):
        check_words(plain(command))


@pytest.mark.parametrize("folder", MODELS)
def test_every_command_in_a_yaml_file_is_valid(folder: str) -> None:
    """Commands in the comments of the files that ship are as valid as those of the documents."""
    for file in sorted((REPO_ROOT / folder).glob("*.yaml")):
        for command in commands_in_comments(file):
            check_words(plain(command))


def test_commands_in_comments_are_found(tmp_path: Path) -> None:
    """A command is found after other words, and over several lines."""
    file = tmp_path / "a.yaml"
    file.write_text("# Once: python main.py --i a.jpg \\\n#   --json\nkey: 1  # igrag caption\n")
    assert list(map(plain, commands_in_comments(file))) == ["python main.py --i a.jpg --json"]


@pytest.mark.parametrize(
    "command",
    [
        "python lora_training/train_lora.py --train --config lora_training/config/uncovered.yaml",
        "python main.py --i a.jpg --modle flan-t5",
        "python missing.py",
        "python -m igrag.missing",
        "igrag capture --i a.jpg",
        "make tests",
        "pip install -r requirement.txt",
        "python evaluation/run_evaluation.py --skip-metrics meteor",
        "python -m demo.build --stage t5",
    ],
)
def test_invalid_command_is_found(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The check above fails for what a document must not tell readers to type."""
    with pytest.raises((AssertionError, ModuleNotFoundError)):
        check_words(plain(command))


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("python3 main.py --i a.jpg", "python main.py --i a.jpg"),
        ("conda run -n IGRAG python main.py --i a.jpg", "python main.py --i a.jpg"),
        (".venv/bin/python main.py --i a.jpg", "python main.py --i a.jpg"),
        ("igrag caption --i a.jpg", "igrag caption --i a.jpg"),
    ],
)
def test_environments_are_recognized(command: str, expected: str) -> None:
    """The forms for Conda, a virtual environment and the system's Python are one command."""
    assert plain(command) == expected


@pytest.mark.parametrize(("document", "twin"), TRANSLATED)
def test_both_languages_have_the_same_commands(document: str, twin: str) -> None:
    """A document and its translation give the same commands in the same order."""
    assert commands(document) == commands(twin)


@pytest.mark.parametrize(("document", "twin"), TRANSLATED)
def test_both_languages_link_each_other(document: str, twin: str) -> None:
    """A reader finds the other language among the first lines."""
    for here, there in ((document, twin), (twin, document)):
        top = (REPO_ROOT / here).read_text(encoding="utf-8").splitlines()[:4]
        assert f"({Path(there).name})" in "\n".join(top), here


@pytest.mark.parametrize("document", ALL_DOCUMENTS)
def test_every_link_has_a_target(document: str) -> None:
    """A relative link of a document leads to a file or folder of the repository."""
    path = REPO_ROOT / document
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text(encoding="utf-8"))
    local = [link for link in links if not re.match(r"https?:|mailto:", link)]
    assert [link for link in local if not (path.parent / link).exists()] == []


# The names in docs/architecture.md

_ARCHITECTURE = REPO_ROOT / "docs" / "architecture.md"
_FILE = re.compile(r"(?:[\w-]+/)+[\w.-]+\.(?:py|yaml|md|jinja)\b")
_NAME = re.compile(r"`([a-z_]+(?:\.\w+)+)(?:\(\))?`")
# Files that a run writes, and keys of JSON and YAML: no names of code.
_NOT_CODE = re.compile(r".*\.(json|jsonl|pt|npy|png|html|csv|yaml|yml|md|py|safetensors|toml)")
_PACKAGES = ("igrag", "prompt_tuning", "lora_training", "evaluation")


def find_name(name: str) -> object:
    """Finds what `module.function` or `package.module.Class.method` names.

    Raises:
        LookupError: There is nothing of that name, or the name needs its package in front.
    """
    first, *attributes = name.split(".")
    if first not in _PACKAGES:
        modules = [
            file.relative_to(REPO_ROOT).with_suffix("").parts
            for package in _PACKAGES
            for file in (REPO_ROOT / package).rglob("*.py")
            if file.stem == first or (file.name == "__init__.py" and file.parent.name == first)
        ]
        if len(modules) != 1:
            raise LookupError(f"{name}: expected one module {first}, found {modules}")
        name = ".".join([*(part for part in modules[0] if part != "__init__"), *attributes])
    try:
        return resolve_name(name)
    except (AttributeError, ImportError) as error:
        raise LookupError(f"{name}: not found") from error


def names_in(text: str) -> list[str]:
    """Lists the references to code in a document."""
    return [name for name in _NAME.findall(text) if not _NOT_CODE.fullmatch(name)]


def test_every_file_of_the_architecture_exists() -> None:
    """docs/architecture.md names no file that was moved or removed."""
    files = _FILE.findall(_ARCHITECTURE.read_text(encoding="utf-8"))
    assert len(files) >= 20
    known = (REPO_ROOT, _ARCHITECTURE.parent)
    assert [file for file in files if not any((root / file).is_file() for root in known)] == []


def test_tree_of_the_architecture_is_complete() -> None:
    """The tree in docs/architecture.md has every module of the packages, and no other."""
    section = _ARCHITECTURE.read_text(encoding="utf-8").partition("## Tree")[2]
    folders: list[str] = []
    listed = set()
    for line in section.split("```")[1].strip().splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        folders[depth:] = [line.split()[0]]
        listed.add("".join(folders))
    assert [path for path in listed if not (REPO_ROOT / path).exists()] == []
    files = {
        file.relative_to(REPO_ROOT).as_posix()
        for package in _PACKAGES
        for file in (REPO_ROOT / package).rglob("*.py")
        if not file.name.startswith("__")
    }
    assert files - listed == set()


def test_every_name_of_the_architecture_exists() -> None:
    """docs/architecture.md names no function or class that was renamed."""
    names = names_in(_ARCHITECTURE.read_text(encoding="utf-8"))
    assert len(names) >= 20
    for name in names:
        find_name(name)


def test_every_current_name_of_the_glossary_exists() -> None:
    """docs/glossary.md leads from the names of earlier versions to modules that exist."""
    text = (REPO_ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    section = text.partition("### Python")[2]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| `")]
    names = [name for row in rows for name in re.findall(r"`(\w+(?:\.\w+)+)`", row[1])]
    assert len(names) >= 20
    for name in names:
        resolve_name(name)


def test_missing_name_is_found() -> None:
    """The check above fails for a name that does not exist, or that several modules may have."""
    assert names_in("`generator.CaptionGenerator.generate` `all_results.json`") == [
        "generator.CaptionGenerator.generate"
    ]
    with pytest.raises(LookupError):
        find_name("generator.CaptionGenerator.write")
    with pytest.raises(LookupError, match="expected one module"):
        find_name("checkpoints.TrainingState")


# Running the commands


def shorten_lines(path: Path, count: int) -> None:
    """Keeps the first lines of a JSONL file, which may be compressed."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as stream:
        lines = list(islice(stream, count))
    with opened(path, "wt", encoding="utf-8") as stream:
        stream.writelines(lines)


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


def shorten_instructions(path: Path) -> None:
    """Keeps two of the instructions that an evaluation tries."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    entries = [line for line in lines if line.startswith("  - ")]
    path.write_text(f"instructions:\n{''.join(entries[:2])}", encoding="utf-8")


def name_demo_models(path: Path) -> None:
    """Makes the configuration of the real models name the demo models."""
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
    """Copies the project with little data, and puts COCO and photos where a user has them."""
    root = tmp_path / "igrag"
    ignore = shutil.ignore_patterns(*_LEFT_BEHIND)
    shutil.copytree(REPO_ROOT, root, ignore=ignore)
    demo = root / "demo"
    shutil.rmtree(root / "lora_training" / "data", ignore_errors=True)
    for split, count in (("train", 16), ("val", 4), ("dev", 4), ("test", 4)):
        for folder in (demo, demo / "uncovered"):
            shorten_lines(split_file(folder / "data", split), count)
        shorten_captions(demo / "coco" / "annotations" / f"captions_{split}.json", count)
    for name in _TRAININGS:
        shorten_training(root / name)
    shorten_instructions(root / "evaluation" / "instructions.yaml")
    name_demo_models(root / "configs" / "coco_flan_t5.yaml")
    annotations = root / "COCO" / "annotations"
    annotations.mkdir(parents=True)
    for name, split in (("train2017", "train"), ("val2017", "val")):
        source = demo / "coco" / "annotations" / f"captions_{split}.json"
        shutil.copyfile(source, annotations / f"captions_{name}.json")
        (root / "COCO" / name).symlink_to(demo / "coco" / split)
    for name in ("photo.jpg", "a.jpg", "b.jpg"):
        shutil.copyfile(root / "input" / "802.jpg", root / name)
    return root


@pytest.mark.slow
@pytest.mark.parametrize(
    "document",
    [name for name, _ in DOCUMENTS if name not in chain.from_iterable(_RUN_WITH.values())],
)
def test_every_command_runs(document: str, clone: Path) -> None:
    """The commands of a document end with exit code 0, in its order, in a fresh clone."""
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "PYTHONWARNINGS": "ignore",
        "TMPDIR": str(clone.parent),  # A sweep of the user's own is in the usual folder.
    }
    if document != _WITH_METEOR:
        environment["PATH"] = ""  # Without Java: METEOR takes ten seconds to start each time.
    typed = [each for name in (document, *_RUN_WITH.get(document, ())) for each in commands(name)]
    found = [each for each in dict.fromkeys(map(plain, typed)) if not _NOT_RUN.fullmatch(each)]
    assert len(found) >= 3
    for command in found:
        done = run_forked(words_of(command), folder=clone, environment=environment)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
