"""Further prompts of a PromptTuner, each under its name."""

from torch import Tensor, nn


class NamedPrompts(nn.Module):
    """Prompts [P, H] of any length by name; they move with the module, and are not in its state.

    Args:
        embedding_dim: H.
    """

    def __init__(self, embedding_dim: int) -> None:
        super().__init__()
        self._embedding_dim = embedding_dim
        self._buffer_of: dict[str, str] = {}  # A name may hold any character, a buffer's not.

    def add(self, name: str, embeddings: Tensor) -> None:
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

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._buffer_of:
            known = ", ".join(self._buffer_of) or "none"
            raise KeyError(f"no prompt of the name {name!r}, found {known}")
        prompt: Tensor = getattr(self, self._buffer_of[name])
        return prompt
