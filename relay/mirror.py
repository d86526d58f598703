"""What the home of a resumable stream tells the other processes."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from relay.errors import RelayError
from relay.store import BEAT, Copied, Store
from relay.window import EventsGone, MemoryWindow

# Seconds between two writes while nobody else follows: a write costs more than a piece of an answer.
_LINGER: Final = 0.2
# Bytes in one write, with which there are more to follow.
_MUCH: Final = 32 * 1024
# Seconds for which a process that heard of a write counts as following.
_FOLLOWED: Final = 5.0
# Seconds until Redis is tried again.
_RETRY: Final = 0.5


class Mirror:
    """Copies the window of a stream into the store, and says again and again that its home is there.

    `announce` writes into the store that there is such a stream, and returns the id of the one that is
    there; what the store has lost, with a restart of Redis say, is written anew as far as the window has
    it. `stop` is called when another process asks for the end of the stream, `lost` when one has taken
    this process for dead and ended it.
    """

    def __init__(
        self,
        store: Store,
        id_: str,
        window: MemoryWindow,
        *,
        announce: Callable[[], Awaitable[str]],
        stop: Callable[[], None],
        lost: Callable[[], None],
    ) -> None:
        self._store = store
        self._id = id_
        self._window = window
        self._announce = announce
        self._stop = stop
        self._lost = lost
        self._after = 0  # the last event that is in the store
        self._followed_until = 0.0
        self._given_up = False
        self.heard_at = asyncio.get_running_loop().time()
        """When the store last answered, on the event loop's clock."""
        self.finished = asyncio.Event()
        """Set once the whole stream is in the store, or never will be."""

    async def run(self) -> None:
        """Copy, and return only if another process has ended the stream."""
        with self._store.listening(f"stop {self._id}", self._stop):
            while not self._given_up:
                try:
                    await self._copy()
                except RelayError:  # the store has told the log
                    await asyncio.sleep(_RETRY)

    async def _copy(self) -> None:
        """Write what there is, or after a while that there is nothing. Raises RelayError."""
        last, data = await self._next()
        span = await self._window.span()
        ended = span.ended and last == span.last
        copied = await self._store.append(
            self._id, self._after, last, data, first=span.first, ended=ended
        )
        self.heard_at = asyncio.get_running_loop().time()
        self.finished.clear()  # the store may have lost what it had
        if copied.last < 0:
            self._after = 0
            if await self._announce() != self._id:  # its key stands for another stream by now
                await asyncio.sleep(_RETRY)
            return
        self._after = copied.last
        self._heed(copied)
        if ended and copied.last == last:
            self.finished.set()
        elif 0 < len(data) < _MUCH and asyncio.get_running_loop().time() > self._followed_until:
            await asyncio.sleep(_LINGER)

    def _heed(self, copied: Copied) -> None:
        if copied.heard:
            self._followed_until = asyncio.get_running_loop().time() + _FOLLOWED
        if copied.stop:
            self._stop()
        if copied.lost:
            self._given_up = True
            self.finished.set()
            self._lost()

    async def _next(self) -> tuple[int, bytes]:
        """Return what follows in the window, and nothing if nothing comes for a while."""
        if self.finished.is_set():
            await asyncio.sleep(BEAT)
            return self._after, b""
        try:
            async with asyncio.timeout(BEAT):
                return await self._window.read(self._after)
        except TimeoutError:
            return self._after, b""
        except EventsGone:
            self._after = (await self._window.span()).first - 1
            return await self._window.read(self._after)
