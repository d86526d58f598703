"""The Python client: every event once and in order over any connection, and stopped when it is left."""

import asyncio
import itertools
import re
import signal
import sys
import textwrap
import threading
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from relay.client import (
    AnyEvent,
    AskError,
    Chunk,
    Error,
    FinalEnd,
    Lost,
    Output,
    Reasoning,
    Refused,
    Thought,
    Unreachable,
    ask,
    ask_sync,
)
from relay.standin import Ask, StandIn
from tests.chaos import CAN_VANISH, Chaos, Ending
from tests.conftest import StartRelay
from tests.program import take_interrupts
from tests.running import Relay, unanswered

ROOT = Path(__file__).parent.parent
COUNTED = "".join(f"tok{n} " for n in range(1, 301)).strip()
END = b'event: final_end\ndata: {"type":"final_end","reason":"complete","sources":[],"metrics":{},'
END += b'"chat_id":null,"skipped":0}\n\n'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


async def heard(url: str, question: str | None = "x", **options: Any) -> list[AnyEvent]:
    """All events of an answer."""
    return [event async for event in ask(url, question, **options)]


def text_of(events: list[AnyEvent]) -> str:
    """The answer, which ends once and well."""
    assert [type(event) for event in events].count(FinalEnd) == 1
    assert isinstance(events[-1], FinalEnd)
    return "".join(event.content for event in events if isinstance(event, Chunk))


async def left(running: Ask) -> None:
    """Wait until AnythingLLM knows that nobody wants the answer."""
    async with asyncio.timeout(20):
        await running.ended.wait()
    assert running.outcome == "left"


@asynccontextmanager
async def server(*answers: bytes) -> AsyncIterator[str]:
    """A server that says these bytes, one for each connection, the last one again and again."""
    left = itertools.chain(answers, itertools.repeat(answers[-1]))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(next(left))
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as serving:
        yield f"http://127.0.0.1:{serving.sockets[0].getsockname()[1]}"


# --- what is asked, and what comes ---


async def test_every_kind_of_event_has_its_type(relay: Relay) -> None:
    """A model that thinks aloud, an agent that looks things up and makes a file."""
    events = await heard(relay.url, "!reason", reasoning="separate")
    assert [type(one) for one in events if not isinstance(one, Chunk)] == [Reasoning] * 5 + [FinalEnd]
    events = await heard(relay.url, "@agent !tool")
    assert sum(isinstance(one, Thought) for one in events) == 2
    (output,) = (one for one in await heard(relay.url, "@agent !file") if isinstance(one, Output))
    assert output.kind == "file"


@pytest.mark.parametrize("end", ["", "/", "/stream-ask", "/v1", "/v1/"])
async def test_the_address_may_be_one_of_those_that_settings_have(relay: Relay, end: str) -> None:
    """All of them are the relay's."""
    events = await heard(f"{relay.url}{end}", "!tokens=1")
    assert isinstance(events[-1], FinalEnd)


async def test_every_field_reaches_anythingllm(start_relay: StartRelay, standin: StandIn) -> None:
    """And those of the relay do what they say."""
    relay = await start_relay(anythingllm_allowed_workspaces="demo")
    attachment = {"name": "a.png", "mime": "image/png", "contentString": "data:image/png;base64,AA=="}
    events = await heard(
        f"{relay.url}/stream-ask",  # as it stands in many a setting
        "!sources=2 !tokens=1",
        workspace="demo",
        session_id="mine",
        mode="query",
        attachments=[attachment],
        reset=True,
        sources="none",
    )
    asked = await standin.next_ask()
    assert asked.workspace == "demo"
    assert asked.body["sessionId"] == "mine"
    assert asked.body["mode"] == "query"
    assert asked.body["attachments"] == [attachment]
    assert asked.body["reset"] is True
    assert isinstance(events[-1], FinalEnd)
    assert events[-1].sources == []
    assert text_of(await heard(relay.url, None, reset=True))
    await heard(relay.url, "!tokens=1", thread="t")
    assert [ask.thread for ask in standin.asks][-1] == "t"


