"""Where a prompt begins, and the ways it can be parameterized while it is trained."""

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


def table(language: LanguageModel) -> torch.Tensor:
    """Returns the model's embeddings [V, H]."""
    return embedding_weight(language.model).detach()


def test_random_has_the_scale_of_the_embeddings(language: LanguageModel) -> None:
    """Or the one that is asked for."""
    matched = prompt_of(language, 500, "random").std()
    assert matched.item() == pytest.approx(table(language).std().item(), rel=0.05)
    assert prompt_of(language, 500, "random", scale=0.02).std().item() == pytest.approx(
        0.02, rel=0.05
    )


@pytest.mark.parametrize("initialization", ["random", "vocab"])
def test_the_seed_decides_what_is_drawn(language: LanguageModel, initialization: str) -> None:
    """The same seed draws the same prompt, whatever the global random state."""
    torch.manual_seed(98)
    first = prompt_of(language, 6, initialization, seed=1)
    torch.manual_seed(99)
    assert torch.equal(first, prompt_of(language, 6, initialization, seed=1))
    assert not torch.equal(first, prompt_of(language, 6, initialization, seed=2))


def test_text_is_repeated_or_cut(language: LanguageModel) -> None:
    """The embeddings of its tokens, in their order."""
    ids = language.tokenizer("red ball", add_special_tokens=False)["input_ids"]
    words = table(language)[ids]
    assert torch.equal(prompt_of(language, 5, "text", text="red ball"), words[[0, 1, 0, 1, 0]])
    assert torch.equal(prompt_of(language, 1, "text", text="red ball"), words[:1])
    with pytest.raises(ValueError, match="has no token"):
        prompt_of(language, 5, "text", text="")


def test_vocab_takes_real_tokens_once(language: LanguageModel) -> None:
    """No special token, and none twice before all were taken."""
    known = len(language.tokenizer)
    found = prompt_of(language, known, "vocab")
    ids = [int((table(language) == row).all(dim=1).nonzero()[0]) for row in found]
    special = set(language.tokenizer.all_special_ids)
    assert not set(ids) & special
    assert set(ids) == set(range(known)) - special


def test_vocab_takes_frequent_tokens(tmp_path: Path) -> None:
    """Of a large vocabulary the first 5,000, and never a row of the table without a token.

    From a bfloat16 model as from any other the prompt is float32.
    """
    words = [f"word{number}" for number in range(5100)]
    large = load_language_model(
        str(save_t5(tmp_path / "large", words=words, seed=0)), device="cpu", dtype="bfloat16"
    )
    large.model.resize_token_embeddings(5200)
    tokens = frequent_tokens(table(large), large.tokenizer)
    assert (len(tokens), min(tokens), max(tokens)) == (5000, 3, 5002)
    small = load_language_model(
        str(save_t5(tmp_path / "small", words=words[:50], seed=0)), device="cpu"
    )
    small.model.resize_token_embeddings(60)
    assert max(frequent_tokens(table(small), small.tokenizer)) == len(small.tokenizer) - 1 == 52
    initialization: Initialization
    for initialization in ("text", "vocab"):
        tuner = make_tuner(large, 6, initialization)
        assert tuner.prompt_embeddings.dtype == torch.float32


def test_text_is_the_caption_instruction_by_default(language: LanguageModel) -> None:
    """Where no text is given."""
    found = prompt_of(language, 4, "text")
    assert torch.equal(found, prompt_of(language, 4, "text", text=DEFAULT_TEXT))
    assert len(found.unique(dim=0)) == 4


def test_file_begins_at_another_prompt(language: LanguageModel, tmp_path: Path) -> None:
    """Repeated or cut to P; one of another width is refused."""
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


@pytest.mark.parametrize("way", ["residual", "superpos"])
def test_reparameterizations_begin_at_the_prompt(language: LanguageModel, way: str) -> None:
    """With enough embeddings to mix, training begins where the plain prompt does."""
    plain = prompt_of(language, 6, "random", seed=3)
    found = prompt_of(language, 6, "random", seed=3, reparameterization=way, sampled_embeddings=40)
    torch.testing.assert_close(found, plain, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("way", ["none", "residual", "superpos"])
def test_saved_plain_prompt_computes_the_same(
    language: LanguageModel, tmp_path: Path, way: str
) -> None:
    """After some steps the saved plain prompt gives the trained one's logits."""
    tuner = make_tuner(language, 6, reparameterization=way)  # type: ignore[arg-type]
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


def test_an_unknown_way_is_refused(language: LanguageModel) -> None:
    """The ways there are get named."""
    with pytest.raises(ValueError, match="none, residual or superpos"):
        prompt_of(language, 3, "random", reparameterization="mlp")
