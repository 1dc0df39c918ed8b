"""Parametrizations of a prompt while it is trained; each is saved as a plain [P, H] tensor.

They are parametrizations in the sense of `torch.nn.utils.parametrize`: `forward` turns the
trained tensor into the prompt, `right_inverse` turns an initial prompt into the trained tensor.
"""

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from igrag.config.choices import Reparameterization, in_words
from prompt_tuning.initialization import vocabulary_prompt


def make_parametrization(
    reparameterization: Reparameterization,
    embedding_weight: Tensor,
    tokenizer: PreTrainedTokenizerBase,
    *,
    bottleneck: int,
    sampled_embeddings: int,
    generator: torch.Generator,
) -> nn.Module | None:
    """Makes the module that computes the prompt from the trained tensor; None for "none".

    Args:
        reparameterization: Its name.
        embedding_weight: The model's embedding matrix [V, H].
        tokenizer: The model's.
        bottleneck: See `Residual`.
        sampled_embeddings: For "superpos": how many frequent tokens' embeddings are drawn.
        generator: Random state of what is drawn.

    Raises:
        ValueError: The name is unknown.
    """
    if reparameterization == "none":
        return None
    if reparameterization == "residual":
        return Residual(embedding_weight.shape[1], bottleneck=bottleneck, generator=generator)
    if reparameterization == "superpos":
        return Superposition(
            vocabulary_prompt(embedding_weight, tokenizer, sampled_embeddings, generator=generator)
        )
    raise ValueError(
        f"reparameterization: found {reparameterization!r}, expected {in_words(Reparameterization)}"
    )


class Residual(nn.Module):
    """Each soft token plus a small MLP of itself, shared by all of them.

    Razdaibiedina et al., 2023, "Residual Prompt Tuning" (arXiv 2305.03937), section 3. The last
    layer's gain starts at zero, so that training starts from the given prompt.

    Args:
        embedding_dim: H.
        bottleneck: Width of the hidden layer.
        generator: Random state of the initial weights.
    """

    def __init__(self, embedding_dim: int, *, bottleneck: int, generator: torch.Generator) -> None:
        super().__init__()
        self.down = nn.Linear(embedding_dim, bottleneck)
        self.up = nn.Linear(bottleneck, embedding_dim)
        self.norm = nn.LayerNorm(embedding_dim)
        for linear in (self.down, self.up):
            nn.init.xavier_uniform_(linear.weight, generator=generator)
            nn.init.zeros_(linear.bias)
        nn.init.zeros_(self.norm.weight)

    def forward(self, prompt: Tensor) -> Tensor:
        """[P, H] -> [P, H]."""
        change: Tensor = self.norm(self.up(torch.relu(self.down(prompt))))
        return prompt + change

    def right_inverse(self, prompt: Tensor) -> Tensor:
        """Starts from the given prompt."""
        return prompt


class Superposition(nn.Module):
    """Each soft token as a weighted sum of embeddings that were drawn once and stay fixed.

    SadraeiJavaheri et al., 2024, "SuperPos-Prompt" (arXiv 2406.05279), section 3.

    Args:
        embeddings: The drawn embeddings [M, H].
    """

    embeddings: Tensor

    def __init__(self, embeddings: Tensor) -> None:
        super().__init__()
        self.register_buffer("embeddings", embeddings.detach().float())

    def forward(self, weights: Tensor) -> Tensor:
        """[P, M] -> [P, H]."""
        return weights @ self.embeddings

    def right_inverse(self, prompt: Tensor) -> Tensor:
        """Finds the weights [P, M] whose prompt is nearest to the given one [P, H]."""
        # gelsd finds the smallest weights where several sets would do (M > H).
        basis = self.embeddings.T.cpu()
        weights: Tensor = torch.linalg.lstsq(
            basis, prompt.detach().cpu().T, driver="gelsd"
        ).solution
        return weights.T.contiguous().to(prompt.device)
