"""Who may import whom: the floors of the package, and what the recipes may use."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from igrag.config import REPO_ROOT

RECIPES = ("lora_training", "prompt_tuning")
# What is outside of the package, which runs without it but for its top floor.
OUTSIDE = (*RECIPES, "evaluation", "demo", "benchmarks", "scripts", "tests", "main", "app")
# Each floor imports from itself and from those before it.
FLOORS = (
    ("errors",),
    ("files", "inputs", "output_lock", "processes"),
    ("config",),
    ("cli", "devices", "fingerprints", "finite", "hub", "memory", "units"),
    ("data", "metrics"),
    ("retrieval", "training"),
    ("captioning",),
    ("app", "from_config", "serving"),
    ("commands",),
)
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
# The parts take plain arguments; of the configuration they use only its lists of words and checks.
KNOW_THE_CONFIG = ("igrag.config", "igrag.from_config", "igrag.commands")
WITHOUT_THE_CONFIG = ("igrag.config.choices", "igrag.config.placeholders")
HEAVY = (
    "torch",
    "transformers",
    "datasets",
    "peft",
    "numpy",
    "PIL",
    "pyarrow",
    "matplotlib",
)
NOT_FOR_CAPTIONS = (
    "datasets",
    "faiss",
    "fastapi",
    "gradio",
    "pandas",
    "prometheus_client",
    "pyarrow.compute",
    "pymilvus",
    "pyarrow.dataset",
    "matplotlib",
    "nltk",
    "optuna",
    "peft",
    "torchvision",
    "uvicorn",
)


@cache
def modules(package: str) -> dict[str, Path]:
    """Returns the modules of a package with their files."""
    found = {}
    for file in sorted((REPO_ROOT / package).rglob("*.py")):
        parts = file.relative_to(REPO_ROOT).with_suffix("").parts
        found[".".join(part for part in parts if part != "__init__")] = file
    return found


@cache
def nodes(file: Path) -> tuple[ast.AST, ...]:
    """Parses a file; several tests look at each."""
    return tuple(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))


def imports(file: Path) -> Iterator[str]:
    """Yields what a file imports anywhere, inside functions too."""
    for node in nodes(file):
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


def floor(module: str) -> int:
    """Returns the number of the floor that a module of the package is on."""
    return FLOOR[module.split(".")[1]]


def test_check_finds_every_form_of_import(tmp_path: Path) -> None:
    """Every form of import is found, wherever it stands: otherwise the rules below are void."""
    file = tmp_path / "a.py"
    file.write_text(
        "import demo.world\nfrom igrag import output\n"
        "def f():\n    from lora_training.settings import LoraSettings\n"
    )
    assert list(imports(file)) == [
        "demo.world",
        "igrag.output",
        "lora_training.settings",
    ]


@pytest.mark.parametrize("module", modules("igrag"))
def test_package_knows_nothing_outside(module: str) -> None:
    """Only the commands import a recipe; nothing imports demo, a benchmark or a script."""
    allowed = RECIPES if module.startswith("igrag.commands") else ()
    file = modules("igrag")[module]
    outside = [name for name in imports(file) if name.split(".")[0] in OUTSIDE]
    assert [name for name in outside if name.split(".")[0] not in allowed] == []


def test_every_module_is_on_a_floor() -> None:
    """A new part of the package is entered in FLOORS."""
    parts = {module.split(".")[1] for module in modules("igrag") if "." in module}
    assert parts == set(FLOOR)


@pytest.mark.parametrize("module", [name for name in modules("igrag") if "." in name])
def test_imports_point_one_way(module: str) -> None:
    """A floor imports from those before it: errors, files, config, data, ..., commands."""
    others = [name for name in imports(modules("igrag")[module]) if name.startswith("igrag.")]
    parts = [name for name in others if name.split(".")[1] in FLOOR]  # else igrag.__version__
    assert [name for name in parts if floor(name) > floor(module)] == []


@pytest.mark.parametrize("package", [*RECIPES, "evaluation", "demo"])
def test_nothing_imports_the_commands(package: str) -> None:
    """They are the top floor: an entry point for users, not a library."""
    for file in modules(package).values():
        assert [name for name in imports(file) if name.startswith("igrag.commands")] == [], file


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
    """Parts take plain arguments: only `from_config` and the commands know the configuration."""
    if module == "igrag" or module.startswith(KNOW_THE_CONFIG):
        return
    known = [name for name in imports(modules("igrag")[module]) if name.startswith("igrag.config")]
    assert [name for name in known if name not in WITHOUT_THE_CONFIG] == []


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes_do_not_know_each_other(recipe: str) -> None:
    """A recipe imports the package and itself, never another recipe nor the demo."""
    forbidden = [name for name in OUTSIDE if name != recipe]
    for file in modules(recipe).values():
        assert [name for name in imports(file) if name.split(".")[0] in forbidden] == []


def test_evaluation_uses_package_and_recipes() -> None:
    """It compares what the recipes train, and imports nothing else outside."""
    for file in modules("evaluation").values():
        names = [name for name in imports(file) if name.split(".")[0] in OUTSIDE]
        allowed = ("evaluation", *RECIPES)
        assert [name for name in names if name.split(".")[0] not in allowed] == [], file


@pytest.mark.parametrize("package", ["demo", "benchmarks", "scripts", "app.py", "main.py"])
def test_nothing_imports_the_evaluation(package: str) -> None:
    """It is an end: what others need of it belongs in the package."""
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
        "import igrag; igrag.Config",
        "import igrag.commands",
    ],
)
def test_light_start(statement: str) -> None:
    """--help and errors in the configuration come before anything heavy is imported."""
    code = f"import sys; {statement}; print(*sorted(set(sys.modules) & set({HEAVY!r})))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPO_ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""


@pytest.mark.slow
def test_captioning_loads_nothing_that_it_does_not_use() -> None:
    """These would make the start of main.py a tenth slower.

    accelerate is not among them: transformers itself imports it.
    """
    code = (
        "import sys; from igrag.commands.caption import command; "
        "code = command(['--i', 'input/802.jpg', '--set', 'generation_config.num_beams=1']); "
        f"print(code, *sorted(set(sys.modules) & set({NOT_FOR_CAPTIONS!r})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPO_ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "0"
