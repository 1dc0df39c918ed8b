"""Captioning with a soft prompt and LoRA enabled and disabled in the configuration."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from zlib import crc32

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from igrag.captioning.generator import CaptionGenerator
from igrag.captioning.language_model import load_language_model
from igrag.config import Config
from igrag.errors import ConfigError
from igrag.from_config import build_captioner
from igrag.retrieval.image_encoder import EncoderIdentity
from igrag.retrieval.knowledge_base import KnowledgeBase
from prompt_tuning.fingerprint import adapter_hash, fingerprint_of
from prompt_tuning.image_prompt import ImagePrompt
from prompt_tuning.prompt_file import PromptFile, save_prompt
from tests.command import Command, one_error
from tests.examples import ENCODER
from tests.prompt_tuning.models import image_prompt_of, tuner_of
from tests.tiny import CocoFolder

Settings = tuple[str, ...]


def save_random_prompt(
    path: Path, model_path: Path, *, lora: str | None = None, seed: int = 1, length: int = 20
) -> Settings:
    """Saves a prompt that makes itself felt; return the setting that names it."""
    model = AutoModelForSeq2SeqLM.from_pretrained(model_path)
    tokenizer = AutoTokenizer.from_pretrained(model_path)
    noise = torch.randn(length, 32, generator=torch.Generator().manual_seed(seed)) * 20
    fingerprint = fingerprint_of(model, tokenizer, lora=lora)
    save_prompt(path, PromptFile(noise, "random", fingerprint))
    return (f"prompt_tuning.weights_path={path}",)


@pytest.fixture
def prompt(tmp_path: Path, tiny_t5: Path) -> Settings:
    """A soft prompt for the tiny model."""
    return save_random_prompt(tmp_path / "prompt_embeddings.pt", tiny_t5)


@pytest.fixture
def adapter(tmp_path: Path, tiny_t5: Path) -> Path:
    """A LoRA adapter for the tiny model that makes itself felt."""
    torch.manual_seed(5)
    config = LoraConfig(r=8, lora_alpha=400, target_modules=["q", "v"], init_lora_weights=False)
    get_peft_model(AutoModelForSeq2SeqLM.from_pretrained(tiny_t5), config).save_pretrained(
        str(tmp_path / "adapter")
    )
    return tmp_path / "adapter"


ON: Settings = ("prompt_tuning.enabled=true",)


def test_prompt_is_used_and_reported(command: Command, coco: CocoFolder, prompt: Settings) -> None:
    """With prompt_tuning.enabled the caption differs, and the JSON has "prompt_tuning": true."""
    plain = json.loads(command("--json", "--i", coco.image(1), settings=prompt)[1])
    tuned = json.loads(command("--json", "--i", coco.image(1), settings=(*prompt, *ON))[1])
    assert (plain["prompt_tuning"], tuned["prompt_tuning"]) == (False, True)
    assert plain["prompt"] == tuned["prompt"] and plain["caption"] != tuned["caption"]


def save_image_prompt(path: Path, model_path: Path, encoder: EncoderIdentity) -> Settings:
    """Saves a prompt whose image tokens alone tell images apart; return the setting."""
    language = load_language_model(str(model_path), device="cpu")
    image_prompt = image_prompt_of(language, image_tokens=6)
    image_prompt.encoder = encoder
    with torch.no_grad():
        image_prompt.output.weight.mul_(100)
    tuner_of(language, torch.zeros(1, 32), image_prompt).save_prompt(path)
    return (f"prompt_tuning.weights_path={path}",)


def test_image_tokens_are_made_from_the_query_image(
    command: Command, coco: CocoFolder, tiny_t5: Path, tmp_path: Path, knowledge_base: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Each image of a batch hands its own vector on, with --compare too; plain methods get none."""
    opened = KnowledgeBase.open(knowledge_base)
    prompt = save_image_prompt(tmp_path / "seeing.pt", tiny_t5, opened.encoder)
    seen: list[torch.Tensor] = []
    make = ImagePrompt.forward

    def recorded(self: ImagePrompt, vectors: torch.Tensor) -> torch.Tensor:
        seen.append(vectors)
        return make(self, vectors)

    monkeypatch.setattr(ImagePrompt, "forward", recorded)
    images = [coco.image(n) for n in (1, 2, 3)]
    out = command("--json", "--i", *images, settings=(*prompt, *ON))[1]
    together = [json.loads(line)["caption"] for line in out.splitlines()]
    assert len(seen) == 1
    by_prompt = torch.tensor(opened.vectors[:3])  # All prompts of the tiny data are as long.
    assert torch.allclose(seen[0].sort(dim=0).values, by_prompt.sort(dim=0).values, atol=1e-5)
    alone = [
        json.loads(command("--json", "--i", image, settings=(*prompt, *ON))[1])["caption"]
        for image in images
    ]
    assert together == alone
    compared = json.loads(command("--json", "--compare", "--i", images[1], settings=prompt)[1])
    assert compared["captions"]["prompt"] == alone[1]


