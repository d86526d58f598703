"""Server-Sent Events without any I/O: bytes in, events out, and back.

The rules are WHATWG's, HTML section 9.2 ("Parsing an event stream"): only LF, CR and CRLF end a
line, one leading BOM is dropped, an event that the end of input cuts short is discarded.
"""

import re
from functools import lru_cache
from typing import Final

import msgspec

_BOM: Final = b"\xef\xbb\xbf"
# As numbers, since looking for one in bytes costs a fifth of looking for bytes.
_LF: Final = 10
_CR: Final = 13
_LINE_END: Final = re.compile(rb"\r\n|\r|\n")
_MAX_RETRY_DIGITS: Final = 18  # milliseconds; also keeps int() far from its own limit on digits


class ServerSentEvent(msgspec.Struct, frozen=True):
    """One event as the standard dispatches it.

    `id` and `retry` (milliseconds) are those in force at that moment: both outlive the event that set
    them.
    """

    data: str
    event: str = "message"
    id: str = ""
    retry: int | None = None


class LineTooLong(ValueError):
    """A line, or the data of one event, went over the limit; the decoder is of no more use.

    `events` are those that were complete before it, in the same call.
    """

    def __init__(self, limit: int, events: list[ServerSentEvent]) -> None:
        super().__init__(f"a line of more than {limit} bytes")
        self.events = events


class Decoder:
    """Turns a byte stream, cut anywhere, into events.

    Holds at most `max_line_bytes` of an unfinished line and as much of an unfinished event, however
    small the pieces in which they come.
    """

    def __init__(self, max_line_bytes: int = 4 * 1024 * 1024) -> None:
        self._limit = max_line_bytes
        self._start: bytes | None = b""  # up to three first bytes, until a BOM is ruled out
        self._after_cr = False
        self._line = bytearray()  # the unfinished one
        self._data: list[bytes] = []
        self._data_size = 0
        self._event = ""
        self._id = ""
        self._retry: int | None = None

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """Return the events that `data` completes, at once and in order.

        Raises LineTooLong.
        """
        data = self._without_bom(data)
        if not data:
            return []
        if self._after_cr and data[:1] == b"\n":  # the LF of a CRLF that was cut in two
            data = data[1:]
        self._after_cr = data[-1:] == b"\r"
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, rest = data.split(b"\n")
        events: list[ServerSentEvent] = []
        if lines and self._line:
            lines[0] = bytes(self._line + lines[0])
            self._line.clear()
        for line in lines:
            if line:
                self._field(line, events)
            elif (event := self._dispatch()) is not None:
                events.append(event)
        if rest:
            self._hold(rest, events)
        return events

    def feed_data(self, data: bytes) -> list[bytes]:
        """Return the data alone of the events that `data` completes, as it came; otherwise like feed.

        Nearly all that AnythingLLM sends is events of one `data: ` line each. Those are cut out here
        at once, at a third of the cost; anything else goes the way of the standard, line by line.
        """
        if self._start == b"" and data.startswith(b"data: "):
            self._start = None  # no BOM
        end = data.rfind(b"\n\n")
        odd = end < 0 or self._data or self._event or self._after_cr or self._start is not None
        odd = odd or len(data) - end > self._limit
        whole = bytes(self._line + data[:end]) if self._line and not odd else data[:end]
        if odd or _CR in data or len(whole) > self._limit or not whole.startswith(b"data: "):
            return [event.data.encode() for event in self.feed(data)]
        found = whole[6:].split(b"\n\ndata: ")
        if whole.count(b"\n") != 2 * (len(found) - 1):  # there are other lines
            return [event.data.encode() for event in self.feed(data)]
        self._line.clear()
        if end + 2 < len(data):
            self.feed(data[end + 2 :])  # no event ends in there
        return found

    def close(self) -> list[ServerSentEvent]:
        """End the input. What is unfinished is discarded, as the standard says.

        The list is always empty, since an event is out as soon as its blank line is: it is there so
        that a caller can treat the end like one more read.
        """
        self._line.clear()
        self._data.clear()
        return []

    def _without_bom(self, data: bytes) -> bytes:
        if self._start is None:
            return data
        data = self._start + data
        if len(data) < len(_BOM) and _BOM.startswith(data):
            self._start = data
            return b""
        self._start = None
        return data.removeprefix(_BOM)

    def _hold(self, rest: bytes, events: list[ServerSentEvent]) -> None:
        if len(self._line) + len(rest) > self._limit:
            raise LineTooLong(self._limit, events)
        self._line += rest

    def _field(self, line: bytes, events: list[ServerSentEvent]) -> None:
        if len(line) > self._limit:
            raise LineTooLong(self._limit, events)
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data_size += len(value) + 1
            if self._data_size > self._limit:
                raise LineTooLong(self._limit, events)
            self._data.append(value)
        elif name == b"event":
            self._event = value.decode("utf-8", "replace")
        elif name == b"id":
            if b"\0" not in value:
                self._id = value.decode("utf-8", "replace")
        elif name == b"retry" and value.isdigit() and len(value) <= _MAX_RETRY_DIGITS:
            self._retry = int(value)

    def _dispatch(self) -> ServerSentEvent | None:
        name, self._event = self._event, ""
        if not self._data:
            return None
        # Decoded line by line or as a whole is the same: no line end is part of a UTF-8 sequence.
        data = b"\n".join(self._data).decode("utf-8", "replace")
        self._data.clear()
        self._data_size = 0
        return ServerSentEvent(data, name or "message", self._id, self._retry)


def encode(data: bytes, *, event: str = "", id: str = "") -> bytes:  # noqa: A002 (the field's own name)
    """Return one event as bytes. `data` is UTF-8; each of its lines becomes a `data:` field.

    Raises ValueError for an `event` or `id` that would forge a field.
    """
    head = _event_line(event) + _line("id", id) if id else _event_line(event)
    if _LF not in data and _CR not in data:
        return head + b"data: " + data + b"\n\n"
    lines = b"".join(b"data: %b\n" % line for line in _LINE_END.split(data))
    return b"%b%b\n" % (head, lines)


@lru_cache(64)
def _event_line(event: str) -> bytes:
    """One line of the few that there are."""
    return _line("event", event)


def _line(name: str, value: str) -> bytes:
    if not value:
        return b""
    if "\n" in value or "\r" in value or "\0" in value:
        raise ValueError(f"{name} must not hold line ends or NUL: {value!r}")
    return f"{name}: {value}\n".encode()


# One line and a single line feed: an empty line after it would be an empty message to widely used
# clients, which then fail to parse it and ask again (docs/protocol.md, "Comments").
PING: Final = b": ping\n"
