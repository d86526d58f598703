"""The response that a stream is written to."""

import asyncio
import sys
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


class EventStreamResponse(EventSourceResponse):
    """Server-Sent Events for a client that may be slow, silent for long, or gone.

    Writes events that are encoded already; sends a comment after `heartbeat` seconds without any
    event; aborts the connection of a client that took no byte for `send_timeout` seconds. A slow
    client that takes a few is waited for.
    """

    def __init__(self, *, heartbeat: float, send_timeout: float) -> None:
        # Its own send_timeout would have the kernel cut the connection, and the log could not say why.
        super().__init__(allow_all_methods=True, send_timeout=None)
        self.headers.update(_HEADERS)
        self._heartbeat = heartbeat
        self._patience = send_timeout
        self.stuck = False  # whether the client was given up

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send the head and a first comment at once, before there is any event."""
        if self.prepared:
            return await super().prepare(request)
        # HTTP/1.0 has no chunks: only the end of the connection tells the end of the stream.
        if not request.keep_alive or request.version < HttpVersion11:
            self.headers["Connection"] = "close"
            self.force_close()
        self._loop = asyncio.get_running_loop()
        self._transport = request.transport
        self._last_write = self._loop.time()
        writer = await super().prepare(request)
        self._writer = writer
        await self.write(PING)
        return writer

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write whole events; waits while the client is behind.

        Raises ConnectionResetError once the client is gone.
        """
        self._last_write = self._loop.time()
        await super().write(data)

    async def _ping(self) -> None:
        """Beat in silence only, and find a client that takes nothing.

        The one place where the library is bent: it starts this method as a task, and its own beats at
        a fixed rate, with an empty line that widely used clients take for an empty message.
        """
        taken, taken_at = 0, self._loop.time()
        while True:
            await asyncio.sleep(self._until_next_look())
            now = self._loop.time()
            waiting = self._waiting()
            left = waiting + self._in_kernel()
            if not left or self._sent() - left > taken:
                taken, taken_at = self._sent() - left, now
            elif self._transport is not None and now - taken_at >= self._patience:
                self.stuck = True
                self._transport.abort()
                return
            if not waiting and now >= self._last_write + self._heartbeat:
                try:
                    await self.write(PING)
                except ConnectionResetError:
                    return  # the client left; its handler is told so too

    def _until_next_look(self) -> float:
        """Seconds to the next beat, but no more than a fraction of the patience.

        A beat that is overdue waits for the client, which is behind: it is no reason to look sooner.
        """
        beat_in = self._last_write + self._heartbeat - self._loop.time()
        look_in = self._patience / 4
        return min(beat_in, look_in) if beat_in > 0 else look_in

    def _waiting(self) -> int:
        """Bytes that the kernel did not take yet."""
        if self._transport is None or self._transport.is_closing():
            return 0
        return self._transport.get_write_buffer_size()

    def _in_kernel(self) -> int:
        """Bytes that the kernel holds because the client's did not take them yet, where it tells.

        A kernel's buffer holds megabytes and takes more only in large steps: without this, a client
        that reads a few bytes a second would look like one that reads none.
        """
        if ioctl is None or self._transport is None or self._transport.is_closing():
            return 0
        try:
            queued = ioctl(self._transport.get_extra_info("socket"), TIOCOUTQ, bytes(4))
        except (OSError, ValueError):  # closed by now, or a system that does not tell
            return 0
        return int.from_bytes(queued, sys.byteorder)

    def _sent(self) -> int:
        """Bytes given to the transport so far, the framing of chunks included."""
        return self._writer.output_size if self._writer is not None else 0
