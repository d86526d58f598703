"""Streams and their readers in any order of events, against a model of what each may hear.

There are no sockets here, and no clock but the test's own: hypothesis decides who does what when.
"""

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from relay.clock import Clock
from relay.encoding import EventEncoding
from relay.errors import Code, RelayError
from relay.frames import Answer
from relay.question import Policy, Question, parse
from relay.redact import Redactor
from relay.resumable import MAX_READERS, Asked, Holding, ResumableStream, ResumableStreams
from relay.sse import Decoder
from relay.stream import RelayStream
from relay.streams import Streams
from relay.window import EventsGone

PATIENCE: Final = 60.0
STREAM_BYTES: Final = 2000
MOST_RUNNING: Final = 6
ROOMY: Final = 10**9
T = TypeVar("T")


class Loop(asyncio.SelectorEventLoop):
    """An event loop whose time passes when the test says so."""

    now = 0.0

    def time(self) -> float:
        return self.now


class Call:
    """AnythingLLM's side of one question."""

    def __init__(self) -> None:
        self._said: asyncio.Queue[bytes | RelayError] = asyncio.Queue()
        self.open = True

    def say(self, *frames: dict[str, Any]) -> None:
        self._said.put_nowait(b"".join(b"data: %b\n\n" % json.dumps(one).encode() for one in frames))

    def end(self) -> None:
        self._said.put_nowait(b"")

    def break_off(self) -> None:
        self._said.put_nowait(RelayError(Code.UPSTREAM_TRUNCATED, "broken"))

    @property
    def unheard(self) -> int:
        return self._said.qsize()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.open = False

    async def hand_to(self, take: Callable[[bytes], bool]) -> bool:
        while True:
            said = await self._said.get()
            if isinstance(said, RelayError):
                raise said
            if not said:
                return False
            if not take(said):
                return True

    async def finish(self) -> None:
        pass


class Calls:
    """In place of the client of AnythingLLM: every question is a Call."""

    def __init__(self) -> None:
        self.all: list[Call] = []

    async def ask(self, _question: Question, _headers: Mapping[str, str] | None) -> "Call":
        self.all.append(Call())
        return self.all[-1]


class Tap:
    """Passes events on to an outlet, and keeps them."""

    def __init__(self, outlet: Any) -> None:
        self._outlet = outlet
        self.events: list[bytes] = []

    def put(self, events: Sequence[bytes]) -> bool:
        self.events += events
        return bool(self._outlet.put(events))

    async def room(self) -> None:
        await self._outlet.room()

    async def end(self, events: Sequence[bytes] = ()) -> None:
        self.events += events
        await self._outlet.end(events)


@dataclass(eq=False)
class Reader:
    """Somebody who reads a stream from an event on."""

    after: int
    task: asyncio.Task[None] | None = None
    may_go_on: asyncio.Event = field(default_factory=asyncio.Event)
    received: bytes = b""
    outcome: str = "reading"  # then "whole", "gone" or "left"


