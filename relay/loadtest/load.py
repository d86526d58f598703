"""The load itself: the streams, and the clock beside them."""

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from time import perf_counter
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from relay.loadtest.client import Client
from relay.loadtest.figures import Figures, Slice
from relay.loadtest.plan import Plan, Schedule, Ticket

_REACH: Final = 10.0  # seconds for a connection before anything is asked
_AGAIN: Final = 1.0  # seconds before a stream asks again that failed, so that a refusal is no flood
_TICK: Final = 0.02  # seconds between two looks at how late this program is itself
_SLICES: Final = 300  # a plot has no room for more; more are kept only where the end is not known
# Seconds that an unused connection is kept: less than the 5 s of AnythingLLM's own server, so that a
# question does not meet a connection that is just being closed.
_KEEP: Final = 3.0


class CannotReach(Exception):
    """Nothing answers at the URL; the text is one line for a person."""


class Load:
    """One load test; `figures` has what was measured, during the run and after it."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.figures = Figures(plan.key)
        self.slice = 1.0 if plan.seconds is None else max(1.0, plan.seconds / _SLICES)
        """Seconds in a slice."""
        self._schedule = Schedule(plan)
        self._start = 0.0  # by perf_counter

    async def run(self, watch: Callable[[Slice], None]) -> None:
        """Ask until the plan ends, or until cancelled; calls `watch` for each slice of time.

        Whatever ends it, all connections are closed then and the figures are complete. Raises
        CannotReach before the first question.
        """
        await reach(self.plan.url)
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP, ttl_dns_cache=None)
        # No limits here: a stream is given up when it is silent, and the plan ends the test.
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=None)
        async with aiohttp.ClientSession(
            connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()
        ) as session:
            client = Client(self.plan, self.figures, session)
            self._start = perf_counter()
            clocks = [
                asyncio.create_task(one) for one in (self._clock(client, watch), self._watch_lag())
            ]
            try:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self.plan.seconds), asyncio.TaskGroup() as streams:
                        for number in range(self.plan.streams):
                            streams.create_task(self._stream(number, client))
            finally:
                for clock in clocks:
                    clock.cancel()
                ends = await asyncio.gather(*clocks, return_exceptions=True)
                self._end()
        for end in ends:
            if isinstance(end, Exception):
                raise end

    async def _stream(self, number: int, client: Client) -> None:
        await self._until(self._schedule.first(number))
        bodies, good = self.plan.bodies, True
        while (ticket := self._schedule.take()) is not None:
            if not good and ticket.due is None:
                await asyncio.sleep(_AGAIN)
            since = await self._due(ticket)
            good = await client.ask(bodies[ticket.number % len(bodies)], since)

    async def _due(self, ticket: Ticket) -> float:
        """Wait until a question is due; return that moment, by perf_counter.

        When all streams are busy it has passed by then. The wait counts as the asker's: without that,
        a server that stops for a while would be asked less, and look better (coordinated omission).
        """
        if ticket.due is None:
            return perf_counter()
        await self._until(ticket.due)
        return self._start + ticket.due

    async def _until(self, seconds: float) -> None:
        # Again, for timers may go off early: by a millisecond where the loop counts in those.
        while (left := self._start + seconds - perf_counter()) > 0:  # noqa: ASYNC110 (it waits for time)
            await asyncio.sleep(left)

    async def _clock(self, client: Client, watch: Callable[[Slice], None]) -> None:
        passed, cut = 0.0, self.slice
        while True:
            passed += min(1.0, self.plan.timeout / 4)
            await self._until(passed)
            client.give_up_silent()
            if passed >= cut:
                cut += self.slice
                watch(self.figures.cut(perf_counter() - self._start))

    async def _watch_lag(self) -> None:
        while True:
            before = perf_counter()
            await asyncio.sleep(_TICK)
            self.figures.lag.record(max(0.0, perf_counter() - before - _TICK))

    def _end(self) -> None:
        now = perf_counter() - self._start
        figures = self.figures
        figures.cut(now)
        by = now if self.plan.seconds is None else min(now, self.plan.seconds)
        figures.unasked = max(0, self._schedule.due_by(by) - figures.counts.asked)


async def reach(url: str) -> None:
    """See that something listens there. Raises CannotReach."""
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    try:
        async with asyncio.timeout(_REACH):
            _, writer = await asyncio.open_connection(parts.hostname, port, ssl=secure or None)
    except (OSError, UnicodeError) as error:  # the latter for a name that cannot be one
        raise CannotReach(f"{url} cannot be reached: {_why(error)}.") from None
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


def _why(error: OSError | UnicodeError) -> str:
    if isinstance(error, TimeoutError):
        return f"no connection within {_REACH:.0f} s"
    if isinstance(error, ConnectionRefusedError) or "Connect call failed" in str(error):
        return "nothing listens there; is the relay running, and is this its port?"
    if isinstance(error, ssl.SSLError):
        return f"no TLS connection ({error.reason or error}); is it http rather than https?"
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
