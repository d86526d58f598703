"""One answer on its way: how it ends from outside, in every phase, and by a fault of ours."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Self

import pytest

from relay.clock import Clock
from relay.encoding import EventEncoding
from relay.errors import Code, RelayError
from relay.frames import Answer, Limits
from relay.question import Policy, parse
from relay.redact import Redactor
from relay.stream import RelayStream

CHUNK = b'data: {"type":"textResponseChunk","textResponse":"a"}\n\n'
LAST = b'data: {"type":"finalizeResponseStream","close":true}\n\n'
QUESTION = parse({"question": "?"}, Policy("demo", ["demo"], "chat", ["chat"]))


class Upstream:
    """In place of AnythingLLM: says what it is given, then nothing more."""

    def __init__(self, *said: bytes, never: str = "read") -> None:
        self._said = list(said)
        self._never = never  # what never returns: "ask", "read" or "finish"
        self.closed = False
        self.reached = asyncio.Event()

    async def ask(self, *_: object) -> Self:
        if self._never == "ask":
            await self._wait()
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.closed = True

    async def hand_to(self, take: Callable[[bytes], bool]) -> bool:
        while self._said:
            if not take(self._said.pop(0)):
                return True
        await self._wait()
        return False

    async def finish(self) -> None:
        if self._never == "finish":
            await self._wait()

    async def _wait(self) -> None:
        self.reached.set()
        await asyncio.get_running_loop().create_future()


class Kept:
    """An outlet that keeps all, and never has room where it is told so."""

    def __init__(self, *, full: bool = False) -> None:
        self.events: list[bytes] = []
        self.ends = 0
        self._full = full
        self.waits = asyncio.Event()

    def put(self, events: Sequence[bytes]) -> bool:
        for piece in events:  # one event, or several that have no numbers
            self.events += [event + b"\n\n" for event in piece.split(b"\n\n")[:-1]]
        return not self._full

    async def room(self) -> None:
        self._full = False
        self.waits.set()
        await asyncio.get_running_loop().create_future()

    async def end(self, events: Sequence[bytes] = ()) -> None:
        self.ends += 1
        self.put(events)


def stream(
    upstream: Any,
    outlet: Any,
    first_event: float = 30,
    idle: float | None = None,
    *,
    numbered: bool = False,
) -> RelayStream:
    encoding = EventEncoding(Redactor(), numbered=numbered)
    answer = Answer(limits=Limits(first_event, idle))
    return RelayStream(upstream, QUESTION, answer, encoding, outlet, clock=Clock([0.05]))


async def test_events_are_numbered_on_request() -> None:
    for numbered in (True, False):
        kept = Kept()
        await stream(Upstream(CHUNK + CHUNK, LAST), kept, numbered=numbered).run()
        ids = [event.split(b"\n")[1] for event in kept.events]
        assert (ids == [b"id: 1", b"id: 2", b"id: 3"]) == numbered
        assert kept.ends == 1


@pytest.mark.parametrize(
    ("said", "never"), [([], "ask"), ([], "read"), ([CHUNK], "read")], ids=["asking", "silent", "amid"]
)
async def test_it_can_be_stopped_in_every_phase(said: list[bytes], never: str) -> None:
    """Its readers are told, AnythingLLM is let go, and the task that ran it was not cancelled."""
    upstream, kept = Upstream(*said, never=never), Kept()
    one = stream(upstream, kept)
    running = asyncio.create_task(one.run())
    await upstream.reached.wait()
    one.stop("cancelled")
    one.stop("shutdown", RelayError(Code.SHUTTING_DOWN, "too late"))
    await running
    assert one.outcome == "cancelled"
    assert len(kept.events) == len(said) + 1
    assert b'"reason":"cancelled"' in kept.events[-1]
    assert kept.ends == 1
    assert upstream.closed or never == "ask"
    assert not running.cancelled()
    assert not running.cancelling()


async def test_it_can_be_stopped_before_it_runs() -> None:
    kept = Kept()
    one = stream(Upstream(never="ask"), kept)
    running = asyncio.create_task(one.run())
    one.stop("shutdown", RelayError(Code.SHUTTING_DOWN, "bye"))
    await running
    assert one.outcome == "shutting_down"
    assert len(kept.events) == 2
    assert b'"reason":"shutdown"' in kept.events[-1]


async def test_it_can_be_stopped_while_it_waits_for_its_reader() -> None:
    upstream, kept = Upstream(CHUNK), Kept(full=True)
    one = stream(upstream, kept)
    running = asyncio.create_task(one.run())
    await kept.waits.wait()
    one.stop("cancelled")
    await running
    assert len(kept.events) == 2
    assert upstream.closed


async def test_after_its_end_it_cannot_be_stopped() -> None:
    """While only the end of AnythingLLM's body is waited for."""
    upstream, kept = Upstream(CHUNK, LAST, never="finish"), Kept()
    one = stream(upstream, kept)
    running = asyncio.create_task(one.run())
    await upstream.reached.wait()
    one.stop("cancelled")
    await asyncio.sleep(0.01)
    assert not running.done()
    assert one.outcome == "complete"
    assert kept.ends == 1
    running.cancel()
    await asyncio.wait([running])
    assert upstream.closed


