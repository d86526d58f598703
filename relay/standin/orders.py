"""The words in a question that order how the stand-in answers."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

ORDERS: Final[Mapping[str, str]] = {
    # when
    "slow": "=S: S seconds between tokens.",
    "late": "=S: even the response head comes only after S seconds.",
    "silent": "=S: the head at once, the first frame after S seconds; without S never.",
    "pause": "=S: S seconds of silence after the third token.",
    # what is said
    "echo": "TEXT: the answer is exactly what follows the word and one blank.",
    "tokens": "=N: an answer of N tokens, `tok1 tok2 ...`.",
    "line": "=N: one token of N bytes.",
    "empty": "No text at all.",
    "history": "The earlier questions of this session, one a line.",
    "sources": "=N: N sources in the last frame.",
    # how it is said
    "burst": "=N: N tokens as fast as possible, many frames in one write.",
    "endless": "Tokens until the client leaves.",
    "reason": "Reasoning between <think> and </think>, then the answer.",
    "reasononly": "Reasoning that never comes to an answer.",
    "whole": "Streaming is disabled: the whole answer in one frame.",
    "refusal": "What query mode says when no document matches.",
    "surrogate": "An emoji whose two halves come in two frames.",
    "garbage": "Lines that are no JSON and one that is no UTF-8 between good frames.",
    "unknown": "A frame of an unknown type between good ones.",
    # how it fails
    "abort": "=STATUS: some tokens, then the model fails (with STATUS before its words).",
    "refused": "=STATUS: the model refuses at once; 401 without STATUS.",
    "ollama": "Ollama fails in the middle of the answer.",
    "stall": "Five tokens, then silence for ever: a model without a finish.",
    "nofinalize": "The closing chunk, then silence for ever.",
    "closeeof": "The closing chunk, then a clean end without the last frame.",
    "eof": "Some tokens, then a clean end without any closing frame.",
    "die": "=N: the connection is lost after N tokens (three); 0: right after the head.",
    "cut": "The connection is closed in the middle of a frame.",
    # not a stream, or not quite
    "notype": "The stream has no Content-Type.",
    "html": "A web page instead of a stream.",
    "json": "A JSON object instead of a stream.",
    "status": "=N: the HTTP status N with a JSON error.",
    "redirect": "A redirect (307) to another path.",
    # agents only: the question starts with @agent, or its mode is automatic
    "tool": "Agent: some text, two thoughts about a tool, then the answer.",
    "chart": "Agent: two thoughts, a chart, S seconds of silence (=S), then the answer.",
    "file": "Agent: a file to download, then the answer.",
    "untooled": "Agent: no chunks, the whole text twice.",
    "agenterror": "=STATUS: Agent: the model fails; 500 without STATUS.",
    "slowtool": "=S: Agent: a thought, S seconds of silence (for ever without S), the answer.",
}

# A typo of a zero too many must not fill the memory of whoever runs the demo.
MOST: Final = 10_000_000

D = TypeVar("D")

_WORD = re.compile(r"(?<!\S)!([a-z]+)(?:=(\S+))?(?!\S)")


def table() -> str:
    """Every order and what it does, one a line."""
    width = max(map(len, ORDERS)) + 1
    return "\n".join(f"  {'!' + word:<{width}}  {does}" for word, does in ORDERS.items())


@dataclass(frozen=True, slots=True)
class Orders:
    """What a question orders; iterates over the words in the question's order."""

    values: Mapping[str, str | None]
    rest: str = ""  # what follows `!echo`

    def __iter__(self) -> Iterator[str]:
        return iter(self.values)

    def __contains__(self, word: str) -> bool:
        return word in self.values

    def seconds(self, word: str, default: D) -> float | D:
        """The seconds given with a word; the default if there are none that can be read."""
        try:
            seconds = float(self.values.get(word) or "")
        except ValueError:
            return default
        return seconds if seconds >= 0 and math.isfinite(seconds) else default

    def number(self, word: str, default: int) -> int:
        """The whole number given with a word; the default if there is none that can be read."""
        value = self.values.get(word) or ""
        if not value.isdecimal() or len(value) > len(str(MOST)):
            return default
        return min(int(value), MOST)


def parse(question: str) -> Orders:
    """Find the orders in a question. Words after `!echo` are text, not orders."""
    values: dict[str, str | None] = {}
    for match in _WORD.finditer(question):
        word, value = match.groups()
        if word in ORDERS:
            values.setdefault(word, value)
        if word == "echo":
            return Orders(values, question[match.end() + 1 :])
    return Orders(values)
