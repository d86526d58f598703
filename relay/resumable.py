"""Streams that outlive their readers (docs/protocol.md, "Resumable streams")."""

import asyncio
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from relay.errors import Code, RelayError
from relay.stream import RelayStream
from relay.streams import Streams
from relay.window import Budget, MemoryWindow, Span, Window

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


class Followed:
    """A stream that any number of readers follow."""

    def __init__(self, id_: str, window: Window) -> None:
        self.id = id_
        self.readers = 0
        self._window = window

    async def has_more(self, after: int) -> bool:
        """Whether anything is still to come for a reader that has the events up to `after`.

        Raises RelayError: bad_request for an event that was never sent, events_gone for one that is
        no longer held.
        """
        span = await self._span(after)
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
        if self.readers >= MAX_READERS:
            message = f"{MAX_READERS} readers follow this stream, which is the limit; try again."
            raise RelayError(Code.TOO_MANY_READERS, message, headers={"Retry-After": "1"})
        self.readers += 1
        self.readers_changed()
        try:
            yield Reader(self._window, after)
        finally:
            self.readers -= 1
            self.readers_changed()

    def readers_changed(self) -> None:
        """Note that a reader came or left."""

    async def _span(self, _after: int) -> Span:
        """Return what is held, for a reader that has the events up to this one."""
        return await self._window.span()


class ResumableStream(Followed):
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
        super().__init__(secrets.token_urlsafe(16), window)
        self.window = window
        self.owner = owner
        self.asked = asked
        self._patience = patience
        self._abandoned = abandoned
        self._timer: asyncio.TimerHandle | None = None
        self._released = False

    def readers_changed(self) -> None:
        """Begin the time anew after which it is abandoned; none runs while somebody reads."""
        self.wait_for_readers(self._patience)

    def wait_for_readers(self, seconds: float) -> None:
        """Take it for abandoned after so long, unless somebody reads it, or does by then."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self.readers and not self._released:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(seconds, self._abandoned, self)

    def release(self) -> None:
        """Let go of its events; whoever still reads them finds them gone."""
        self._released = True
        self.readers_changed()
        self.window.clear()


class _Running(NamedTuple):
    stream: RelayStream
    task: asyncio.Task[None]


class Holding(NamedTuple):
    """For how many seconds a stream is held without a reader, and how much of one and of all."""

    patience: float
    stream_bytes: int
    total_bytes: int


class ResumableStreams:
    """The resumable streams of this process, from their asking until nobody has read them for long.

    Each holds its newest events. When there is no more room, the oldest ended ones go; when there are
    none, those that run keep less.
    """

    def __init__(self, streams: Streams, holding: Holding) -> None:
        self._streams = streams
        self._holding = holding
        self._budget = Budget(holding.total_bytes, self._evict)
        self._by_id: dict[str, ResumableStream] = {}
        self._by_key: dict[tuple[bytes | None, str], ResumableStream] = {}
        self._running: dict[ResumableStream, _Running] = {}
        self._ended: dict[ResumableStream, None] = {}  # the oldest first

    def __len__(self) -> int:
        """Return how many are held."""
        return len(self._by_id)

    async def find(self, id_: str, owner: bytes | None) -> Followed:
        """Return this owner's stream with this id. Raises RelayError (unknown_stream)."""
        held = self._by_id.get(id_)
        if held is None or held.owner != owner:
            raise unknown()
        return held

    async def find_asked(self, asked: Asked, owner: bytes | None) -> Followed | None:
        """Return the stream that this owner asked for with this key, if it is held.

        Raises RelayError (idempotency_conflict) if something else was asked with it.
        """
        held = self._by_key.get((owner, asked.key))
        if held is not None and held.asked != asked:
            raise conflict()
        return held

    async def open(
        self,
        make: Callable[[MemoryWindow], RelayStream],
        *,
        owner: bytes | None,
        asked: Asked | None,
        ended: Callable[[RelayStream], None],
    ) -> Followed:
        """Begin an answer; `ended` is called when it runs no more.

        Raises RelayError: too_many_streams, shutting_down, resume_unavailable.
        """
        held, stream = self._admit(make, owner, asked)
        self._begin(held, stream, ended)
        return held

    async def cancel(self, held: Followed) -> None:
        """Stop the answer, and return once its readers are told and AnythingLLM is let go."""
        if isinstance(held, ResumableStream) and (running := self._running.get(held)) is not None:
            running.stream.stop("cancelled")
            await asyncio.wait([running.task])

    async def close(self) -> None:
        """End all that runs, and hold nothing any more."""
        running = [one.task for one in self._running.values()]
        for held in tuple(self._by_id.values()):
            self._forget(held)
        if running:
            await asyncio.wait(running)

    def _admit(
        self, make: Callable[[MemoryWindow], RelayStream], owner: bytes | None, asked: Asked | None
    ) -> tuple[ResumableStream, RelayStream]:
        """Make a stream, and count it from now on. Raises RelayError."""
        window = MemoryWindow(self._holding.stream_bytes, self._budget)
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
            window, owner=owner, asked=asked, patience=self._holding.patience, abandoned=self._leave
        )
        return held, stream

    def _dismiss(self, stream: RelayStream) -> None:
        """Take back an admission."""
        self._streams.release(stream)
        self._budget.change(-_COST)

    def _begin(
        self, held: ResumableStream, stream: RelayStream, ended: Callable[[RelayStream], None]
    ) -> None:
        """Hold it, and have its answer written."""
        self._by_id[held.id] = held
        if held.asked is not None:
            self._by_key[held.owner, held.asked.key] = held
        held.readers_changed()
        task = asyncio.create_task(stream.run())
        task.add_done_callback(lambda _: self._note_end(held, ended))
        self._running[held] = _Running(stream, task)

    def _leave(self, held: ResumableStream) -> None:
        """Nobody has read it for long."""
        self._forget(held)

    def _note_end(self, held: ResumableStream, ended: Callable[[RelayStream], None]) -> None:
        stream = self._running.pop(held).stream
        self._streams.release(stream)
        if held.id in self._by_id:
            self._ended[held] = None
            held.readers_changed()
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


def unknown() -> RelayError:
    """Return the refusal of a stream that is not held, or not for this client."""
    message = "There is no such stream, or it is no longer held; ask again."
    return RelayError(Code.UNKNOWN_STREAM, message)


def conflict() -> RelayError:
    """Return the refusal of an Idempotency-Key that something else was asked with."""
    message = "This Idempotency-Key was used for another question; take a new one."
    return RelayError(Code.IDEMPOTENCY_CONFLICT, message)
