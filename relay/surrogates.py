r"""Halves of surrogate pairs: JSON can carry them, UTF-8 cannot.

A model that emits half a character per token makes AnythingLLM send `"\ud83d"` and `"\ude00"` in two
frames (recording `surrogate_halves`).
"""

from typing import Any


def is_well_formed(text: str) -> bool:
    """Whether no half of a surrogate pair is in it, which no UTF-8 can carry."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def well_formed(text: str) -> str:
    """Return `text` with halves that stand side by side joined, and lone ones as U+FFFD."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def well_formed_deep(value: Any) -> Any:
    """Return a JSON value with every string in it well-formed."""
    if isinstance(value, str):
        return well_formed(value)
    if isinstance(value, list):
        return [well_formed_deep(item) for item in value]
    if isinstance(value, dict):
        return {well_formed(name): well_formed_deep(item) for name, item in value.items()}
    return value


class HalfJoiner:
    """Joins a pair whose halves come in two pieces of text: holds back a first `half` at the end."""

    def __init__(self) -> None:
        self.half = ""

    def feed(self, piece: str) -> str:
        """Return what can be told of the text so far, well-formed."""
        text = self.half + piece
        self.half = ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self.half = text[:-1], text[-1]
        return well_formed(text)

    def end(self) -> str:
        """No more text comes: a half still held back is a lone one."""
        half, self.half = self.half, ""
        return well_formed(half)
