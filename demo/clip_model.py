"""clip-mini as a transformers CLIPModel: its tokenizer, its architecture, its folder."""

import json
import math
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers.trainers import BpeTrainer
from torch.nn import functional
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTextConfig,
    CLIPVisionConfig,
    PreTrainedTokenizerFast,
)

IMAGE_SIZE = 96
PATCH_SIZE = 16
MAX_TOKENS = 32
# Not 2: CLIPTextModel takes that id for a sign of its first, wrongly configured models.
SPECIAL_TOKENS = {"<pad>": 0, "<unk>": 1, "<s>": 2, "</s>": 3}
# Of all images' red, green and blue.
MEAN = (0.48, 0.52, 0.50)
STD = (0.29, 0.26, 0.29)
_VOCABULARY = 700


def train_tokenizer(captions: list[str]) -> PreTrainedTokenizerFast:
    """Trains a lower-casing byte-level BPE tokenizer that frames a text as <s> ... </s>."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=_VOCABULARY,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(captions, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        model_max_length=MAX_TOKENS,
        clean_up_tokenization_spaces=False,
    )


def new_model(vocabulary: int, *, image_size: int = IMAGE_SIZE) -> CLIPModel:
    """Builds the untrained model: two small towers that meet in 128 dimensions."""
    text = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=MAX_TOKENS,
        hidden_act="gelu",
        projection_dim=128,
        pad_token_id=SPECIAL_TOKENS["<pad>"],
        bos_token_id=SPECIAL_TOKENS["<s>"],
        eos_token_id=SPECIAL_TOKENS["</s>"],
    )
    vision = CLIPVisionConfig(
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=image_size,
        patch_size=PATCH_SIZE,
        hidden_act="gelu",  # One kernel where CLIP's "quick_gelu" takes three.
        projection_dim=128,
    )
    config = CLIPConfig(
        text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=128
    )
    model = CLIPModel(config)
    model.set_attn_implementation("eager")  # Faster than "sdpa" for so few patches on a CPU.
    return model


def enlarged(model: CLIPModel, image_size: int) -> CLIPModel:
    """Returns the model for larger images: its patches' positions are interpolated.

    As CLIP's own ViT-L/14@336px was made from ViT-L/14 (Radford et al. 2021, section 3.2).
    """
    config: Any = model.config
    larger = new_model(config.text_config.vocab_size, image_size=image_size)
    weights = model.state_dict()
    name = "vision_model.embeddings.position_embedding.weight"
    first, grid = weights[name][:1], weights[name][1:]  # [1, H], [patches, H]
    old, new = math.isqrt(len(grid)), image_size // PATCH_SIZE
    square = grid.T.reshape(1, -1, old, old)
    resized = functional.interpolate(square, (new, new), mode="bicubic", align_corners=False)
    weights[name] = torch.cat([first, resized.flatten(2)[0].T])
    larger.load_state_dict(weights)
    return larger


def save_clip(
    model: CLIPModel, tokenizer: PreTrainedTokenizerFast, record: dict[str, object], folder: Path
) -> Path:
    """Saves all that AutoModel, AutoProcessor and the retrieval need.

    Args:
        model: The trained model; turned into half precision.
        tokenizer: Its tokenizer.
        record: How it was trained, written to training.json.
        folder: Where to save.
    """
    # Half precision halves the download; whoever loads it chooses the dtype to compute in.
    model.half().save_pretrained(folder)
    # The training's padding is not the tokenizer's own.
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.save_pretrained(folder)
    config: Any = model.config
    side = config.vision_config.image_size
    # The whole image is squeezed into the square: nothing at its edges is cut off.
    processor = CLIPImageProcessorPil(
        size={"height": side, "width": side},
        do_center_crop=False,
        image_mean=list(MEAN),
        image_std=list(STD),
    )
    processor.save_pretrained(folder)
    (folder / "training.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return folder