async def test_anybody_elses_cancellation_is_no_stop() -> None:
    """Also when it comes together with one."""
    for stopped in (False, True):
        upstream, kept = Upstream(CHUNK), Kept()
        one = stream(upstream, kept)
        running = asyncio.create_task(one.run())
        await upstream.reached.wait()
        if stopped:
            one.stop("cancelled")
        running.cancel()
        await asyncio.wait([running])
        assert running.cancelled()
        assert upstream.closed
        assert one.outcome is None
        assert kept.ends == 0


async def test_a_fault_of_ours_ends_it_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what broke, and with the fault kept for the log."""
    monkeypatch.setattr(Answer, "feed", lambda *_: 1 / 0)
    kept = Kept()
    one = stream(Upstream(CHUNK), kept)
    await one.run()
    assert one.outcome == "internal"
    assert isinstance(one.fault, ZeroDivisionError)
    assert len(kept.events) == 2
    assert kept.ends == 1


async def test_a_reader_that_leaves_is_no_fault() -> None:
    """Its response tells so by an error that is raised, and AnythingLLM is let go."""

    class Left(Kept):
        async def room(self) -> None:
            raise ConnectionResetError

    upstream = Upstream(CHUNK)
    one = stream(upstream, Left(full=True))
    with pytest.raises(ConnectionResetError):
        await one.run()
    assert upstream.closed
    assert (one.fault, one.outcome) == (None, None)


async def test_time_waiting_for_the_reader_is_no_silence_of_anythingllm() -> None:
    class Slow(Kept):
        async def room(self) -> None:
            await asyncio.sleep(0.2)

    one = stream(Upstream(CHUNK, CHUNK, LAST), Slow(full=True), idle=0.05)
    await one.run()
    assert one.outcome == "complete"


async def test_silence_ends_it_in_its_own_words() -> None:
    """While the head of the answer is waited for, and while a further frame is."""
    for said, never in ([], "ask"), ([], "read"), ([CHUNK], "read"):
        upstream, kept = Upstream(*said, never=never), Kept()
        one = stream(upstream, kept, first_event=0.05, idle=0.05)
        await one.run()
        assert one.outcome == "upstream_timeout"
        assert (len(kept.events), kept.ends) == (len(said) + 2, 1)
        assert upstream.closed or never == "ask"


async def test_an_end_that_has_come_is_not_overtaken() -> None:
    """By a stop, or by the clock, before the task that publishes it has woken up."""

    class Ending(Upstream):
        async def hand_to(self, take: Callable[[bytes], bool]) -> bool:
            assert not take(CHUNK + LAST)
            one.stop("cancelled")
            one.look(float("inf"))
            await asyncio.sleep(0)
            return True

    kept = Kept()
    one = stream(Ending(), kept)
    await one.run()
    assert one.outcome == "complete"
    assert (len(kept.events), kept.ends) == (2, 1)


async def test_a_fault_is_told_undisturbed(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a stop, or by the silence that follows, while its reader is waited for."""

    class Waiting(Kept):
        async def end(self, events: Sequence[bytes] = ()) -> None:
            one.stop("cancelled")
            one.look(float("inf"))
            await asyncio.sleep(0)
            await super().end(events)

    monkeypatch.setattr(Answer, "feed", lambda *_: 1 / 0)
    kept = Waiting()
    one = stream(Upstream(CHUNK), kept)
    await one.run()
    assert one.outcome == "internal"
    assert (len(kept.events), kept.ends) == (2, 1)
