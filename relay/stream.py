"""One answer on its way: a producer reads AnythingLLM and fills it, a reader empties it."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final, Self

from relay import sse
from relay.errors import Code, RelayError
from relay.events import Error, Event, FinalEnd, Reason, name_of, to_json
from relay.frames import Answer
from relay.question import Question
from relay.upstream import Reply, Upstream

# Encoded bytes that may wait for the reader before AnythingLLM is read no further.
_HIGH_WATER: Final = 64 * 1024


class RelayStream:
    """Asks one question, and holds what was answered until it is read.

    Use it as an async context manager: entering asks, leaving stops the asking and closes the
    connection to AnythingLLM. AnythingLLM is read only as fast as the one reader reads.
    """

    def __init__(
        self,
        upstream: Upstream,
        question: Question,
        answer: Answer,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._upstream = upstream
        self._question = question
        self._answer = answer
        self._headers = headers
        self._waiting: list[bytes] = []
        self._size = 0
        self._readable = asyncio.Event()
        self._writable = asyncio.Event()
        self._made_at = asyncio.get_running_loop().time()
        self.events = 0
        self.bytes = 0
        self.first_event_after: float | None = None  # seconds
        self.outcome: str | None = None  # once ended: a reason, or an error's code
        self.delivered = False  # whether the reader took the end
        self.fault: Exception | None = None  # ours, if that ended it

    async def __aenter__(self) -> Self:
        self._producer = asyncio.create_task(self._produce())
        return self

    async def __aexit__(self, exc_type: type[BaseException] | None, *exc_info: object) -> None:
        if exc_type is not None:
            self._producer.cancel()
        try:
            await asyncio.wait([self._producer])
        except asyncio.CancelledError:
            self._producer.cancel()
            await asyncio.wait([self._producer])
            raise

    @property
    def age(self) -> float:
        """Seconds since it was made."""
        return asyncio.get_running_loop().time() - self._made_at

    async def read(self) -> bytes:
        """Return all events that wait, encoded, or wait for some; empty after the last one."""
        await self._readable.wait()
        data = b"".join(self._waiting)
        self.delivered = not data
        self._waiting.clear()
        self._size = 0
        if self.outcome is None:
            self._readable.clear()
        self._writable.set()
        return data

    def stop(self, error: RelayError, reason: Reason) -> None:
        """End the answer now, from outside; its reader is told."""
        self._publish(self._answer.fail(error, reason))
        self._producer.cancel()

    def _publish(self, events: Sequence[Event]) -> None:
        if not events or self.outcome is not None:
            return
        data = b"".join([sse.encode(to_json(event), event=name_of(event)) for event in events])
        if self.first_event_after is None:
            self.first_event_after = self.age
        if isinstance(end := events[-1], FinalEnd):
            error = events[-2] if len(events) > 1 else None
            self.outcome = error.code if isinstance(error, Error) else end.reason
        self._waiting.append(data)
        self._size += len(data)
        self.events += len(events)
        self.bytes += len(data)
        self._readable.set()

    async def _produce(self) -> None:
        try:
            self._publish(await self._ask())
        except Exception as fault:
            # Whatever broke may be in what the answer holds, so its end is told without that.
            self.fault = fault
            message = "The relay itself failed; its log says why."
            error = Error(message, Code.INTERNAL, retryable=False)
            self._publish([error, FinalEnd("error", [], {}, None, 0)])

    async def _ask(self) -> list[Event]:
        """Publish what AnythingLLM answers; return the end, if something else than a frame brings it."""
        try:
            async with (
                asyncio.timeout(self._answer.limit) as silence,
                self._upstream.ask(self._question, self._headers) as reply,
            ):
                while not self._answer.ended:
                    await self._step(reply, silence)
                silence.reschedule(None)
                await reply.finish()
        except TimeoutError:
            return self._answer.timeout()
        except RelayError as error:
            return self._answer.fail(error)
        return []

    async def _step(self, reply: Reply, silence: asyncio.Timeout) -> None:
        heard = self._answer.frames
        data = await reply.read()
        self._publish(self._answer.feed(data) if data else self._answer.eof())
        waited = self._size > _HIGH_WATER
        if waited:
            silence.reschedule(None)  # AnythingLLM is not silent while it is us who do not read
            self._writable.clear()
            await self._writable.wait()
        if waited or self._answer.frames != heard:
            limit = self._answer.limit
            silence.reschedule(None if limit is None else asyncio.get_running_loop().time() + limit)
