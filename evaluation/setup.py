"""From the configuration to captions: the only module of the evaluation that reads its keys."""

import hashlib
import logging
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.captioning import build_prompts, generate_captions
from evaluation.controls import read_image_prompts, vectors_by_method
from evaluation.dataset import EvaluationDataset
from evaluation.diversity import SeenCaptions, read_seen_captions
from evaluation.image_vectors import clip_metrics
from evaluation.instructions import InstructionChoice, InstructionTrial, with_instruction
from evaluation.methods import INSTRUCTION_METHOD, Method, TrainedPaths, method_files, open_models
from evaluation.overwrite_guard import evaluation_identity
from evaluation.partial_captions import PARTIAL_NAME, PartialCaptions, captions_key
from evaluation.rows import INSTRUCTION, NEAREST, Rows, find_rows
from igrag import from_config
from igrag.captioning.adapters import find_adapter
from igrag.captioning.generator import CaptionGenerator
from igrag.captioning.prompt_template import PromptTemplate
from igrag.captioning.retrieval_prompts import RetrievalPrompts, RetrievedPrompt
from igrag.config import Config, portable
from igrag.data.coco import ImageId
from igrag.devices import tune_allocator
from igrag.errors import CheckpointError, UsageError
from igrag.metrics import Metric
from igrag.metrics.clip_score import ClipScore, RefClipScore
from igrag.processes import Processes
from igrag.retrieval.knowledge_base import KnowledgeBase
from igrag.retrieval.vector_files import EncodedImages
from igrag.retrieval.vector_lookup import (
    ImageVectors,
    Source,
    encode_files,
    find_vectors,
    next_to,
)
from igrag.training.run_metadata import library_versions
from prompt_tuning.image_prompt import ImagePrompt
from prompt_tuning.methods import knowledge_base_encoder
from prompt_tuning.prompt_file import find_prompt

logger = logging.getLogger(__name__)


def trained_paths(config: Config) -> TrainedPaths:
    """Returns the paths of the soft prompts and the adapter; of hub ids, their local copies."""
    prompts = config.prompt_tuning
    return TrainedPaths(
        prompt=prompts.file_for(lora=False),
        prompt_on_lora=prompts.file_for(lora=True),
        lora=_local(config.lora_config.weights_path, find_adapter),
        named={name: _local(path, find_prompt) for name, path in prompts.prompts.items()},
    )


def _local(path: Path, find: Callable[[Path], Path]) -> Path:
    """Returns what `find` does; a hub id that cannot be fetched as it is: no method may need it."""
    try:
        return find(path)
    except CheckpointError:
        return path


def check_not_sampled(config: Config) -> None:
    """Checks that an ensemble can decode: the copies of a sequence would draw different tokens.

    Raises:
        UsageError: The configuration samples.
    """
    if config.generation_config.do_sample:
        raise UsageError(
            "--ensemble: generation_config.do_sample: found true, expected false: greedy or beam "
            "search"
        )


def rows_of(
    config: Config,
    dataset: EvaluationDataset,
    *,
    wanted: Sequence[str] | None,
    trial: InstructionTrial | str | None,
) -> Rows:
    """Finds the rows besides the trained methods, see `find_rows`."""
    template = from_config.build_template(config.prompt_config)
    return find_rows(dataset, template, wanted=wanted, trial=trial)


def config_identity(
    config: Config,
    model_path: str,
    methods: Sequence[Method],
    dataset: EvaluationDataset,
    rows: Rows,
) -> dict[str, Any]:
    """Returns what the captions depend on, see `evaluation.overwrite_guard.evaluation_identity`."""
    settings: dict[str, Any] = {
        "dtype": config.models.dtype,
        "max_source_length": config.models.max_source_length,
    }
    if not dataset.prompts:
        settings |= {
            "top_k": config.retrieval_config.top_k,
            "encoder": portable(config.retrieval_config.encoder),
            "knowledge_base": portable(config.knowledge_base_config.path),
            "prompts": config.prompt_config.to_plain(),
        }
        if config.knowledge_base_config.index != "exact":  # Evaluations of 0.1 have no such key.
            settings["index"] = config.knowledge_base_config.index
    files: dict[str, list[Path]] = {name: [] for name in rows.names}
    if rows.trial:
        files[INSTRUCTION] = [rows.trial.file, rows.trial.data.path]
        settings["instruction_images"] = len(rows.trial.data.images)
    return evaluation_identity(
        dataset,
        model=model_path,
        decoding=config.generation_config.model_dump(mode="json"),
        settings=settings,
        files=method_files(methods, trained_paths(config)) | files,
    )


@dataclass(frozen=True, slots=True)
class CaptionedDataset:
    """The captions of all methods.

    Attributes:
        dataset: The images, with their matches and vectors where retrieval found them.
        captions: The captions by method.
        seconds: By method that generates, the time that it took.
        choice: The instruction that was chosen, if any.
    """

    dataset: EvaluationDataset
    captions: dict[str, tuple[str, ...]]
    seconds: Mapping[str, float] = field(default_factory=dict)
    choice: InstructionChoice | None = None


