"""What lies between AnythingLLM and the one reader of a plain stream."""

import asyncio
from collections.abc import Sequence
from typing import Final

# Encoded bytes that may wait for the reader before AnythingLLM is read no further.
_HIGH_WATER: Final = 32 * 1024


class Pipe:
    """Events that wait for one reader; whoever appends waits for it too, once they are many.

    What was read is gone.
    """

    def __init__(self) -> None:
        self._waiting: list[bytes] = []
        self._size = 0
        self._ended = False
        self._readable = asyncio.Event()
        self._writable = asyncio.Event()
        self.drained = False  # whether the reader took the end

    async def append(self, events: Sequence[bytes]) -> None:
        """Add events; return once the reader is near."""
        joined = b"".join(events)  # thousands of small ones would take twice as much
        self._waiting.append(joined)
        self._size += len(joined)
        self._readable.set()
        if self._size > _HIGH_WATER:
            self._writable.clear()
            await self._writable.wait()

    async def end(self) -> None:
        """Tell that no more events come."""
        self._ended = True
        self._readable.set()

    async def read(self) -> bytes:
        """Return all events that wait, or wait for some; empty after the last one."""
        await self._readable.wait()
        data = b"".join(self._waiting)
        self.drained = not data
        self._waiting.clear()
        self._size = 0
        if not self._ended:
            self._readable.clear()
        self._writable.set()
        return data
