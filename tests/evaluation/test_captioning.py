"""Every method captions all images, in turns."""

from typing import Any

from evaluation.captioning import generate_captions
from igrag.processes import ALONE


class RecordingGenerator:
    """A generator that records which model captions what."""

    def __init__(self) -> None:
        self.model: Any = None
        self.calls: list[tuple[Any, int]] = []

    def switch_to(self, model: Any) -> None:
        """Selects the model."""
        self.model = model

    def generate(self, prompts: list[str], image_vectors: object = None) -> list[str]:
        """Returns the prompts after the model's name."""
        self.calls.append((self.model, len(prompts)))
        return [f"{self.model} {prompt}" for prompt in prompts]


def test_methods_take_turns_of_equal_length() -> None:
    """A load peak on the machine slows all methods, not the one that happens to run then."""
    generator: Any = RecordingGenerator()
    prompts = [f"p{number}" for number in range(150)]
    models: Any = {"base": "B", "prompt": "P"}
    own = [f"q{number}" for number in range(150)]
    generated = generate_captions(generator, models, {"base": prompts, "prompt": own}, ALONE)
    assert list(generated["base"].captions) == [f"B {prompt}" for prompt in prompts]
    assert list(generated["prompt"].captions) == [f"P {prompt}" for prompt in own]
    assert generator.calls[:2] == [("B", 1), ("P", 1)]  # warm-up
    turns = [model for model, _ in generator.calls[2:]]
    assert len(turns) >= 6 and turns == ["B", "P"] * (len(turns) // 2)
    assert all(found.seconds > 0 for found in generated.values())
    assert generator.model is None