async def test_a_failed_answer_is_told_as_an_event(relay: Relay) -> None:
    """The text before it counts, and the end is the last event all the same."""
    events = await heard(relay.url, "!abort=429")
    assert isinstance(events[0], Chunk)
    assert isinstance(events[-2], Error)
    assert "429" in events[-2].message
    assert isinstance(events[-1], FinalEnd)
    assert events[-1].reason == "error"


async def test_events_of_newer_relays_are_skipped() -> None:
    """Unknown kinds, unnamed ones, unknown members of known ones."""
    chunk = b'event: chunk\ndata: {"type":"chunk","content":"a","new":1}\n\n'
    new = b"event: brand_new\ndata: no JSON\n\ndata: unnamed\n\n"
    async with server(HEAD + new + chunk + new + END) as url:
        events = await heard(url)
    assert events[0] == Chunk("a")
    assert len(events) == 2


@pytest.mark.parametrize(
    "bad",
    [
        b"event: chunk\ndata: {]\n\n",
        b'event: chunk\ndata: {"type":"chunk"}\n\n',
        b"event: chunk\ndata: " + b"[" * 100_000 + b"\n\n",
        b"data: " + b"x" * (5 * 2**20),
    ],
)
async def test_what_cannot_be_read_is_told(bad: bytes) -> None:
    """No event is guessed, and no line is held without a bound."""
    async with server(HEAD + bad + END) as url:
        with pytest.raises(Lost, match="cannot be read"):
            await heard(url)


# --- what is not answered ---


async def test_refusals_are_raised(start_relay: StartRelay) -> None:
    """With status, code, the relay's words, and when to come back."""
    relay = await start_relay(relay_api_keys="a-key-of-sixteen-characters", relay_max_streams=1)
    with pytest.raises(Refused, match="key") as refused:
        await heard(relay.url, "x")
    assert (refused.value.status, refused.value.code) == (401, "unauthorized")
    key = "a-key-of-sixteen-characters"
    async with aclosing(ask(relay.url, "!endless", key=key)) as events:
        await anext(events)
        with pytest.raises(Refused) as refused:
            await heard(relay.url, "x", key=key)
    assert (refused.value.status, refused.value.code) == (503, "too_many_streams")
    assert refused.value.retry_after == 1


async def test_what_something_else_refuses_is_told_too() -> None:
    """A proxy that says it with a web page, and a redirect, which is not followed with a key."""
    for status in (b"502 Bad Gateway", b"307 Temporary Redirect\r\nLocation: http://127.0.0.1:1/"):
        async with server(b"HTTP/1.1 " + status + b"\r\nContent-Length: 6\r\n\r\n<html>") as url:
            with pytest.raises(Refused, match=status[:3].decode()) as refused:
                await heard(url)
        assert refused.value.code == ""
        assert refused.value.retry_after is None


async def test_where_no_relay_is_it_says_so(standin: StandIn) -> None:
    """Nothing listens, the name is unknown, nobody answers, a web page does, or no HTTP, or no TLS."""
    for url, words in (
        ("http://127.0.0.1:1", "Nothing listens"),
        ("http://nowhere.invalid", "not known"),
        (standin.url, "no relay"),
        (standin.url.replace("http:", "https:"), "no safe connection"),
    ):
        with pytest.raises(Unreachable, match=words):
            await heard(url)
    async with server(b"220 mail.example.com ESMTP\r\n") as url:
        with pytest.raises(Unreachable, match="no relay"):
            await heard(url)
    with unanswered() as url, pytest.raises(Unreachable, match="does not answer"):
        await heard(url, silence=0.2)


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("localhost:5000", {}),
        ("http://localhost:port", {}),
        ("http://", {}),
        ("http://localhost:5000", {"key": "köy of mine"}),
        ("http://localhost:5000", {"key": "line\nend of mine"}),
        ("http://localhost:5000", {"question": "\ud800"}),
    ],
)
async def test_what_cannot_be_sent_is_an_error_of_the_caller(url: str, options: dict[str, Any]) -> None:
    """A ValueError, without the key in it."""
    with pytest.raises(ValueError, match=r"must|address") as told:
        await heard(url, options.pop("question", "x"), **options)
    assert "of mine" not in str(told.value)


