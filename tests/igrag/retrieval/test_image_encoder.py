"""Encoding images with the image tower of a CLIP model."""

from __future__ import annotations

import json
import logging
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPModel, PretrainedConfig

from igrag.errors import ModelError
from igrag.retrieval.image_encoder import EncoderIdentity, ImageEncoder
from igrag.retrieval.preprocessing import Preprocessor


@pytest.fixture(scope="module")
def encoder(tiny_clip: Path) -> ImageEncoder:
    """Returns the tiny model's encoder."""
    return ImageEncoder(str(tiny_clip), device="cpu")


def noise_images(count: int) -> list[Image.Image]:
    """Returns images of noise in different shapes."""
    noise = np.random.default_rng(0)
    return [
        Image.fromarray(noise.integers(0, 255, (40 + n, 60 - n, 3)).astype(np.uint8))
        for n in range(count)
    ]


def test_vectors_are_the_whole_models_normalized(encoder: ImageEncoder, tiny_clip: Path) -> None:
    """The tower alone gives what the whole CLIP model gives, at length 1."""
    images = noise_images(3)
    pixels = torch.stack([encoder.preprocess(image) for image in images])
    with torch.inference_mode():
        model = CLIPModel.from_pretrained(tiny_clip)
        expected = model.get_image_features(pixel_values=pixels).pooler_output
    expected = torch.nn.functional.normalize(expected, dim=-1).numpy()
    vectors = encoder.encode(images)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, expected, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_image_has_one_vector_in_any_batch(encoder: ImageEncoder) -> None:
    """Encoding images together or alone gives the same vectors."""
    images = noise_images(4)
    alone = np.concatenate([encoder.encode([image]) for image in images])
    np.testing.assert_allclose(encoder.encode(images), alone, atol=1e-6)


def test_no_images_give_no_vectors(encoder: ImageEncoder) -> None:
    """An empty batch has the right width."""
    assert encoder.encode([]).shape == (0, 8)


