"""Trains clip-mini from scratch with CLIP's contrastive loss on freshly drawn scenes.

    python -m demo.build --stages clip

The model is transformers' CLIPModel in small, saved with its tokenizer and image processor.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from transformers import CLIPModel, PreTrainedTokenizerFast

from demo.clip_data import ClipData, render_clip_data
from demo.clip_model import (
    IMAGE_SIZE,
    MAX_TOKENS,
    MEAN,
    SPECIAL_TOKENS,
    STD,
    enlarged,
    new_model,
    save_clip,
    train_tokenizer,
)
from igrag.devices import tune_allocator

IMAGES = 24_000
BATCH_SIZE = 256


@dataclass(frozen=True, slots=True)
class Round:
    """A one-cycle schedule on images of its own.

    Attributes:
        suffix: Tells the seed of its images from the other rounds'.
        epochs: How often it sees each image, each time moved and with another caption.
        peak_learning_rate: The highest rate of the cycle.
        image_size: The side of the images in pixels.
        brief: Whether half of the captions only say what is where.
    """

    suffix: str
    epochs: int
    peak_learning_rate: float
    image_size: int = IMAGE_SIZE
    brief: bool = False


# New images teach more than old ones. Small images come first because they are quick; the
# larger ones at the end tell apart what looks alike, and the brief captions say what matters most.
ROUNDS = (
    Round("", 12, 1.5e-3),
    Round("-second", 6, 8e-4),
    Round("-third", 5, 1e-3, image_size=128, brief=True),
)
WEIGHT_DECAY = 0.05
_LARGEST_SHIFT = 0.05  # Of the image's side.
_LARGEST_LOGIT_SCALE = 100.0
_LOG_EVERY = 50


def augment(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Shifts, mirrors and re-lights a batch a little, and normalizes it.

    Args:
        images: uint8 [B, S, S, 3].
        generator: The source of chance.

    Returns:
        Pixels float32 [B, 3, S, S].
    """
    batch, side = images.shape[0], images.shape[1]
    span = torch.arange(side)
    most = round(_LARGEST_SHIFT * side)
    shifts = torch.randint(-most, most + 1, (2, batch, 1), generator=generator)
    rows = (span + shifts[0]).clamp(0, side - 1)  # [B, S]
    columns = (span + shifts[1]).clamp(0, side - 1)
    mirrored = torch.rand(batch, 1, generator=generator) < 0.5
    columns = torch.where(mirrored, columns.flip(1), columns)
    index = torch.arange(batch)[:, None, None]
    moved = images[index, rows[:, :, None], columns[:, None, :]]  # [B, S, S, 3]
    pixels = moved.permute(0, 3, 1, 2).float().div_(255)
    gain = 1 + 0.1 * (2 * torch.rand(batch, 3, 1, 1, generator=generator) - 1)
    pixels = pixels.mul_(gain).clamp_(0, 1)
    return pixels.sub_(torch.tensor(MEAN).view(3, 1, 1)).div_(torch.tensor(STD).view(3, 1, 1))


def contrastive_loss(
    images: torch.Tensor, texts: torch.Tensor, scale: torch.Tensor
) -> torch.Tensor:
    """Returns CLIP's symmetric loss of unit vectors [B, D] of which equal rows belong together."""
    logits = scale * images.float() @ texts.float().T  # [B, B]
    target = torch.arange(len(logits))
    rows = functional.cross_entropy(logits, target)
    return (rows + functional.cross_entropy(logits.T, target)) / 2


