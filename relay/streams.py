"""The streams that run now: how many there may be, and how they end when the relay stops."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from relay.errors import Code, RelayError
from relay.stream import RelayStream

# Seconds that readers have to take their last events before their connections are closed all the same.
_GOODBYE: Final = 2.0


class Streams:
    """The answers that run and the readers that are served; none is added once a drain began.

    At most `limit` answers run, of which `per_owner` for one key; 0 is no limit of its own.
    """

    def __init__(self, limit: int, per_owner: int = 0) -> None:
        self._limit = limit
        self._per_owner = per_owner
        self._running: dict[RelayStream, bytes | None] = {}  # with their owners
        self._of_owner: Counter[bytes] = Counter()
        self._readers = 0
        self._none_left = asyncio.Event()
        self._drain_ends_at: float | None = None
        self._refuses = False
        self.told = False
        """Whether all answers were told to end, since the relay stops."""

    def __len__(self) -> int:
        """Return how many answers run."""
        return len(self._running)

    @property
    def draining(self) -> bool:
        """Whether the relay is about to stop."""
        return self._drain_ends_at is not None

    def refuse_if_draining(self) -> None:
        """Raise RelayError (shutting_down) once the relay is about to stop."""
        if self._drain_ends_at is not None and self._refuses:
            left = max(1, round(self._drain_ends_at - asyncio.get_running_loop().time()))
            raise _shutting_down({"Retry-After": str(left)})

    def admit(self, stream: RelayStream, owner: bytes | None = None) -> None:
        """Count a new answer until it is released.

        Raises RelayError (too_many_streams, shutting_down).
        """
        self.refuse_if_draining()
        if len(self._running) >= self._limit and self._unended() >= self._limit:
            raise _too_many(f"{self._limit} answers are running", "RELAY_MAX_STREAMS")
        if owner is not None:
            if 0 < self._per_owner <= self._of_owner[owner] and self._per_owner <= self._unended(owner):
                what = f"{self._per_owner} answers are running for this key"
                raise _too_many(what, "RELAY_MAX_STREAMS_PER_KEY", status=429)
            self._of_owner[owner] += 1
        self._running[stream] = owner

    def release(self, stream: RelayStream) -> None:
        """Note that an answer runs no more."""
        owner = self._running.pop(stream)
        if owner is not None:
            self._of_owner[owner] -= 1
            if not self._of_owner[owner]:
                del self._of_owner[owner]
        self._look_for_the_last()

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Count a reader for as long as the context lasts."""
        self._readers += 1
        try:
            yield
        finally:
            self._readers -= 1
            self._look_for_the_last()

    async def drain(self, grace: float) -> None:
        """Let no new answer begin, give the others `grace` seconds, then tell each that it ends."""
        self.refuse()
        await self.hand_over(grace, 0)

    def refuse(self) -> None:
        """Let no new answer begin, now or once a drain begins."""
        self._refuses = True

    async def hand_over(self, grace: float, moment: float) -> None:
        """Drain as other processes take over: whoever still has a connection here may ask until the end.

        That is when nothing runs, but a moment from now at the earliest, in seconds as well.
        """
        self._drain_ends_at = asyncio.get_running_loop().time() + grace
        with self.serving():
            await asyncio.sleep(moment)
        await self._wait_for_none(grace - moment)
        self.refuse()
        self.told = True
        for stream in tuple(self._running):
            stream.stop("shutdown", _shutting_down())
        await self._wait_for_none(_GOODBYE)

    def _unended(self, owner: bytes | None = None) -> int:
        """Count those whose end is not told yet, of this owner or of all: only the others ask again."""
        running = [one for one, its_owner in self._running.items() if owner in (None, its_owner)]
        return sum(one.outcome is None for one in running)

    async def _wait_for_none(self, seconds: float) -> None:
        self._none_left.clear()
        self._look_for_the_last()
        try:
            async with asyncio.timeout(seconds):
                await self._none_left.wait()
        except TimeoutError:
            pass  # the caller goes on without them

    def _look_for_the_last(self) -> None:
        if not self._running and not self._readers:
            self._none_left.set()


def _too_many(what: str, setting: str, status: int | None = None) -> RelayError:
    message = f"{what}, which is the limit ({setting}); try again."
    return RelayError(Code.TOO_MANY_STREAMS, message, status=status, headers={"Retry-After": "1"})


def _shutting_down(headers: Mapping[str, str] | None = None) -> RelayError:
    return RelayError(Code.SHUTTING_DOWN, "The relay is shutting down; ask again soon.", headers=headers)
