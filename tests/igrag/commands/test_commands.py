"""The command `igrag`: its subcommands, their help and their version."""

import subprocess
import sys

import pytest

import igrag
from igrag import commands
from igrag.config import REPO_ROOT

SCRIPTS = (
    ["main.py"],
    ["scripts/build_knowledge_base.py"],
    ["scripts/convert_prompt.py"],
    *(["-m", "igrag.commands", name] for name in commands.SUBCOMMANDS),
)


def test_help_lists_every_subcommand(capsys: pytest.CaptureFixture[str]) -> None:
    """Each subcommand stands in the help with its line."""
    with pytest.raises(SystemExit) as caught:
        commands.main(["--help"])
    shown = capsys.readouterr().out
    assert caught.value.code == 0
    for name, (_, text) in commands.SUBCOMMANDS.items():
        assert f"  {name} " in shown and text in shown


@pytest.mark.parametrize("words", [[], ["capton"], ["--no_such_option"]])
def test_wrong_subcommand_exits_with_2(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A missing or misspelt subcommand is the usage's exit code, with the list of them."""
    with pytest.raises(SystemExit) as caught:
        commands.main(words)
    assert caught.value.code == 2
    assert "usage: igrag" in capsys.readouterr().err


def test_words_reach_the_subcommand(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Everything after the name is the subcommand's own, and its exit code is returned."""
    monkeypatch.setattr(sys, "argv", ["/usr/bin/igrag"])
    with pytest.raises(SystemExit) as caught:
        commands.main(["caption", "--help"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("usage: igrag caption [-h] (--i PATH")
    assert commands.main(["caption", "--i", "x", "--config", "/no/such.yaml"]) == 2


@pytest.mark.parametrize("script", SCRIPTS, ids=" ".join)
def test_version_of_every_command(script: list[str]) -> None:
    """Each command prints the project's version."""
    done = subprocess.run(
        [sys.executable, *script, "--version"], cwd=REPO_ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, f"igrag {igrag.__version__}\n"), done.stderr


@pytest.mark.parametrize("script", SCRIPTS, ids=" ".join)
def test_help_imports_nothing_heavy(script: list[str]) -> None:
    """--help comes without torch and the like; measured in CPU time, as machines are busy."""
    code = (
        "import runpy, sys, time\n"
        "words = sys.argv[1:]\n"
        "module = words[1] if words[0] == '-m' else None\n"
        "sys.argv = [*(words[2:] if module else words)]\n"
        "if module: sys.argv.insert(0, module)\n"
        "sys.argv.append('--help')\n"
        "try:\n"
        "    if module: runpy.run_module(module, run_name='__main__')\n"
        "    else: runpy.run_path(words[0], run_name='__main__')\n"
        "finally:\n"
        "    heavy = {'torch', 'transformers', 'datasets', 'numpy', 'PIL', 'matplotlib'}\n"
        "    print(sorted(heavy & set(sys.modules)), time.process_time(), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *script], cwd=REPO_ROOT, capture_output=True, text=True
    )
    heavy, seconds = done.stderr.rsplit(maxsplit=1)
    assert done.returncode == 0 and heavy == "[]", done.stderr
    assert float(seconds) < 2, "0.5 s on a fast machine"