def test_prompt_for_another_encoder_is_an_error(
    command: Command, coco: CocoFolder, tiny_t5: Path, tmp_path: Path
) -> None:
    """Vectors of another encoder mean something else: both encoders are named."""
    path = tmp_path / "seeing.pt"
    prompt = save_image_prompt(path, tiny_t5, replace(ENCODER, name="clip-other"))
    for words, settings in (((), (*prompt, *ON)), (("--compare",), prompt)):
        code, out, err = command(*words, "--i", coco.image(1), settings=settings)
        assert (code, out) == (1, "")
        assert "clip-other" in one_error(err) and "clip-8" in one_error(err)


def test_missing_prompt_is_an_error(command: Command, coco: CocoFolder, tmp_path: Path) -> None:
    """Nobody gets an untuned caption who asked for a tuned one."""
    path = tmp_path / "none.pt"
    settings = (*ON, f"prompt_tuning.weights_path={path}")
    code, out, err = command("--i", coco.image(1), settings=settings)
    assert (code, out) == (1, "") and str(path) in one_error(err)


def test_damaged_prompt_is_an_error(command: Command, coco: CocoFolder, tmp_path: Path) -> None:
    """The same for a file that cannot be read."""
    path = tmp_path / "prompt_embeddings.pt"
    path.write_bytes(b"PK\x03\x04 not a prompt")
    settings = (*ON, f"prompt_tuning.weights_path={path}")
    code, out, err = command("--i", coco.image(1), settings=settings)
    assert (code, out) == (1, "") and "damaged" in one_error(err)


def test_prompt_of_another_adapter_is_an_error(
    command: Command, coco: CocoFolder, tiny_t5: Path, tmp_path: Path, adapter: Path
) -> None:
    """A prompt that was trained on an adapter is refused without it, both sides named."""
    path = tmp_path / "other.pt"
    settings = save_random_prompt(path, tiny_t5, lora=adapter_hash(adapter))
    code, out, err = command("--i", coco.image(1), settings=(*ON, *settings))
    assert (code, out) == (1, "") and "lora" in one_error(err) and "none" in one_error(err)


