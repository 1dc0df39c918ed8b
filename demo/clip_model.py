"""clip-mini as a transformers CLIPModel: its tokenizer, its architecture, its folder."""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers.trainers import BpeTrainer
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTextConfig,
    CLIPVisionConfig,
    PreTrainedTokenizerFast,
)

from demo.clip_data import IMAGE_SIZE

MAX_TOKENS = 32
# Not 2: CLIPTextModel takes that id for a sign of its first, wrongly configured models.
SPECIAL_TOKENS = {"<pad>": 0, "<unk>": 1, "<s>": 2, "</s>": 3}
# Of all pictures' red, green and blue.
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


def new_model(vocabulary: int) -> CLIPModel:
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
        image_size=IMAGE_SIZE,
        patch_size=16,
        hidden_act="gelu",  # One kernel where CLIP's "quick_gelu" takes three.
        projection_dim=128,
    )
    config = CLIPConfig(
        text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=128
    )
    model = CLIPModel(config)
    model.set_attn_implementation("eager")  # Faster than "sdpa" for so few patches on a CPU.
    return model


def save_clip(
    model: CLIPModel, tokenizer: PreTrainedTokenizerFast, record: dict[str, float], folder: Path
) -> Path:
    """Saves all that AutoModel, AutoProcessor and the retrieval need.

    Args:
        model: The trained model; turned into half precision.
        tokenizer: Its tokenizer.
        record: How it was trained, written to training.json.
        folder: Where to save.
    """
    # Half precision halves the download; whoever loads it chooses the dtype to compute in.
    model.to(torch.float16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    # The whole picture is squeezed into the square: nothing at its edges is cut off.
    processor = CLIPImageProcessorPil(
        size={"height": IMAGE_SIZE, "width": IMAGE_SIZE},
        do_center_crop=False,
        image_mean=list(MEAN),
        image_std=list(STD),
    )
    processor.save_pretrained(folder)
    (folder / "training.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return folder
