"""A limit on silence, for a task that waits for the same peer again and again."""

import asyncio
from types import TracebackType
from typing import Self


class Silence:
    """Raises TimeoutError out of its context when nothing was heard for as long as is allowed.

    Use it as an async context manager. It is moved with every frame of every stream: that costs no more
    than noting the time, since its timer stays where it is, and looks when it goes off.
    """

    def __init__(self, seconds: float | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._timeout = asyncio.timeout(None)
        self._ends_at: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._seconds = seconds

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        self.allow(self._seconds)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        await self._timeout.__aexit__(exc_type, exc, traceback)

    def allow(self, seconds: float | None) -> None:
        """Allow so many seconds of silence from now on; None is no limit."""
        if seconds is None:
            self._ends_at = None
            return
        self._ends_at = self._loop.time() + seconds
        if self._timer is None or self._timer.when() > self._ends_at:
            self._set_timer(self._ends_at)

    def _set_timer(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._ends_at is None:
            return
        if self._loop.time() >= self._ends_at:
            self._timeout.reschedule(self._ends_at)
        else:
            self._set_timer(self._ends_at)
