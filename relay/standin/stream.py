"""The body of one answer while it is being written."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from aiohttp import web

from relay.standin.asks import Ask
from relay.standin.frames import Frames

BATCH: Final = 65536  # bytes of frames that a burst writes at once
PAUSE_AFTER: Final = 3  # tokens

F_co = TypeVar("F_co", bound=Frames, covariant=True)


@dataclass(slots=True, eq=False)
class Stream(Generic[F_co]):
    """Puts frames on the wire in the ordered time, and counts them.

    Every write waits when the client does not read, and every wait ends when it leaves.
    """

    frames: F_co
    ask: Ask
    request: web.Request
    response: web.StreamResponse
    pace: float
    pause: float
    said: int = 0

    async def send(self, *frames: bytes) -> None:
        """Write frames, each one an HTTP chunk of its own."""
        for frame in frames:
            await self.response.write(frame)
            self.ask.count(1)

    async def say(self, tokens: Iterable[str], frame: Callable[[str], bytes] | None = None) -> None:
        """Send tokens one by one; `frame` makes something else than tokens of the texts."""
        frame = frame or self.frames.token
        for token in tokens:
            if self.said:
                await asyncio.sleep(self.pace)
            if self.said == PAUSE_AFTER and self.pause:
                await asyncio.sleep(self.pause)
            await self.send(frame(token))
            self.said += 1

    async def flood(self, tokens: Iterable[str]) -> None:
        """Send tokens with no pause, many in one write."""
        batch, size = [], 0
        for token in tokens:
            batch.append(self.frames.token(token))
            size += len(batch[-1])
            if size >= BATCH:
                await self._write(batch)
                batch, size = [], 0
                await asyncio.sleep(0)  # other streams are waiting
        if batch:
            await self._write(batch)

    async def end(self) -> None:
        """Send the frames that close the run."""
        await self.send(*self.frames.end())

    async def silence(self, seconds: float | None = None) -> None:
        """Say nothing, without a number for ever."""
        if seconds is None:
            await asyncio.get_running_loop().create_future()
        else:
            await asyncio.sleep(seconds)

    async def die(self) -> None:
        """Lose the connection, as when the process dies. Never returns."""
        self.ask.close("died")
        if self.request.transport is not None:
            self.request.transport.abort()
        await self.silence()

    async def cut(self, frame: bytes) -> None:
        """Close the connection in the middle of a frame. Never returns."""
        await self.response.write(frame[: len(frame) // 2])
        self.ask.close("died")
        if self.request.transport is not None:
            self.request.transport.close()
        await self.silence()

    async def _write(self, batch: list[bytes]) -> None:
        await self.response.write(b"".join(batch))
        self.ask.count(len(batch))
