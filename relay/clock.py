"""One clock for all that waits: streams for AnythingLLM, and responses for something to say."""

import asyncio
from collections.abc import Iterable
from typing import Final, Protocol

# Seconds between looks at what is in a hurry: so soon is the leaving of a client noticed that is behind.
LOOK: Final = 0.1
# Ticks in the shortest time that anything is to be waited for: a tenth too late is early enough.
_TICKS: Final = 10


class Watched(Protocol):
    """What waits."""

    def look(self, now: float) -> bool:
        """Do what is due now, on the event loop's clock; return whether it is still in a hurry."""


class Clock:
    """Looks at all that waits, often enough for waits as long as the shortest of `waits`, in seconds.

    A timer for each would have to be made and thrown away for every answer, which costs more than a
    look at every one of them now and then.
    """

    def __init__(self, waits: Iterable[float]) -> None:
        self._tick = min(waits) / _TICKS
        self._look = min(LOOK, self._tick)
        self._waiting: set[Watched] = set()
        self._hurried: set[Watched] = set()
        self._round_at = 0.0
        self._due_at = 0.0  # not the timer's `when`, which uvloop's has not if it is due at once
        self._timer: asyncio.Handle | None = None

    def add(self, one: Watched) -> None:
        """Look at it from now on."""
        self._waiting.add(one)
        if self._timer is None:
            self._loop = asyncio.get_running_loop()
            self._round_at = self._loop.time() + self._tick
            self._set_timer(self._round_at)

    def discard(self, one: Watched) -> None:
        """Look at it no more."""
        self._waiting.discard(one)
        self._hurried.discard(one)
        if not self._waiting and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def hurry(self, one: Watched) -> None:
        """Look at it soon, and again as long as it says so."""
        if one not in self._hurried and self._timer is not None:
            self._hurried.add(one)
            self._set_timer(min(self._due_at, self._loop.time() + self._look))

    def _set_timer(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due_at = when
        self._timer = self._loop.call_at(when, self._strike)

    def _strike(self) -> None:
        now = self._loop.time()
        due = self._hurried
        if now >= self._round_at:
            due = self._waiting
            self._round_at = now + self._tick
        self._hurried = {one for one in tuple(due) if one.look(now)}
        self._set_timer(min(self._round_at, now + self._look) if self._hurried else self._round_at)
