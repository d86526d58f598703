"""One clock for all that waits: streams for AnythingLLM, and responses for something to say."""

import asyncio
import logging
from collections.abc import Iterable
from math import ceil
from typing import Final, Protocol

# Seconds between looks at what is in a hurry: so soon is the leaving of a client noticed that is behind.
LOOK: Final = 0.1
# Rounds of looks in the shortest time that anything waits for. What begins to wait amid a round has its
# turn in the next one: a tenth of the time too late, at most.
_ROUNDS: Final = 20
# Looks at once: all of a round in one go would hold up every stream for as long.
_AT_ONCE: Final = 100

log = logging.getLogger(__name__)


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
        self._round = min(waits) / _ROUNDS  # seconds
        self._look = min(LOOK, 5 * self._round)
        self._waiting: set[Watched] = set()
        self._hurried: set[Watched] = set()
        self._turns: list[Watched] = []  # still to come in this round
        self._turn_at = 0.0
        self._pause = self._round  # seconds from turn to turn
        self._due_at = 0.0  # not the timer's `when`, which uvloop's has not if it is due at once
        self._timer: asyncio.Handle | None = None

    def add(self, one: Watched) -> None:
        """Look at it from now on."""
        self._waiting.add(one)
        if self._timer is None:
            self._loop = asyncio.get_running_loop()
            self._turn_at = self._loop.time() + self._round
            self._set_timer(self._turn_at)

    def discard(self, one: Watched) -> None:
        """Look at it no more."""
        self._waiting.discard(one)
        self._hurried.discard(one)
        if not self._waiting and self._timer is not None:
            self._turns.clear()
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
        self._hurried = {one for one in tuple(self._hurried) if self._look_at(one, now)}
        if now >= self._turn_at and self._waiting:
            self._take_turns(now)
        if self._timer is not None:  # something waits still
            self._set_timer(min(self._turn_at, now + self._look) if self._hurried else self._turn_at)

    def _take_turns(self, now: float) -> None:
        if not self._turns:
            self._turns = list(self._waiting)
            self._pause = self._round / ceil(len(self._turns) / _AT_ONCE)
        some = self._turns[-_AT_ONCE:]
        del self._turns[-_AT_ONCE:]
        for one in some:
            if one in self._waiting and self._look_at(one, now):
                self._hurried.add(one)
        self._turn_at = now + self._pause

    def _look_at(self, one: Watched, now: float) -> bool:
        try:
            return one.look(now)
        except Exception:
            log.exception("a look failed")
            self.discard(one)  # the others must not wait for ever
            return False
