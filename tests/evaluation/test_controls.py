"""Rows of prompts with image tokens, and their controls: other vectors than the images'."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluation.controls import add_controls, derangement, read_image_prompts, vectors_by_method
from evaluation.methods import ENSEMBLE, TrainedPaths, find_ensemble, find_methods
from igrag.captioning.generator import CaptionGenerator
from igrag.captioning.language_model import load_language_model
from igrag.errors import CheckpointError, UsageError
from igrag.retrieval.image_encoder import EncoderIdentity
from igrag.retrieval.knowledge_base import KnowledgeBase
from igrag.retrieval.vector_files import open_vectors
from tests.command import one_error
from tests.evaluation.evaluator import Evaluator
from tests.examples import ENCODER, save_example_vectors, save_examples
from tests.prompt_tuning.models import image_prompt_of, noise, tuner_of
from tests.tiny import CocoFolder

BOTH_CONTROLS = ("--shuffle_image_vectors", "--zero_image_vectors")


def save_seeing(path: Path, model: Path, encoder: EncoderIdentity = ENCODER) -> Path:
    """Saves a prompt with image tokens that tell images apart."""
    language = load_language_model(str(model), device="cpu")
    image_prompt = image_prompt_of(language, image_tokens=6)
    image_prompt.encoder = encoder
    with torch.no_grad():
        image_prompt.output.weight.mul_(100)
    path.parent.mkdir(parents=True, exist_ok=True)
    tuner_of(language, noise(1), image_prompt).save_prompt(path)
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Six examples in JSONL, with the vectors of their images."""
    path = save_examples(tmp_path / "test.jsonl", count=6, seed=0)
    save_example_vectors(path)
    return path


@pytest.fixture
def seeing(untrained: Evaluator, tmp_path: Path, tiny_t5: Path) -> Evaluator:
    """The command with a prompt with image tokens."""
    path = save_seeing(tmp_path / "seeing" / "best_model" / "prompt_embeddings.pt", tiny_t5)
    untrained.settings.append(f"prompt_tuning.weights_path={path}")
    return untrained


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[list[list[float]] | None]:
    """The vectors that captions are generated with, call by call."""
    calls: list[list[list[float]] | None] = []
    generate = CaptionGenerator.generate

    def recorded(
        self: CaptionGenerator,
        prompts: Sequence[str],
        *,
        image_vectors: Sequence[np.ndarray] | None = None,
    ) -> list[str]:
        calls.append(None if image_vectors is None else np.stack(image_vectors).tolist())
        return generate(self, prompts, image_vectors=image_vectors)

    monkeypatch.setattr(CaptionGenerator, "generate", recorded)
    return calls


@pytest.mark.parametrize("count", [2, 3, 500])
def test_derangement_leaves_nothing_where_it_is(count: int) -> None:
    """Every image gets another one's vector, each once, in the same order for the same seed."""
    for seed in range(5):
        order = derangement(count, seed=seed)
        assert sorted(order) == list(range(count)) and not (order == np.arange(count)).any()
        assert order.tolist() == derangement(count, seed=seed).tolist()
    assert count == 2 or len({str(derangement(count, seed=seed)) for seed in range(20)}) > 1


def test_one_image_cannot_be_shuffled() -> None:
    """It would keep its own vector, and the row would be no control."""
    with pytest.raises(UsageError, match="--shuffle_image_vectors: found 1 image, expected at lea"):
        derangement(1, seed=0)


def test_controls_follow_the_methods_with_image_tokens(
    paths: TrainedPaths, tiny_t5: Path, tmp_path: Path
) -> None:
    """Methods without image tokens get no control, and without a control nothing changes."""
    seeing = replace(paths, prompt=save_seeing(tmp_path / "seeing.pt", tiny_t5))
    methods = find_methods(seeing, None)
    assert add_controls(methods, ()) == methods
    names = [each.name for each in add_controls(methods, ("shuffled", "zero"))]
    assert names == ["base", "prompt", "prompt-shuffled", "prompt-zero", "lora", "lora+prompt"]
    with pytest.raises(UsageError, match="--zero_image_vectors: none of the methods has image"):
        add_controls(find_methods(paths, None), ("zero",))


def test_ensemble_gets_vectors_if_any_of_its_prompts_needs_them(
    paths: TrainedPaths, tiny_t5: Path, tmp_path: Path
) -> None:
    """The prompt with image tokens may be the first one of the ensemble or another."""
    plain = tmp_path / "plain.pt"
    tuner_of(load_language_model(str(tiny_t5), device="cpu"), noise(2)).save_prompt(plain)
    seeing = save_seeing(tmp_path / "seeing.pt", tiny_t5)
    for files in ([plain, seeing], [seeing, plain], [plain, plain]):
        ensemble = find_ensemble(files, paths)
        assert list(read_image_prompts([ensemble])) == [ENSEMBLE] * (seeing in files)


