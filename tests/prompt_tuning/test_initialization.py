"""The initial prompt, and its parametrization during training."""

from pathlib import Path

import pytest
import torch

from igrag.captioning.language_model import LanguageModel, embedding_weight, load_language_model
from igrag.config.choices import Initialization
from igrag.errors import CheckpointError
from prompt_tuning.initialization import DEFAULT_TEXT, frequent_tokens
from prompt_tuning.prompt_file import PromptFile, save_prompt
from prompt_tuning.prompt_tuner import PromptTuner
from tests.prompt_tuning.models import batch_of, make_tuner, noise
from tests.tiny import save_t5


def prompt_of(
    language: LanguageModel, length: int, initialization: str, **options: object
) -> torch.Tensor:
    """Returns an initial prompt [P, H]."""
    tuner = make_tuner(language, length, initialization, **options)  # type: ignore[arg-type]
    return tuner.plain_prompt()


def embeddings_of(language: LanguageModel) -> torch.Tensor:
    """Returns the model's embedding matrix [V, H]."""
    return embedding_weight(language.model).detach()


def test_random_has_the_scale_of_the_embeddings(language: LanguageModel) -> None:
    """A random prompt has the standard deviation of the embeddings, or the given one."""
    matched = prompt_of(language, 500, "random").std()
    assert matched.item() == pytest.approx(embeddings_of(language).std().item(), rel=0.05)
    assert prompt_of(language, 500, "random", scale=0.02).std().item() == pytest.approx(
        0.02, rel=0.05
    )


@pytest.mark.parametrize("initialization", ["random", "vocab"])
def test_seed_determines_the_initial_prompt(language: LanguageModel, initialization: str) -> None:
    """The same seed draws the same prompt, whatever the global random state is."""
    torch.manual_seed(98)
    first = prompt_of(language, 6, initialization, seed=1)
    torch.manual_seed(99)
    assert torch.equal(first, prompt_of(language, 6, initialization, seed=1))
    assert not torch.equal(first, prompt_of(language, 6, initialization, seed=2))


def test_text_is_repeated_or_truncated(language: LanguageModel) -> None:
    """The prompt has the embeddings of the text's tokens, in their order."""
    ids = language.tokenizer("red ball", add_special_tokens=False)["input_ids"]
    words = embeddings_of(language)[ids]
    assert torch.equal(prompt_of(language, 5, "text", text="red ball"), words[[0, 1, 0, 1, 0]])
    assert torch.equal(prompt_of(language, 1, "text", text="red ball"), words[:1])
    with pytest.raises(ValueError, match="has no token"):
        prompt_of(language, 5, "text", text="")


def test_vocab_draws_ordinary_tokens_without_repetition(language: LanguageModel) -> None:
    """No special token is drawn, and none twice before all are drawn."""
    known = len(language.tokenizer)
    found = prompt_of(language, known, "vocab")
    ids = [int((embeddings_of(language) == row).all(dim=1).nonzero()[0]) for row in found]
    special = set(language.tokenizer.all_special_ids)
    assert not set(ids) & special
    assert set(ids) == set(range(known)) - special


def test_vocab_draws_the_first_5000_tokens(tmp_path: Path) -> None:
    """Embeddings without a token are never drawn.

    The prompt of a bfloat16 model is float32, too.
    """
    words = [f"word{number}" for number in range(5100)]
    large = load_language_model(
        str(save_t5(tmp_path / "large", words=words, seed=0)), device="cpu", dtype="bfloat16"
    )
    large.model.resize_token_embeddings(5200)
    tokens = frequent_tokens(embeddings_of(large), large.tokenizer)
    assert (len(tokens), min(tokens), max(tokens)) == (5000, 3, 5002)
    small = load_language_model(
        str(save_t5(tmp_path / "small", words=words[:50], seed=0)), device="cpu"
    )
    small.model.resize_token_embeddings(60)
    assert (
        max(frequent_tokens(embeddings_of(small), small.tokenizer))
        == len(small.tokenizer) - 1
        == 52
    )
    initialization: Initialization
    for initialization in ("text", "vocab"):
        tuner = make_tuner(large, 6, initialization)
        assert tuner.prompt_embeddings.dtype == torch.float32


def test_text_is_the_caption_instruction_by_default(language: LanguageModel) -> None:
    """Without a text, the prompt is initialized from the instruction of the template."""
    found = prompt_of(language, 4, "text")
    assert torch.equal(found, prompt_of(language, 4, "text", text=DEFAULT_TEXT))
    assert len(found.unique(dim=0)) == 4


def test_file_initializes_from_another_prompt(language: LanguageModel, tmp_path: Path) -> None:
    """The other prompt is repeated or truncated to P; one of another width is refused."""
    other = noise(3)
    path = tmp_path / "prompt_embeddings.pt"
    save_prompt(path, PromptFile(other, "random", None))
    assert torch.equal(prompt_of(language, 5, "file", file=path), other[[0, 1, 2, 0, 1]])
    save_prompt(path, PromptFile(noise(3, width=8), "random", None))
    with pytest.raises(CheckpointError, match=r"prompt_embeddings\.pt: found .*width 8.* 32"):
        prompt_of(language, 5, "file", file=path)
    with pytest.raises(ValueError, match="no init_file"):
        prompt_of(language, 5, "file")
    with pytest.raises(CheckpointError):
        prompt_of(language, 5, "file", file=tmp_path / "none.pt")


@pytest.mark.parametrize("parametrization", ["residual", "superpos"])
def test_reparameterized_prompt_starts_at_the_initial_prompt(
    language: LanguageModel, parametrization: str
) -> None:
    """With enough sampled embeddings every parametrization starts at the plain prompt."""
    plain = prompt_of(language, 6, "random", seed=3)
    found = prompt_of(
        language, 6, "random", seed=3, reparameterization=parametrization, sampled_embeddings=40
    )
    torch.testing.assert_close(found, plain, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("parametrization", ["none", "residual", "superpos"])
def test_saved_plain_prompt_computes_the_same(
    language: LanguageModel, tmp_path: Path, parametrization: str
) -> None:
    """After some steps the saved plain prompt gives the same logits as the trained one."""
    tuner = make_tuner(language, 6, reparameterization=parametrization)  # type: ignore[arg-type]
    first = tuner.plain_prompt()
    batch = batch_of(language.tokenizer)
    optimizer = torch.optim.AdamW(tuner.trainable_parameters(), lr=0.05)
    losses = []
    for _ in range(5):
        loss = tuner(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] and not torch.equal(tuner.plain_prompt(), first)
    tuner.save_prompt(tmp_path / "p.pt")
    again = PromptTuner.from_file(language.model, language.tokenizer, tmp_path / "p.pt")
    with torch.no_grad():
        assert torch.equal(again(**batch).logits, tuner(**batch).logits)


def test_unknown_parametrization_is_refused(language: LanguageModel) -> None:
    """The error lists the known ones."""
    with pytest.raises(ValueError, match="none, residual or superpos"):
        prompt_of(language, 3, "random", reparameterization="mlp")
