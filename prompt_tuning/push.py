"""Uploads a soft prompt to the hub, with a model card from the record of its training."""

from pathlib import Path

from igrag.hub import CARD_NAME, upload
from igrag.training.checkpoints import find_record
from igrag.training.model_card import model_card
from prompt_tuning.prompt_file import PROMPT_NAME, PromptFile, find_prompt, load_prompt

_METHOD = "prompt_tuning"


def push_prompt(
    path: Path,
    repo_id: str,
    *,
    private: bool = False,
    base_model: str | None = None,
    license_id: str | None = None,
    replace_card: bool = False,
) -> tuple[str, bool]:
    """Uploads a prompt's file, byte for byte, and a model card.

    Args:
        path: prompt_embeddings.pt, or the folder that holds it. In best_model or checkpoint-N of a
            training, the card has the figures of its record.
        repo_id: "owner/name".
        private: Whether only its owner may see the repository.
        base_model: Hub id of the base model, for the card; None: as the record has it.
        license_id: The hub's id of a license, for the card; None leaves it to the owner.
        replace_card: Replace a model card that is already there.

    Returns:
        The repository's address, and whether the card was uploaded.

    Raises:
        CheckpointError: The file is missing or damaged.
        UsageError: `repo_id` is none, or the repository is public and `private` was asked for.
        OutputError: The hub refuses it, or cannot be reached.
    """
    path = find_prompt(path)
    prompt = load_prompt(path)
    record = find_record(path.parent, _METHOD)
    marks = prompt.fingerprint
    known = record.model.name if record else marks.model if marks else None
    card = model_card(
        repo_id,
        method=_METHOD,
        base_model=base_model or known,
        facts=_facts(prompt),
        record=record,
        checkpoint=path.parent.name,
        license_id=license_id,
    )
    return upload(
        {PROMPT_NAME: path, CARD_NAME: card.encode()},
        repo_id,
        private=private,
        message="Upload soft prompt",
        replace_card=replace_card,
    )


def _facts(prompt: PromptFile) -> dict[str, str]:
    facts = {
        "soft tokens": f"{prompt.prompt_length} of width {prompt.embedding_dim}",
        "initialization": prompt.initialization,
    }
    if prompt.image_prompt is not None:
        facts["image tokens"] = (
            f"{prompt.image_prompt.image_tokens}, made from vectors of "
            f"{prompt.image_prompt.encoder.name}"
        )
    if prompt.fingerprint is not None:
        names = {"model": "model", "weights": "its weights (SHA-256)", "lora": "LoRA adapter"}
        marks = prompt.fingerprint.to_dict()
        facts |= {f"trained for: {title}": marks[key] or "unknown" for key, title in names.items()}
    return facts
