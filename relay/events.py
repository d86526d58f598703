"""What a client hears: the vocabulary of the whole program (docs/protocol.md, "Events").

Each class is one kind of event; its tag is both the SSE event name and the `type` inside the JSON.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

Reason = Literal["complete", "error", "cancelled", "shutdown"]

OutputKind = Literal["file", "chart", "scheduled_job", "other"]


class Event(msgspec.Struct, frozen=True, tag_field="type"):
    """The root of all events."""


class Chunk(Event, frozen=True, tag="chunk"):
    """A piece of the answer; the pieces joined are the answer."""

    content: str


class Reasoning(Event, frozen=True, tag="reasoning"):
    """A piece of what the model thought aloud before it answered."""

    content: str


class Thought(Event, frozen=True, tag="thought"):
    """What an agent says it is doing."""

    content: str


class Output(Event, frozen=True, tag="output"):
    """What an agent made that is not text: a file, a chart."""

    kind: OutputKind
    content: dict[str, Any]


class Error(Event, frozen=True, tag="error"):
    """Why the answer failed; `final_end` follows at once."""

    message: str
    code: str
    retryable: bool


class FinalEnd(Event, frozen=True, tag="final_end"):
    """The last event of every stream."""

    reason: Reason
    sources: list[dict[str, Any]]
    metrics: dict[str, Any]
    chat_id: int | None
    skipped: int


class RawFrame(Event, frozen=True, tag="message"):
    """An AnythingLLM frame handed on as it came (`format: anythingllm`), an unnamed SSE event."""

    frame: dict[str, Any]


_encode = msgspec.json.Encoder().encode
# The SSE event name of each; empty for the default event.
NAMES: Final[Mapping[type[Event], str]] = {
    kind: str(kind.__struct_config__.tag)
    for kind in (Chunk, Reasoning, Thought, Output, Error, FinalEnd)
} | {RawFrame: ""}

# Line ends to some clients (Python's str.splitlines, old JavaScript), though not to WHATWG's parser.
_LINE_ENDS = (
    ("\u0085".encode(), rb"\u0085"),
    ("\u2028".encode(), rb"\u2028"),
    ("\u2029".encode(), rb"\u2029"),
)


def to_json(told: Event | Mapping[str, Any] | str) -> bytes:
    """An event, or a part of one, as one line of JSON that no client can break in two.

    Every string in it must be well-formed: a lone surrogate raises UnicodeEncodeError.
    """
    data = _encode(told.frame if isinstance(told, RawFrame) else told)
    if not data.isascii():
        for raw, escaped in _LINE_ENDS:
            data = data.replace(raw, escaped)
    return data