class Response:
    """In place of the response to the one reader of a plain stream."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._waiting = b""

    def put(self, events: Sequence[bytes]) -> bool:
        self._waiting += b"".join(events)
        if self._reader.may_go_on.is_set():
            self._reader.received += self._waiting
            self._waiting = b""
        return not self._waiting

    async def room(self) -> None:
        await self._reader.may_go_on.wait()
        self.put([])

    async def end(self, events: Sequence[bytes] = ()) -> None:
        if not self.put(events):
            await self.room()
        self._reader.outcome = "whole"


@dataclass(eq=False)
class Life:
    """A stream, and what the model knows of it."""

    call: Call
    tap: Tap
    held: ResumableStream | None = None  # None: a plain one
    key: str | None = None
    said: list[str] = field(default_factory=list)  # texts
    end: str | None = None
    readers: list[Reader] = field(default_factory=list)
    unread_since: float | None = None
    end_noted: bool = False
    forgotten: bool = False

    @property
    def reading(self) -> list[Reader]:
        return [one for one in self.readers if one.outcome == "reading"]

    @property
    def runs(self) -> bool:
        return self.end is None and not self.forgotten

    @property
    def counts(self) -> bool:
        """Whether it is one of the answers that run: until its end is told, taken or not."""
        if self.held is not None:
            return self.runs
        return bool(self.reading) and not any(b"final_end" in event for event in self.tap.events[-1:])

    def expected(self) -> list[tuple[str, str]]:
        """Every event it must have had by its end, with what matters of it."""
        chunks = [("chunk", text) for text in self.said]
        match self.end:
            case "cancelled":
                return [*chunks, ("final_end", "cancelled")]
            case "finalize" if self.said:
                return [*chunks, ("final_end", "complete")]
            case "finalize":
                code = "empty_answer"
            case "abort":
                code = "upstream_aborted"
            case "eof":
                code = "upstream_truncated" if self.said else "upstream_protocol"
            case _:
                code = "upstream_truncated" if self.said else "upstream_unreachable"
        return [*chunks, ("error", code), ("final_end", "error")]


def events_in(data: bytes) -> list[tuple[str, str]]:
    """The events, with what matters of each."""
    told = [(event.event, json.loads(event.data)) for event in Decoder().feed(data)]
    what = {"chunk": "content", "error": "code", "final_end": "reason"}
    return [(name, data[what[name]]) for name, data in told]


async def step() -> None:
    """Let everything happen that can happen now."""
    for _ in range(50):
        await asyncio.sleep(0)


class Lives(RuleBasedStateMachine):
    """Opens, reads, leaves, slows down, comes back, cancels, fails and waits."""

    total_bytes = ROOMY

    @initialize()
    def begin(self) -> None:
        self.loop = Loop()
        self.calls = Calls()
        self.lives: list[Life] = []
        self.streams, self.held = self.do(self._made())

    async def _made(self) -> tuple[Streams, ResumableStreams]:
        streams = Streams(MOST_RUNNING)
        holding = Holding(PATIENCE, STREAM_BYTES, self.total_bytes)
        return streams, ResumableStreams(streams, holding)

    def do(self, what: Coroutine[Any, Any, T]) -> T:
        """Do something, and all that follows from it in no time; bring the model up to date."""

        async def settled() -> T:
            result = await what
            await step()
            return result

        result = self.loop.run_until_complete(settled())
        for life in self.lives:
            if life.reading:
                life.unread_since = None
            elif life.unread_since is None or (life.end is not None and not life.end_noted):
                life.unread_since = self.loop.now
            life.end_noted = life.end is not None
        return result

    def some(self, which: int) -> Life:
        return self.lives[which % len(self.lives)]

    # Opening

    @rule(key=st.sampled_from([None, None, "a", "b"]))
    def open_resumable(self, key: str | None) -> None:
        self.do(self._open_resumable(key))

    async def _open_resumable(self, key: str | None) -> None:
        asked = None if key is None else Asked(key, b"digest")
        before = None if asked is None else await self.held.find_asked(asked, None)
        if before is not None:
            (same,) = [one for one in self.lives if one.held is before]
            assert same.key == key
            await self._come_back(same, 0)
            return
        assert key is None or self.total_bytes < ROOMY or not self._holds(key)
        taps: list[Tap] = []

        def make(window: Any) -> RelayStream:
            taps.append(Tap(window))
            return self._stream(taps[0], numbered=True)

        running = sum(life.counts for life in self.lives)
        try:
            held = await self.held.open(make, owner=None, asked=asked, ended=lambda _: None)
        except RelayError as error:
            full = error.code is Code.TOO_MANY_STREAMS and running >= MOST_RUNNING
            assert full or (error.code is Code.RESUME_UNAVAILABLE and self.total_bytes < ROOMY)
            return
        assert running < MOST_RUNNING
        assert isinstance(held, ResumableStream)
        await step()
        life = Life(self.calls.all[-1], taps[0], held, key)
        self.lives.append(life)
        self._attach(life, 0)

    def _holds(self, key: str) -> bool:
        return any(life.key == key and not life.forgotten for life in self.lives)

    def _stream(self, outlet: Any, *, numbered: bool) -> RelayStream:
        asked = parse({"question": "?"}, Policy("demo", ["demo"], "chat", ["chat"]))
        calls: Any = self.calls
        encoding = EventEncoding(Redactor(), numbered=numbered)
        return RelayStream(calls, asked, Answer(), encoding, outlet, clock=Clock([3600.0]))

    @rule()
    def open_plain(self) -> None:
        self.do(self._open_plain())

    async def _open_plain(self) -> None:
        reader = Reader(0)
        reader.may_go_on.set()
        tap = Tap(Response(reader))
        stream = self._stream(tap, numbered=False)
        running = sum(life.counts for life in self.lives)
        try:
            self.streams.admit(stream)
        except RelayError as error:
            assert error.code is Code.TOO_MANY_STREAMS
            assert running >= MOST_RUNNING
            return
        assert running < MOST_RUNNING
        reader.task = asyncio.create_task(self._run_plain(stream))
        await step()
        self.lives.append(Life(self.calls.all[-1], tap, readers=[reader]))

    # Reading

    async def _run_plain(self, stream: RelayStream) -> None:
        try:
            await stream.run()
        finally:
            self.streams.release(stream)

    def _attach(self, life: Life, after: int) -> None:
        assert life.held is not None
        reader = Reader(after)
        reader.may_go_on.set()
        reader.task = asyncio.create_task(self._read(life.held, reader))
        life.readers.append(reader)
        life.unread_since = None

    async def _read(self, held: ResumableStream, reader: Reader) -> None:
        with held.reading(reader.after) as place:
            try:
                await self._take(place, reader)
                reader.outcome = "whole"
            except EventsGone:
                reader.outcome = "gone"

    async def _take(self, source: Any, reader: Reader) -> None:
        while data := await source.read():
            await reader.may_go_on.wait()
            reader.received += data

    @precondition(lambda self: self.lives)
    @rule(which=st.integers(0, 20), back=st.integers(0, 8))
    def come_back(self, which: int, back: int) -> None:
        """Some events before the last, or from the start."""
        life = self.some(which)
        if life.held is not None:
            self.do(self._come_back(life, max(0, len(life.tap.events) - back)))

    async def _come_back(self, life: Life, after: int) -> None:
        assert life.held is not None
        try:
            held = await self.held.find(life.held.id, None)
        except RelayError as error:
            assert error.code is Code.UNKNOWN_STREAM
            assert life.forgotten
            return
        assert not life.forgotten
        missed = life.tap.events[after:]
        try:
            if not await held.has_more(after):
                assert life.end is not None
                assert not missed
                return
        except RelayError as error:
            assert error.code is Code.EVENTS_GONE
            assert sum(map(len, missed)) > STREAM_BYTES or self.total_bytes < ROOMY
            return
        if len(life.reading) < MAX_READERS:
            self._attach(life, after)

    @precondition(lambda self: self.lives)
    @rule(which=st.integers(0, 20), beyond=st.integers(1, 5))
    def ask_for_what_never_was(self, which: int, beyond: int) -> None:
        life = self.some(which)
        if life.held is None or life.forgotten:
            return
        try:
            self.do(life.held.has_more(len(life.tap.events) + beyond))
        except RelayError as error:
            assert error.code is Code.BAD_REQUEST
        else:
            raise AssertionError("an event that never was")

    @precondition(lambda self: self.lives)
    @rule(which=st.integers(0, 20), reader=st.integers(0, 5))
    def slow_down(self, which: int, reader: int) -> None:
        if reading := self.some(which).reading:
            reading[reader % len(reading)].may_go_on.clear()

    @precondition(lambda self: self.lives)
    @rule(which=st.integers(0, 20))
    def speed_up(self, which: int) -> None:
        for reader in self.some(which).readers:
            reader.may_go_on.set()
        self.do(step())

    @precondition(lambda self: self.lives)
    @rule(which=st.integers(0, 20), reader=st.integers(0, 5))
    def leave(self, which: int, reader: int) -> None:
        life = self.some(which)
        if not life.reading:
            return
        one = life.reading[reader % len(life.reading)]
        self.do(self._leave(one))
        if life.held is None:
            assert not life.call.open  # a plain answer ends with its reader
            life.forgotten = True

    async def _leave(self, reader: Reader) -> None:
        assert reader.task is not None
        reader.task.cancel()
        await asyncio.wait([reader.task])
        reader.outcome = "left"

    # AnythingLLM

    @precondition(lambda self: self.lives)
    @rule(which=st.integers(0, 20), times=st.integers(1, 8), size=st.sampled_from([1, 10, 300, 3000]))
    def say(self, which: int, times: int, size: int) -> None:
        life = self.some(which)
        if not life.runs:
            return
        texts = [f"{len(life.said) + n} " + "x" * size for n in range(times)]
        life.said += texts
        keep_up = [one for one in life.reading if one.may_go_on.is_set()]
        life.call.say(*[{"type": "textResponseChunk", "textResponse": text} for text in texts])
        self.do(step())
        assert all(one.outcome == "reading" for one in keep_up)  # however much comes at once
        if life.held is not None:
            assert not life.call.unheard  # it waits for nobody
        elif keep_up:
            assert not life.call.unheard

    @precondition(lambda self: self.lives)
    @rule(which=st.integers(0, 20), how=st.sampled_from(["finalize", "abort", "eof", "broken"]))
    def end(self, which: int, how: str) -> None:
        life = self.some(which)
        if not life.runs:
            return
        match how:
            case "finalize":
                life.call.say({"type": "finalizeResponseStream", "close": True})
            case "abort":
                life.call.say({"type": "abort", "error": "429 no", "close": True})
            case "eof":
                life.call.end()
            case "broken":
                life.call.break_off()
        life.end = how
        self.do(step())

    @precondition(lambda self: self.lives)
    @rule(which=st.integers(0, 20))
    def cancel(self, which: int) -> None:
        life = self.some(which)
        if life.held is None or life.forgotten:
            return
        life.end = life.end or "cancelled"
        self.do(self.held.cancel(life.held))
        assert not life.call.open

    # Time

    @rule(seconds=st.sampled_from([1.0, 20.0, 45.0, 61.0]))
    def wait(self, seconds: float) -> None:
        self.loop.now += seconds
        self.do(step())
        for life in self.lives:
            since = life.unread_since
            if life.held is not None and since is not None and since + PATIENCE <= self.loop.now:
                life.forgotten = True

    # What holds at every moment

    @invariant()
    def what_is_held_is_what_should_be(self) -> None:
        for life in getattr(self, "lives", ()):
            if life.held is None:
                continue
            try:
                self.loop.run_until_complete(self.held.find(life.held.id, None))
            except RelayError:
                # Room may be made for others, but not at the cost of an answer that runs.
                assert life.forgotten or (self.total_bytes < ROOMY and life.end is not None)
                life.forgotten = True
            else:
                assert not life.forgotten

    @invariant()
    def anythingllm_is_asked_as_long_as_somebody_may_hear_it(self) -> None:
        for life in getattr(self, "lives", ()):
            if life.forgotten:
                assert not life.call.open
            elif life.held is not None:
                assert life.call.open == (life.end is None)

    @invariant()
    def readers_hear_every_event_once_and_in_order(self) -> None:
        for life in getattr(self, "lives", ()):
            for reader in life.readers:
                events = life.tap.events[reader.after :]
                assert b"".join(events).startswith(reader.received)
                if reader.outcome == "whole":
                    assert reader.received == b"".join(events)
                    assert events_in(b"".join(life.tap.events)) == life.expected()
                elif reader.outcome == "gone":
                    assert not reader.received.endswith(events[-1])

    def teardown(self) -> None:
        if not hasattr(self, "lives"):
            return
        for life in self.lives:
            for reader in life.readers:
                reader.may_go_on.set()
        self.do(step())
        for life in self.lives:
            if life.end is not None and not (life.forgotten and life.held is None):
                assert events_in(b"".join(life.tap.events)) == life.expected()
        self.readers_hear_every_event_once_and_in_order()
        self.do(self._close())
        assert not asyncio.all_tasks(self.loop)
        assert not any(call.open for call in self.calls.all)
        assert len(self.streams) == len(self.held) == 0
        assert self.held._budget._used == 0
        self.loop.close()

    async def _close(self) -> None:
        for life in self.lives:
            for reader in life.reading:
                await self._leave(reader)
        await self.held.close()


class CrampedLives(Lives):
    """The same with room for a few streams only."""

    total_bytes = 20_000


TestLives = Lives.TestCase
TestLives.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestCrampedLives = CrampedLives.TestCase
TestCrampedLives.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
