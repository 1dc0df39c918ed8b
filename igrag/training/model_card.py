"""The model card of a prompt or an adapter on the hub, written from the record of its training."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from igrag.files import exists, may_be_hub_id
from igrag.training.record import Evaluation, TrainingRecord
from igrag.training.summary import best_notes

_TAGS = {"prompt_tuning": ["prompt-tuning", "soft-prompt"], "lora": ["lora"]}
_LIBRARIES = {"prompt_tuning": "igrag", "lora": "peft"}
_TITLES = {"prompt_tuning": "soft prompt", "lora": "LoRA adapter"}
_COMMANDS = {
    "prompt_tuning": "python prompt_tuning/prompt_training.py --train --config settings.yaml",
    "lora": "python lora_training/train_lora.py --train --lora_config settings.yaml",
}
# What the record of an adapter leaves to the configuration that ships: how its data are built.
_BASES = {"lora": "lora_training/config/lora_config.yaml"}
_NO_SETTINGS = ("resolved", "precision")  # of a record's config
_USE = {
    "prompt_tuning": """\
```bash
python main.py --i IMAGE --set prompt_tuning.enabled=true --set prompt_tuning.weights_path={repo_id}
```

```python
from prompt_tuning import PromptTuner

tuner = PromptTuner.from_pretrained(model, "{repo_id}")
```""",
    "lora": """\
```bash
python main.py --i IMAGE --set lora_config.enabled=true --set lora_config.weights_path={repo_id}
```""",
}
_HEAD = "| | step | BLEU-1 | BLEU-2 | BLEU-3 | BLEU-4 | loss |\n|---|---|---|---|---|---|---|"


def hub_model(name: str) -> str | None:
    """Returns a base model's name if it is a hub id; None for a folder, which is nobody else's."""
    return name if may_be_hub_id(name) and not exists(Path(name)) else None


def model_card(
    repo_id: str,
    *,
    method: str,
    base_model: str | None,
    facts: Mapping[str, str],
    record: TrainingRecord | None = None,
    checkpoint: str | None = None,
    license_id: str | None = None,
) -> str:
    """Returns the content of README.md: YAML metadata, use, validation and training.

    Args:
        repo_id: "owner/name" on the hub.
        method: "prompt_tuning" or "lora".
        base_model: Hub id of the base model, or what else is known of it; None: nothing.
        facts: Name -> value, such as the number of soft tokens.
        record: That of the training, where there is one.
        checkpoint: Name of the checkpoint's folder in it.
        license_id: The hub's id of a license; None leaves the license to the repository's owner.
    """
    from huggingface_hub import ModelCardData

    base_model = base_model or "that is not known"
    data = ModelCardData(
        base_model=hub_model(base_model),
        library_name=_LIBRARIES[method],
        license=license_id,
        metrics=["bleu"] if record and record.evaluations else None,
        pipeline_tag="image-to-text",
        tags=["igrag", "image-captioning", "retrieval-augmented-generation", *_TAGS[method]],
        base_model_relation="adapter" if hub_model(base_model) else None,
    )
    name = repo_id.partition("/")[2]
    shown = _shared(base_model)
    parts = [
        f"---\n{data.to_yaml()}\n---",
        f"# {name}",
        f"A {_TITLES[method]} for image captioning by retrieval with IGRAG, on the frozen base "
        f"model {shown}.",
        "\n".join(f"- {key}: {value}" for key, value in facts.items()),
        "## Use",
        _USE[method].format(repo_id=repo_id),
    ]
    if record is not None:
        parts += [*_validation(record, checkpoint), *_training(record, method)]
    if license_id is None:
        parts += ["## License", "Not stated yet: it is for the owner of this repository to add."]
    return "\n\n".join(parts) + "\n"


def _validation(record: TrainingRecord, checkpoint: str | None) -> list[str]:
    is_best = checkpoint == record.best_folder
    saved = {found.checkpoint: found for found in record.evaluations}
    chosen = record.best if is_best else saved.get(checkpoint)
    rows = [("untuned", record.untuned), ("this checkpoint", chosen)]
    lines = [_row(title, found) for title, found in rows if found is not None]
    if not lines:
        return []
    notes = [f"- {note}" for note in (best_notes(record) if is_best else [])]
    return [
        "## Validation",
        f"{record.data.get('val_examples', 'Some')} held-out examples; COCO's BLEU, loss in nats "
        "per target token. The checkpoint was selected on them.",
        "\n".join([_HEAD, *lines]),
        *(["\n".join(notes)] if notes else []),
    ]


def _row(title: str, found: Evaluation) -> str:
    scores = (found.bleu1, found.bleu2, found.bleu3, found.bleu4, found.loss)
    return f"| {title} | {found.step} | {' | '.join(f'{score:.4f}' for score in scores)} |"


def _training(record: TrainingRecord, method: str) -> list[str]:
    data, steps = record.data, len(record.history)
    facts = [
        record.model.describe_parameters(),
        f"{steps:,} optimizer steps in {record.training_seconds:,.0f} s",
        *(f"{key}: {value}" for key, value in data.items()),
        "versions: " + ", ".join(f"{name} {version}" for name, version in record.versions.items()),
    ]
    settings = {key: value for key, value in record.config.items() if key not in _NO_SETTINGS}
    if method in _BASES:
        settings = {"base": _BASES[method], **settings}
    content = yaml.safe_dump(_shared(settings), sort_keys=False, allow_unicode=True)
    return [
        "## Training",
        "\n".join(f"- {fact}" for fact in facts),
        f"```bash\n{_COMMANDS[method]}\n```",
        f"with these settings:\n\n```yaml\n{content}```",
    ]


def _shared(value: Any) -> Any:
    """Returns settings with absolute paths, which are this machine's own, cut to their names."""
    if isinstance(value, Mapping):
        return {key: _shared(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_shared(item) for item in value]
    is_local = isinstance(value, str) and Path(value).is_absolute()
    return Path(value).name if is_local else value
