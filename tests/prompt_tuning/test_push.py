"""Soft prompts on the hub: the same bytes come back, with a card from the training's record."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from huggingface_hub import ModelCard

from igrag.captioning.language_model import load_language_model
from igrag.errors import CheckpointError
from igrag.hub import CARD_NAME
from igrag.training.checkpoints import RESULTS_NAME
from prompt_tuning.available_prompts import find_prompts
from prompt_tuning.prompt_file import PROMPT_NAME, PromptFile, find_prompt, load_prompt, save_prompt
from prompt_tuning.prompt_tuner import PromptTuner
from prompt_tuning.push import push_prompt
from prompt_tuning.settings import PromptTrainingSettings
from tests.hub_server import LocalHub
from tests.prompt_tuning.models import MARKS, noise, tuner_of
from tests.trainings import training

REPO = "user/prompt"


def card_of(hub: LocalHub) -> ModelCard:
    """Returns the model card of the repository."""
    return ModelCard(hub.files[REPO][CARD_NAME].decode(), ignore_metadata_errors=False)


def metadata_of(hub: LocalHub) -> dict[str, Any]:
    """Returns the metadata of the card."""
    return vars(card_of(hub).data)


def test_pushed_prompt_loads_with_the_same_bytes(hub: LocalHub, tmp_path: Path) -> None:
    """The file is uploaded as it is, and everything that loads prompts takes the hub id."""
    save_prompt(tmp_path / "mine.pt", PromptFile(noise(4), "random", MARKS))
    url, has_card = push_prompt(tmp_path / "mine.pt", REPO)
    assert url == f"{hub.url}/{REPO}" and has_card
    assert hub.files[REPO].keys() == {PROMPT_NAME, CARD_NAME}
    assert find_prompt(Path(REPO)).read_bytes() == (tmp_path / "mine.pt").read_bytes()
    assert torch.equal(load_prompt(Path(REPO)).embeddings, noise(4))
    found = find_prompts(Path(REPO), Path(REPO), Path("/none"))
    assert found.prompt == find_prompt(Path(REPO))


def test_prompt_tuner_pushes_and_loads(hub: LocalHub, tiny_t5: Path) -> None:
    """push_to_hub and from_pretrained are each other's inverse."""
    language = load_language_model(str(tiny_t5), device="cpu")
    url = tuner_of(language, noise(3)).push_to_hub(REPO, private=True)
    assert url.endswith(REPO) and REPO in hub.private
    loaded = PromptTuner.from_pretrained(language.model, REPO)
    assert torch.equal(loaded.plain_prompt(), noise(3))
    assert tiny_t5.name in card_of(hub).text and str(tiny_t5) not in card_of(hub).text


def test_card_has_the_figures_and_the_command(hub: LocalHub, tmp_path: Path) -> None:
    """Base model, scores of the checkpoint, data and settings; no license, no local path."""
    record = training({0: 0.1, 5: 0.25, 10: 0.2}, steps=10)
    record.model = type(record.model)("google/flan-t5-small", 4000, 100)
    defaults = PromptTrainingSettings.load(Path("prompt_tuning/config/prompt_tuning.yaml"), [])
    record.config = defaults.to_plain() | {"resolved": {"dtype": "float32"}}
    record.config["data"]["train_file"] = "/home/me/data/train.jsonl"
    record.write(tmp_path / RESULTS_NAME)
    prompt = tmp_path / "best_model" / PROMPT_NAME
    save_prompt(prompt, PromptFile(noise(4), "random", MARKS))
    push_prompt(prompt.parent, REPO)
    card = card_of(hub)
    metadata = metadata_of(hub)
    assert metadata["base_model"] == "google/flan-t5-small"
    assert metadata["library_name"] == "igrag" and "prompt-tuning" in metadata["tags"]
    assert metadata["license"] is None and "## License" in card.text
    assert "| this checkpoint | 5 | 0.5000 | 0.4000 | 0.3000 | 0.2500 | 1.0000 |" in card.text
    assert "| untuned | 0 |" in card.text and "train_examples: 320" in card.text
    assert "/home/me" not in card.text
    assert "prompt_training.py --train --config settings.yaml" in card.text
    settings = card.text.partition("```yaml\n")[2].partition("```")[0]
    (tmp_path / "settings.yaml").write_text(settings, encoding="utf-8")
    again = PromptTrainingSettings.load(tmp_path / "settings.yaml", [])
    assert again.training == defaults.training
    assert yaml.safe_load(settings)["data"]["train_file"] == "train.jsonl"


def test_license_and_base_model_are_the_users_to_name(hub: LocalHub, tmp_path: Path) -> None:
    """What is given stands in the card's metadata, where the hub reads it."""
    save_prompt(tmp_path / PROMPT_NAME, PromptFile(noise(4), "random", None))
    push_prompt(tmp_path, REPO, base_model="google/flan-t5-base", license_id="apache-2.0")
    assert metadata_of(hub)["license"] == "apache-2.0"
    assert metadata_of(hub)["base_model"] == "google/flan-t5-base"


class Trap:
    """An object whose unpickling makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        """Returns what a pickle would run."""
        return Path.touch, (self.path,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_pickled_code_on_the_hub_is_not_run(hub: LocalHub, tmp_path: Path) -> None:
    """A malicious prompt file is refused in one line, in torch's format and as a bare pickle."""
    torch.save({"prompt_embeddings": noise(4), "x": Trap(tmp_path / "run")}, tmp_path / "a.pt")
    for content in ((tmp_path / "a.pt").read_bytes(), pickle.dumps(Trap(tmp_path / "run"))):
        hub.files[REPO] = {PROMPT_NAME: content}
        with pytest.raises(CheckpointError, match="damaged, or not a file of plain tensors"):
            load_prompt(Path(f"{REPO}@{hub.sha(REPO)}"))
    assert not (tmp_path / "run").exists()


def test_damaged_prompt_is_not_pushed(hub: LocalHub, tmp_path: Path) -> None:
    """The file is checked before the repository is made."""
    (tmp_path / PROMPT_NAME).write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="damaged"):
        push_prompt(tmp_path, REPO)
    assert hub.files == {}


def test_unfetchable_prompt_is_a_note_and_no_error(hub: LocalHub) -> None:
    """Methods that do not need it are still available; the note says why this one is not."""
    found = find_prompts(Path("user/none"), Path("user/none"), Path("user/none"))
    assert found.prompt is None and not found.has_lora
    assert "the hub has no such repository" in found.notes["prompt"]
