"""The bytes of an answer, framed as AnythingLLM frames them: one JSON frame, one HTTP chunk.

All answers of a process have one id, so that what has no time in it is made once and cached: the
benchmark's AnythingLLM must cost less than any relay in front of it.
"""

import functools
import time
import zlib
from typing import Final

from bench.order import Order
from bench.words import COUNT, WORDS, Word
from relay.standin.frames import ChatFrames

HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nX-Powered-By: Express\r\nVary: Origin\r\nContent-Type: text/event-stream\r\n"
    b"Cache-Control: no-cache\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n"
)
MARK: Final = "\n#crc32:"
"""Begins the last piece of text; eight hexadecimal digits follow, of all text before it."""

_FRAMES: Final = ChatFrames("bench")


@functools.cache
def _word(number: int, size: int) -> Word:
    """A token of at least so many bytes."""
    word = WORDS[number % COUNT]
    times = -(-size // len(word.text)) or 1
    return Word(word.text * times, word.json * times)


def http_chunk(data: bytes) -> bytes:
    """Frame bytes as one chunk of an HTTP body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def end(crc: int) -> bytes:
    """The checksum, the closing frame, the finalize, and the end of the body."""
    last = _FRAMES.token(f"{MARK}{crc:08x}")
    frames = (last, _FRAMES.closing(), _FRAMES.finalize())
    return b"".join(map(http_chunk, frames)) + b"0\r\n\r\n"


@functools.cache
def plain(first: int, count: int, size: int) -> bytes:
    """One write of pieces without times; `first` is less than the number of words."""
    words = [_word((first + number) % COUNT, size) for number in range(count)]
    return http_chunk(b"".join(_FRAMES.raw_chunk(b'"%b"' % word.json) for word in words))


@functools.cache
def plain_end(chunks: int, size: int) -> bytes:
    """The end of an answer of that many pieces without times."""
    texts = [_word(number, size).text for number in range(COUNT)]
    everything, crc = b"".join(texts), 0
    turns, rest = divmod(chunks, COUNT)
    for _ in range(turns):
        crc = zlib.crc32(everything, crc)
    return end(zlib.crc32(b"".join(texts[:rest]), crc))


class Script:
    """One answer: what is to be written next."""

    __slots__ = ("_crc", "order", "said")

    def __init__(self, order: Order) -> None:
        self.order = order
        self.said = 0
        self._crc = 0

    @property
    def ended(self) -> bool:
        """Whether all text was said; `end` is what remains to be written."""
        return self.said >= self.order.chunks

    def next(self) -> bytes:
        """The next write."""
        first = self.said
        count = min(self.order.per, self.order.chunks - first)
        self.said += count
        if not self.order.stamp:
            return plain(first % COUNT, count, self.order.size)
        frames = []
        for number in range(first, first + count):
            word = _word(number % COUNT, self.order.size)
            stamp = b"|%d|" % time.monotonic_ns()
            self._crc = zlib.crc32(stamp, zlib.crc32(word.text, self._crc))
            frames.append(_FRAMES.raw_chunk(b'"%b%b"' % (word.json, stamp)))
        return http_chunk(b"".join(frames))

    def end(self) -> bytes:
        """The last write."""
        return end(self._crc) if self.order.stamp else plain_end(self.order.chunks, self.order.size)