def test_contradicting_keys_are_reported(
    command: Command, coco: CocoFolder, prompt: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    """A prompt_length or initialization that is not the file's is a warning; the file is used."""
    more = ("prompt_tuning.prompt_length=7", "prompt_tuning.initialization=text")
    code, _, err = command("--i", coco.image(1), settings=(*prompt, *ON, *more))
    assert code == 0
    assert "prompt_length" in err and "7" in err and "initialization" in err
    compared = command("--compare", "--i", coco.image(1), settings=(*prompt, *more))[2]
    logged = [line for line in err.splitlines() if "the configuration has" in line]
    assert len(logged) == 2 and all(line in compared for line in logged)


def test_compare_generates_batch_by_batch(
    command: Command, coco: CocoFolder, prompt: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each method captions a batch at once, with the captions that it gives each image alone."""
    sizes, generate = [], CaptionGenerator.generate

    def counted(
        self: CaptionGenerator, prompts: Sequence[str], image_vectors: object = None
    ) -> list[str]:
        # The tiny model writes the same of every image; the hash tells whose caption it is.
        sizes.append(len(prompts))
        texts = generate(self, prompts)
        return [f"{text} {crc32(one.encode())}" for text, one in zip(texts, prompts, strict=True)]

    monkeypatch.setattr(CaptionGenerator, "generate", counted)
    alone = [
        json.loads(command("--json", "--compare", "--i", coco.image(n), settings=prompt)[1])
        for n in (1, 2, 3)
    ]
    sizes.clear()
    images = [coco.image(n) for n in (1, 2, 3)]
    settings = (*prompt, "generation_config.batch_size=2")
    out = command("--json", "--compare", "--i", *images, settings=settings)[1]
    found = [json.loads(line) for line in out.splitlines()]
    assert [each["captions"] for each in found] == [each["captions"] for each in alone]
    assert len({str(each["captions"]) for each in found}) > 1
    assert sizes == [2, 2, 1, 1]


def test_compare_shows_every_method(
    command: Command, coco: CocoFolder, prompt: Settings, adapter: Path, tiny_t5: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    """One load, four captions: each is what the switch positions give one by one."""
    both = tmp_path / "both.pt"
    save_random_prompt(both, tiny_t5, lora=adapter_hash(adapter))
    paths = (
        *prompt,
        f"prompt_tuning.weights_path_with_lora={both}",
        f"lora_config.weights_path={adapter}",
    )
    image = coco.image(1)
    found = json.loads(command("--json", "--compare", "--i", image, settings=paths)[1])
    lora = ("lora_config.enabled=true",)
    one_by_one = {
        name: json.loads(command("--json", "--i", image, settings=(*paths, *switches))[1])
        for name, switches in {
            "base": (), "prompt": ON, "lora": lora, "lora+prompt": (*ON, *lora),
        }.items()
    }  # fmt: skip
    assert found["captions"] == {name: each["caption"] for name, each in one_by_one.items()}
    assert len(set(found["captions"].values())) >= 3
    assert found["clip_scores"].keys() == found["captions"].keys()
    # What stands beside them is the configuration's own method.
    assert (found["caption"], found["lora"]) == (found["captions"]["base"], False)
    switched = (*paths, *ON, *lora)
    found = json.loads(command("--json", "--compare", "--i", image, settings=switched)[1])
    assert found["caption"] == found["captions"]["lora+prompt"]
    assert (found["prompt_tuning"], found["lora"]) == (True, True)
    assert found["captions"] == {name: each["caption"] for name, each in one_by_one.items()}
    shown = command("--compare", "--i", image, settings=paths)[1]
    assert all(f"{name}:" in shown for name in found["captions"])


def test_compare_lists_untrained_methods(
    command: Command, coco: CocoFolder, tmp_path: Path
) -> None:
    """Without any training there is the base model's caption, and a note on the others."""
    nothing = (f"prompt_tuning.weights_path={tmp_path / 'a'}",
               f"lora_config.weights_path={tmp_path / 'b'}")  # fmt: skip
    code, out, err = command("--compare", "--i", coco.image(1), settings=nothing)
    assert code == 0 and "base:" in out
    assert "not trained: prompt, lora, lora+prompt" in err


def test_compare_requires_the_enabled_method(
    command: Command, coco: CocoFolder, tmp_path: Path, prompt: Settings, adapter: Path
) -> None:
    """A method that the configuration switches on is there, or the comparison is an error too."""
    image, lora = coco.image(1), f"lora_config.weights_path={adapter}"
    for settings, named in (
        ((*ON, f"prompt_tuning.weights_path={tmp_path / 'none.pt'}"), "none.pt"),
        (("lora_config.enabled=true", f"lora_config.weights_path={tmp_path / 'none'}"), "none"),
        ((*ON, "lora_config.enabled=true", lora, f"prompt_tuning.weights_path={tmp_path / 'a'}",
          f"prompt_tuning.weights_path_with_lora={tmp_path / 'b'}"), "no such file"),
    ):  # fmt: skip
        code, out, err = command("--compare", "--i", image, settings=settings)
        assert (code, out) == (1, "") and named in one_error(err)


def test_compare_reports_why_a_prompt_is_not_used(
    command: Command, coco: CocoFolder, tmp_path: Path, tiny_t5: Path, adapter: Path
) -> None:
    """A prompt of an adapter that was trained again is there, and refused; damage is an error."""
    both = tmp_path / "both.pt"
    save_random_prompt(both, tiny_t5, lora="0" * 64)
    settings = (f"prompt_tuning.weights_path={tmp_path / 'none.pt'}",
                f"prompt_tuning.weights_path_with_lora={both}",
                f"lora_config.weights_path={adapter}")  # fmt: skip
    code, out, err = command("--compare", "--i", coco.image(1), settings=settings)
    assert code == 0 and "base:" in out and "lora:" in out
    assert f"lora+prompt: {both}: was trained on another LoRA adapter" in err
    assert "not trained: prompt\n" in err
    (adapter / "adapter_model.safetensors").write_bytes(b"damaged")
    code, _, err = command("--compare", "--i", coco.image(1), settings=settings)
    assert code == 1 and f"{adapter}: damaged" in one_error(err)


def test_enabled_prompt_without_loader_is_an_error() -> None:
    """Code that builds a captioner without a way to open prompts is refused when one is enabled."""
    config = Config.load(overrides=list(ON))
    with pytest.raises(ConfigError, match=r"prompt_tuning\.enabled"):
        build_captioner(config, "no/model")


def test_prompt_and_adapter_trained_apart_caption_together(
    command: Command, coco: CocoFolder, prompt: Settings, adapter: Path, tmp_path: Path
) -> None:
    """Both enabled: without a prompt on the adapter the plain one is used, with one warning."""
    settings = (*ON, *prompt, "lora_config.enabled=true", f"lora_config.weights_path={adapter}")
    for on_lora in ("null", tmp_path / "none.pt"):
        key = f"prompt_tuning.weights_path_with_lora={on_lora}"
        code, out, err = command("--json", "--i", coco.image(1), settings=(*settings, key))
        row = json.loads(out)
        assert (code, row["prompt_tuning"], row["lora"]) == (0, True, True)
        assert err.count("was trained without the LoRA adapter") == 1
        assert "prompt_tuning/config/on_lora.yaml" in err
    compared = json.loads(
        command("--json", "--compare", "--i", coco.image(1), settings=settings)[1]
    )
    assert compared["captions"]["lora+prompt"] == row["caption"]
