"""Fused activations and layer norms: the same numbers and parameters, fewer kept tensors."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import MT5Config, MT5ForConditionalGeneration, T5ForConditionalGeneration
from transformers.activations import NewGELUActivation

from igrag.captioning.fused_layers import fuse_layers
from igrag.captioning.language_model import load_language_model


def plain(path: Path) -> Any:
    """Loads the model as the library has it."""
    return T5ForConditionalGeneration.from_pretrained(path, dtype=torch.float32).eval()


def loss_and_gradient(model: Any, *, rows: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the loss of a batch of equal rows, and the gradient of its embeddings [B, 5, H]."""
    tokens = torch.tensor([[5, 9, 20, 33, 1]] * rows)
    source = model.get_input_embeddings()(tokens).detach().requires_grad_()
    loss = model(inputs_embeds=source, labels=tokens).loss
    (gradient,) = torch.autograd.grad(loss, [source])
    return loss.detach(), gradient


def kept_bytes(model: Any) -> int:
    """Returns the bytes that the forward pass keeps for the backward pass."""
    sizes: list[int] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        sizes.append(tensor.numel() * tensor.element_size())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss_and_gradient(model, rows=64)  # So many that the weights hardly count.
    return sum(sizes)


def test_fused_layers_compute_the_same(tiny_t5: Path) -> None:
    """Loss and gradient are the library's to rounding."""
    fused = load_language_model(str(tiny_t5), device="cpu").model
    ours, theirs = loss_and_gradient(fused), loss_and_gradient(plain(tiny_t5))
    torch.testing.assert_close(ours[0], theirs[0], atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(ours[1], theirs[1], atol=1e-6, rtol=1e-5)


def test_bfloat16_stays_near_float32(tiny_t5: Path) -> None:
    """In bfloat16 the fused layers are not further from float32 than the library's."""
    exact = loss_and_gradient(plain(tiny_t5))[1]
    fused = load_language_model(str(tiny_t5), device="cpu", dtype="bfloat16").model
    ours = loss_and_gradient(fused)[1].float()
    theirs = loss_and_gradient(plain(tiny_t5).to(torch.bfloat16))[1].float()
    assert (ours - exact).norm() < 1.2 * (theirs - exact).norm()


def test_less_is_kept_for_the_backward_pass(tiny_t5: Path) -> None:
    """The library keeps the tensors of every operator of an activation."""
    fused = plain(tiny_t5)
    fuse_layers(fused)
    assert kept_bytes(fused) < 0.9 * kept_bytes(plain(tiny_t5))


def test_parameters_keep_names_and_values(tiny_t5: Path) -> None:
    """Adapters and fingerprints find the weights where they were."""
    model = plain(tiny_t5)
    before = dict(model.named_parameters())
    fuse_layers(model)
    after = dict(model.named_parameters())
    assert list(before) == list(after)
    assert all(after[name] is parameter for name, parameter in before.items())
    assert not [each for each in model.modules() if isinstance(each, NewGELUActivation)]


@pytest.mark.parametrize("feed_forward", ["gated-gelu", "relu"])
def test_relatives_of_t5_are_fused(feed_forward: str) -> None:
    """The norms of mT5 are replaced, other activations stay."""
    options: dict[str, Any] = {"decoder_start_token_id": 0}
    config = MT5Config(
        vocab_size=40, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2,
        feed_forward_proj=feed_forward, **options,
    )  # fmt: skip
    model = MT5ForConditionalGeneration(config).eval()
    before = loss_and_gradient(model)[0]
    fuse_layers(model)
    torch.testing.assert_close(loss_and_gradient(model)[0], before, atol=1e-5, rtol=1e-5)
    assert not [each for each in model.modules() if type(each).__name__ == "MT5LayerNorm"]
