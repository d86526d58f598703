"""Resumable streams of several processes, on one machine or many."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any, Final
from weakref import WeakValueDictionary

from relay.errors import Code, RelayError
from relay.mirror import Mirror
from relay.remote import LOST, RemoteStream
from relay.resumable import (
    Asked,
    Followed,
    Holding,
    ResumableStream,
    ResumableStreams,
    conflict,
    unknown,
)
from relay.store import Store, digits
from relay.stream import RelayStream
from relay.streams import Streams
from relay.window import MemoryWindow

# Seconds at the end of the process for what is not in the store yet.
_FLUSH: Final = 2.0

log = logging.getLogger(__name__)


class SharedStreams(ResumableStreams):
    """The resumable streams of this process, and through the store those of all others.

    A stream of this process is held here as it would be without the others: its readers here need no
    store. A mirror tells the others of it.
    """

    def __init__(self, streams: Streams, holding: Holding, store: Store) -> None:
        super().__init__(streams, holding)
        self._store = store
        self._mirrors: dict[ResumableStream, tuple[Mirror, asyncio.Task[None]]] = {}
        self._remote: WeakValueDictionary[str, RemoteStream] = WeakValueDictionary()
        self._errands: set[asyncio.Task[Any]] = set()
        self._closing = False

    async def find(self, id_: str, owner: bytes | None) -> Followed:
        """Return this owner's stream with this id, wherever its home is.

        Raises RelayError (unknown_stream, resume_unavailable).
        """
        if id_ in self._by_id:
            return await super().find(id_, owner)
        if await self._store.owner(id_) != digits(owner):
            raise unknown()
        if (remote := self._remote.get(id_)) is None:
            remote = self._remote[id_] = RemoteStream(self._store, id_, self._streams)
        return remote

    async def find_asked(self, asked: Asked, owner: bytes | None) -> Followed | None:
        """Return the stream that this owner asked for with this key, wherever its home is.

        Raises RelayError (idempotency_conflict, resume_unavailable).
        """
        if (held := await super().find_asked(asked, owner)) is not None:
            return held
        if (known := await self._store.asked(owner, asked.key)) is None:
            return None
        id_, digest = known
        if digest != asked.digest:
            raise conflict()
        return await self.find(id_, owner)

    async def open(
        self,
        make: Callable[[MemoryWindow], RelayStream],
        *,
        owner: bytes | None,
        asked: Asked | None,
        ended: Callable[[RelayStream], None],
    ) -> Followed:
        """Begin an answer, or find the one that was asked for elsewhere with the same key just now.

        Raises RelayError: too_many_streams, shutting_down, resume_unavailable, idempotency_conflict.
        """
        held, stream = self._admit(make, owner, asked)
        opening: asyncio.Task[Followed] = self._send(self._open(held, stream, ended))
        # The client may leave meanwhile, but others may have found the stream by then.
        return await asyncio.shield(opening)

    async def _open(
        self, held: ResumableStream, stream: RelayStream, ended: Callable[[RelayStream], None]
    ) -> Followed:
        owner, asked = held.owner, held.asked
        announce = partial(
            self._store.announce,
            held.id,
            owner,
            None if asked is None else asked.key,
            b"" if asked is None else asked.digest,
        )
        try:
            id_ = await announce()
        except BaseException:
            self._dismiss(stream)
            self._send(self._store.forget(held.id))  # it may have been heard all the same
            raise
        if id_ != held.id and asked is not None:
            self._dismiss(stream)
            return await self.find_asked(asked, owner) or await self.find(id_, owner)
        self._begin(held, stream, ended)
        mirror = Mirror(
            self._store,
            held.id,
            held.window,
            announce=announce,
            stop=lambda: stream.stop("cancelled"),
            lost=lambda: stream.stop("error", RelayError(Code.UPSTREAM_TRUNCATED, LOST)),
        )
        mirroring = asyncio.create_task(mirror.run())
        mirroring.add_done_callback(_tell_fault)
        self._mirrors[held] = mirror, mirroring
        return held

    async def cancel(self, held: Followed) -> None:
        """Stop the answer, and return once that is so. Raises RelayError (resume_unavailable)."""
        if isinstance(held, RemoteStream):
            await held.cancel()
        else:
            await super().cancel(held)

    async def close(self) -> None:
        """End all that runs here. What has ended stays in the store for those who come back."""
        ended = [mirror for held, (mirror, _) in self._mirrors.items() if held not in self._running]
        if self._store.up:
            with suppress(TimeoutError):
                async with asyncio.timeout(_FLUSH):
                    for mirror in ended:
                        await mirror.finished.wait()
        self._closing = True
        await self._run_errands()  # which may still begin an answer
        await super().close()
        await self._run_errands()

    def _leave(self, held: ResumableStream) -> None:
        self._send(self._forget_if_unread(held))

    async def _forget_if_unread(self, held: ResumableStream) -> None:
        """Nobody has read it here for long; but somebody may elsewhere, while it runs."""
        seconds: float | None = None
        with suppress(RelayError):
            seconds = await self._store.read_for(held.id)
        if held.readers or held.id not in self._by_id:
            return
        if seconds is None:  # who read it elsewhere when Redis was last there may still come back
            heard_at = self._mirrors[held][0].heard_at
            seconds = heard_at + self._holding.patience - asyncio.get_running_loop().time()
        if seconds > 0 and held in self._running:
            held.wait_for_readers(seconds)
            return
        with suppress(RelayError):
            await self._store.forget(held.id)  # before it ends here: who comes now is told at once
        if not held.readers and held.id in self._by_id:
            self._forget(held)

    def _forget(self, held: ResumableStream) -> None:
        super()._forget(held)
        _, mirroring = self._mirrors.pop(held)
        mirroring.cancel()
        self._send(self._forget_there(held, mirroring))

    async def _forget_there(self, held: ResumableStream, mirroring: asyncio.Task[None]) -> None:
        await asyncio.wait([mirroring])
        if not self._closing:
            await self._store.forget(held.id)

    def _send(self, errand: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Have something done in the background, if Redis is there."""
        task = asyncio.create_task(errand)
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)
        task.add_done_callback(_tell_fault)
        return task

    async def _run_errands(self) -> None:
        if self._errands:
            await asyncio.wait(self._errands)


def _tell_fault(task: asyncio.Task[Any]) -> None:
    fault = None if task.cancelled() else task.exception()
    if fault is not None and not isinstance(fault, RelayError):
        log.error("a resumable stream could not be shared", exc_info=fault)