# --- lost connections ---


@pytest.mark.parametrize("how", ["close", "reset", "silence"])
async def test_every_event_comes_once_over_many_connections(
    relay: Relay, standin: StandIn, how: Ending
) -> None:
    """Each connection is cut after some bytes, wherever that is."""
    async with Chaos(relay.port) as chaos:
        chaos.most, chaos.then = 6007, how
        events = await heard(chaos.url, "!tokens=300", silence=0.3)
        assert chaos.seen > 3
    assert text_of(events) == COUNTED
    assert len(events) == 301
    assert len(standin.asks) == 1


@pytest.mark.skipif(not CAN_VANISH, reason="needs Linux")
async def test_a_network_that_is_gone_is_noticed(relay: Relay, standin: StandIn) -> None:
    """Not even its kernel answers; then there is another way."""
    async with Chaos(relay.port) as chaos:
        chaos.most, chaos.then = 3000, "vanish"

        def another() -> None:
            chaos.most = None

        events = await heard(chaos.url, "!tokens=300", silence=0.5, on_lost=another)
    assert text_of(events) == COUNTED


async def test_the_loss_is_told_each_time(relay: Relay) -> None:
    """Once for each connection, not for each attempt."""
    told = 0

    def lost() -> None:
        nonlocal told
        told += 1

    async with Chaos(relay.port) as chaos:
        chaos.most = 9000
        await heard(chaos.url, "!tokens=300", on_lost=lost)
        assert told == chaos.seen - 1


@pytest.mark.parametrize("how", ["close", "reset", "silence"])
async def test_a_question_whose_answer_never_began_is_asked_once(
    relay: Relay, standin: StandIn, how: Ending
) -> None:
    """The question arrives, its head does not: it is sent again, with the same key."""
    async with Chaos(relay.port) as chaos:
        chaos.most, chaos.then = 0, how

        def mended() -> None:
            chaos.most = None

        assert text_of(await heard(chaos.url, "!tokens=300", silence=0.3, on_lost=mended)) == COUNTED
        assert chaos.seen == 2
    assert len(standin.asks) == 1


async def test_a_relay_without_room_is_asked_for_a_plain_stream(
    start_relay: StartRelay, standin: StandIn
) -> None:
    """The answer is whole and asked for once; leaving stops it, and it is lost with its connection."""
    relay = await start_relay(relay_resume_total_bytes=20_000)
    async with AsyncExitStack() as stack:
        for _ in range(4):
            await stack.enter_async_context(relay.asking("!endless !slow=3600", resumable=True))
        assert text_of(await heard(relay.url, "!tokens=300")) == COUNTED
        assert len(standin.asks) == 5
        async for event in ask(relay.url, "!endless"):
            if isinstance(event, Chunk):
                break
        await left(standin.asks[5])
        async with Chaos(relay.port) as chaos:
            chaos.most = 3000
            with pytest.raises(Lost, match="before the answer was finished"):
                await heard(chaos.url, "!tokens=300")
        assert len(standin.asks) == 7


async def test_a_plain_stream_is_lost_with_its_connection(relay: Relay, standin: StandIn) -> None:
    """What came is told; the question is not asked again."""
    events = []
    async with Chaos(relay.port) as chaos:
        chaos.most = 3000
        with pytest.raises(Lost, match="before the answer was finished"):
            async for event in ask(chaos.url, "!tokens=300", resumable=False):
                events.append(event)  # noqa: PERF401 (what came before it raises counts)
        assert events[0] == Chunk("tok1")
        chaos.most = 0
        with pytest.raises(Lost):
            await heard(chaos.url, "!tokens=300", resumable=False)
    assert len(standin.asks) == 2


async def test_a_relay_that_is_gone_is_given_up(relay: Relay) -> None:
    """After the time that was given, in words."""
    async with Chaos(relay.port) as chaos:
        events = ask(chaos.url, "!tokens=6 !pause=3600", patience=0.5)
        await anext(events)
        chaos.most = 0
        chaos.end("reset")
        with pytest.raises(Lost, match=r"no other one for 0\.5 s"):
            async for _ in events:
                pass