def caption_dataset(
    config: Config,
    model_path: str,
    methods: Sequence[Method],
    dataset: EvaluationDataset,
    rows: Rows,
    processes: Processes,
    *,
    identity: Mapping[str, Any],
    output: Path,
    seed: int,
) -> CaptionedDataset:
    """Captions all images by all methods, loading the model once, and only if one generates.

    The captions are kept in the output folder as they come; an interrupted call continues there.
    The first process returns all of them, the others none.

    Args:
        config: The configuration of captioning.
        model_path: Folder or hub id of the language model.
        methods: The methods that generate, besides the rows.
        dataset: The images; if they have no prompts, retrieval builds them.
        rows: Which other rows there are.
        processes: The run's, which share the images.
        identity: See `config_identity`.
        output: The output folder.
        seed: Seed of shuffled image vectors.

    Raises:
        IgragError: A part is missing or damaged, or an image cannot be opened.
    """
    tune_allocator()
    template = from_config.build_template(config.prompt_config)
    methods = [*methods, *([INSTRUCTION_METHOD] if rows.trial else [])]
    # Before the model: the knowledge base is missing more often, and opens faster.
    retrieval = None
    if not dataset.prompts and (methods or NEAREST in rows.names):
        retrieval = _open_retrieval(config, template)
    if not methods:
        dataset, _, nearest = _prompts_of(dataset, rows, retrieval, config, None, processes)
        return CaptionedDataset(dataset, nearest)
    image_prompts, known = _read_image_prompts(methods, config, dataset)
    adapted = any(method.needs_adapter for method in methods)
    lora = config.lora_config.model_copy(update={"enabled": adapted, "merge_and_unload": False})
    language = from_config.load_language(
        config.model_copy(update={"lora_config": lora}), model_path
    )
    generator = from_config.build_generator(config, language)
    models = open_models(language, methods, template=template.fingerprint())
    if retrieval is None and processes.ranks.is_first:
        _check_prompts(dataset.path, dataset.prompts, template, generator)
    dataset, prompts, nearest = _prompts_of(dataset, rows, retrieval, config, generator, processes)
    by_method = {method.name: prompts for method in methods}
    choice = None
    if rows.trial:
        generator.switch_to(models[INSTRUCTION])
        choice = rows.trial.choose(generator, template, processes)
        by_method[INSTRUCTION] = with_instruction(template, prompts, choice.text)
    vectors = vectors_by_method(methods, image_prompts, _vectors_of(dataset, known), seed=seed)
    partial = None
    if processes.ranks.is_first:
        made_from = [by_method, language.weights, library_versions()]
        made_from += [_hashes(vectors)] if vectors else []
        partial = _open_partial(output, identity, config, methods, made_from)
    generated = generate_captions(
        generator, models, by_method, processes, partial=partial, vectors=vectors
    )
    captions = {name: each.captions for name, each in generated.items()}
    seconds = {name: each.seconds for name, each in generated.items()}
    return CaptionedDataset(dataset, captions | nearest, seconds, choice)


def _open_partial(
    output: Path,
    identity: Mapping[str, Any],
    config: Config,
    methods: Sequence[Method],
    made_from: Sequence[Any],
) -> PartialCaptions:
    """Opens the captions that an interrupted evaluation left, if it was this one."""
    paths = method_files(methods, trained_paths(config)).values()
    key = captions_key(identity, [path for each in paths for path in each], *made_from)
    partial = PartialCaptions(output / PARTIAL_NAME, key)
    if len(partial):
        logger.warning("continues an interrupted evaluation after %d captions", len(partial))
    return partial


def _read_image_prompts(
    methods: Sequence[Method], config: Config, dataset: EvaluationDataset
) -> tuple[dict[str, ImagePrompt], ImageVectors | None]:
    """Returns what makes image tokens, and the images' vectors where retrieval will not find them.

    Both are checked before the model is loaded.
    """
    image_prompts = read_image_prompts(methods)
    if not image_prompts:
        return {}, None
    if not dataset.prompts:
        return read_image_prompts(methods, knowledge_base_encoder(config)), None
    encoder = next(iter(image_prompts.values())).encoder
    known = find_vectors(
        dataset.path,
        [image.image_id if dataset.has_ids else None for image in dataset.images],
        [*next_to(dataset.path), *_in_files(dataset, config)],
        encoder=encoder,
        fix="image tokens are made from it; build the examples again with lora_training/"
        "data_builder.py --overwrite_output_dir, or give the folder of their images as --images",
    )
    return read_image_prompts(methods, known.encoder), known


