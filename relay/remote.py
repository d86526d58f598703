"""A resumable stream whose home is another process."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from relay import sse
from relay.errors import Code, RelayError
from relay.events import NAMES, Error, Event, FinalEnd, to_json
from relay.resumable import Followed, unknown
from relay.store import LEASE, Seen, Store, unavailable
from relay.streams import Streams
from relay.window import EventsGone, Span

# Seconds without Redis after which a reader has to come back.
_OUTAGE: Final = 30.0
# Seconds that a stop may take.
_STOP: Final = 2 * LEASE
# Seconds by which all is in the store that its home had sent before, or the home is known to be gone.
_REACH: Final = LEASE + 2.0
# Ids left out before the end of a stream whose home is gone: its readers there may have heard events
# that are not in the store, each up to another one, and for all of them the end is still to come.
_LEAP: Final = 10_000
# The words with which a stream ends whose home is gone.
LOST: Final = "The relay that ran this answer is gone, and the answer with it; ask again."


class RemoteStream(Followed):
    """An answer that another process writes: what is in the store of it."""

    def __init__(self, store: Store, id_: str, streams: Streams) -> None:
        self._remote = RemoteWindow(store, id_, streams)
        super().__init__(id_, self._remote)
        self._store = store

    async def cancel(self) -> None:
        """Have its home end it, and return once that is so. Raises RelayError (resume_unavailable)."""
        await self._store.stop(self.id)
        await self._remote.wait_for_end()

    async def _span(self, after: int) -> Span:
        """Wait for what its home has sent and not yet written. Raises RelayError, as span does."""
        return await self._remote.reach(after)


class RemoteWindow:
    """The newest events of a stream that another process writes, as they are in the store."""

    def __init__(self, store: Store, id_: str, streams: Streams) -> None:
        self._store = store
        self._id = id_
        self._streams = streams

    async def span(self) -> Span:
        """Return what is in the store now. Raises RelayError (unknown_stream, resume_unavailable)."""
        seen = await self._store.follow(self._id, 0)
        if seen is None:
            raise unknown()
        return _span(seen)

    async def read(self, after: int) -> tuple[int, bytes]:
        """Return events that follow `after`, or wait for some; nothing at the end. Raises EventsGone.

        Nothing as well when the streams of this process were told to end, or it was without Redis for
        long: without a final_end, a client knows that it has to come back.
        """
        with self._watch(after) as watch:
            while (seen := await watch.look()) is not None:
                if seen.entries:
                    return _cut(seen, after)
                if seen.end or self._streams.told:
                    break
        return after, b""

    async def reach(self, after: int) -> Span:
        """Return what is in the store once this event is, or was surely never sent; raises as span."""
        with self._watch(after) as watch, suppress(TimeoutError, EventsGone):
            async with asyncio.timeout(_REACH):
                while (seen := await watch.look()) is not None:
                    if after <= seen.last or seen.end:
                        return _span(seen)
        return await self.span()

    async def wait_for_end(self) -> None:
        """Return once the stream has ended, or is not in the store any more.

        Raises RelayError (resume_unavailable) if that does not come: what tells its home went astray.
        """
        with self._watch(0) as watch, suppress(EventsGone):
            try:
                async with asyncio.timeout(_STOP):
                    while (seen := await watch.look()) is None or not seen.end:
                        pass
            except TimeoutError:
                raise unavailable() from None

    @contextmanager
    def _watch(self, after: int) -> Iterator["_Watch"]:
        news = asyncio.Event()
        with self._store.listening(f"news {self._id}", news.set):
            yield _Watch(self._store, self._id, after, news)


class _Watch:
    """Looks into the store whenever something may have changed there.

    A stream that gives no sign of its home for LEASE seconds, though Redis was there all that time, is
    ended: for all its readers, by the first who sees it.
    """

    def __init__(self, store: Store, id_: str, after: int, news: asyncio.Event) -> None:
        self._store = store
        self._id = id_
        self._after = after
        self._news = news
        self._time = asyncio.get_running_loop().time
        self._answered_at = self._changed_at = self._time()
        self._sign: tuple[int, int] | None = None
        self._at_once = True

    async def look(self) -> Seen | None:
        """Return what is there, the first time at once; None if Redis was away for long.

        Raises EventsGone if the stream is not there.
        """
        while self._time() < self._answered_at + _OUTAGE:
            await self._wait()
            with suppress(RelayError):
                if (seen := await self._look()) is not None:
                    return seen
                continue
            self._changed_at = self._time()  # nothing is known of its home meanwhile
        return None

    async def _wait(self) -> None:
        if not self._at_once:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._store.look):
                    await self._news.wait()
        self._at_once = False
        self._news.clear()

    async def _look(self) -> Seen | None:
        seen = await self._store.follow(self._id, self._after)
        self._answered_at = self._time()
        sign = None if seen is None else (seen.last, seen.beat)
        if sign != self._sign:
            self._sign, self._changed_at = sign, self._answered_at
        silent = self._answered_at >= self._changed_at + LEASE
        if seen is None:
            if silent:
                raise EventsGone
        elif silent and not seen.end:
            last = max(seen.last, self._after) + _LEAP
            await self._store.lose(self._id, seen, last, _end(last))
            self._at_once = True
            return None
        return seen


def _span(seen: Seen) -> Span:
    return Span(seen.first, seen.last, bool(seen.end))


def _cut(seen: Seen, after: int) -> tuple[int, bytes]:
    """Return the events behind `after`, and the id of the last. Raises EventsGone if some are missing.

    Of a lost stream some may: those that its home had sent and not yet written.
    """
    data = b""
    for entry in seen.entries:
        if entry.first > after + 1 and not (seen.end == "lost" and entry.last == seen.last):
            break
        events = entry.data.split(b"\n\n")  # an event ends with an empty line, and has none inside
        data += b"\n\n".join(events[max(0, after + 1 - entry.first) :])
        after = entry.last
    if not data:
        raise EventsGone
    return after, data


def _end(last: int) -> bytes:
    """Return the events that end a stream whose home is gone, the last with this id."""
    error = Error(LOST, Code.UPSTREAM_TRUNCATED, retryable=True)
    return _numbered(error, last - 1) + _numbered(FinalEnd("error", [], {}, None, 0), last)


def _numbered(event: Event, id_: int) -> bytes:
    return sse.encode(to_json(event), event=NAMES[type(event)], id=str(id_))