async def test_a_relay_that_forgot_the_stream_says_so(
    start_relay: StartRelay, relay: Relay, standin: StandIn
) -> None:
    """It was started anew in between: trying again would not help."""
    other = await start_relay()
    async with Chaos(relay.port) as chaos:
        events = ask(chaos.url, "!tokens=6 !pause=3600")
        await anext(events)
        chaos._port = other.port
        chaos.end("reset")
        with pytest.raises(Lost, match="cannot go on"):
            async for _ in events:
                pass


async def test_a_relay_that_is_not_ready_is_asked_again() -> None:
    """Refusals that pass are waited for, as long as the relay says."""
    head = HEAD.replace(b"\r\n\r\n", b"\r\nX-Stream-ID: s1\r\n\r\n")
    busy = b"HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    first = head + b'id: 1\nevent: chunk\ndata: {"type":"chunk","content":"a"}\n\n'
    began = asyncio.get_running_loop().time()
    async with server(first, busy, head + END) as url:
        events = await heard(url)
        assert asyncio.get_running_loop().time() - began > 1
        assert text_of(events) == "a"
    async with server(first, busy, head + END) as url:
        with pytest.raises(Lost):
            await heard(url, patience=0.9)


# --- leaving ---


@pytest.mark.parametrize("resumable", [True, False])
async def test_breaking_off_stops_anythingllm(relay: Relay, standin: StandIn, resumable: bool) -> None:
    """A resumable answer would go on without its reader."""
    async for event in ask(relay.url, "!endless", resumable=resumable):
        assert event == Chunk("tok1 ")
        break
    await left(await standin.next_ask())


async def test_closing_waits_until_it_is_stopped(relay: Relay, standin: StandIn) -> None:
    """After aclosing, nothing runs any more."""
    async with aclosing(ask(relay.url, "!endless")) as events:
        await anext(events)
    assert await relay.counted('relay_streams_total{outcome="cancelled"}') == 1
    await left(await standin.next_ask())


async def test_a_cancelled_task_stops_anythingllm(relay: Relay, standin: StandIn) -> None:
    """While it waits for the next event."""
    task = asyncio.create_task(heard(relay.url, "!tokens=6 !pause=3600"))
    running = await standin.next_ask()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await left(running)


async def test_leaving_before_the_head_came_stops_it_too(relay: Relay, standin: StandIn) -> None:
    """The question is with the relay, its stream's name is not known yet."""
    async with Chaos(relay.port) as chaos:
        chaos.delay = 3600
        task = asyncio.create_task(heard(chaos.url, "!endless"))
        running = await standin.next_ask()
        chaos.delay = 0
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await left(running)
    assert len(standin.asks) == 1


async def test_a_relay_that_does_not_answer_holds_nobody_up(relay: Relay) -> None:
    """Stopping is tried for two seconds."""
    async with Chaos(relay.port) as chaos:
        events = ask(chaos.url, "!endless")
        await anext(events)
        chaos.most, chaos.then = 0, "silence"
        async with asyncio.timeout(4):
            await events.aclose()


async def test_an_answer_that_is_over_is_not_stopped(relay: Relay) -> None:
    """Nor asked for again."""
    async with Chaos(relay.port) as chaos:
        await heard(chaos.url, "!tokens=3")
        assert chaos.seen == 1


async def test_a_session_of_the_caller_stays_open(relay: Relay) -> None:
    """And its connection carries the next question."""
    async with Chaos(relay.port) as chaos, aiohttp.ClientSession() as session:
        for _ in range(3):
            await heard(chaos.url, "!tokens=3", session=session)
        assert not session.closed
        assert chaos.seen == 1