def train_clip(
    root: Path, seed: int, *, images: int = IMAGES, rounds: Sequence[Round] = ROUNDS
) -> Path:
    """Trains clip-mini and saves it under `root`/models/clip-mini.

    Args:
        root: The demo folder.
        seed: Decides the scenes, the initial weights and the order.
        images: How many scenes to draw for each round.
        rounds: In each of their epochs an image is seen once, moved and with another caption.

    Returns:
        The model's folder, with `training.json` beside the weights.
    """
    tune_allocator()
    started = time.perf_counter()
    torch.manual_seed(seed)
    losses: list[float] = []
    for number, this in enumerate(rounds):
        data = render_clip_data(
            images, seed=f"{seed}{this.suffix}", image_size=this.image_size, brief=this.brief
        )
        if number == 0:
            tokenizer = train_tokenizer([text for texts in data.captions for text in texts])
            model = new_model(len(tokenizer)).train()
        if model.config.vision_config.image_size != this.image_size:
            model = enlarged(model, this.image_size).train()
        tokens = _tokenize(tokenizer, data.captions)
        losses += _fit(model, data, tokens, seed=seed + number, this=this)
    record = {
        "pictures": images * len(rounds),
        "epochs": [this.epochs for this in rounds],
        "batch_size": BATCH_SIZE,
        "steps": len(losses),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "minutes": round((time.perf_counter() - started) / 60, 1),
        "final_loss": round(float(np.mean(losses[-_LOG_EVERY:])), 4),
        "seed": seed,
    }
    return save_clip(model, tokenizer, record, root / "models" / "clip-mini")


def _tokenize(tokenizer: PreTrainedTokenizerFast, captions: list[list[str]]) -> torch.Tensor:
    """Returns the token ids of all captions, [N, captions of each, T]."""
    flat = [text for texts in captions for text in texts]
    encoded = tokenizer(
        flat, padding="max_length", truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
    )
    ids: torch.Tensor = encoded["input_ids"]
    longest = int((ids != tokenizer.pad_token_id).sum(1).max())
    return ids[:, :longest].reshape(len(captions), -1, longest)


def _fit(
    model: CLIPModel, data: ClipData, tokens: torch.Tensor, *, seed: int, this: Round
) -> list[float]:
    """Runs the epochs and returns the loss of each step."""
    steps = this.epochs * (len(tokens) // BATCH_SIZE)
    optimizer = torch.optim.AdamW(
        _parameter_groups(model), lr=this.peak_learning_rate, betas=(0.9, 0.98), fused=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, this.peak_learning_rate, total_steps=steps, pct_start=0.08
    )
    generator = torch.Generator().manual_seed(seed)
    images = torch.from_numpy(data.images)
    losses: list[float] = []
    started = time.perf_counter()
    for epoch in range(this.epochs):
        order = torch.randperm(len(tokens), generator=generator)
        for rows in order.split(BATCH_SIZE)[: len(tokens) // BATCH_SIZE]:
            which = torch.randint(tokens.shape[1], (len(rows),), generator=generator)
            pixels = augment(images[rows], generator)
            losses.append(_step(model, optimizer, pixels, tokens[rows, which]))
            schedule.step()
            if len(losses) % _LOG_EVERY == 0:
                minutes = (time.perf_counter() - started) / 60
                mean = np.mean(losses[-_LOG_EVERY:])
                print(f"clip-mini: epoch {epoch + 1}, step {len(losses)} of {steps}, "
                      f"loss {mean:.3f}, {minutes:.1f} min", flush=True)  # fmt: skip
    return losses


def _step(
    model: CLIPModel, optimizer: torch.optim.Optimizer, pixels: torch.Tensor, ids: torch.Tensor
) -> float:
    mask = (ids != SPECIAL_TOKENS["<pad>"]).long()
    with torch.autocast("cpu", torch.bfloat16):
        output = model(input_ids=ids, attention_mask=mask, pixel_values=pixels)
    scale = model.logit_scale.exp().clamp(max=_LARGEST_LOGIT_SCALE)
    images = functional.normalize(output.image_embeds.float(), dim=-1)
    texts = functional.normalize(output.text_embeds.float(), dim=-1)
    loss = contrastive_loss(images, texts, scale)
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.item()


def _parameter_groups(model: CLIPModel) -> list[dict[str, object]]:
    """Weight matrices decay; biases, norms, single vectors and the scale do not."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    return [
        {"params": matrices, "weight_decay": WEIGHT_DECAY},
        {"params": others, "weight_decay": 0.0},
    ]
