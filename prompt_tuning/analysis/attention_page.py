"""attention.html: which soft tokens and retrieved captions the decoder read, word by word."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from igrag import from_config
from igrag.captioning.generator import Decoding, prepare_decoding
from igrag.captioning.language_model import embedding_weight
from igrag.captioning.prompt_template import PromptTemplate
from igrag.captioning.retrieval_prompts import RetrievalPrompts, RetrievedPrompt
from igrag.data.images import open_image
from igrag.training.html_page import inline_image, write_page
from prompt_tuning.analysis.attention import WordAttention, attend
from prompt_tuning.analysis.opened_prompt import OpenedPrompt
from prompt_tuning.analysis.vocabulary import nearest_entries

_TEMPLATE = "attention.html.jinja"


@dataclass(frozen=True, slots=True)
class RetrievedCaption:
    """A caption that the prompt shows, and the similarity of its image."""

    text: str
    similarity: float


@dataclass(frozen=True, slots=True)
class AttentionCard:
    """One image.

    Attributes:
        name: Its file.
        image: The image as a data URI.
        caption: The generated caption.
        words: Its words.
        retrieved: The retrieved captions in the prompt.
        average: The mean of the words; None of an empty caption.
    """

    name: str
    image: str
    caption: str
    words: tuple[WordAttention, ...]
    retrieved: tuple[RetrievedCaption, ...]
    average: WordAttention | None


def write_attention(opened: OpenedPrompt, images: Sequence[Path], path: Path) -> None:
    """Captions images with the prompt and writes what the decoder read as an HTML page.

    Raises:
        IgragError: An image cannot be opened, or the knowledge base or its encoder is missing.
    """
    nearest = nearest_entries(
        opened.tuner.plain_prompt(),
        embedding_weight(opened.language.model),
        opened.language.tokenizer,
        count=1,
    )
    write_page(
        path,
        Path(__file__).with_name(_TEMPLATE),
        cards=attention_cards(opened, images),
        prompt=str(opened.path),
        nearest=[each[0] for each in nearest],
    )


def attention_cards(opened: OpenedPrompt, images: Sequence[Path]) -> list[AttentionCard]:
    """Returns the cards of images, each captioned alone."""
    config, language = opened.config, opened.language
    template = from_config.build_template(config.prompt_config)
    encoder, knowledge_base = from_config.open_retrieval(config)
    generator = from_config.build_generator(config, language)
    retrieval = RetrievalPrompts(
        encoder,
        knowledge_base,
        template,
        top_k=config.retrieval_config.top_k,
        detector=from_config.build_detector(config.prompt_config.objects, config.models.device),
    )
    options = config.generation_config.model_dump(exclude={"batch_size", "seed"})
    # The most likely caption: a sampled one would be another at every call.
    decoding = prepare_decoding(language.model, replace(Decoding(**options), do_sample=False))
    cards = []
    for file in images:
        image = open_image(file)
        (result,) = retrieval.build(
            [image],
            [file.name],
            count_tokens=generator.count_tokens,
            max_tokens=generator.max_source_length,
        )
        retrieved = _retrieved(template, result)
        words = attend(
            opened.tuner,
            language.tokenizer,
            result.prompt,
            template.caption_spans(result.prompt, [each.text for each in retrieved]),
            decoding=decoding,
            max_source_length=generator.max_source_length,
            image_vectors=None if result.vector is None else torch.from_numpy(result.vector[None]),
        )
        caption = " ".join(word.word for word in words)
        cards.append(
            AttentionCard(
                str(file), inline_image(image), caption, tuple(words), retrieved, average(words)
            )
        )
    return cards


def average(words: Sequence[WordAttention]) -> WordAttention | None:
    """Returns the mean of words; None of none."""
    if not words:
        return None

    def mean(parts: Sequence[Sequence[float]]) -> tuple[float, ...]:
        return tuple(sum(column) / len(words) for column in zip(*parts, strict=True))

    return WordAttention(
        "all words",
        mean([word.soft_tokens for word in words]),
        mean([word.captions for word in words]),
        sum(word.rest for word in words) / len(words),
    )


def _retrieved(template: PromptTemplate, result: RetrievedPrompt) -> tuple[RetrievedCaption, ...]:
    """Returns the retrieved captions that a prompt shows."""
    captions = [
        RetrievedCaption(text, match.score)
        for match in result.matches
        for text in match.captions[: template.captions_per_match]
    ]
    shown = template.caption_spans(result.prompt, [each.text for each in captions])
    return tuple(captions[: len(shown)])
