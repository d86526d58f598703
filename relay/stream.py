"""One answer on its way: AnythingLLM is read, and what it says goes to an outlet."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from relay import sse
from relay.errors import Code, RelayError
from relay.events import Chunk, Error, Event, FinalEnd, Reason, name_of, to_json
from relay.frames import Answer
from relay.metrics import Metrics
from relay.question import Question
from relay.redact import Redactor
from relay.silence import Silence
from relay.upstream import Reply, Upstream


class Outlet(Protocol):
    """Takes the events of a stream: the response to its one reader, or the window of many."""

    def put(self, events: Sequence[bytes]) -> bool:
        """Take events; return whether there is room for more at once."""

    async def room(self) -> None:
        """Wait until there is room for more.

        Raises ConnectionResetError if nobody is there any more to take them.
        """

    async def end(self, events: Sequence[bytes] = ()) -> None:
        """Take the last events: no more come. May wait, and raise, like room."""


class RelayStream:
    """Asks one question, and puts every event of the answer, encoded once, into its outlet.

    AnythingLLM is read only as fast as the outlet takes. With `numbered`, the events have the ids 1, 2,
    3 ... Runs once, in the task that shall end with it.
    """

    def __init__(
        self,
        upstream: Upstream,
        question: Question,
        answer: Answer,
        outlet: Outlet,
        *,
        headers: Mapping[str, str] | None = None,
        numbered: bool = False,
        redactor: Redactor = Redactor(),  # noqa: B008 (immutable)
        metrics: Metrics | None = None,
    ) -> None:
        self._upstream = upstream
        self._question = question
        self._answer = answer
        self._outlet = outlet
        self._headers = headers
        self._numbered = numbered
        self._redactor = redactor
        self._metrics = metrics
        self._task: asyncio.Task[Any] | None = None
        self._stopped: list[Event] | None = None  # the events of an end from outside
        self._last: list[Event] = []  # those that the end came with
        self._silence = Silence(answer.limit)
        self._loop = asyncio.get_running_loop()
        self._made_at = self._said_at = self._loop.time()
        self._said_nothing = True
        self.events = 0
        self.bytes = 0
        self.first_event_after: float | None = None  # seconds
        self.outcome: str | None = None  # once ended: a reason, or an error's code
        self.fault: Exception | None = None  # ours, if that ended it

    @property
    def age(self) -> float:
        """Seconds since it was made."""
        return self._loop.time() - self._made_at

    async def run(self) -> None:
        """Ask, and return when the whole answer is in the outlet.

        Cancelling it closes the connection to AnythingLLM, and leaves the answer without an end. So does
        the outlet's ConnectionResetError, which is raised.
        """
        self._task = asyncio.current_task()
        try:
            await self._publish_end(await self._ask_until_stopped())
        except ConnectionResetError:  # the outlet's: upstream.py has words for those of AnythingLLM
            raise
        except Exception as fault:
            # Whatever broke may be in what the answer holds, so its end is told without that.
            self.fault = fault
            message = "The relay itself failed; its log says why."
            error = Error(message, Code.INTERNAL, retryable=False)
            await self._publish_end([error, FinalEnd("error", [], {}, None, 0)])

    def stop(self, reason: Reason, error: RelayError | None = None) -> None:
        """End the answer now, from outside; its readers are told. Does nothing once it has ended."""
        if self.outcome is not None or self._stopped is not None:
            return
        self._stopped = self._answer.stop(reason) if error is None else self._answer.fail(error, reason)
        if self._task is not None:
            self._task.cancel()

    async def _publish_end(self, events: list[Event]) -> None:
        if not events or self.outcome is not None:
            return
        data = self._encoded(events)
        self.outcome = _outcome(events)
        events.clear()  # encoded, they are not needed any more, and the outlet may make us wait
        await self._outlet.end(data)

    def _encoded(self, events: Sequence[Event]) -> list[bytes]:
        """Return the events as they go out, and count them."""
        data = [self._encoded_one(event, number) for number, event in enumerate(events, self.events + 1)]
        now = self._loop.time()
        if self.first_event_after is None:
            self.first_event_after = now - self._made_at
        self.events += len(data)
        self.bytes += sum(map(len, data))
        chunks = sum([type(event) is Chunk for event in events])
        if chunks and self._metrics is not None:
            self._metrics.said(chunks, now - self._said_at, first=self._said_nothing)
            self._said_at, self._said_nothing = now, False
        return data

    def _encoded_one(self, event: Event, number: int) -> bytes:
        data = self._redactor.json(to_json(event))
        return sse.encode(data, event=name_of(event), id=str(number) if self._numbered else "")

    async def _ask_until_stopped(self) -> list[Event]:
        if self._stopped is not None:
            return self._stopped
        try:
            return await self._ask()
        except asyncio.CancelledError:
            # Our own, of `stop`, ends here, as that of asyncio.timeout() does; anyone else's goes on.
            if self._stopped is None or (self._task is not None and self._task.uncancel()):
                raise
            return self._stopped

    async def _ask(self) -> list[Event]:
        """Publish what AnythingLLM answers; return the end, if something else than a frame brings it."""
        try:
            async with self._silence, self._upstream.ask(self._question, self._headers) as reply:
                while not self._answer.ended:
                    await self._read(reply)
                await reply.finish()
        except TimeoutError:
            return self._answer.timeout()
        except RelayError as error:
            return self._answer.fail(error)
        return []

    async def _read(self, reply: Reply) -> None:
        """Take what arrives until there is no room for more, or the end is here."""
        more = await reply.hand_to(self._take)
        self._silence.allow(None)  # AnythingLLM is not silent while it is us who do not read
        if not more:
            self._last = self._answer.eof()
        if self._answer.ended:
            await self._publish_end(self._last)
        else:
            await self._outlet.room()
            self._silence.allow(self._answer.limit)

    def _take(self, data: bytes) -> bool:
        """Put what these bytes bring into the outlet; return whether more may come at once."""
        heard = self._answer.frames
        events = self._answer.feed(data)
        if self._answer.ended:
            self._last = events
            return False
        if events or self._answer.frames != heard:
            self._silence.allow(self._answer.limit)
        return not events or self._outlet.put(self._encoded(events))


def _outcome(events: Sequence[Event]) -> str | None:
    """Return how an answer ended with these events: a reason, or an error's code; None if it did not."""
    if not isinstance(end := events[-1], FinalEnd):
        return None
    error = events[-2] if len(events) > 1 else None
    return error.code if isinstance(error, Error) else end.reason
