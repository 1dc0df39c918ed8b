"""Soft tokens made from an image's vector: [B, D] -> [B, Q, H], trained next to the learned ones.

A learned prompt is the same for all images. These tokens differ by image: they give the language
model what the image encoder sees, where retrieval finds no captions of it.
"""

import math
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from igrag.retrieval.image_encoder import EncoderIdentity
from igrag.retrieval.vector_lookup import ImageVectors

_OUTPUT_SCALE = 0.02  # standard deviation of the last layer's initial weights
_BLOCK = 16_384  # vectors in memory at a time
_LONGEST_REASON = 200  # characters of a library's error


class ImagePrompt(nn.Module):
    """Turns the vectors of images into soft tokens, by an MLP or by one linear map.

    Vectors of an encoder lie close together: they are centered and scaled first.

    Args:
        vector_dim: Length D of the vectors.
        embedding_dim: Width H of the language model's embeddings.
        image_tokens: Soft tokens of an image, Q.
        hidden: Width of the hidden layer; 0 for one linear map.
        encoder: What makes the vectors; those of another encoder mean something else.
    """

    mean: Tensor  # [D]
    deviation: Tensor  # []

    def __init__(
        self,
        vector_dim: int,
        embedding_dim: int,
        *,
        image_tokens: int,
        hidden: int,
        encoder: EncoderIdentity,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.embedding_dim = embedding_dim
        self.image_tokens = image_tokens
        self.register_buffer("mean", torch.zeros(vector_dim))
        self.register_buffer("deviation", torch.ones(()))
        self.hidden = _linear(vector_dim, hidden) if hidden else None
        self.output = _linear(hidden or vector_dim, image_tokens * embedding_dim)

    def forward(self, vectors: Tensor) -> Tensor:
        """[B, D] -> [B, Q, H]."""
        features = (vectors.to(self.mean) - self.mean) / self.deviation  # [B, D]
        if self.hidden is not None:
            features = nn.functional.gelu(self.hidden(features))  # [B, hidden]
        tokens: Tensor = self.output(features)  # [B, Q * H]
        return tokens.view(len(vectors), self.image_tokens, self.embedding_dim)

    @classmethod
    def from_state(
        cls, state: Mapping[str, Tensor], embedding_dim: int, *, encoder: EncoderIdentity
    ) -> "ImagePrompt":
        """Makes the module that a state is from; its sizes follow from those of the tensors.

        Args:
            state: What `state_dict` returned.
            embedding_dim: Width H of the language model's embeddings.
            encoder: What makes the vectors.

        Raises:
            ValueError: The tensors do not fit together, or hold values that are not finite.
        """
        try:
            hidden = len(state["hidden.weight"]) if "hidden.weight" in state else 0
            image_prompt = cls(
                encoder.dimension,
                embedding_dim,
                image_tokens=len(state["output.weight"]) // embedding_dim,
                hidden=hidden,
                encoder=encoder,
            )
            image_prompt.load_state_dict(dict(state))  # compares all shapes
        except (AttributeError, KeyError, RuntimeError, TypeError) as error:
            raise ValueError(" ".join(str(error).split())[:_LONGEST_REASON]) from error
        values = image_prompt.state_dict().values()
        if not all(value.isfinite().all() for value in values) or image_prompt.deviation <= 0:
            raise ValueError("values that are no finite numbers, or no deviation")
        return image_prompt


def make_image_prompt(
    vectors: ImageVectors,
    embedding_weight: Tensor,
    *,
    image_tokens: int,
    hidden: int,
    generator: torch.Generator,
) -> ImagePrompt:
    """Makes the image prompt that training starts from.

    The last layer starts near its bias, which is drawn at the scale of the model's embeddings: the
    tokens of all images start as about the same noise that a random prompt is.

    Args:
        vectors: Those of the training examples.
        embedding_weight: The model's embedding matrix [V, H].
        image_tokens: Soft tokens of an image, Q.
        hidden: Width of the hidden layer; 0 for one linear map.
        generator: Random state of what is drawn, on the CPU.
    """
    width = embedding_weight.shape[1]
    image_prompt = ImagePrompt(
        vectors.encoder.dimension, width, image_tokens=image_tokens, hidden=hidden,
        encoder=vectors.encoder,
    )  # fmt: skip
    mean, deviation = _statistics(vectors)
    scale = float(embedding_weight.detach().float().std())
    with torch.no_grad():
        image_prompt.mean.copy_(torch.from_numpy(mean))
        image_prompt.deviation.fill_(deviation)
        if image_prompt.hidden is not None:  # as torch initializes a linear layer
            bound = 1 / math.sqrt(vectors.encoder.dimension)
            for parameter in image_prompt.hidden.parameters():
                nn.init.uniform_(parameter, -bound, bound, generator=generator)
        nn.init.normal_(image_prompt.output.weight, std=_OUTPUT_SCALE, generator=generator)
        nn.init.normal_(image_prompt.output.bias, std=scale, generator=generator)
    return image_prompt


def _linear(inputs: int, outputs: int) -> nn.Linear:
    """Makes a layer without values: torch would draw them from its global random state."""
    return nn.Linear(inputs, outputs, device="meta").to_empty(device="cpu")


def _statistics(vectors: ImageVectors) -> tuple[NDArray[np.float64], float]:
    """Returns the mean [D] of the images' vectors, and one standard deviation of all values."""
    rows = np.unique(vectors.rows)
    blocks = [rows[start : start + _BLOCK] for start in range(0, len(rows), _BLOCK)]
    total = sum(vectors.vectors[block].astype(np.float64).sum(axis=0) for block in blocks)
    mean: NDArray[np.float64] = np.asarray(total / len(rows))
    squares = sum(float(((vectors.vectors[block] - mean) ** 2).sum()) for block in blocks)
    deviation = math.sqrt(squares / (len(rows) * len(mean)))
    return mean, deviation or 1.0  # One image alone has none.
