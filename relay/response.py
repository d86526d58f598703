"""The response that a stream is written to."""

import asyncio
import sys
from collections.abc import Sequence
from typing import Final

from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp_sse import EventSourceResponse

from relay.clock import LOOK, Clock
from relay.sse import PING

if sys.platform == "win32":
    ioctl = None
else:
    from fcntl import ioctl
    from termios import TIOCOUTQ

_HEADERS: Final = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache, no-transform",
}
# Bytes of one write after which the transport surely makes it wait.
_LARGE: Final = 64 * 1024


class EventStreamResponse(EventSourceResponse):
    """Server-Sent Events for a client that may be slow, silent for long, or gone.

    Writes events that are encoded already; sends a comment after `heartbeat` seconds without any
    event; aborts the connection of a client that took no byte for `send_timeout` seconds. A slow
    client that takes a few is waited for. The connection closes after the `last` response.
    """

    _send_headers_immediately = False  # the first comment follows at once, in the same write

    def __init__(
        self, clock: Clock, *, heartbeat: float, send_timeout: float, last: bool = False
    ) -> None:
        # Its own send_timeout would have the kernel cut the connection, and the log could not say why.
        super().__init__(allow_all_methods=True, send_timeout=None)
        self.headers.update(_HEADERS)
        self._clock = clock
        self._heartbeat = heartbeat
        self._patience = send_timeout
        self._last = last
        self._put = 0  # bytes, past the library's writer
        self._taken = 0  # bytes of all that the client's system took, when it was looked at
        self._ending = False  # whether the end of the body is being written, or was
        self.ended = False  # whether it was
        self.stuck = False  # whether the client was given up

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter:
        """Send the head and a first comment at once, before there is any event.

        The one place where the library is bent: its own `prepare` starts a task for beats at a fixed
        rate, with an empty line that widely used clients take for an empty message.
        """
        if self.prepared:
            return self._writer
        # HTTP/1.0 has no chunks: only the end of the connection tells the end of the stream.
        if self._last or not request.keep_alive or request.version < HttpVersion11:
            self.headers["Connection"] = "close"
            self.force_close()
        self._loop = asyncio.get_running_loop()
        self._protocol = request.protocol
        self._chunks = request.version >= HttpVersion11
        self._last_write = self._taken_at = self._checked_at = self._loop.time()
        self._writer: AbstractStreamWriter = request.writer
        await super(EventSourceResponse, self).prepare(request)
        await self.write(PING)
        self._clock.add(self)
        return self._writer

    def put(self, events: Sequence[bytes]) -> bool:
        """Write whole events; return whether the client can take more at once: if not, await room.

        Bytes go to the transport as they are, in a chunk of HTTP each time: the library's own way, which
        can wait in each write, costs a good part of a small write.
        """
        protocol = self._protocol
        transport = protocol.transport
        if transport is None or transport.is_closing():
            return False
        data = b"".join(events)
        self._note_write(len(data))
        if self._chunks and data:  # a chunk of nothing would be the end of the body
            data = b"%x\r\n%b\r\n" % (len(data), data)
        transport.write(data)
        self._put += len(data)
        return not protocol.writing_paused

    async def room(self) -> None:
        """Wait while the client is behind. Raises ConnectionResetError once it is gone."""
        self._clock.hurry(self)
        await self._writer.drain()
        transport = self._protocol.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError

    async def end(self, events: Sequence[bytes] = ()) -> None:
        """Write the last events and the end of the body; waits, and raises, like room."""
        await self.write_eof(b"".join(events))
        self.ended = True

    async def write_eof(self, data: bytes = b"") -> None:
        """Write the last bytes and the end of the body; waits while the client is behind."""
        self._ending = True
        self._note_write(len(data))
        await super(EventSourceResponse, self).write_eof(data)

    async def taken(self) -> None:
        """Wait until the kernel took all of an ended body, or the client was given up."""
        while self._waiting():
            self._clock.hurry(self)
            await asyncio.sleep(LOOK)  # a transport tells of room, but not of being empty

    def close(self) -> None:
        """Beat no more."""
        self._clock.discard(self)

    def look(self, now: float) -> bool:
        """Beat if it was silent for long; give up a client that takes nothing or has closed its side."""
        transport = self._protocol.transport
        if transport is None:
            return False
        waiting = transport.get_write_buffer_size()
        if now >= self._checked_at + min(LOOK if waiting else self._patience, self._patience / 4):
            self._check(now)
        # A client that closed its side has left; what it does not take would keep it open here.
        if self.stuck or transport.is_closing():
            transport.abort()
            return False
        if now >= self._last_write + self._heartbeat and not self._ending and not waiting:
            self.put([PING])
        return waiting > 0

    def _note_write(self, size: int) -> None:
        """Note that so many bytes are written now, which may be more than the client takes at once."""
        self._last_write = self._loop.time()
        if size > _LARGE or self._waiting():
            self._clock.hurry(self)

    def _check(self, now: float) -> None:
        """See whether the client takes what it is sent."""
        self._checked_at = now
        sent = self._sent()
        if self._taken == sent:
            self._taken_at = now
        elif (taken := sent - self._left()) > self._taken:
            self._taken, self._taken_at = taken, now
        self.stuck = now - self._taken_at >= self._patience

    def _waiting(self) -> int:
        """Bytes that the kernel did not take yet."""
        transport = self._protocol.transport
        return 0 if transport is None else transport.get_write_buffer_size()

    def _left(self) -> int:
        """Bytes that the client's system did not take yet, as far as ours can tell.

        A kernel's buffer holds megabytes and takes more only in large steps: without a look into it, a
        client that reads a few bytes a second would look like one that reads none.
        """
        transport = self._protocol.transport
        if ioctl is None or transport is None:
            return self._waiting()
        try:
            in_kernel = ioctl(transport.get_extra_info("socket"), TIOCOUTQ, bytes(4))
        except (OSError, ValueError):  # closed by now, or a system that does not tell
            return self._waiting()
        return self._waiting() + int.from_bytes(in_kernel, sys.byteorder)

    def _sent(self) -> int:
        """Bytes given to the transport so far, the framing of chunks included."""
        return self._writer.output_size + self._put
