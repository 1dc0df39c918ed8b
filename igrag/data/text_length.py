"""Cuts texts that are far too long before they are tokenized as a whole."""

# Characters that a token covers at most, by far: sentencepiece's pieces have up to 16.
_CHARACTERS_PER_TOKEN = 100


def cut_text(text: str, max_tokens: int) -> str:
    """Returns the beginning of a text, which is more than `max_tokens` tokens if it was cut.

    A text of 1 MB would take seconds and hundreds of MB, for a prompt of 512 tokens.
    """
    return text[: (max_tokens + 1) * _CHARACTERS_PER_TOKEN]
