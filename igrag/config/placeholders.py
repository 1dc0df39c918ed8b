"""The placeholders that a prompt's template and its lines must have."""

import re

PLACEHOLDER = re.compile(r"\{(\w*)\}")


def check_template(text: str) -> str:
    """Returns the template, or raises ValueError with the placeholders that it must have."""
    return _check(text, ("instruction", "captions"), ("objects",))


def check_caption_line(text: str) -> str:
    """Returns a caption's line, or raises ValueError with the placeholders that it must have."""
    return _check(text, ("caption",), ("rank", "similarity"))


def check_object_line(text: str) -> str:
    """Returns an object's line, or raises ValueError with the placeholders that it must have."""
    return _check(text, ("label", "position"))


def shows_objects(template: str) -> bool:
    """Returns whether the template has a placeholder for objects."""
    return "{objects}" in template


def _check(text: str, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> str:
    found = set(PLACEHOLDER.findall(text))
    problems = [f"{{{name}}} is missing" for name in required if name not in found]
    unknown = sorted(found.difference(required, optional))
    problems += [f"unknown placeholder {{{name}}}" for name in unknown]
    if problems:
        expected = " and ".join(f"{{{name}}}" for name in required)
        expected += "".join(f", perhaps {{{name}}}" for name in optional)
        raise ValueError(f"text with {expected} ({'; '.join(problems)})")
    return text
