"""Builds the training data as the settings say: the border of the config."""

import sys
from functools import cache
from pathlib import Path
from typing import Any

from igrag import from_config
from igrag.captioning.language_model import load_tokenizer
from igrag.captioning.prompt_template import PromptTemplate
from igrag.config import Config, ObjectsConfig
from igrag.data.tokenization import tokenizer_fingerprint
from igrag.retrieval.image_encoder import ImageEncoder
from igrag.retrieval.knowledge_base import KnowledgeBase
from lora_training import data_output
from lora_training.data_builder import ImageVectors, SplitReport, build_split
from lora_training.data_output import Side
from lora_training.examples import ExampleBuilder
from lora_training.image_objects import ImageObjects
from lora_training.settings import DataSettings


def build_data(data: DataSettings, config: Config, model_path: str, *, force: bool) -> None:
    """Writes train.jsonl, val.jsonl and data.json into the output folder.

    Args:
        data: Which images become examples, and where those go.
        config: What captioning uses: knowledge base, template, longest prompt.
        model_path: Folder or hub id of the language model, whose tokens count.
        force: Replace data of other settings.

    Raises:
        IgragError: Something is missing or damaged, or the folder holds other data.
    """
    template = from_config.build_template(config.prompt_config)
    tokenizer = load_tokenizer(model_path)
    knowledge_base = KnowledgeBase.open(config.knowledge_base_config.path)
    record = data_output.describe(
        data,
        template,
        top_k=config.retrieval_config.top_k,
        max_tokens=config.models.max_source_length,
        tokenizer=tokenizer_fingerprint(tokenizer),
        knowledge_base=config.knowledge_base_config.path,
        objects=_describe_objects(config.prompt_config.objects),
    )
    if data_output.is_built(data.output_data, record, force=force):
        print(f"{data.output_data}: already built so (--force-rebuild builds again)")
        return
    sides = data_output.choose_images(data)
    builder = _make_builder(data, config, knowledge_base, template, tokenizer)
    detector = from_config.build_detector(config.prompt_config.objects, config.models.device)

    @cache
    def get_encoder() -> ImageEncoder:
        return from_config.open_retrieval(config)[0]

    reports = {}
    with data_output.new_data(data.output_data) as new:
        for side in sides:
            vectors = ImageVectors(
                knowledge_base,
                side.folder,
                get_encoder=get_encoder,
                batch_size=config.retrieval_config.batch_size,
            )
            objects = ImageObjects(detector, side.folder)
            reports[side.name] = _build_side(side, new, vectors, objects, builder)
        data_output.swap_in(new, data.output_data, record, reports)
    for name, report in reports.items():
        print(
            f"{data.output_data / name}.jsonl: {report.written} examples, "
            f"{report.reused} vectors from the knowledge base"
        )


def _describe_objects(objects: ObjectsConfig) -> dict[str, Any] | None:
    """Says where objects come from; other than for captioning, which instances file counts too."""
    described = from_config.describe_objects(objects)
    if described is not None and objects.source == "instances" and objects.instances_path:
        described["instances_sha256"] = data_output.sha256_of(objects.instances_path)
    return described


def _make_builder(
    data: DataSettings,
    config: Config,
    knowledge_base: KnowledgeBase,
    template: PromptTemplate,
    tokenizer: Any,
) -> ExampleBuilder:
    return ExampleBuilder(
        knowledge_base,
        template,
        top_k=config.retrieval_config.top_k,
        count_tokens=lambda text: len(tokenizer(text)["input_ids"]),
        max_tokens=config.models.max_source_length,
        seed=data.seed,
    )


def _build_side(
    side: Side,
    folder: Path,
    vectors: ImageVectors,
    objects: ImageObjects,
    builder: ExampleBuilder,
) -> SplitReport:
    """Writes one side's file into `folder` and says which images could not be used as asked."""
    path = folder / f"{side.name}.jsonl"
    report = build_split(
        path, side.images, vectors=vectors, builder=builder, split=side.name, objects=objects
    )
    for reason in report.skipped:
        print(f"skipped: {reason}", file=sys.stderr)
    if objects.unlisted:
        print(
            f"note: {side.name}: {objects.unlisted} of {len(side.images)} images are not in "
            "prompt_config.objects.instances_path; their prompts show no objects",
            file=sys.stderr,
        )
    return report
