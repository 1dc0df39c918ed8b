"""Further prompts of a PromptTuner, each under its name."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from torch import Tensor, nn

from prompt_tuning.image_prompt import ImagePrompt


class NamedPrompts(nn.Module):
    """Prompts [P, H] of any length by name; they move with the module, and are not in its state.

    Args:
        embedding_dim: H.

    Attributes:
        image_prompts: By name, what makes image tokens, of the prompts that have some.
    """

    def __init__(self, embedding_dim: int) -> None:
        super().__init__()
        self._embedding_dim = embedding_dim
        self._buffer_of: dict[str, str] = {}  # A name may hold any character, a buffer's not.
        self.image_prompts: dict[str, ImagePrompt] = {}  # In a dict, they are no submodules.

    @property
    def take_image_vectors(self) -> bool:
        """Whether any of the prompts has image tokens."""
        return bool(self.image_prompts)

    def add(self, name: str, embeddings: Tensor, image_prompt: ImagePrompt | None = None) -> None:
        """Adds a prompt, in float32; an old one of this name is replaced.

        Raises:
            ValueError: It is not [P, H].
        """
        width = self._embedding_dim
        if embeddings.dim() != 2 or embeddings.shape[1] != width or not len(embeddings):
            found = list(embeddings.shape)
            raise ValueError(f"prompt {name!r}: found shape {found}, expected [P, {width}]")
        buffer = self._buffer_of.setdefault(name, f"prompt_{len(self._buffer_of)}")
        self.register_buffer(buffer, embeddings.detach().float(), persistent=False)
        self.image_prompts.pop(name, None)
        if image_prompt is not None:
            copied = deepcopy(image_prompt).requires_grad_(False)
            self.image_prompts[name] = copied.to(embeddings.device)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "NamedPrompts":
        """Moves what `image_prompts` holds, too."""
        modules: list[Any] = list(self.image_prompts.values())  # torch does not type _apply
        for module in modules:
            module._apply(fn, recurse)
        apply: Any = super()._apply
        moved: NamedPrompts = apply(fn, recurse)
        return moved

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._buffer_of:
            known = ", ".join(self._buffer_of) or "none"
            raise KeyError(f"no prompt of the name {name!r}, found {known}")
        prompt: Tensor = getattr(self, self._buffer_of[name])
        return prompt
