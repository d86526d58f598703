"""A TCP proxy that misbehaves on command, for either side of a relay."""

import asyncio
import ctypes
import socket
import struct
import sys
from typing import Final, Literal, Self

# What happens to a connection once its bytes are spent: FIN, RST, nothing any more on an open
# connection, or a machine that is gone, so that not even its kernel answers (Linux).
Ending = Literal["close", "reset", "silence", "vanish"]

_SO_ATTACH_FILTER: Final = 26
_BPF_RETURN: Final = 0x06
CAN_VANISH: Final = sys.platform == "linux"


class Chaos:
    """Passes bytes on between clients and a server, until it is told otherwise.

    What is set holds for connections to come, `end` for those that are open.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self.piece = 65536  # bytes passed on at a time
        self.delay = 0.0  # seconds before each piece of an answer
        self.most: int | None = None  # bytes of answers that pass on one connection
        self.then: Ending = "close"
        self.links: set[_Link] = set()
        self.seen = 0  # connections so far

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._server.close()
        for link in tuple(self.links):
            link.end("close")
        await self.none_left()

    def end(self, how: Ending) -> None:
        """End the connections that are open now."""
        for link in tuple(self.links):
            link.end(how)

    async def none_left(self) -> None:
        """Wait until every connection is over."""
        while self.links:
            await asyncio.sleep(0.005)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.seen += 1
        try:
            far = await asyncio.open_connection("127.0.0.1", self._port)
        except ConnectionError:
            writer.transport.abort()
            return
        link = _Link(self, (reader, writer), far)
        self.links.add(link)
        try:
            await link.run()
        finally:
            self.links.discard(link)


_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Link:
    """One client's connection and the one to the server behind it."""

    def __init__(self, chaos: Chaos, near: _Streams, far: _Streams) -> None:
        self._chaos = chaos
        self._near, self._far = near, far
        self._left = chaos.most
        self._over = asyncio.Event()

    async def run(self) -> None:
        pumps = [
            asyncio.create_task(self._pump(self._near[0], self._far[1])),
            asyncio.create_task(self._pump(self._far[0], self._near[1], answers=True)),
        ]
        for pump in pumps:
            pump.add_done_callback(lambda _: self._over.set())
        try:
            await self._over.wait()
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.wait(pumps)
            for writer in (self._near[1], self._far[1]):
                writer.close()

    def end(self, how: Ending) -> None:
        if how in ("silence", "vanish"):
            for reader, writer in (self._near, self._far):
                writer.transport.pause_reading()  # type: ignore[attr-defined]
                reader.feed_eof = lambda: None  # type: ignore[method-assign]
            if how == "vanish":
                vanish(self._near[1].get_extra_info("socket"))
            self._left = 0
            return
        if how == "reset":
            for _, writer in (self._near, self._far):
                reset(writer)
        self._over.set()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool = False
    ) -> None:
        try:
            while data := await reader.read(self._chaos.piece):
                if answers:
                    await asyncio.sleep(self._chaos.delay)
                    data = data[: self._left]
                writer.write(data)
                await writer.drain()
                if answers and self._left is not None:
                    self._left -= len(data)
                    if not self._left:
                        self.end(self._chaos.then)
                        await asyncio.get_running_loop().create_future()
        except ConnectionError:
            pass


def reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST, whatever is still to be sent."""
    linger = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


def vanish(one: socket.socket) -> None:
    """Let nothing reach this socket any more: to its peer, the whole machine is gone (Linux).

    The kernel drops every packet for it before it is acknowledged.
    """
    drop_all = ctypes.create_string_buffer(struct.pack("HBBI", _BPF_RETURN, 0, 0, 0))
    program = struct.pack("HP", 1, ctypes.addressof(drop_all))
    one.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
