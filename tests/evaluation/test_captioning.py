"""Every method writes the captions of all images, in turns."""

from typing import Any

from evaluation.captioning import write_captions


class Noting:
    """A generator that notes who writes what."""

    def __init__(self) -> None:
        self.writer: Any = None
        self.calls: list[tuple[Any, int]] = []

    def switch_to(self, writer: Any) -> None:
        """Makes another one write."""
        self.writer = writer

    def generate(self, prompts: list[str]) -> list[str]:
        """Sign the prompts."""
        self.calls.append((self.writer, len(prompts)))
        return [f"{self.writer} {prompt}" for prompt in prompts]


def test_methods_take_turns() -> None:
    """A busy minute of the machine slows all of them, not the one that happened to write then."""
    generator: Any = Noting()
    prompts = [f"p{number}" for number in range(150)]
    writers: Any = {"base": "B", "prompt": "P"}
    written = write_captions(generator, writers, prompts)
    assert {name: list(found.captions) for name, found in written.items()} == {
        name: [f"{writer} {prompt}" for prompt in prompts] for name, writer in writers.items()
    }
    assert generator.calls[:2] == [("B", 1), ("P", 1)]  # to set things up
    turns = [writer for writer, _ in generator.calls[2:]]
    assert len(turns) >= 6 and turns == ["B", "P"] * (len(turns) // 2)
    assert all(found.seconds > 0 for found in written.values())
    assert generator.writer is None
