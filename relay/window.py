"""The newest events of a resumable stream, for any number of readers."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

# Bytes that a reader is given at a time: what it does not take is held once more, for it alone.
_READ: Final = 64 * 1024


class EventsGone(Exception):
    """The next event for this reader is no longer held."""


class Span(NamedTuple):
    """The ids of the first and last event held, and whether that is the end; `last` is 0 before any."""

    first: int
    last: int
    ended: bool


class Window(Protocol):
    """The newest events of a resumable stream, as its readers see them. Their ids are 1, 2, 3 ..."""

    async def span(self) -> Span:
        """Return what is held now."""

    async def read(self, after: int) -> tuple[int, bytes]:
        """Return events that follow the one with the id `after`, or wait for some.

        Returns the id of the last of them and all of them, one after the other; `after` itself and
        nothing at the end. Raises EventsGone.
        """


class Budget:
    """The bytes that all windows of a process may hold together.

    `evict` frees the bytes of one window that is needed least, and returns whether there was one.
    """

    def __init__(self, limit: int, evict: Callable[[], bool]) -> None:
        self._limit = limit
        self._evict = evict
        self._used = 0

    def change(self, size: int) -> None:
        """Note that so many bytes were added; a negative number were given back."""
        self._used += size

    def allows(self, size: int = 0) -> bool:
        """Whether so many more bytes fit, if need be after others have gone."""
        while self._used + size > self._limit:
            if not self._evict():
                return False
        return True


class MemoryWindow:
    """A Window in the memory of this process, and the outlet of the stream that it is filled by.

    Holds the last events, of `limit` bytes together; the newest one however large it is, and fewer
    where the budget of all windows is exceeded.
    """

    def __init__(self, limit: int, budget: Budget) -> None:
        self._limit = limit
        self._budget = budget
        self._events: deque[bytes] = deque()
        self._first = 1
        self._size = 0
        self._ended = False
        self._changed = asyncio.Event()

    def put(self, events: Sequence[bytes]) -> bool:
        """Add the next events; return whether there is room for more."""
        size = sum(map(len, events))
        self._events += events
        self._size += size
        self._budget.change(size)
        self._wake()
        return not self._too_large()

    async def room(self) -> None:
        """Make room: let go of the oldest events. Never waits for a reader."""
        await asyncio.sleep(0)  # a reader that keeps up takes what came, however much it is
        while self._too_large():
            self._drop_oldest()

    async def end(self, events: Sequence[bytes] = ()) -> None:
        """Add the last events: no more come."""
        self._ended = True
        if not self.put(events):
            await self.room()

    async def span(self) -> Span:
        """Return what is held now."""
        return Span(self._first, self._last, self._ended)

    async def read(self, after: int) -> tuple[int, bytes]:
        """Return events that follow `after`, 64 KiB and one event at most. Raises EventsGone."""
        while after == self._last and not self._ended:
            await self._changed.wait()
        at = after + 1 - self._first
        if at < 0:
            raise EventsGone
        found: list[bytes] = []
        size = 0
        while at < len(self._events) and size < _READ:
            found.append(self._events[at])
            size += len(found[-1])
            at += 1
        return after + len(found), b"".join(found)

    def clear(self) -> None:
        """Let go of all events; readers that do not have the last one find it gone."""
        while self._events:
            self._drop_oldest()

    @property
    def _last(self) -> int:
        return self._first + len(self._events) - 1

    def _too_large(self) -> bool:
        return len(self._events) > 1 and (self._size > self._limit or not self._budget.allows())

    def _drop_oldest(self) -> None:
        size = len(self._events.popleft())
        self._first += 1
        self._size -= size
        self._budget.change(-size)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
