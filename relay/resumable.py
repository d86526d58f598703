"""Streams that outlive their readers (docs/protocol.md, "Resumable streams")."""

import asyncio
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from relay.errors import Code, RelayError
from relay.stream import RelayStream
from relay.streams import Streams
from relay.window import Budget, MemoryWindow, Window

MAX_READERS: Final = 64
# Bytes that a stream counts for besides its events: about what it costs without any.
_COST: Final = 4096


class Asked(NamedTuple):
    """An Idempotency-Key, and a digest of what was asked with it."""

    key: str
    digest: bytes


class Reader:
    """One reader's place in a stream."""

    def __init__(self, window: Window, after: int) -> None:
        self._window = window
        self._after = after

    async def read(self) -> bytes:
        """Return the next events, or wait for some; empty after the last one. Raises EventsGone."""
        self._after, data = await self._window.read(self._after)
        return data


class ResumableStream:
    """An answer that is written whether or not somebody reads it.

    `abandoned` is called when nobody has read it for `patience` seconds, counted anew from its end.
    """

    def __init__(
        self,
        window: MemoryWindow,
        *,
        owner: bytes | None,
        asked: Asked | None,
        patience: float,
        abandoned: Callable[["ResumableStream"], None],
    ) -> None:
        self.id = secrets.token_urlsafe(16)
        self.window = window
        self.owner = owner
        self.asked = asked
        self._patience = patience
        self._abandoned = abandoned
        self._readers = 0
        self._timer: asyncio.TimerHandle | None = None
        self._released = False

    async def has_more(self, after: int) -> bool:
        """Whether anything is still to come for a reader that has the events up to `after`.

        Raises RelayError: bad_request for an event that was never sent, events_gone for one that is
        no longer held.
        """
        span = await self.window.span()
        if after > span.last:
            message = f"There is no event {after} yet; the last one is {span.last}."
            raise RelayError(Code.BAD_REQUEST, message)
        if after < span.first - 1:
            message = f"The events after {after} are no longer held (RELAY_RESUME_BYTES); ask again."
            raise RelayError(Code.EVENTS_GONE, message)
        return not (span.ended and after == span.last)

    @contextmanager
    def reading(self, after: int) -> Iterator[Reader]:
        """Follow the stream from the event after this one. Raises RelayError (too_many_readers)."""
        if self._readers >= MAX_READERS:
            message = f"{MAX_READERS} readers follow this stream, which is the limit; try again."
            raise RelayError(Code.TOO_MANY_READERS, message, headers={"Retry-After": "1"})
        self._readers += 1
        self.wait_for_readers()
        try:
            yield Reader(self.window, after)
        finally:
            self._readers -= 1
            self.wait_for_readers()

    def wait_for_readers(self) -> None:
        """Begin the time anew after which it is abandoned; none runs while somebody reads."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._readers and not self._released:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._patience, self._abandoned, self)

    def release(self) -> None:
        """Let go of its events; whoever still reads them finds them gone."""
        self._released = True
        self.wait_for_readers()
        self.window.clear()


class _Running(NamedTuple):
    stream: RelayStream
    task: asyncio.Task[None]


class ResumableStreams:
    """The resumable streams of this process, from their asking until nobody has read them for long.

    They hold at most `total_bytes` together, each `stream_bytes` of its newest events. When there is
    no more room, the oldest ended ones go; when there are none, those that run keep less.
    """

    def __init__(
        self, streams: Streams, *, patience: float, stream_bytes: int, total_bytes: int
    ) -> None:
        self._streams = streams
        self._patience = patience
        self._stream_bytes = stream_bytes
        self._budget = Budget(total_bytes, self._evict)
        self._by_id: dict[str, ResumableStream] = {}
        self._by_key: dict[tuple[bytes | None, str], ResumableStream] = {}
        self._running: dict[ResumableStream, _Running] = {}
        self._ended: dict[ResumableStream, None] = {}  # the oldest first

    def __len__(self) -> int:
        """Return how many are held."""
        return len(self._by_id)

    def find(self, id_: str, owner: bytes | None) -> ResumableStream:
        """Return this owner's stream with this id. Raises RelayError (unknown_stream)."""
        held = self._by_id.get(id_)
        if held is None or held.owner != owner:
            message = "There is no such stream, or it is no longer held; ask again."
            raise RelayError(Code.UNKNOWN_STREAM, message)
        return held

    def find_asked(self, asked: Asked, owner: bytes | None) -> ResumableStream | None:
        """Return the stream that this owner asked for with this key, if it is held.

        Raises RelayError (idempotency_conflict) if something else was asked with it.
        """
        held = self._by_key.get((owner, asked.key))
        if held is not None and held.asked != asked:
            message = "This Idempotency-Key was used for another question; take a new one."
            raise RelayError(Code.IDEMPOTENCY_CONFLICT, message)
        return held

    def open(
        self,
        make: Callable[[Window], RelayStream],
        *,
        owner: bytes | None,
        asked: Asked | None,
        ended: Callable[[RelayStream], None],
    ) -> ResumableStream:
        """Begin an answer; `ended` is called when it runs no more.

        Raises RelayError: too_many_streams, shutting_down, resume_unavailable.
        """
        window = MemoryWindow(self._stream_bytes, self._budget)
        stream = make(window)
        self._streams.admit(stream, owner)
        if not self._budget.allows(_COST):
            self._streams.release(stream)
            message = (
                "There is no room for a further resumable stream (RELAY_RESUME_TOTAL_BYTES); try again,"
                " or ask without `resumable`."
            )
            raise RelayError(Code.RESUME_UNAVAILABLE, message, headers={"Retry-After": "1"})
        self._budget.change(_COST)
        held = ResumableStream(
            window,
            owner=owner,
            asked=asked,
            patience=self._patience,
            abandoned=self._forget,
        )
        self._by_id[held.id] = held
        if asked is not None:
            self._by_key[owner, asked.key] = held
        held.wait_for_readers()
        task = asyncio.create_task(stream.run())
        task.add_done_callback(lambda _: self._note_end(held, ended))
        self._running[held] = _Running(stream, task)
        return held

    async def cancel(self, held: ResumableStream) -> None:
        """Stop the answer, and return once its readers are told and AnythingLLM is let go."""
        running = self._running.get(held)
        if running is not None:
            running.stream.stop("cancelled")
            await asyncio.wait([running.task])

    async def close(self) -> None:
        """End all that runs, and hold nothing any more."""
        running = [one.task for one in self._running.values()]
        for held in tuple(self._by_id.values()):
            self._forget(held)
        if running:
            await asyncio.wait(running)

    def _note_end(self, held: ResumableStream, ended: Callable[[RelayStream], None]) -> None:
        stream = self._running.pop(held).stream
        self._streams.release(stream)
        if held.id in self._by_id:
            self._ended[held] = None
            held.wait_for_readers()
        ended(stream)

    def _forget(self, held: ResumableStream) -> None:
        del self._by_id[held.id]
        if held.asked is not None:
            del self._by_key[held.owner, held.asked.key]
        self._ended.pop(held, None)
        self._budget.change(-_COST)
        held.release()
        if held in self._running:
            self._running[held].task.cancel()

    def _evict(self) -> bool:
        oldest = next(iter(self._ended), None)
        if oldest is not None:
            self._forget(oldest)
        return oldest is not None
