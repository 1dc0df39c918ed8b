"""Values read from JSON: what they are called in messages, and texts that no file can hold."""


def kind_of(value: object) -> str:
    """Name the kind of a value as JSON knows it: "an object", "a list", "null", ..."""
    names = {
        dict: "an object",
        list: "a list",
        str: "a text",
        type(None): "null",
        bool: "a boolean",
    }
    return names.get(type(value), "a number")


def is_whole(text: str) -> bool:
    """Say whether a text has only whole characters: JSON can write half a surrogate pair."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
