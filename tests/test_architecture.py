"""Who may import whom: the rooms of the house and the direction between them."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from igrag.config import REPO_ROOT

RECIPES = ("lora_training", "prompt_tuning")
# What stands outside of the package, which it must run without.
OUTSIDE = (*RECIPES, "evaluation", "demo", "benchmarks", "scripts", "tests", "main")
# What of a recipe the evaluation may use: how its results are named, read and switched on.
EVALUATED = ("prompt_tuning.methods", "prompt_tuning.checkpoints", "prompt_tuning.prompt_file")
# Who may know the configuration: the border where it is taken apart, and the entry points.
KNOW_THE_CONFIG = ("igrag.from_config", "igrag.config")
# Each room is made from those above it alone; what is not named here belongs to "parts".
ORDER = {"errors": 0, "files": 1, "config": 1, "cli": 1, "runtime": 1}
ORDER |= {"placeholders": 1}  # what the config and the prompt's builder check a template by
ORDER |= {"parts": 2, "generator": 3, "captioner": 4, "assembly": 5, "output": 5}
HEAVY = (
    "torch",
    "transformers",
    "datasets",
    "peft",
    "numpy",
    "PIL",
    "nltk",
    "pyarrow",
    "matplotlib",
)


def modules(package: str) -> dict[str, Path]:
    """Returns the modules of a package with their files."""
    found = {}
    for file in sorted((REPO_ROOT / package).rglob("*.py")):
        parts = file.relative_to(REPO_ROOT).with_suffix("").parts
        found[".".join(part for part in parts if part != "__init__")] = file
    return found


def imports(file: Path) -> Iterator[str]:
    """Yields what a file imports anywhere, inside functions too."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import, expected the full name"
            assert node.module is not None
            # "from igrag import output" imports a module, "from igrag.cli import run" does not.
            if "." in node.module:
                yield node.module
            else:
                yield from (f"{node.module}.{name.name}" for name in node.names)


def room(module: str) -> int:
    """Returns how far from the errors a module of the package stands."""
    return ORDER.get(module.split(".")[1], ORDER["parts"])


def test_the_check_sees_imports(tmp_path: Path) -> None:
    """Every form of import is found, wherever it stands: otherwise the rules below are void."""
    file = tmp_path / "a.py"
    file.write_text(
        "import demo.world\nfrom igrag import output\n"
        "def f():\n    from lora_training.settings import LoraSettings\n"
    )
    assert list(imports(file)) == [
        "demo.world",
        "igrag.captioning.output",
        "lora_training.settings",
    ]


@pytest.mark.parametrize("module", modules("igrag"))
def test_package_knows_nothing_outside(module: str) -> None:
    """The package never imports a recipe, the miniature, a benchmark or an entry point."""
    file = modules("igrag")[module]
    assert [name for name in imports(file) if name.split(".")[0] in OUTSIDE] == []


@pytest.mark.parametrize("module", [name for name in modules("igrag") if "." in name])
def test_imports_point_one_way(module: str) -> None:
    """The order: errors <- config, files <- single parts <- generator <- captioner <- assembly."""
    others = [
        name
        for name in imports(modules("igrag")[module])
        if name.startswith("igrag.") and name.split(".")[1] != module.split(".")[1]
    ]
    assert [name for name in others if room(name) > room(module)] == []


@pytest.mark.parametrize("package", ["igrag", *RECIPES, "evaluation"])
def test_no_circles(package: str) -> None:
    """No module needs itself by way of others."""
    known = modules(package)
    graph = {
        module: {name for name in imports(file) if name in known and name != module}
        for module, file in known.items()
    }
    tuple(TopologicalSorter(graph).static_order())  # raises CycleError


@pytest.mark.parametrize("module", modules("igrag"))
def test_config_stops_at_the_border(module: str) -> None:
    """Parts take plain arguments: only the assembly knows the configuration."""
    if module.startswith(KNOW_THE_CONFIG):
        return
    file = modules("igrag")[module]
    assert [name for name in imports(file) if name.startswith("igrag.config")] == []


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes_do_not_know_each_other(recipe: str) -> None:
    """A recipe imports the package and itself, never another recipe nor the miniature."""
    forbidden = [name for name in OUTSIDE if name != recipe]
    for file in modules(recipe).values():
        assert [name for name in imports(file) if name.split(".")[0] in forbidden] == []


def test_evaluation_knows_what_it_evaluates() -> None:
    """It imports the package, itself, and the few rooms of a recipe that are named above."""
    for file in modules("evaluation").values():
        names = [name for name in imports(file) if name.split(".")[0] in OUTSIDE]
        assert [name for name in names if not name.startswith(("evaluation.", *EVALUATED))] == [], (
            file
        )


@pytest.mark.parametrize("package", ["demo", "benchmarks", "scripts", "main.py"])
def test_nobody_knows_the_evaluation(package: str) -> None:
    """It is an end: what others need of it belongs into the package."""
    files = [REPO_ROOT / package] if package.endswith(".py") else modules(package).values()
    for file in files:
        assert [name for name in imports(file) if name.split(".")[0] == "evaluation"] == [], file


@pytest.mark.parametrize(
    "statement",
    [
        "import igrag.config, igrag.errors, igrag.cli, igrag.files",
        "from igrag.config import Config; Config.load()",
        "import main",
        "import lora_training.train_lora",
        "import prompt_tuning.prompt_training",
        "import scripts.build_knowledge_base",
        "import evaluation.run_evaluation",
        "import scripts.convert_prompt",
    ],
)
def test_light_start(statement: str) -> None:
    """--help and errors in the configuration come before anything heavy is imported."""
    code = f"import sys; {statement}; print(*sorted(set(sys.modules) & set({HEAVY!r})))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPO_ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""