def _in_files(dataset: EvaluationDataset, config: Config) -> list[Source]:
    """Returns the images' files, where they are known, as a source of vectors."""
    files = {image.image_id: image.file for image in dataset.images if image.file}
    if not files:
        return []

    def find(missing: Sequence[ImageId]) -> EncodedImages:
        encoder = from_config.load_image_encoder(config)
        wanted = {image_id: files[image_id] for image_id in missing if image_id in files}
        return encode_files(
            "the images", wanted, encoder=encoder, batch_size=config.retrieval_config.batch_size
        )

    return [find]


def _vectors_of(dataset: EvaluationDataset, known: ImageVectors | None) -> NDArray[np.float32]:
    """Returns the images' vectors [N, D]: those that were looked up, else retrieval's."""
    if known is not None:
        return known.of_examples()
    vectors = [image.vector for image in dataset.images if image.vector is not None]
    return np.stack(vectors) if vectors else np.empty((0, 0), np.float32)


def _hashes(vectors: Mapping[str, NDArray[np.float32]]) -> dict[str, str]:
    return {name: hashlib.sha256(each.tobytes()).hexdigest() for name, each in vectors.items()}


def _prompts_of(
    dataset: EvaluationDataset,
    rows: Rows,
    retrieval: RetrievalPrompts | None,
    config: Config,
    generator: CaptionGenerator | None,
    processes: Processes,
) -> tuple[EvaluationDataset, list[str], dict[str, tuple[str, ...]]]:
    """Returns the images as retrieval leaves them, their prompts, and the captions of `nearest`.

    Args:
        dataset: The images.
        rows: Which rows there are.
        retrieval: Builds the prompts; None if the images have some.
        config: The configuration of captioning.
        generator: Counts tokens; None if nobody reads the prompts.
        processes: The run's, which share the images.
    """
    if retrieval is None:
        return dataset, dataset.prompts, {} if rows.nearest is None else {NEAREST: rows.nearest}
    found = build_prompts(
        retrieval,
        dataset.images,
        processes,
        count_tokens=generator.count_tokens if generator else len,
        max_tokens=generator.max_source_length if generator else sys.maxsize,
        batch_size=config.retrieval_config.batch_size,
    )
    nearest = {NEAREST: _nearest_captions(found)} if NEAREST in rows.names else {}
    return _with_retrieval(dataset, found), [each.prompt for each in found], nearest


def _with_retrieval(
    dataset: EvaluationDataset, found: Sequence[RetrievedPrompt]
) -> EvaluationDataset:
    """Returns the images with their matches and vectors."""
    images = tuple(
        replace(
            image,
            matches=tuple((match.image_id, match.score) for match in each.matches),
            vector=each.vector,
        )
        for image, each in zip(dataset.images, found, strict=True)
    )
    return replace(dataset, images=images)


def _nearest_captions(found: Sequence[RetrievedPrompt]) -> tuple[str, ...]:
    """Returns the first caption that each image's prompt shows; "" if it shows none."""
    return tuple(
        next((caption for match in each.matches for caption in match.captions), "")
        for each in found
    )


def open_knowledge_base(config: Config) -> KnowledgeBase:
    """Opens the knowledge base that the matches of the images are from."""
    return KnowledgeBase.open(config.knowledge_base_config.path)


def clip_metrics_of(
    config: Config, dataset: EvaluationDataset, *, skip: Collection[str]
) -> list[Metric]:
    """Returns CLIPScore and RefCLIPScore by the configured encoder, see `clip_metrics`."""
    if {ClipScore.key, RefClipScore.key} <= set(skip):
        return []
    retrieval = config.retrieval_config
    return clip_metrics(
        dataset,
        retrieval.encoder,
        device=config.models.device,
        dtype=retrieval.encoder_dtype,
        batch_size=retrieval.batch_size,
    )


def read_seen(config: Config, dataset: EvaluationDataset) -> SeenCaptions:
    """Reads the captions that the methods could copy, see `read_seen_captions`."""
    return read_seen_captions(
        dataset.path,
        lambda: open_knowledge_base(config).captions(),
        knowledge_base=config.knowledge_base_config.path,
    )


def _open_retrieval(config: Config, template: PromptTemplate) -> RetrievalPrompts:
    encoder, knowledge_base = from_config.open_retrieval(config)
    return RetrievalPrompts(
        encoder,
        knowledge_base,
        template,
        top_k=config.retrieval_config.top_k,
        detector=from_config.build_detector(config.prompt_config.objects, config.models.device),
    )


def _check_prompts(
    path: Path, prompts: Sequence[str], template: PromptTemplate, generator: CaptionGenerator
) -> None:
    """Warns about prompts that captioning would not have built."""
    others = sum(not template.fits(prompt) for prompt in prompts)
    if others:
        logger.warning(
            "%s: %d of %d prompts were not made with the template of the configuration",
            path, others, len(prompts),
        )  # fmt: skip
    longest = generator.max_source_length
    truncated = sum(generator.count_tokens(prompt) > longest for prompt in prompts)
    if truncated:
        logger.warning(
            "%s: %d of %d prompts are truncated to %d tokens",
            path, truncated, len(prompts), longest,
        )  # fmt: skip
