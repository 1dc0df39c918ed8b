"""Tokens of a caption while it is generated, for the thread that reads them."""

from collections.abc import Iterator
from queue import SimpleQueue

from torch import Tensor
from transformers.generation.streamers import BaseStreamer


class StreamStoppedError(Exception):
    """Ends the generation of a caption that nobody reads any more."""


class TokenStream(BaseStreamer):
    """The streamer of one caption, for `CaptionGenerator.generate`; without beam search.

    Iterating over it yields the token ids so far, each time one more, until `end` is called.
    """

    def __init__(self) -> None:
        self._tokens: SimpleQueue[int | None] = SimpleQueue()
        self._has_started = False
        self._is_stopped = False

    def put(self, value: Tensor) -> None:
        """Takes the token [1] that was generated; the first one is the decoder's start token.

        Raises:
            StreamStoppedError: `stop` was called.
        """
        if self._is_stopped:
            raise StreamStoppedError
        if self._has_started:
            self._tokens.put(int(value))
        self._has_started = True

    def end(self) -> None:
        """Ends the iteration; called more than once, it changes nothing."""
        self._tokens.put(None)

    def stop(self) -> None:
        """Lets the next token end the generation."""
        self._is_stopped = True

    def __iter__(self) -> Iterator[list[int]]:
        """Yields the token ids so far."""
        ids: list[int] = []
        while (token := self._tokens.get()) is not None:
            ids = [*ids, token]
            yield ids