async def test_the_example_of_the_page_knows_when_it_is_stopped(relay: Relay, standin: StandIn) -> None:
    """The last line of it counts on that."""
    section = (ROOT / "docs" / "client.md").read_text().partition("\n## Stopping\n")[2]
    found = re.search(r"^```python\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    assert found
    source = found[1].replace('"http://localhost:5000"', repr(relay.url))
    source = source.replace('"How do I reverse a list?"', "'!endless'")
    program: dict[str, Any] = {"ask": ask}
    exec("async def main():\n" + textwrap.indent(source, "    "), program)  # noqa: S102
    await program["main"]()
    assert await relay.counted('relay_streams_total{outcome="cancelled"}') == 1


# --- without an event loop of one's own ---


async def in_thread(what: Callable[[], None]) -> None:
    """Run what may block, while relay and stand-in run here."""
    async with asyncio.timeout(30):
        await asyncio.to_thread(what)


async def test_the_plain_generator_yields_the_same(relay: Relay) -> None:
    """In a thread without a loop."""

    def program() -> None:
        assert text_of(list(ask_sync(relay.url, "!tokens=300"))) == COUNTED

    before = threading.active_count()
    await in_thread(program)
    assert threading.active_count() <= before + 1  # to_thread's own


async def test_it_works_where_a_loop_is_running(relay: Relay) -> None:
    """In a notebook, or an editor's plugin."""

    async def inner() -> None:
        assert text_of(list(ask_sync(relay.url, "!tokens=300"))) == COUNTED

    await in_thread(lambda: asyncio.run(inner()))


async def test_closing_the_generator_stops_anythingllm(relay: Relay, standin: StandIn) -> None:
    """By close, and by leaving the loop."""

    def closes() -> None:
        events = ask_sync(relay.url, "!endless")
        assert next(events) == Chunk("tok1 ")
        events.close()

    def breaks() -> None:
        for _ in ask_sync(relay.url, "!endless"):
            break

    for program in (closes, breaks):
        await in_thread(program)
        await left(await standin.next_ask())


async def test_the_plain_generator_raises_the_same() -> None:
    """Before the first event."""

    def program() -> None:
        with pytest.raises(Unreachable):
            next(ask_sync("http://127.0.0.1:1", "x"))
        with pytest.raises(ValueError, match="address"):
            next(ask_sync("nowhere", "x"))

    await in_thread(program)


HOLDS = "events = ask_sync({url!r}, '!endless'); next(events); print('here', flush=True)"
WAITS = "[print('here', flush=True) for _ in ask_sync({url!r}, '!tokens=1 !pause=0 !stall')]"
BREAKS = """
async def main():
    async for _ in ask({url!r}, '!endless'):
        print('here', flush=True)
        break

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("source", "interrupt"), [(HOLDS, False), (WAITS, True), (BREAKS, False)], ids=["held", "^C", "run"]
)
@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
async def test_a_program_that_ends_stops_anythingllm(
    relay: Relay, standin: StandIn, source: str, interrupt: bool
) -> None:
    """With a generator that is never closed, with Ctrl-C, with a loop that ends at once."""
    head = "import asyncio\nfrom relay.client import ask, ask_sync\n"
    url = relay.url.replace("127.0.0.1", "localhost")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-X", "dev", "-c", head + source.format(url=url)),
        cwd=ROOT,
        stdout=PIPE,
        stderr=PIPE,
        preexec_fn=take_interrupts,
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"here\n"
    if interrupt:
        process.send_signal(signal.SIGINT)
    async with asyncio.timeout(20):
        _, err = await process.communicate()
    assert err.decode().count("Traceback") == interrupt
    assert "never" not in err.decode()  # awaited, retrieved: nothing of asyncio's is left over
    await left(await standin.next_ask())


# --- the house ---


def test_it_stands_on_the_lowest_floors_only() -> None:
    """A user of the relay knows nothing of the relay's inside."""
    for file in (ROOT / "relay" / "client").glob("*.py"):
        imported = set(re.findall(r"^from relay\.([a-z_]+)", file.read_text(), re.MULTILINE))
        assert imported <= {"client", "events", "errors", "sse"}, file
        assert not re.search(r"^(from relay import|import relay)", file.read_text(), re.MULTILINE)


def test_all_errors_have_one_root() -> None:
    """One except clause is enough for a caller who only wants the words."""
    assert all(issubclass(one, AskError) for one in (Refused, Lost, Unreachable))
