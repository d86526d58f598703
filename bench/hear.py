"""Reads a response after it was measured: whether its text is whole, and when each piece arrived."""

import re
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Final, Literal

import msgspec

from bench.script import MARK

Form = Literal["anythingllm", "events"]
"""AnythingLLM's own frames, or the relay's events."""

Reads = list[tuple[int, bytes]]
"""What was read, and when, in ns of the monotonic clock."""

_STAMP: Final = re.compile(rb"\|(\d+)\|")
_CHECKED: Final = re.compile(rf"(.*){MARK}([0-9a-f]{{8}})", re.DOTALL)


class Spoilt(Exception):
    """The response is not what was sent; the text says why."""


@dataclass(slots=True)
class Heard:
    """A whole answer."""

    chunks: int
    """Pieces of text, without the one with the checksum."""
    arrived: list[int] = field(default_factory=list)
    """When each piece that has a time in it was read."""
    sent: list[int] = field(default_factory=list)
    """When the same pieces were sent."""


class _Frame(msgspec.Struct):
    type: str
    textResponse: Any = None  # noqa: N815 (AnythingLLM's name)
    content: Any = None
    reason: str | None = None
    error: Any = None


_decode: Final = msgspec.json.Decoder(_Frame).decode


def hear(reads: Reads, form: Form) -> Heard:
    """Check a response to its last byte. Raises Spoilt."""
    raw = b"".join(data for _, data in reads)
    head, found, _ = raw.partition(b"\r\n\r\n")
    if not found:
        raise Spoilt("no response" if not raw else "no head")
    if not head.startswith(b"HTTP/1.1 200 "):
        raise Spoilt(head.partition(b"\r\n")[0].decode(errors="replace"))
    starts, pieces = zip(*_http_chunks(raw, len(head) + 4), strict=True)
    body = b"".join(pieces)
    heard = Heard(_check(body, form) - 1)
    if stamps := list(_STAMP.finditer(body)):
        heard.sent = [int(stamp[1]) for stamp in stamps]
        heard.arrived = _arrivals(reads, starts, pieces, [stamp.end() for stamp in stamps])
    return heard


def _http_chunks(raw: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    """The pieces of a chunked body with their places, the empty last one too."""
    while True:
        line_end = raw.find(b"\r\n", at)
        if line_end < 0:
            raise Spoilt("cut off")
        try:
            size = int(raw[at:line_end], 16)
        except ValueError:
            raise Spoilt("not chunked as HTTP has it") from None
        start, at = line_end + 2, line_end + 2 + size + 2
        if raw[at - 2 : at] != b"\r\n":
            raise Spoilt("cut off")
        yield start, raw[start : start + size]
        if not size:
            if at != len(raw):
                raise Spoilt("bytes behind the end")
            return


def _check(body: bytes, form: Form) -> int:
    """Read the frames or events; return how many pieces of text there were."""
    texts, last = [], ""
    for line in body.split(b"\n"):
        if not line.startswith(b"data: "):
            continue
        try:
            frame = _decode(line[6:])
        except msgspec.DecodeError as error:
            raise Spoilt(f"a frame that cannot be read: {error}") from None
        last = frame.type
        if last in ("error", "abort"):
            raise Spoilt(f"told of an error: {line[6:200].decode(errors='replace')}")
        text = frame.textResponse if form == "anythingllm" else frame.content
        if text and last in ("chunk", "textResponseChunk"):
            texts.append(text)
    if last != ("finalizeResponseStream" if form == "anythingllm" else "final_end"):
        raise Spoilt(f"ended without its last frame, with {last or 'nothing'}")
    checked = _CHECKED.fullmatch("".join(texts))
    if checked is None:
        raise Spoilt("no checksum")
    if zlib.crc32(checked[1].encode()) != int(checked[2], 16):
        raise Spoilt("the text is not what was sent")
    return len(texts)


def _arrivals(
    reads: Reads, starts: Sequence[int], pieces: Sequence[bytes], places: Sequence[int]
) -> list[int]:
    """The time at which the byte before each place of the body was read."""
    body_starts = [0, *accumulate(map(len, pieces))]
    read_ends = list(accumulate(len(data) for _, data in reads))
    found = []
    for place in places:
        piece = bisect_right(body_starts, place - 1) - 1
        raw = starts[piece] + place - body_starts[piece]
        found.append(reads[bisect_left(read_ends, raw)][0])
    return found
