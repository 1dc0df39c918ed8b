"""attention.html: which soft tokens and retrieved captions the decoder read, word by word."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import PreTrainedTokenizerBase

from igrag import from_config
from igrag.captioning.generator import CaptionGenerator
from igrag.captioning.language_model import embedding_weight
from igrag.captioning.prompt_template import PromptTemplate
from igrag.captioning.retrieval_prompts import RetrievalPrompts, RetrievedPrompt
from igrag.data.images import open_image
from igrag.training.html_page import fill_template, inline_image, write_page
from prompt_tuning.analysis.attention import WordAttention, attend
from prompt_tuning.analysis.opened_prompt import OpenedPrompt
from prompt_tuning.analysis.vocabulary import nearest_entries
from prompt_tuning.prompt_tuner import PromptTuner

_TEMPLATE = Path(__file__).with_name("attention.html.jinja")


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
    language = opened.language
    cards = attention_cards(opened, images)
    write_page(path, _TEMPLATE, **_shown(cards, opened.tuner, language.tokenizer, str(opened.path)))


def attention_html(
    cards: Sequence[AttentionCard],
    tuner: PromptTuner,
    tokenizer: PreTrainedTokenizerBase,
    *,
    prompt: str,
) -> str:
    """Returns the page of images that were captioned with the active prompt, called `prompt`."""
    return fill_template(_TEMPLATE, **_shown(cards, tuner, tokenizer, prompt))


def _shown(
    cards: Sequence[AttentionCard],
    tuner: PromptTuner,
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
) -> dict[str, Any]:
    """Returns what the template shows."""
    soft_tokens = tuner.prompt(tuner.active).detach().float().cpu()  # [P, H]
    nearest = nearest_entries(soft_tokens, embedding_weight(tuner.model), tokenizer, count=1)
    return {"cards": cards, "prompt": prompt, "nearest": [each[0] for each in nearest]}


def attention_cards(opened: OpenedPrompt, images: Sequence[Path]) -> list[AttentionCard]:
    """Returns the cards of images, each captioned alone."""
    config = opened.config
    template = from_config.build_template(config.prompt_config)
    encoder, knowledge_base = from_config.open_retrieval(config)
    generator = from_config.build_generator(config, opened.language)
    retrieval = RetrievalPrompts(
        encoder,
        knowledge_base,
        template,
        top_k=config.retrieval_config.top_k,
        detector=from_config.build_detector(config.prompt_config.objects, config.models.device),
    )
    cards = []
    for file in images:
        image = open_image(file)
        (result,) = retrieval.build(
            [image],
            [file.name],
            count_tokens=generator.count_tokens,
            max_tokens=generator.max_source_length,
        )
        card = attention_card(
            opened.tuner, image, str(file), result, template=template, generator=generator
        )
        cards.append(card)
    return cards


def attention_card(
    tuner: PromptTuner,
    image: Image.Image,
    name: str,
    retrieved: RetrievedPrompt,
    *,
    template: PromptTemplate,
    generator: CaptionGenerator,
) -> AttentionCard:
    """Captions one image with the active prompt, and returns what the decoder read.

    Args:
        tuner: The model with the soft prompt; its attention implementation must be eager.
        image: The image, in RGB.
        name: Its name.
        retrieved: What was found for it.
        template: What its prompt was built with.
        generator: Has the tokenizer, and how captions are decoded.
    """
    captions = _retrieved(template, retrieved)
    # The most likely caption: a sampled one would be another at every call.
    decoding = replace(generator.decoding, do_sample=False).to_generation_config(tuner.model)
    words = attend(
        tuner,
        generator.tokenizer,
        retrieved.prompt,
        template.caption_spans(retrieved.prompt, [each.text for each in captions]),
        decoding=decoding,
        max_source_length=generator.max_source_length,
        image_vectors=(
            None if retrieved.vector is None else torch.from_numpy(retrieved.vector[None])
        ),
    )
    caption = " ".join(word.word for word in words)
    return AttentionCard(name, inline_image(image), caption, tuple(words), captions, average(words))


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
