"""AnythingLLM's frames as typed values, out of JSON that is only half trusted."""

import json
from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec

from relay.events import Chunk, Event, OutputKind, RawFrame
from relay.redact import without_paths
from relay.surrogates import well_formed_deep

_AGENT_FAILED: Final = "Error encountered while running:"
# Objects and lists in one frame (ten were recorded at most), counted with the brackets in its text: a
# line of four megabytes may hold a million, which become hundreds of megabytes here.
_MAX_BRACKETS: Final = 50_000
# How AnythingLLM ends a frame that says nothing but a piece of text.
_NO_MORE: Final = b'"close":false,"error":false}'
# What the strict decoder raises.
_NOT_STRICT: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Frame(msgspec.Struct):
    """What the relay reads of a frame. Only `type` is sure; all else is checked where it is used."""

    type: str
    id: Any = None
    text: Any = msgspec.field(name="textResponse", default=None)
    thought: Any = None
    file: Any = msgspec.field(name="fileDownload", default=None)
    close: Any = False
    error: Any = None
    sources: Any = None
    metrics: Any = None
    chat_id: Any = msgspec.field(name="chatId", default=None)

    @property
    def failure(self) -> str | None:
        """What failed, in AnythingLLM's words; None if nothing did.

        A string in `error` is a failure in any frame. An agent run tells its failures as a thought
        instead, and its `error` never holds a string (recordings `agent_llm_*`).
        """
        if isinstance(self.error, str):
            return self.error
        if self.type == "textResponseChunk":  # nearly all are
            return None
        if self.type == "agentThought" and isinstance(self.thought, str):
            words = self.thought.removeprefix(_AGENT_FAILED)
            return None if words == self.thought else words.strip()
        return "" if self.type == "abort" else None


class _Piece(msgspec.Struct, tag_field="type", tag="textResponseChunk", forbid_unknown_fields=True):
    """A frame that says nothing but a piece of text (nearly all of a chat): it has these fields only."""

    uuid: str
    sources: Annotated[list[None], msgspec.Meta(max_length=0)]
    text: str = msgspec.field(name="textResponse")
    close: bool
    error: bool


_decode = msgspec.json.Decoder(Frame).decode
_decode_piece = msgspec.json.Decoder(_Piece).decode


def plain_pieces(frames: Sequence[bytes]) -> list[str]:
    """Return the texts of the first frames, up to one that says more than a piece of text.

    That is what reading them one by one comes to, in a fraction of the time: whatever is not exactly
    such a frame is left to `parse`, which takes it as it is.
    """
    texts: list[str] = []
    try:
        for data in frames:
            if not data.endswith(_NO_MORE):  # to ask is cheaper than to have the decoder raise
                break
            piece = _decode_piece(data)
            if piece.close or piece.error:
                break
            texts.append(piece.text)
    except _NOT_STRICT:
        pass
    return texts


def parse(data: bytes) -> Frame | None:
    """Read one frame; None if it is no JSON object with a type, or holds too many others.

    A byte that is no UTF-8 costs its character only. Every string in it is well-formed but `text`, whose
    halves of a surrogate pair may belong to the text of the next frame.
    """
    if len(data) > _MAX_BRACKETS and data.count(b"{") + data.count(b"[") > _MAX_BRACKETS:
        return None
    try:
        return _decode(data)
    except _NOT_STRICT:
        return _parse_leniently(data)


def _parse_leniently(data: bytes) -> Frame | None:
    """Read what strict JSON has no room for: lone halves, bad bytes, and numbers beyond any range."""
    try:
        value = json.loads(data.decode("utf-8", "replace"))
        frame = msgspec.convert(well_formed_deep(value), Frame)
    except (ValueError, RecursionError, msgspec.ValidationError):
        return None
    if isinstance(frame.text, str):
        frame.text = value["textResponse"]
    return frame


def handed_on(data: bytes, events: list[Event]) -> RawFrame | None:
    """The frame itself, for `format: anythingllm`: without server paths, its text well-formed.

    `events` are those that the same frame became; `data` was parsed before, so it is JSON. None for
    one that is nested too deep to be checked, or holds a number without end.
    """
    try:
        frame = well_formed_deep(json.loads(data.decode("utf-8", "replace")))
    except (RecursionError, ValueError):  # the latter for a number of more digits than Python reads
        return None
    if frame["type"] == "textResponseChunk" and isinstance(frame.get("textResponse"), str):
        frame["textResponse"] = "".join(event.content for event in events if isinstance(event, Chunk))
    sources = frame.get("sources")
    if isinstance(sources, list):
        frame["sources"] = [without_paths(source) for source in sources if isinstance(source, dict)]
    elif sources is not None:
        frame["sources"] = []
    if isinstance(frame.get("error"), dict | list):
        frame["error"] = None  # tells of no failure, and nobody has redacted it
    return RawFrame(frame)


def kind_of(content: Any) -> OutputKind:
    """What an object in `textResponse` is: AnythingLLM drops its name, so its fields must tell."""
    if isinstance(content, dict) and "dataset" in content:
        return "chart"
    if isinstance(content, dict) and "jobId" in content:
        return "scheduled_job"
    return "other"
