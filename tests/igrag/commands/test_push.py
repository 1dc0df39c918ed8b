"""igrag push, and captions with what it uploaded."""

from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from igrag.captioning.language_model import load_language_model
from igrag.commands import push
from igrag.files import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from igrag.hub import CARD_NAME
from prompt_tuning.prompt_file import PROMPT_NAME
from tests.command import Command, one_error
from tests.hub_server import LocalHub
from tests.prompt_tuning.adapters import save_adapter
from tests.prompt_tuning.models import noise, tuner_of
from tests.tiny import CocoFolder


def save_marked(path: Path, model: Path, adapter: Path | None = None) -> Path:
    """Saves a prompt with the fingerprint of its model."""
    language = load_language_model(str(model), device="cpu", lora_path=adapter, merge_lora=False)
    tuner_of(language, noise(4)).save_prompt(path)
    return path


def test_pushed_adapter_and_prompt_caption_as_the_local_ones(
    hub: LocalHub,
    command: Command,
    coco: CocoFolder,
    tmp_path: Path,
    tiny_t5: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The same caption, whether adapter and prompt are named by path or by hub id."""
    adapter = save_adapter(tmp_path / "adapter", tiny_t5)
    prompt = save_marked(tmp_path / "p" / PROMPT_NAME, tiny_t5, adapter)
    assert push.command([str(adapter), "user/adapter", "--private"]) == 0
    assert push.command([str(prompt), "user/prompt"]) == 0
    assert capfd.readouterr().out == f"{hub.url}/user/adapter\n{hub.url}/user/prompt\n"
    files = hub.files["user/adapter"]
    assert files.keys() == {ADAPTER_CONFIG, ADAPTER_WEIGHTS, CARD_NAME}
    assert files[ADAPTER_WEIGHTS] == (adapter / ADAPTER_WEIGHTS).read_bytes()
    assert vars(ModelCard(files[CARD_NAME].decode()).data)["library_name"] == "peft"
    captions = []
    for lora, soft in ((adapter, prompt), ("user/adapter", "user/prompt@main")):
        settings = (
            "lora_config.enabled=true",
            f"lora_config.weights_path={lora}",
            "prompt_tuning.enabled=true",
            f"prompt_tuning.weights_path={soft}",
            "prompt_tuning.weights_path_with_lora=null",
        )
        code, out, _ = command("--i", coco.image(1), settings=settings)
        assert code == 0
        captions.append(out)
    assert captions[0] == captions[1]


def test_prompt_option_takes_a_hub_id(
    hub: LocalHub, command: Command, coco: CocoFolder, tmp_path: Path, tiny_t5: Path
) -> None:
    """--prompt user/name needs no entry in the configuration; what is not there is one error."""
    push.command([str(save_marked(tmp_path / "a.pt", tiny_t5)), "user/prompt"])
    code, out, _ = command("--i", coco.image(1), "--json", "--prompt", "user/prompt")
    assert code == 0 and '"prompt_name": "user/prompt"' in out
    code, _, err = command("--i", coco.image(1), "--prompt", "user/none")
    assert code == 1
    assert one_error(err).startswith("error: user/none: no such file or folder, and the hub has no")


def test_pushed_again_the_card_stays_with_a_note(
    hub: LocalHub, tmp_path: Path, tiny_t5: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pushed again, the prompt is replaced and the card is not, unless asked."""
    prompt = save_marked(tmp_path / "a.pt", tiny_t5)
    push.command([str(prompt), "user/prompt"])
    hub.files["user/prompt"][CARD_NAME] = b"# Mine"
    assert push.command([str(prompt), "user/prompt"]) == 0
    assert "note: user/prompt: keeps its model card; --overwrite_card" in capsys.readouterr().err
    push.command([str(prompt), "user/prompt", "--overwrite_card"])
    assert b"soft tokens: 4 of width 32" in hub.files["user/prompt"][CARD_NAME]


def test_what_is_neither_is_refused(
    hub: LocalHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder of something else is an error before anything is uploaded."""
    assert push.command([str(tmp_path), "user/prompt"]) == 1
    assert "prompt_embeddings.pt: no such file, expected a soft prompt" in one_error(
        capsys.readouterr().err
    )
    assert hub.files == {}
