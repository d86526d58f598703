"""Telling what a model thinks aloud from what it answers.

Such a model begins with `<think>`, and a `</think>` precedes the answer; either tag may be cut across
frames, and the second may never come (recordings `reasoning`, `reasoning_only`).
"""

from typing import Final, Literal

from relay.events import Chunk, Event, Reasoning

Handling = Literal["inline", "separate", "hide"]
_OPEN: Final = "<think>"
_CLOSE: Final = "</think>"
_MAX_BLANKS: Final = 256  # held back before a tag; an answer may be nothing but white space


class ReasoningSplitter:
    """Splits the text of one turn of a model, piece by piece, into Reasoning and Chunk events.

    Only a tag at the very beginning counts (white space before it does not matter): an answer may
    well talk about `<think>` later on. `hide` drops the reasoning, `inline` splits nothing.
    """

    def __init__(self, handling: Handling) -> None:
        self._handling = handling
        self.begin()

    def begin(self) -> None:
        """Begin a new turn."""
        self._thinks = False
        self.answering = self._handling == "inline"  # whatever comes next is the answer
        self._held = ""  # what may yet turn out to be a tag

    def feed(self, text: str) -> list[Event]:
        """Take the next piece of text."""
        if self.answering:
            return [Chunk(text)] if text else []
        text = self._held + text
        self._held = ""
        return self._thinking(text) if self._thinks else self._start(text)

    def end(self) -> list[Event]:
        """No more text comes: what was held was no tag."""
        held, self._held = self._held, ""
        if not held:
            return []
        return self._reasoning(held) if self._thinks else [Chunk(held)]

    def _start(self, text: str) -> list[Event]:
        begun = text.lstrip()
        if begun.startswith(_OPEN):
            self._thinks = True
            return self._thinking(begun.removeprefix(_OPEN))
        if _OPEN.startswith(begun) and len(text) <= _MAX_BLANKS:
            self._held = text
            return []
        self.answering = True
        return [Chunk(text)]

    def _thinking(self, text: str) -> list[Event]:
        thought, tag, answer = text.partition(_CLOSE)
        if tag:
            self.answering = True
            return self._reasoning(thought) + self.feed(answer)
        held = _tail_that_may_begin(_CLOSE, text)
        self._held = text[len(text) - held :]
        return self._reasoning(text[: len(text) - held])

    def _reasoning(self, text: str) -> list[Event]:
        return [Reasoning(text)] if text and self._handling == "separate" else []


def _tail_that_may_begin(tag: str, text: str) -> int:
    """How many last characters of `text` are the beginning of `tag`."""
    longest = min(len(tag) - 1, len(text))
    return next((n for n in range(longest, 0, -1) if text.endswith(tag[:n])), 0)
