"""The response that a stream is written to."""

import asyncio
import sys
from collections.abc import Sequence
from typing import Final

from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp_sse import EventSourceResponse

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
# Seconds between looks at a client that is behind: so soon is its leaving noticed.
_LOOK: Final = 0.1


class EventStreamResponse(EventSourceResponse):
    """Server-Sent Events for a client that may be slow, silent for long, or gone.

    Writes events that are encoded already; sends a comment after `heartbeat` seconds without any
    event; aborts the connection of a client that took no byte for `send_timeout` seconds. A slow
    client that takes a few is waited for. The connection closes after the `last` response.
    """

    _send_headers_immediately = False  # the first comment follows at once, in the same write

    def __init__(self, *, heartbeat: float, send_timeout: float, last: bool = False) -> None:
        # Its own send_timeout would have the kernel cut the connection, and the log could not say why.
        super().__init__(allow_all_methods=True, send_timeout=None)
        self.headers.update(_HEADERS)
        self._heartbeat = heartbeat
        self._patience = send_timeout
        self._last = last
        self._behind = asyncio.Event()  # set once the client may be
        self._ending = False  # whether the end of the body is being written, or was
        self.ended = False  # whether it was
        self.stuck = False  # whether the client was given up

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send the head and a first comment at once, before there is any event."""
        if self.prepared:
            return await super().prepare(request)
        # HTTP/1.0 has no chunks: only the end of the connection tells the end of the stream.
        if self._last or not request.keep_alive or request.version < HttpVersion11:
            self.headers["Connection"] = "close"
            self.force_close()
        self._loop = asyncio.get_running_loop()
        self._request = request
        self._last_write = self._loop.time()
        self._writer = await super().prepare(request)
        try:
            await self.write(PING)
        except ConnectionResetError:
            self.stop_streaming()  # nobody enters its context, which would do it
            raise
        return self._writer

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write whole events; waits while the client is behind.

        Raises ConnectionResetError once the client is gone.
        """
        self._note_write(len(data))
        await super().write(data)

    async def append(self, events: Sequence[bytes]) -> None:
        """Write the events of a stream of which this is the only reader."""
        await self.write(b"".join(events))

    async def end(self, events: Sequence[bytes] = ()) -> None:
        """Write the last events and the end of the body."""
        await self.write_eof(b"".join(events))
        self.ended = True

    async def write_eof(self, data: bytes = b"") -> None:
        """Write the last bytes and the end of the body; waits while the client is behind."""
        self._ending = True
        self._note_write(len(data))
        await super().write_eof(data)

    async def taken(self) -> None:
        """Wait until the kernel took all of an ended body, or the client was given up."""
        self._behind.set()
        while self._waiting():  # noqa: ASYNC110 (a transport tells of room, but not of being empty)
            await asyncio.sleep(_LOOK)

    async def _ping(self) -> None:
        """Beat in silence only, and find a client that takes nothing or has closed its side.

        The one place where the library is bent: it starts this method as a task, and its own beats at
        a fixed rate, with an empty line that widely used clients take for an empty message.
        """
        left = self._left()
        taken, taken_at = self._sent() - left, self._loop.time()
        while (transport := self._request.transport) is not None:
            await self._look_again()
            now, left = self._loop.time(), self._left()
            if not left or self._sent() - left > taken:
                taken, taken_at = self._sent() - left, now
            self.stuck = now - taken_at >= self._patience
            # A client that closed its side has left; what it does not take would keep it open here.
            if self.stuck or transport.is_closing():
                transport.abort()
                return
            overdue = now >= self._last_write + self._heartbeat
            if overdue and not self._ending and not self._waiting():
                try:
                    await self.write(PING)
                except ConnectionResetError:
                    return  # the client left; its handler is told so too

    async def _look_again(self) -> None:
        """Wait for the next beat, but not long if the client is behind, or falls behind meanwhile."""
        if self._waiting():
            await asyncio.sleep(min(_LOOK, self._patience / 4))
            return
        self._behind.clear()
        beat_in = self._last_write + self._heartbeat - self._loop.time()
        try:
            async with asyncio.timeout(min(max(beat_in, 0), self._patience / 4)):
                await self._behind.wait()
        except TimeoutError:
            pass

    def _note_write(self, size: int) -> None:
        self._last_write = self._loop.time()
        if size > _LARGE or self._waiting():
            self._behind.set()

    def _waiting(self) -> int:
        """Bytes that the kernel did not take yet."""
        transport = self._request.transport
        return 0 if transport is None else transport.get_write_buffer_size()

    def _left(self) -> int:
        """Bytes that the client's system did not take yet, as far as ours can tell.

        A kernel's buffer holds megabytes and takes more only in large steps: without a look into it, a
        client that reads a few bytes a second would look like one that reads none.
        """
        transport = self._request.transport
        if ioctl is None or transport is None:
            return self._waiting()
        try:
            in_kernel = ioctl(transport.get_extra_info("socket"), TIOCOUTQ, bytes(4))
        except (OSError, ValueError):  # closed by now, or a system that does not tell
            return self._waiting()
        return self._waiting() + int.from_bytes(in_kernel, sys.byteorder)

    def _sent(self) -> int:
        """Bytes given to the transport so far, the framing of chunks included."""
        return self._writer.output_size if self._writer is not None else 0
