"""One question after the other, as a client of docs/protocol.md asks and reads them."""

import asyncio
import random
import re
from time import perf_counter
from typing import Final, TypeVar

import aiohttp
import msgspec

from relay.loadtest.figures import Failure, Figures
from relay.loadtest.plan import Plan
from relay.sse import Decoder, LineTooLong, ServerSentEvent

# With `"format": "anythingllm"` an answer comes in unnamed events, one for each of its frames.
_CHUNKS: Final = ("chunk", "message")
MOST_CHUNKS: Final = 10  # a client that leaves early leaves after 1 to so many
_REFUSAL: Final = 65_536  # bytes of a refusal that are read for its code
_CLOSING: Final = 1.0  # seconds for the end of a body after `final_end`
# A code goes to a terminal: one that is none of a program's words may be anything.
_CODE: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_NO_CODE: Final = "without_a_code"


class _Coded(msgspec.Struct):
    """What is looked at in a refusal and in an `error` event."""

    code: str


class _End(msgspec.Struct):
    """What is looked at in a `final_end` event."""

    reason: str


class _Broken(Exception):
    """The answer failed."""

    def __init__(self, kind: str, code: str) -> None:
        super().__init__(kind, code)
        self.failure = Failure(kind, code)


class _Left(Exception):
    """The client has had enough."""


class Answer:
    """What has come of one answer so far."""

    def __init__(self, since: float, patience: int | None) -> None:
        self._since = since
        self._patience = patience
        self._before: float | None = None  # when a read last brought chunks
        self._chunks = 0
        self._error: str | None = None
        self.ended = False
        """Whether `final_end` came."""
        self.good = False
        """Whether it did, and said that the answer is complete."""

    @property
    def has_chunks(self) -> bool:
        """Whether any came."""
        return self._before is not None

    def take(self, events: list[ServerSentEvent], now: float, figures: Figures) -> None:
        """Take in what one read brought. Raises _Broken and _Left.

        What came together counts as one arrival: between the chunks of a read there is no gap, not one
        of nothing.
        """
        chunks = sum(event.event in _CHUNKS for event in events)
        if chunks:
            if self._before is None:
                figures.first_chunk(now - self._since)
            else:
                figures.between_chunks(now - self._before)
            self._before = now
            self._chunks += chunks
            figures.counts.chunks += chunks
        for event in events:
            if event.event == "error":
                self._error = _plain(_read(event.data, _Coded).code)
            elif event.event == "final_end":
                self._end(_read(event.data, _End).reason, now, figures)
        if self._patience is not None and self._chunks >= self._patience and not self.ended:
            raise _Left

    def _end(self, reason: str, now: float, figures: Figures) -> None:
        self.ended = True
        if self._error is not None:
            figures.fail(Failure("event", self._error))
        elif reason != "complete":
            figures.fail(Failure("stream", f"ended_{_plain(reason)}"))
        else:
            self.good = True
            figures.total.record(now - self._since)
            figures.counts.complete += 1


class _Open:
    """A question that is open, for the clock to look at."""

    def __init__(self) -> None:
        self.heard = perf_counter()
        self.limit = asyncio.timeout(None)


class Client:
    """Asks, reads, and tells the figures. Raises nothing of what a server may do."""

    def __init__(self, plan: Plan, figures: Figures, session: aiohttp.ClientSession) -> None:
        self._plan = plan
        self._figures = figures
        self._session = session
        self._open: set[_Open] = set()
        self._headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        if plan.key is not None:
            self._headers["Authorization"] = f"Bearer {plan.key}"

    async def ask(self, body: bytes, since: float) -> bool:
        """Ask one question, and read until the answer ends; return whether it did not fail.

        Times count from `since`, a moment of perf_counter.
        """
        figures = self._figures
        leaves = random.random() < self._plan.leave  # noqa: S311 (no secret)
        answer = Answer(since, random.randint(1, MOST_CHUNKS) if leaves else None)  # noqa: S311
        here = _Open()
        self._open.add(here)
        figures.opened()
        try:
            async with here.limit:
                await self._read(body, answer, here)
        except _Left:
            figures.counts.left += 1
            return True
        except asyncio.CancelledError:
            if not answer.ended:
                figures.open_at_end += 1
                figures.silent_at_end += not answer.has_chunks
            raise
        except Exception as error:
            if not answer.ended:  # else it has been counted, and what follows the end matters no more
                figures.fail(_failure(error))
        finally:
            self._open.discard(here)
            figures.active -= 1
        return answer.good

    def give_up_silent(self) -> None:
        """End the answers that had no event for too long.

        The clock calls this now and then: a timer for every read would cost more than the read.
        """
        now, loop = perf_counter(), asyncio.get_running_loop()
        for one in self._open:
            if now - one.heard > self._plan.timeout and not one.limit.expired():
                one.limit.reschedule(loop.time())

    async def _read(self, body: bytes, answer: Answer, here: _Open) -> None:
        post = self._session.post(
            self._plan.url, data=body, headers=self._headers, allow_redirects=False
        )
        async with post as response:
            try:
                if response.status != 200:
                    raise _Broken("refused", await _refusal(response))
                if response.content_type != "text/event-stream":
                    raise _Broken("stream", "not_an_event_stream")
                await self._events(response.content, answer, here)
            except BaseException:
                response.close()  # leaving is closing the connection; and no broken one is used again
                raise

    async def _events(self, content: aiohttp.StreamReader, answer: Answer, here: _Open) -> None:
        feed, counts = Decoder().feed, self._figures.counts
        while not answer.ended:
            data = await content.readany()
            now = perf_counter()
            if not data:
                raise _Broken("stream", "no_final_end")
            counts.size += len(data)
            try:
                events = feed(data)
            except LineTooLong:
                raise _Broken("stream", "line_too_long") from None
            if events:
                here.heard = now
                answer.take(events, now, self._figures)
        async with asyncio.timeout(_CLOSING):  # so that the connection can carry the next question
            while await content.readany():
                pass


_T = TypeVar("_T", _Coded, _End)


def _read(data: str, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, RecursionError):
        raise _Broken("stream", "bad_event") from None


async def _refusal(response: aiohttp.ClientResponse) -> str:
    """The status, and the code where there is one."""
    try:
        raw = await response.content.read(_REFUSAL)
        code = msgspec.json.decode(raw, type=_Coded).code
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return str(response.status)
    return f"{response.status} {_plain(code)}"


def _plain(code: str) -> str:
    return code if _CODE.fullmatch(code) else _NO_CODE


def _failure(error: Exception) -> Failure:
    """Raises what is no fault of the server's, but of this program."""
    if isinstance(error, _Broken):
        return error.failure
    if isinstance(error, TimeoutError):
        return Failure("stream", "timeout")
    if isinstance(error, aiohttp.ClientConnectorError):
        return Failure("connection", "not_connected")
    if isinstance(error, aiohttp.ClientResponseError):
        return Failure("connection", "no_http")
    if isinstance(error, aiohttp.ClientError | OSError):
        return Failure("connection", "lost")
    raise error