def test_controls_get_other_vectors(tiny_t5: Path, tmp_path: Path) -> None:
    """Shuffled ones are those of other images; zero is what the prompt's scaling makes zero."""
    file = save_seeing(tmp_path / "seeing.pt", tiny_t5)
    paths = TrainedPaths(file, Path("/none/both.pt"), Path("/none/lora"))
    methods = add_controls(find_methods(paths, ("base", "prompt")), ("shuffled", "zero"))
    vectors = np.arange(24, dtype=np.float32).reshape(3, 8)
    prompts = read_image_prompts(methods)
    found = vectors_by_method(methods, prompts, vectors, seed=1)
    assert list(found) == ["prompt", "prompt-shuffled", "prompt-zero"]
    assert found["prompt"] is vectors
    assert found["prompt-shuffled"].tolist() == vectors[derangement(3, seed=1)].tolist()
    zero = torch.from_numpy(found["prompt-zero"]) - prompts["prompt"].mean
    assert not zero.any() and zero.shape == (3, 8)
    with pytest.raises(CheckpointError, match="clip-other"):
        read_image_prompts(methods, replace(ENCODER, name="clip-other", dimension=9))


@pytest.mark.slow
def test_comparison_has_a_row_for_each_control(
    seeing: Evaluator, data: Path, given: list[list[list[float]] | None]
) -> None:
    """Vectors come from next to the data; the table, the files and the tests have all rows."""
    code, out, _ = seeing("--data", data, "--methods", "base,prompt", *BOTH_CONTROLS)
    results = seeing.read("results.json")
    assert code == 0
    names = ["prompt", "prompt-shuffled", "prompt-zero"]
    assert list(results) == ["base", *names] and all(f"| {name} " in out for name in names)
    vectors = open_vectors(data).vectors.astype(np.float32)
    whole = [call for call in given if call is not None and len(call) == 6]
    assert whole[0] == vectors.tolist() and len(whole) == 3
    assert sorted(whole[1]) == sorted(whole[0]) and whole[1] != whole[0]
    assert all(row == whole[2][0] for row in whole[2])
    captions = [[each["caption"] for each in results[name]] for name in names]
    assert captions[0] != captions[1] != captions[2]
    code, _, _ = seeing("--data", data, "--methods", "prompt", "--overwrite_output_dir")
    assert code == 0 and seeing.read("results.json")["prompt"] == results["prompt"]


def test_retrieval_hands_its_vectors_on(
    untrained: Evaluator, coco: CocoFolder, knowledge_base: Path, tiny_t5: Path, tmp_path: Path,
    given: list[list[list[float]] | None],
) -> None:  # fmt: skip
    """Images of a captions file are encoded once, for retrieval and for the image tokens."""
    opened = KnowledgeBase.open(knowledge_base)
    path = save_seeing(tmp_path / "seeing.pt", tiny_t5, opened.encoder)
    untrained.settings.append(f"prompt_tuning.weights_path={path}")
    words = ["--captions", coco.captions, "--images", coco.images, "--limit", 3]
    code, _, _ = untrained(*words, "--methods", "prompt")
    whole = [call for call in given if call is not None and len(call) == 3]
    assert code == 0 and np.allclose(whole[0], opened.vectors[:3], atol=1e-5)
    other = save_seeing(path, tiny_t5, replace(ENCODER, name="clip-other"))
    code, _, err = untrained(*words, "--methods", "prompt", "--overwrite_output_dir")
    assert code == 1 and str(other) in one_error(err) and "clip-other" in err


def test_missing_vectors_are_an_error_with_the_line(
    seeing: Evaluator, data: Path, tmp_path: Path, tiny_t5: Path, coco: CocoFolder,
    knowledge_base: Path,
) -> None:  # fmt: skip
    """Without vectors next to the data, the images themselves are encoded where they are known."""
    for path in tmp_path.glob("test.vectors.*"):
        path.unlink()
    code, _, err = seeing("--data", data, "--methods", "prompt")
    assert code == 1 and f"{data}:1: no vector of image 1; " in one_error(err)
    encoder = KnowledgeBase.open(knowledge_base).encoder
    path = save_seeing(tmp_path / "tiny.pt", tiny_t5, encoder)
    seeing.settings.append(f"prompt_tuning.weights_path={path}")
    code, _, _ = seeing("--data", data, "--images", coco.images, "--methods", "prompt")
    assert code == 0 and len(seeing.read("results.json")["prompt"]) == 6


@pytest.mark.parametrize("option", BOTH_CONTROLS)
@pytest.mark.parametrize("other", ["--checkpoints", "--results"])
def test_controls_need_methods(untrained: Evaluator, data: Path, option: str, other: str) -> None:
    """Checkpoints are compared with one another, and captions from files have no vectors."""
    code, _, err = untrained("--data", data, option, other, data)
    assert code == 2 and f"{other} and {option}: expected one of them" in one_error(err)
