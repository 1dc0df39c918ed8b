"""Trains t5-mini from scratch on the mixture of text tasks, as Flan-T5 was.

    python -m demo.build --stages t5

The architecture is Flan-T5's (T5 1.1: gated GELU, RMS norm, relative positions, unscaled output)
in small. The examples are made as they are needed, so no example is seen twice. Training takes
hours on a CPU: it is checkpointed outside the repository, and the same command resumes it.
"""

import json
import time
from collections.abc import Iterator
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
from igrag.data.batching import Collator
from igrag.devices import race_on_cpu, tune_allocator
from igrag.files import atomic_path

BATCH_SIZE = 48
_VOCABULARY = 3000
_TOKENIZER_EXAMPLES = 20_000
# Batches are cut from a sorted pool, so that little of a batch is padding.
_POOL_BATCHES = 32
_PAD_MULTIPLE = 8
_LOG_EVERY = 250
_CHECKPOINT = "t5-mini.pt"


@dataclass(frozen=True, slots=True)
class Plan:
    """How long to train, and how fast.

    Attributes:
        steps: Optimizer steps of `BATCH_SIZE` examples.
        peak_learning_rate: The highest rate of the one cycle.
    """

    steps: int = 8_000
    peak_learning_rate: float = 2e-3


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
    examples = islice(mixture(Random(seed)), _TOKENIZER_EXAMPLES)
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
    """Builds the untrained model: Flan-T5's architecture with 3 + 3 layers of width 128."""
    # Options that the library's types leave out.
    untyped: dict[str, Any] = {
        "tie_word_embeddings": False,  # As Flan-T5; to the library: do not scale the output.
        "decoder_start_token_id": 0,
    }
    model = T5ForConditionalGeneration(
        T5Config(
            vocab_size=vocabulary,
            d_model=128,
            d_kv=32,
            d_ff=384,
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


def train_t5(root: Path, *, seed: int, work: Path, plan: Plan = Plan()) -> Path:
    """Trains t5-mini, or resumes its training, and saves it under `root`/models/t5-mini.

    Args:
        root: The demo folder.
        seed: Decides the examples and the initial weights.
        work: Folder of the checkpoint.
        plan: How long to train, and how fast.

    Returns:
        The model's folder, with `training.json` beside the weights.
    """
    tune_allocator()
    torch.manual_seed(seed)
    tokenizer = train_tokenizer(seed)
    training = Training(new_model(len(tokenizer)), tokenizer, seed=seed, plan=plan)
    training.resume(work / _CHECKPOINT)
    training.run(work / _CHECKPOINT)
    record = {
        "parameters": sum(parameter.numel() for parameter in training.model.parameters()),
        "batch_size": BATCH_SIZE,
        "seed": seed,
        **asdict(plan),
        "examples": plan.steps * BATCH_SIZE,
        "final_loss": round(mean(training.losses[-_LOG_EVERY:]), 4),
        "minutes": round(training.seconds / 60, 1),
    }
    return save(training.model, tokenizer, record, root / "models" / "t5-mini")


class Training:
    """A training that can be interrupted at any step.

    The examples of a step follow from the seed and the step alone, so a checkpoint holds no state
    of theirs.
    """

    def __init__(
        self,
        model: T5ForConditionalGeneration,
        tokenizer: PreTrainedTokenizerFast,
        *,
        seed: int,
        plan: Plan,
    ) -> None:
        self.model = model.train()
        model.set_attn_implementation("eager")  # Faster than "sdpa" for T5 on a CPU.
        self.losses: list[float] = []
        self.seconds = 0.0
        self._tokenizer, self._seed, self._plan = tokenizer, seed, plan
        groups = parameter_groups(model, plan.peak_learning_rate)
        self._optimizer = torch.optim.AdamW(groups, weight_decay=0.01, fused=True)
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimizer,
            [group["lr"] for group in groups],
            total_steps=plan.steps,
            pct_start=0.05,
        )

    def run(self, checkpoint: Path | None = None) -> None:
        """Trains to the last step, and saves a checkpoint now and then."""
        done = len(self.losses)
        batches = islice(
            training_batches(self._tokenizer, self._seed, done), self._plan.steps - done
        )
        bar = tqdm(batches, initial=done, total=self._plan.steps, desc="t5-mini", mininterval=10)
        started = time.perf_counter()
        for batch in bar:
            self.losses.append(self._step(batch))
            if len(self.losses) % _LOG_EVERY == 0:
                now = time.perf_counter()
                self.seconds, started = self.seconds + now - started, now
                bar.write(f"step {len(self.losses)}: loss {mean(self.losses[-_LOG_EVERY:]):.4f}")
                if checkpoint:
                    self._save(checkpoint)

    def resume(self, checkpoint: Path) -> None:
        """Loads a checkpoint, if there is one.

        Raises:
            ValueError: It is of a training with another seed or plan.
        """
        if not checkpoint.exists():
            return
        state = torch.load(checkpoint, weights_only=True)
        if state["made_by"] != self._made_by():
            raise ValueError(f"{checkpoint}: of another training; delete it to start a new one")
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self.losses, self.seconds = state["losses"], state["seconds"]

    def _step(self, batch: dict[str, torch.Tensor]) -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16_is_fast()):
            loss = self.model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self._optimizer.step()
        self._schedule.step()
        self._optimizer.zero_grad()
        return float(loss.item())

    def _save(self, path: Path) -> None:
        state = {
            "made_by": self._made_by(),
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "losses": self.losses,
            "seconds": self.seconds,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as file:
            torch.save(state, file)

    def _made_by(self) -> dict[str, Any]:
        examples = list(islice(mixture(Random(self._seed)), 10))  # The mixture may have changed.
        return {"seed": self._seed, **asdict(self._plan), "examples": repr(examples)}


def bfloat16_is_fast() -> bool:
    """Returns whether the CPU is faster in bfloat16; most are far slower."""
    race = race_on_cpu()
    return race is not None and race.bfloat16_wins


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


def training_batches(
    tokenizer: PreTrainedTokenizerFast, seed: int, start: int = 0
) -> Iterator[dict[str, torch.Tensor]]:
    """Yields the batches of all steps from `start` on; each pool of them has a seed of its own."""
    number, skipped = divmod(start, _POOL_BATCHES)
    while True:
        yield from islice(_pool(tokenizer, Random(f"{seed}-{number}")), skipped, None)
        number, skipped = number + 1, 0


def _pool(tokenizer: PreTrainedTokenizerFast, rng: Random) -> Iterator[dict[str, torch.Tensor]]:
    examples: list[Example] = list(islice(mixture(rng), BATCH_SIZE * _POOL_BATCHES))
    sources = tokenizer([source for source, _ in examples])["input_ids"]
    answers = tokenizer([answer for _, answer in examples])["input_ids"]
    order = sorted(
        range(len(examples)), key=lambda index: 2 * len(sources[index]) + 3 * len(answers[index])
    )
    starts = list(range(0, len(examples), BATCH_SIZE))
    rng.shuffle(starts)
    collate = Collator(tokenizer.pad_token_id, pad_to_multiple_of=_PAD_MULTIPLE)
    for start in starts:
        chosen = order[start : start + BATCH_SIZE]
        yield collate([{"input_ids": sources[index], "labels": answers[index]} for index in chosen])
