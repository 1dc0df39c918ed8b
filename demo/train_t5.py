"""Trains t5-mini from scratch on the mixture of instruction tasks, as Flan-T5 was.

    python -m demo.build --stages t5

The architecture is Flan-T5's (T5 1.1: gated GELU, RMS norm, relative positions, unscaled output)
in small. The examples are made as they are needed, so no example is seen twice.
"""

import json
import time
from collections.abc import Iterator, Sequence, Set
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from random import Random
from statistics import mean
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers.trainers import BpeTrainer
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from demo.language.tasks import Example, mixture
from igrag.devices import tune_allocator

BATCH_SIZE = 48
LABEL_IGNORED = -100
_VOCABULARY = 1600
_TOKENIZER_EXAMPLES = 20_000
# Batches are cut from a sorted pool, so that little of a batch is padding.
_POOL_BATCHES = 32
_PAD_MULTIPLE = 16
_LOG_EVERY = 250


@dataclass(frozen=True, slots=True)
class Round:
    """One cycle of the rate on examples of its own.

    Attributes:
        steps: Optimizer steps of `BATCH_SIZE` examples.
        peak_learning_rate: The highest rate of the cycle.
        composed: The share of requests in ever new words; see `mixture`.
    """

    steps: int
    peak_learning_rate: float
    composed: float


# First it learns to do what is asked, in few words, and then to do so whatever the words are.
ROUNDS = (Round(6000, 2e-3, composed=0.0), Round(1500, 1e-3, composed=0.8))


def train_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    """Trains a byte-level BPE tokenizer on the mixture: any text has tokens, none is unknown."""
    tokenizer = Tokenizer(models.BPE())
    # Like Flan-T5's SentencePiece, line breaks and runs of spaces count as one space.
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=_VOCABULARY,
        special_tokens=["<pad>", "</s>", "<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    examples = islice(mixture(Random(seed), strange=0), _TOKENIZER_EXAMPLES)
    tokenizer.train_from_iterator((text for example in examples for text in example), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )


def new_model(vocabulary: int) -> T5ForConditionalGeneration:
    """Builds the untrained model: Flan-T5's architecture with 3 + 3 layers of width 160."""
    # Options that the library's types leave out.
    untyped: dict[str, Any] = {
        "tie_word_embeddings": False,  # As Flan-T5; to the library: do not scale the output.
        "decoder_start_token_id": 0,
    }
    model = T5ForConditionalGeneration(
        T5Config(
            vocab_size=vocabulary,
            d_model=160,
            d_kv=48,
            d_ff=704,
            num_layers=3,
            num_heads=4,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,  # Every example is new: there is nothing to overfit.
            pad_token_id=0,
            eos_token_id=1,
            **untyped,
        )
    )
    # The library ties the head to the embeddings and draws these with a deviation of 1: logits in
    # the tens, and a thousand steps to come down from there. T5X draws its head so.
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(model.config.d_model**-0.5)
    return model


def train_t5(
    root: Path, *, seed: int, forbidden: Set[str], rounds: Sequence[Round] = ROUNDS
) -> Path:
    """Trains t5-mini and saves it under `root`/models/t5-mini.

    Args:
        root: The demo folder.
        seed: Decides the examples and the initial weights.
        forbidden: Captions that must stand in no example.
        rounds: What to train on, and how long.

    Returns:
        The model's folder, with `training.json` beside the weights.
    """
    tune_allocator()
    torch.manual_seed(seed)
    tokenizer = train_tokenizer(seed)
    model = new_model(len(tokenizer)).train()
    model.set_attn_implementation("eager")  # Faster than "sdpa" for T5 on a CPU.
    record: dict[str, Any] = {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "batch_size": BATCH_SIZE,
        "seed": seed,
        "rounds": [],
    }
    for number, this in enumerate(rounds):
        started = time.perf_counter()
        drawn = Random(seed + 1 + 100 * number), Random(seed + 2 + 100 * number)
        examples = mixture(drawn[0], forbidden=forbidden, composed=this.composed)
        losses = train_round(model, _batches(examples, tokenizer, drawn[1]), this)
        figures = {
            "examples": this.steps * BATCH_SIZE,
            "final_loss": round(mean(losses[-_LOG_EVERY:]), 4),
            "minutes": round((time.perf_counter() - started) / 60, 1),
        }
        record["rounds"].append(asdict(this) | figures)
    return save(model, tokenizer, record, root / "models" / "t5-mini")


def train_round(
    model: T5ForConditionalGeneration, batches: Iterator[dict[str, torch.Tensor]], this: Round
) -> list[float]:
    """Runs one cycle of the rate and returns the loss of each step."""
    groups = parameter_groups(model, this.peak_learning_rate)
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [group["lr"] for group in groups], total_steps=this.steps, pct_start=0.05
    )
    losses: list[float] = []
    progress = tqdm(islice(batches, this.steps), total=this.steps, desc="t5-mini", mininterval=10)
    for step, batch in enumerate(progress, 1):
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if step % _LOG_EVERY == 0:
            progress.write(f"step {step}: loss {mean(losses[-_LOG_EVERY:]):.4f}")
    return losses


def parameter_groups(model: T5ForConditionalGeneration, rate: float) -> list[dict[str, Any]]:
    """Gives the query weights a rate of their own.

    T5's attention has no 1 / sqrt(d_kv): its query weights begin that much smaller instead, and
    Adam, whose steps are of one size for all weights, would shake them so that the model does not
    learn to look anything up.
    """
    queries = [p for name, p in model.named_parameters() if name.endswith("Attention.q.weight")]
    known = {id(parameter) for parameter in queries}
    others = [parameter for parameter in model.parameters() if id(parameter) not in known]
    return [
        {"params": others, "lr": rate},
        {"params": queries, "lr": rate * model.config.d_kv**-0.5},
    ]


def save(
    model: T5ForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    record: dict[str, Any],
    folder: Path,
) -> Path:
    """Writes the model, its tokenizer and training.json into a folder."""
    # bfloat16 halves the download; whoever loads it chooses the dtype to compute in.
    model.bfloat16().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "training.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return folder


def _batches(
    examples: Iterator[Example], tokenizer: PreTrainedTokenizerFast, rng: Random
) -> Iterator[dict[str, torch.Tensor]]:
    while True:
        pool = list(islice(examples, BATCH_SIZE * _POOL_BATCHES))
        sources = tokenizer([source for source, _ in pool])["input_ids"]
        answers = tokenizer([answer for _, answer in pool])["input_ids"]
        order = sorted(range(len(pool)), key=lambda index: len(sources[index]))
        starts = list(range(0, len(pool), BATCH_SIZE))
        rng.shuffle(starts)
        for start in starts:
            chosen = order[start : start + BATCH_SIZE]
            yield _collate(
                [sources[index] for index in chosen], [answers[index] for index in chosen]
            )


def _collate(sources: list[list[int]], answers: list[list[int]]) -> dict[str, torch.Tensor]:
    input_ids = _padded(sources, 0)  # [B, T]
    return {
        "input_ids": input_ids,
        "attention_mask": (input_ids != 0).long(),
        "labels": _padded(answers, LABEL_IGNORED),
    }


def _padded(rows: list[list[int]], padding: int) -> torch.Tensor:
    longest = max(map(len, rows))
    width = -(-longest // _PAD_MULTIPLE) * _PAD_MULTIPLE
    return torch.tensor([row + [padding] * (width - len(row)) for row in rows])
