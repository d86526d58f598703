"""One answer on its way: AnythingLLM is read, and what it says goes to an outlet."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from relay.clock import Clock
from relay.encoding import Encoding
from relay.errors import Code, RelayError
from relay.events import Chunk, Error, Event, FinalEnd, Reason
from relay.frames import Answer
from relay.metrics import Metrics
from relay.question import Question
from relay.upstream import Reply, Upstream

_WORDS_OF_OTHERS: Final = (Code.UPSTREAM_ABORTED, Code.UPSTREAM_REJECTED)


class Outlet(Protocol):
    """Takes the events of a stream: the response to its one reader, or the window of many."""

    def put(self, events: Sequence[bytes]) -> bool:
        """Take events as they were encoded; return whether there is room for more."""

    async def room(self) -> None:
        """Wait until there is room for more.

        Raises ConnectionResetError if nobody is there any more to take them.
        """

    async def end(self, events: Sequence[bytes] = ()) -> None:
        """Take the last events: no more come. May wait, and raise, like room."""


class RelayStream:
    """Asks one question, and puts every event of the answer, encoded once, into its outlet.

    AnythingLLM is read only as fast as the outlet takes. Runs once, in the task that shall end with it.
    """

    def __init__(
        self,
        upstream: Upstream,
        question: Question,
        answer: Answer,
        encoding: Encoding,
        outlet: Outlet,
        *,
        clock: Clock,
        headers: Mapping[str, str] | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._upstream = upstream
        self.question = question
        self._answer = answer
        self._encode = encoding.encode
        self._outlet = outlet
        self._clock = clock
        self._headers = headers
        self._metrics = metrics
        self._task: asyncio.Task[Any] | None = None
        self._stopped: list[Event] | None = None  # the events of an end from outside
        self._last: list[Event] = []  # those that the end came with
        self._silent_at: float | None = None  # when AnythingLLM will have been silent for too long
        self._loop = asyncio.get_running_loop()
        self._made_at = self._said_at = self._loop.time()
        self._said_nothing = True
        self.events = 0
        self.bytes = 0
        self.first_event_after: float | None = None  # seconds
        self.outcome: str | None = None  # once ended: a reason, or an error's code
        self.why: str | None = None  # and why, where that is said in our own words
        self.fault: Exception | None = None  # ours, if that ended it
        self.upstream_status: int | None = None  # of AnythingLLM's answer, once there is one

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
        self._clock.add(self)
        try:
            await self._publish_end(await self._ask_until_stopped())
        except ConnectionResetError:  # the outlet's: upstream.py has words for those of AnythingLLM
            raise
        except Exception as fault:
            # Whatever broke may be in what the answer holds, so its end is told without that.
            self.fault, self._silent_at = fault, None
            message = "The relay itself failed; its log says why."
            error = Error(message, Code.INTERNAL, retryable=False)
            await self._publish_end([error, FinalEnd("error", [], {}, None, 0)])
        finally:
            self._clock.discard(self)

    def stop(self, reason: Reason, error: RelayError | None = None) -> None:
        """End the answer now, from outside; its readers are told. Does nothing once it has ended."""
        if not self._answer.ended and self.fault is None:
            end = self._answer.stop(reason) if error is None else self._answer.fail(error, reason)
            self._stop_with(end)

    def look(self, now: float) -> bool:
        """End the answer if AnythingLLM has been silent for too long."""
        if self._silent_at is not None and now >= self._silent_at and not self._answer.ended:
            self._stop_with(self._answer.timeout())
        return False

    def _stop_with(self, end: list[Event]) -> None:
        self._silent_at = None
        self._stopped = end
        if self._task is not None:
            self._task.cancel()

    def _allow_silence(self) -> None:
        limit = self._answer.limit
        self._silent_at = None if limit is None else self._loop.time() + limit

    async def _publish_end(self, events: list[Event]) -> None:
        if not events or self.outcome is not None:
            return
        data = self._encoded(events)
        self.outcome, self.why = _outcome(events)
        events.clear()  # encoded, they are not needed any more, and the outlet may make us wait
        await self._outlet.end(data)

    def _encoded(self, events: Sequence[Event]) -> list[bytes]:
        """Return the events as they go out, and count them."""
        pieces = self._encode(events)
        chunks = sum([type(event) is Chunk for event in events])
        self.events += len(events)
        self.bytes += sum(map(len, pieces))
        now = self._loop.time()
        if self.first_event_after is None:
            self.first_event_after = now - self._made_at
        if chunks and self._metrics is not None:
            self._metrics.said(chunks, now - self._said_at, first=self._said_nothing)
            self._said_at, self._said_nothing = now, False
        return pieces

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
        self._allow_silence()
        try:
            with await self._upstream.ask(self.question, self._headers) as reply:
                self.upstream_status = 200
                while not self._answer.ended:
                    await self._read(reply)
                await reply.finish()
        except RelayError as error:
            self.upstream_status = error.upstream_status or self.upstream_status
            return self._answer.fail(error)
        return []

    async def _read(self, reply: Reply) -> None:
        """Take what arrives until there is no room for more, or the end is here."""
        more = await reply.hand_to(self._take)
        self._silent_at = None  # AnythingLLM is not silent while it is us who do not read
        if not more:
            self._last = self._answer.eof()
        if self._answer.ended:
            await self._publish_end(self._last)
        else:
            await self._outlet.room()
            self._allow_silence()

    def _take(self, data: bytes) -> bool:
        """Put what these bytes bring into the outlet; return whether more may come at once."""
        answer = self._answer
        heard = answer.frames
        events = answer.feed(data)
        if answer.ended:
            self._last = events
            return False
        if answer.frames != heard:
            self._allow_silence()
        return not events or self._outlet.put(self._encoded(events))


def _outcome(events: Sequence[Event]) -> tuple[str | None, str | None]:
    """Return how an answer ended with these events: a reason, or an error's code; None if it did not.

    Beside an error's code comes its message, but for one with words of others in it: they may hold a
    piece of the question.
    """
    if not isinstance(end := events[-1], FinalEnd):
        return None, None
    error = events[-2] if len(events) > 1 else None
    if not isinstance(error, Error):
        return end.reason, None
    return error.code, None if error.code in _WORDS_OF_OTHERS else error.message
