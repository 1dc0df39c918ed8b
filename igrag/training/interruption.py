"""Ctrl-C, SIGTERM and SIGHUP during a training: the step is finished and its state is saved.

A signal counts at two points only, at which the state is that after whole optimizer steps: between
two steps, and anywhere in a validation, which changes nothing.
"""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from igrag.cli import exit_for

# `timeout`, torchrun and terminals may pass one signal on twice: that is no second one.
_ONE_SIGNAL_SECONDS = 0.5


class Interrupted(BaseException):
    """A training is to end here; no library takes it for an error of its own."""


class Interruption:
    """The signals that end a training early; a context manager around the loop.

    The first signal is noted, and `check` or `at_once` raises `Interrupted` for it. On leaving, the
    state is saved then, and what the commands expect of the signal is raised: KeyboardInterrupt, or
    SystemExit(143). A second signal raises that at once, wherever the program is. What a process
    ignores, as under nohup, it still does.

    Args:
        save: Saves a checkpoint and returns its folder; None if this process saves none.
    """

    def __init__(self, save: Callable[[], Path | None]) -> None:
        self._save = save
        self._number: int | None = None
        self._first = 0.0
        self._immediate = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            names = ("SIGINT", "SIGTERM", "SIGHUP")  # Not every system has the last one.
            for number in (getattr(signal, name) for name in names if hasattr(signal, name)):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if isinstance(error, Interrupted):
                self._leave()
        finally:
            for number, handler in self._before.items():
                signal.signal(number, handler)

    @property
    def requested(self) -> bool:
        """Whether a signal came."""
        return self._number is not None

    def check(self, agree: Callable[[bool], bool] = bool) -> None:
        """Raises `Interrupted` if a signal came; to be called between two steps.

        Args:
            agree: Returns whether a signal came to any of a training's processes, so that all of
                them end after the same step.
        """
        if agree(self.requested):
            raise Interrupted

    @contextmanager
    def at_once(self, *, alone: bool = True) -> Iterator[None]:
        """Raises `Interrupted` as soon as a signal comes, for what changes no state.

        Args:
            alone: Whether this is the training's only process: the others would wait for it.
        """
        if alone:
            self.check()
        self._immediate = alone
        try:
            yield
        finally:
            self._immediate = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._number is not None:
            if now - self._first > _ONE_SIGNAL_SECONDS:
                raise exit_for(number)
            return
        self._number, self._first = number, now
        if self._immediate:
            raise Interrupted

    def _leave(self) -> None:
        checkpoint = self._save()
        if checkpoint is not None:
            print(
                f"{checkpoint}: saved; --resume_from_checkpoint latest continues from here",
                file=sys.stderr,
            )
        # Another process's signal ends this one, too.
        raise exit_for(signal.SIGTERM if self._number is None else self._number) from None
