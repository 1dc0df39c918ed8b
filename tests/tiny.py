"""Makers of tiny models of random weights and of tiny data, in the real formats."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

WORDS = (
    "a an the in on near and two three picture image of caption describe generate concise "
    "accurate for using captions similar pictures are described as below dog cat horse bird man "
    "woman child car bus train boat tree house street field beach kitchen table ball red blue "
    "green white black small large old young sits stands runs plays lies rides eats with "
    ". , : - ( )"
)


def save_clip(path: Path, *, dimension: int, seed: int, size: int = 32) -> Path:
    """Saves a CLIPModel of random weights with its Pillow preprocessing."""
    import torch
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.manual_seed(seed)
    tower = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    config = CLIPConfig(
        text_config={**tower, **ids, "vocab_size": 64, "max_position_embeddings": 16},
        vision_config={**tower, "image_size": size, "patch_size": 8},
        projection_dim=dimension,
    )
    CLIPModel(config).save_pretrained(path)
    side = {"height": size, "width": size}
    CLIPImageProcessorPil(size={"shortest_edge": size}, crop_size=side).save_pretrained(path)
    return path


def save_t5(path: Path, *, words: Sequence[str], seed: int, width: int = 32) -> Path:
    """Saves a small T5 in Flan-T5's architecture with a word-level tokenizer."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration
    from transformers.utils import logging

    logging.disable_progress_bar()
    vocabulary = {
        word: index for index, word in enumerate(["<pad>", "</s>", "<unk>", *dict.fromkeys(words)])
    }
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", vocabulary["</s>"])]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(path)
    torch.manual_seed(seed)
    # Options that the library's types leave out.
    untyped: dict[str, Any] = {"tie_word_embeddings": False, "decoder_start_token_id": 0}
    config = T5Config(
        vocab_size=len(vocabulary),
        d_model=width,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        pad_token_id=0,
        eos_token_id=1,
        **untyped,
    )
    T5ForConditionalGeneration(config).save_pretrained(path)
    return path


@dataclass(frozen=True)
class CocoFolder:
    """A captions file of `count` images with the ids 1, 2, ..., and their folder."""

    captions: Path
    images: Path
    count: int

    def image(self, image_id: int) -> Path:
        """Returns an image's file."""
        return self.images / f"{image_id:012}.jpg"

    def edit(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Changes the captions file's data."""
        data = json.loads(self.captions.read_text(encoding="utf-8"))
        change(data)
        self.captions.write_text(json.dumps(data), encoding="utf-8")


def save_coco(path: Path, *, count: int, seed: int = 0) -> CocoFolder:
    """Saves images of colored noise with two captions each in COCO's format."""
    noise = np.random.default_rng(seed)
    coco = CocoFolder(path / "captions.json", path / "images", count)
    coco.images.mkdir(parents=True)
    ids = range(1, count + 1)
    for image_id in ids:
        coarse = noise.integers(0, 255, (5, 6, 3)).astype(np.uint8)
        image = Image.fromarray(coarse).resize((48, 40), Image.Resampling.NEAREST)
        image.save(coco.image(image_id))
    images = [{"id": n, "file_name": coco.image(n).name, "width": 48, "height": 40} for n in ids]
    annotations = [
        {"id": 2 * n + way, "image_id": n, "caption": f"A dog in field {n}, way {way}."}
        for n in ids
        for way in range(2)
    ]
    data = {"images": images, "annotations": annotations}
    coco.captions.write_text(json.dumps(data), encoding="utf-8")
    return coco
