"""One clock for all open event streams: a beat in silence, and a look at clients that take nothing."""

import asyncio
from typing import Final, Protocol

# Seconds between looks at a client that is behind: so soon is its leaving noticed.
LOOK: Final = 0.1
# The clock ticks so often in the time after which it has something to do: so late may that be.
_TICKS: Final = 10


class Beating(Protocol):
    """An open event stream."""

    def look(self, now: float) -> bool:
        """Do what is due now, on the event loop's clock; return whether the client is behind."""


class Heartbeat:
    """Looks at every open event stream, often enough for beats every `interval` seconds of silence.

    Clients that took nothing for `patience` seconds are given up, so those that are behind are looked
    at more often. A timer for each would cost every short answer more than one round of looks costs.
    """

    def __init__(self, interval: float, patience: float) -> None:
        self.interval = interval
        self.patience = patience
        self._tick = min(interval, patience) / _TICKS
        self._look = min(LOOK, patience / 4)
        self._open: set[Beating] = set()
        self._behind: set[Beating] = set()
        self._round_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def add(self, one: Beating) -> None:
        """Look at it from now on."""
        self._open.add(one)
        if self._timer is None:
            self._loop = asyncio.get_running_loop()
            self._round_at = self._loop.time() + self._tick
            self._set_timer(self._round_at)

    def discard(self, one: Beating) -> None:
        """Look at it no more."""
        self._open.discard(one)
        self._behind.discard(one)
        if not self._open and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def hurry(self, one: Beating) -> None:
        """Look at it soon, and again and again while its client is behind."""
        if one not in self._behind and self._timer is not None:
            self._behind.add(one)
            self._set_timer(min(self._timer.when(), self._loop.time() + self._look))

    def _set_timer(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._beat)

    def _beat(self) -> None:
        now = self._loop.time()
        due = self._behind
        if now >= self._round_at:
            due = self._open
            self._round_at = now + self._tick
        self._behind = {one for one in tuple(due) if one.look(now)}
        when = min(self._round_at, now + self._look) if self._behind else self._round_at
        self._set_timer(when)
