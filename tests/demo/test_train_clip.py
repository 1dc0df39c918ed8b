"""clip-mini's parts: its tokenizer, loss and augmentation, and the folder that it is saved as."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModel, AutoTokenizer

from demo.clip_model import SPECIAL_TOKENS, enlarged, new_model, save_clip, train_tokenizer
from demo.train_clip import augment, contrastive_loss
from igrag.retrieval.image_encoder import ImageEncoder

_CAPTIONS = ["A brown dog running in the park.", "Two red cars parked on the street."] * 5


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an untrained model."""
    torch.manual_seed(1)
    tokenizer = train_tokenizer(_CAPTIONS)
    folder = tmp_path_factory.mktemp("models") / "clip"
    return save_clip(new_model(len(tokenizer)), tokenizer, {"steps": 0}, folder)


def test_text_is_lower_cased_between_start_and_end_tokens(saved: Path) -> None:
    """A text becomes <s> ... </s> whatever its case, and no letter is unknown."""
    tokenizer = AutoTokenizer.from_pretrained(saved)
    ids = tokenizer("A Brown DOG, ça va?")["input_ids"]
    assert ids[0] == SPECIAL_TOKENS["<s>"]
    assert ids[-1] == SPECIAL_TOKENS["</s>"]
    assert SPECIAL_TOKENS["<unk>"] not in ids
    assert ids == tokenizer("a brown dog, ÇA VA?")["input_ids"]


def test_text_vector_does_not_depend_on_padding(saved: Path) -> None:
    """Padding after </s> does not change a text's vector; the last word does."""
    model = AutoModel.from_pretrained(saved, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(saved)

    def vector(text: str, length: int) -> torch.Tensor:
        batch = tokenizer(text, padding="max_length", max_length=length, return_tensors="pt")
        inputs = {key: batch[key] for key in ("input_ids", "attention_mask")}
        with torch.no_grad():
            output: torch.Tensor = model.get_text_features(**inputs).pooler_output
        return output

    short, long = vector("a brown dog", 16), vector("a brown dog", 28)
    assert torch.allclose(short, long, atol=1e-5)
    assert not torch.allclose(short, vector("a brown car", 16), atol=1e-3)


def test_loss_equals_that_of_clip(saved: Path) -> None:
    """The contrastive loss equals the one that transformers' CLIPModel computes."""
    model = AutoModel.from_pretrained(saved, dtype=torch.float32).eval()
    pixels = torch.randn(3, 3, 96, 96, generator=torch.Generator().manual_seed(2))
    ids = torch.tensor([[2, 9, 3], [2, 11, 3], [2, 13, 3]])
    with torch.no_grad():
        output = model(input_ids=ids, pixel_values=pixels, return_loss=True)
        scale = model.logit_scale.exp()
        ours = contrastive_loss(output.image_embeds, output.text_embeds, scale)
    assert ours.item() == pytest.approx(output.loss.item(), abs=1e-5)


def test_augmented_images_resemble_the_images() -> None:
    """A batch comes out normalized, varied, seeded, and still like the images."""
    rows = torch.linspace(0, 255, 96).to(torch.uint8)
    images = rows[None, :, None, None].expand(4, 96, 96, 3)
    first, again = (augment(images, torch.Generator().manual_seed(3)) for _ in range(2))
    assert first.shape == (4, 3, 96, 96)
    assert torch.equal(first, again)
    assert not torch.equal(first[0], first[1])
    means = first.mean((1, 3))  # [4, 96]: what is at the bottom stays brighter than the top
    assert (means[:, -10:].mean(1) > means[:, :10].mean(1) + 1).all()


def test_processor_does_not_crop_the_image(saved: Path) -> None:
    """The saved processor squeezes a wide image instead of cutting off its sides."""
    encoder = ImageEncoder(str(saved), device="cpu")
    assert encoder.identity.dimension == 128
    wide = np.full((40, 200, 3), 255, np.uint8)
    wide[:, :20] = (255, 0, 0)
    pixels = encoder.preprocess(Image.fromarray(wide))
    assert pixels.shape == (3, 96, 96)
    assert pixels[1, 48, 2] < pixels[1, 48, 48]


def test_enlarged_model_encodes_a_flat_image_alike(saved: Path) -> None:
    """A model for larger images has more positions, and sees a flat image much the same."""
    model = AutoModel.from_pretrained(saved, dtype=torch.float32).eval()
    larger = enlarged(model, 128).eval()
    assert larger.config.vision_config.image_size == 128
    positions = larger.vision_model.embeddings.position_embedding.weight
    assert positions.shape == (1 + 8 * 8, 192)
    with torch.no_grad():
        before = model.get_image_features(pixel_values=torch.full((1, 3, 96, 96), 0.5))
        after = larger.get_image_features(pixel_values=torch.full((1, 3, 128, 128), 0.5))
    likeness = torch.cosine_similarity(before.pooler_output, after.pooler_output)
    assert likeness.item() > 0.95