def test_extremely_long_image_stays_small(tiny_clip: Path) -> None:
    """Of an image of 1 x 50,000 pixels its center alone is enlarged, which is all CLIP sees."""
    preprocess = Preprocessor(str(tiny_clip))
    processor, sizes = preprocess._processor, []

    def watch(image: Image.Image, **options: object) -> object:
        sizes.append(image.size)
        return processor(image, **options)

    preprocess._processor = watch
    shades = (np.arange(50_000) // 2 % 256).astype(np.uint8)
    for long in (Image.fromarray(shades[None]), Image.fromarray(shades[:, None])):
        image = long.convert("RGB")
        pixels = preprocess(image)
        assert max(sizes.pop()) <= 20
        left, top = ((side - min(side, 9)) // 2 for side in image.size)
        center = image.crop((left, top, image.width - left, image.height - top))
        middle = processor(center, return_tensors="pt")["pixel_values"][0]
        torch.testing.assert_close(pixels, middle)


def test_loading_prints_nothing(
    tiny_clip: Path, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    """Neither torchvision's absence nor the unused text tower is reported, by any way."""
    ImageEncoder(str(tiny_clip), device="cpu").encode(noise_images(1))
    output = capfd.readouterr()
    assert (output.out, output.err) == ("", "")
    assert not [str(warning.message) for warning in recwarn]


def test_loading_leaves_the_librarys_verbosity(tiny_clip: Path) -> None:
    """Loading quietly does not silence transformers for good."""
    from transformers.utils import logging as library

    before = library.get_verbosity()
    library.set_verbosity(logging.INFO)
    ImageEncoder(str(tiny_clip), device="cpu")
    assert library.get_verbosity() == logging.INFO
    library.set_verbosity(before)


def test_preprocessing_travels_to_workers(encoder: ImageEncoder) -> None:
    """Pickled for a worker process, the preprocessing works and does not carry the model."""
    data = pickle.dumps(encoder.preprocess)
    assert len(data) < 10_000
    image = noise_images(1)[0]
    assert torch.equal(pickle.loads(data)(image), encoder.preprocess(image))


def test_bfloat16_gives_nearly_the_same(encoder: ImageEncoder, tiny_clip: Path) -> None:
    """The precision changes the vectors a little and the identity not at all."""
    fast = ImageEncoder(str(tiny_clip), device="cpu", dtype="bfloat16")
    assert fast.identity == encoder.identity
    scores = (fast.encode(noise_images(3)) * encoder.encode(noise_images(3))).sum(axis=1)
    assert (scores > 0.999).all()


def test_identity_names_the_model(encoder: ImageEncoder) -> None:
    """The identity has the folder's name, not its path, and the joint space's size."""
    assert encoder.identity.name == "clip-8"
    assert encoder.identity.dimension == 8
    assert encoder.identity.preprocessing["crop_size"] == {"height": 32, "width": 32}


def test_identity_survives_json(encoder: ImageEncoder) -> None:
    """What is recorded is read back as equal."""
    text = json.dumps(encoder.identity.to_json())
    assert EncoderIdentity.from_json(json.loads(text)) == encoder.identity


@pytest.mark.parametrize("data", [None, {}, {"name": "a"}, "text"])
def test_damaged_identity_is_refused(data: object) -> None:
    """Anything but an identity's JSON is a ValueError."""
    with pytest.raises(ValueError, match="expected an encoder's"):
        EncoderIdentity.from_json(data)


def test_differences_are_named(encoder: ImageEncoder) -> None:
    """Dimension, weights and preprocessing count; the name does not."""
    mine = encoder.identity
    assert mine.differences(replace(mine, name="moved")) == []
    assert mine.differences(replace(mine, dimension=9)) == ["dimension 8 against 9"]
    (weights,) = mine.differences(replace(mine, weights_fingerprint="0" * 64))
    assert weights.startswith("weights ")
    other = {**mine.preprocessing, "do_resize": False}
    assert mine.differences(replace(mine, preprocessing=other)) == [
        "preprocessing do_resize True against False"
    ]


@pytest.mark.parametrize(
    "name",
    [
        "visual_projection.weight",
        "vision_model.encoder.layers.1.self_attn.q_proj.weight",
        "vision_model.post_layernorm.bias",
    ],
)
def test_other_weights_have_another_fingerprint(tiny_clip: Path, tmp_path: Path, name: str) -> None:
    """A model trained further, be it in one layer alone, is not mistaken for the first."""
    model = CLIPModel.from_pretrained(tiny_clip)
    with torch.no_grad():
        model.get_parameter(name)[0] += 1e-3
    shutil.copytree(tiny_clip, tmp_path / "tuned")
    model.save_pretrained(tmp_path / "tuned")
    first, second = (ImageEncoder(str(path)).identity for path in (tiny_clip, tmp_path / "tuned"))
    assert [text.split()[0] for text in first.differences(second)] == ["weights"]


def damaged(path: Path, tiny_clip: Path, damage: str | tuple[str, str]) -> Path:
    """Returns a copy of the tiny model with one thing wrong, or one file replaced."""
    shutil.copytree(tiny_clip, path)
    if isinstance(damage, tuple):
        file, content = damage
        (path / file).write_text(content)
    elif damage == "weights":
        data = (path / "model.safetensors").read_bytes()
        (path / "model.safetensors").write_bytes(data[: len(data) // 2])
    elif damage == "type":
        config = json.loads((path / "config.json").read_text())
        (path / "config.json").write_text(json.dumps({**config, "model_type": "t5"}))
    else:
        (path / damage).unlink()
    return path


WRONG_VALUE = '{"model_type": "clip", "vision_config": {"hidden_size": "wide"}}'


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("weights", "weights cannot be loaded"),
        ("model.safetensors", "weights cannot be loaded"),
        ("type", "expected a CLIP model, found model_type t5"),
        ("config.json", "no config.json"),
        ("preprocessor_config.json", "preprocessor_config.json"),
        (("config.json", "[]"), "found a list in config.json"),
        (("config.json", "7"), "config.json"),
        (("config.json", WRONG_VALUE), "'hidden_size' expected int"),
        (("config.json", '{"model_type": "clip", "projection_dim": null}'), "projection_dim"),
        (("preprocessor_config.json", "[]"), "preprocessor_config.json"),
        (("preprocessor_config.json", '{"image_mean": "x"}'), "preprocessor_config.json"),
        (
            ("preprocessor_config.json", '{"crop_size": 7, "size": 7}'),
            "makes images of [3, 7, 7] values, the model takes [3, 32, 32]",
        ),
    ],
)
def test_damaged_model_is_refused(
    tmp_path: Path, tiny_clip: Path, damage: str | tuple[str, str], words: str
) -> None:
    """Each missing or wrong part of a model's folder gets one line naming the folder."""
    path = damaged(tmp_path / "model", tiny_clip, damage)
    with pytest.raises(ModelError) as caught:
        ImageEncoder(str(path), device="cpu")
    assert str(path) in str(caught.value)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["/no/such/folder", "nobody/no-such-clip", "no-such-clip"])
def test_missing_model_is_refused_by_name(name: str) -> None:
    """A missing folder, and a hub id while offline, are named in one line."""
    with pytest.raises(ModelError) as caught:
        ImageEncoder(name, device="cpu")
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_reasons_other_than_the_hub_are_in_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is not called a model that the hub does not give."""

    def fail(path: str, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(PretrainedConfig, "get_config_dict", fail)
    with pytest.raises(ModelError, match=r"some/clip: cannot be loaded .*No space left") as caught:
        ImageEncoder("some/clip", device="cpu")
    assert "hub" not in str(caught.value)


@pytest.mark.parametrize("device", ["toaster", "cuda:99"])
def test_missing_device_is_refused(tiny_clip: Path, device: str) -> None:
    """A device that is not there is named."""
    with pytest.raises(ModelError, match=device):
        ImageEncoder(str(tiny_clip), device=device)
