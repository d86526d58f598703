"""What has arrived of a body: aiohttp's reader emptied at once.

The library's own `read_nowait` calls on the parser and on the transport for each chunk of HTTP that it
gives, which is more than all that is done with a small one. So this file, and no other, reaches into
the reader. Where its parts are not what they were, the library's own way is taken.
"""

import sys
from collections.abc import Callable
from typing import Any, Final, cast

from aiohttp import StreamReader
from aiohttp.base_protocol import BaseProtocol


def all_of(content: StreamReader) -> bytes:
    """Return all bytes that are here, none if there are none: then none are left.

    Raises the reader's exception, if it had one before.
    """
    data = content.read_nowait(-1)
    # Reading goes on when there is room, and may bring what was held back before.
    while content.exception() is None and (more := content.read_nowait(-1)):
        data += more
    return data


def all_at_once(content: Any) -> bytes:
    """Do what all_of does."""
    if content._exception is not None:
        raise content._exception
    buffer = content._buffer
    if not buffer:
        return b""
    if content._buffer_offset:
        return all_of(content)
    data: bytes = buffer[0] if len(buffer) == 1 else b"".join(buffer)
    buffer.clear()
    content._size = 0
    content._cursor += len(data)
    if content._http_chunk_splits:
        content._http_chunk_splits.clear()
    if content._protocol._reading_paused:
        content._protocol.resume_reading()
        if buffer and content._exception is None:
            data += all_of(content)
    return data


def all_before_the_break(content: Any) -> bytes:
    """Return what came before the connection broke, which the library tells of first."""
    arrived: bytes = content._read_nowait(-1)
    return arrived


class _Protocol:
    """As much of a connection as a reader needs to be tried."""

    _reading_paused = False

    def pause_reading(self) -> None:
        self._reading_paused = True

    def resume_reading(self) -> None:
        self._reading_paused = False


def _tried(way: Callable[[StreamReader], bytes]) -> list[object]:
    """Return what a reader comes to in this way, as far as one can see from outside."""
    protocol = _Protocol()
    content = StreamReader(cast(BaseProtocol, protocol), 4, loop=cast(Any, _Protocol()))
    seen: list[object] = []
    content.begin_http_chunk_receiving()
    for data in (b"a", b"bc", b"defghijkl"):
        content.feed_data(data)
        content.end_http_chunk_receiving()
        seen += [way(content), way(content), protocol._reading_paused, content.at_eof()]
    content.feed_data(b"m")
    content.feed_data(b"n")
    return [*seen, way(content), content.total_bytes, content.is_eof()]


def _best() -> Callable[[StreamReader], bytes]:
    try:
        return all_at_once if _tried(all_at_once) == _tried(all_of) else all_of
    except Exception:
        return all_of


_WAY: Final = _best()


def way_to_empty(content: Any) -> Callable[[StreamReader], bytes]:
    """Return what empties this reader, from before the first time that it is emptied."""
    if _WAY is all_of or content._protocol._reading_paused:
        return all_of
    # A pause by the number of chunks (there is one by size as well) leaves a mark in the parser, which
    # only the library's way works off; without it, the next read would be given in part.
    content._high_water_chunks = sys.maxsize
    return all_at_once
