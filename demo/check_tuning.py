"""Checks that t5-mini is worth tuning: untuned BLEU-4 on val, and after a quick prompt tuning.

    python -m demo.check_tuning

The loop is as plain as can be: one tensor of soft tokens before the embeddings of a frozen model,
AdamW, a constant rate. The real thing is in `prompt_tuning/`.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from random import Random

import torch
from torch import Tensor, nn
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase, T5ForConditionalGeneration

from igrag.caption_data import CaptionExample, iter_examples
from igrag.language_model import load_language_model
from igrag.metrics import bleu
from igrag.runtime import tune_allocator

PROMPT_LENGTH = 20
LEARNING_RATE = 0.3  # Lester et al. (2021) tune T5's soft prompts at this rate.
BATCH_SIZE = 16
UPDATES = 250
_MAX_NEW_TOKENS = 40


class SoftPrompt(nn.Module):
    """A frozen seq2seq model with learnable embeddings [P, H] before the source's."""

    def __init__(self, model: T5ForConditionalGeneration, *, seed: int) -> None:
        super().__init__()
        self.model = model
        table = model.get_input_embeddings().weight
        rows = torch.randint(len(table), (PROMPT_LENGTH,), generator=torch.manual_seed(seed))
        self.embeddings = nn.Parameter(table[rows].detach().clone().float())  # [P, H]

    def extended(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        """Prepends the soft tokens: ids and mask [B, T] -> embeddings [B, P + T, H] and mask."""
        source = self.model.get_input_embeddings()(input_ids)
        prompt = self.embeddings.expand(len(input_ids), -1, -1)
        ones = attention_mask.new_ones(len(input_ids), PROMPT_LENGTH)
        return {
            "inputs_embeds": torch.cat([prompt, source], dim=1),
            "attention_mask": torch.cat([ones, attention_mask], dim=1),
        }


def main() -> None:
    """Prints both BLEU-4 figures and the gain."""
    arguments = _parse_arguments()
    tune_allocator()
    language = load_language_model(str(arguments.model), device="cpu", dtype="float32")
    train = list(iter_examples(arguments.data / "train.jsonl"))
    val = list(iter_examples(arguments.data / f"{arguments.split}.jsonl"))
    prompt = SoftPrompt(language.model, seed=arguments.seed)
    untuned = _score(language.model, language.tokenizer, val, prompt=None)
    print(f"{arguments.split}, untuned:     BLEU-4 {untuned:.3f}", flush=True)
    _tune(prompt, language.tokenizer, train, updates=arguments.updates, seed=arguments.seed)
    tuned = _score(language.model, language.tokenizer, val, prompt=prompt)
    print(f"{arguments.split}, soft prompt: BLEU-4 {tuned:.3f} (gain {tuned - untuned:+.3f})")


def _parse_arguments() -> argparse.Namespace:
    here = Path(__file__).parent
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m demo.check_tuning")
    parser.add_argument("--model", type=Path, default=here / "models" / "t5-mini")
    parser.add_argument("--data", type=Path, default=here / "data")
    parser.add_argument("--split", default="val", choices=("val", "test"))
    parser.add_argument("--updates", type=int, default=UPDATES)
    parser.add_argument("--seed", type=int, default=42)
    return parser.parse_args()


def _tune(
    prompt: SoftPrompt,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[CaptionExample],
    *,
    updates: int,
    seed: int,
) -> None:
    rng = Random(seed)
    optimizer = torch.optim.AdamW([prompt.embeddings], lr=LEARNING_RATE, weight_decay=0.0)
    for _ in tqdm(range(updates), desc="tuning"):
        batch = rng.sample(examples, BATCH_SIZE)
        source = _tokenise(tokenizer, [example.prompt for example in batch])
        labels = _tokenise(tokenizer, [example.caption for example in batch])
        targets = labels["input_ids"].masked_fill(labels["attention_mask"] == 0, -100)
        loss = prompt.model(**prompt.extended(**source), labels=targets).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


@torch.inference_mode()
def _score(
    model: T5ForConditionalGeneration,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[CaptionExample],
    *,
    prompt: SoftPrompt | None,
) -> float:
    captions: list[str] = []
    for start in range(0, len(examples), BATCH_SIZE):
        batch = examples[start : start + BATCH_SIZE]
        inputs = _tokenise(tokenizer, [example.prompt for example in batch])
        inputs = prompt.extended(**inputs) if prompt else inputs
        tokens = model.generate(**inputs, max_new_tokens=_MAX_NEW_TOKENS, do_sample=False)
        captions += tokenizer.batch_decode(tokens, skip_special_tokens=True)
    return bleu(captions, [example.references for example in examples]).bleu4


def _tokenise(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> dict[str, Tensor]:
    encoded = tokenizer(texts, padding=True, return_tensors="pt")
    return {"input_ids": encoded["input_ids"], "attention_mask": encoded["attention_mask"]}


if __name__ == "__main__":
    main()
