"""What a prompt loses without some of its soft tokens, on validation examples."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor
from tqdm import tqdm

from prompt_tuning.image_prompt import ImagePrompt
from prompt_tuning.prompt_file import PromptFile
from prompt_tuning.prompt_tuner import DEFAULT_NAME, PromptTuner
from prompt_tuning.validation import Validation

_ANALYZED = "analyzed"


@dataclass(frozen=True, slots=True)
class PromptScore:
    """The validation loss per target token, in nats, and the BLEU-4 of generated captions."""

    loss: float
    bleu_4: float


@dataclass(frozen=True, slots=True)
class PruningStep:
    """One length of a prompt that is shortened.

    Attributes:
        kept: The indices of the soft tokens that are left, in their order.
        dropped: The one that was dropped last; None for the whole prompt.
    """

    kept: tuple[int, ...]
    dropped: int | None


class PromptScorer:
    """Scores parts of a prompt on the same examples.

    A soft token is left out, not replaced by zeros: the prompt is then as short as a pruned one.

    Args:
        tuner: The model with its prompt [P, H].
        validation: The examples.
    """

    def __init__(self, tuner: PromptTuner, validation: Validation) -> None:
        self._tuner = tuner
        self._validation = validation
        self.prompt = tuner.plain_prompt()

    def score(self, kept: Sequence[int], *, title: str) -> PromptScore:
        """Scores the prompt of some soft tokens; of none, the model without a prompt."""
        # The image tokens stay, so that only the learned ones are compared.
        with self._using(self.prompt[list(kept)], self._tuner.image_prompt):
            result = self._validation.score(self._tuner, title=title)
        return PromptScore(result.loss, result.bleu.bleu4)

    def score_file(self, prompt: PromptFile, *, title: str) -> PromptScore:
        """Scores another prompt for the same model."""
        with self._using(prompt.embeddings, prompt.image_prompt):
            result = self._validation.score(self._tuner, title=title)
        return PromptScore(result.loss, result.bleu.bleu4)

    def loss(self, kept: Sequence[int], *, title: str) -> float:
        """Returns the loss alone: without captions it takes a fraction of the time."""
        # The image tokens stay, so that only the learned ones are compared.
        with self._using(self.prompt[list(kept)], self._tuner.image_prompt):
            return self._validation.loss(self._tuner, title=title)

    @contextmanager
    def _using(self, prompt: Tensor, image_prompt: ImagePrompt | None) -> Iterator[None]:
        if not len(prompt):
            with self._tuner.disabled():
                yield
            return
        self._tuner.add_prompt(_ANALYZED, prompt, image_prompt)
        self._tuner.use(_ANALYZED)
        try:
            yield
        finally:
            self._tuner.use(DEFAULT_NAME)


def without(kept: Sequence[int], index: int) -> tuple[int, ...]:
    """Returns the indices but one."""
    return tuple(each for each in kept if each != index)


def ablate(scorer: PromptScorer) -> list[PromptScore]:
    """Returns for each soft token the score of the prompt without it."""
    everything = range(len(scorer.prompt))
    return [
        scorer.score(without(everything, index), title=f"without token {index + 1}")
        for index in tqdm(everything, desc="ablation", unit="token", disable=None)
    ]


def pruning_path(scorer: PromptScorer, length: int, *, greedy: bool) -> list[PruningStep]:
    """Drops the soft tokens whose loss counts least until `length` are left.

    Args:
        scorer: Scores the prompt.
        length: How many to keep.
        greedy: After each one that is dropped, measure again what the prompt loses without each of
            the others; otherwise all are measured once, with every other one there.

    Returns:
        The whole prompt and each shorter one.
    """
    kept = tuple(range(len(scorer.prompt)))
    steps = [PruningStep(kept, None)]
    order: list[int] = []
    with tqdm(total=len(kept) - length, desc="pruning", unit="token", disable=None) as bar:
        while len(kept) > length:
            if greedy or not order:
                order = _least_important_first(scorer, kept)
            dropped = order.pop(0)
            kept = without(kept, dropped)
            steps.append(PruningStep(kept, dropped))
            bar.update()
    return steps


def _least_important_first(scorer: PromptScorer, kept: Sequence[int]) -> list[int]:
    losses = {
        index: scorer.loss(without(kept, index), title=f"without token {index + 1}")
        for index in kept
    }
    return sorted(losses, key=lambda index: losses[index])
