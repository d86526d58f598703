"""The streams that run now: how many there may be, and how they end when the relay stops."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from relay.errors import Code, RelayError
from relay.stream import RelayStream

# Seconds that readers have to take their last events before their connections are closed all the same.
_GOODBYE: Final = 2.0


class Streams:
    """The streams that run now: at most so many, and none once a drain began."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._running: set[RelayStream] = set()
        self._none_left = asyncio.Event()
        self._drain_ends_at: float | None = None

    def __len__(self) -> int:
        return len(self._running)

    def refuse_if_draining(self) -> None:
        """Raise RelayError (shutting_down) once the relay is about to stop."""
        if self._drain_ends_at is not None:
            left = max(1, round(self._drain_ends_at - asyncio.get_running_loop().time()))
            raise _shutting_down({"Retry-After": str(left)})

    def admit(self) -> None:
        """Raise RelayError (too_many_streams, shutting_down) unless a further stream may begin."""
        self.refuse_if_draining()
        if len(self._running) >= self._limit:
            message = (
                f"{self._limit} answers are running, which is the limit (RELAY_MAX_STREAMS); try again."
            )
            raise RelayError(Code.TOO_MANY_STREAMS, message, headers={"Retry-After": "1"})

    @contextmanager
    def running(self, stream: RelayStream) -> Iterator[None]:
        """Count the stream for as long as the context lasts."""
        self._running.add(stream)
        try:
            yield
        finally:
            self._running.discard(stream)
            if not self._running:
                self._none_left.set()

    async def drain(self, grace: float) -> None:
        """Let no new stream begin, give the others `grace` seconds, then tell each that it ends."""
        self._drain_ends_at = asyncio.get_running_loop().time() + grace
        await self._wait_for_none(grace)
        for stream in self._running:
            stream.stop(_shutting_down(), "shutdown")
        await self._wait_for_none(_GOODBYE)

    async def _wait_for_none(self, seconds: float) -> None:
        self._none_left.clear()
        if not self._running:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._none_left.wait()
        except TimeoutError:
            pass  # the caller goes on without them


def _shutting_down(headers: Mapping[str, str] | None = None) -> RelayError:
    return RelayError(Code.SHUTTING_DOWN, "The relay is shutting down; ask again soon.", headers=headers)
