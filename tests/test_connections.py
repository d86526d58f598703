"""Connections: how many there may be, how long each may stay without asking, and what is no HTTP."""

import asyncio
import json
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NamedTuple

import pytest

from relay import connections
from relay.handlers import STREAMS
from relay.standin import StandIn
from tests.conftest import StartRelay
from tests.running import Relay

GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST /stream-ask HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
# Seconds for a test in which one of the limits is to pass, and for one in which none is.
SOON, NEVER = 0.1, 3600.0


class Answer(NamedTuple):
    """One response, as it came."""

    status: int
    headers: dict[str, str]
    refusal: dict[str, str]


@asynccontextmanager
async def connected(relay: Relay, data: bytes = b"") -> AsyncIterator[tuple[StreamReader, StreamWriter]]:
    """A bare connection, on which `data` was sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
    writer.write(data)
    try:
        yield reader, writer
    finally:
        writer.close()


async def answer(reader: StreamReader) -> Answer:
    head = await reader.readuntil(b"\r\n\r\n")
    status, *lines = head.decode().rstrip().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    body = await reader.readexactly(int(headers["Content-Length"]))
    return Answer(int(status.split()[1]), headers, json.loads(body))


async def last_words(reader: StreamReader) -> Answer:
    """The answer after which the relay closes."""
    told = await answer(reader)
    assert await reader.read() == b""
    assert told.headers["Connection"] == "close"
    assert told.headers["Content-Type"] == "application/json; charset=utf-8"
    assert told.headers["Server"] == "relay"
    assert len(told.headers["X-Request-ID"]) == 16
    return told


async def healthy(reader: StreamReader, writer: StreamWriter) -> bool:
    writer.write(GET)
    return (await answer(reader)).status == 200


@pytest.fixture(autouse=True)
def _quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_LOOK", 0.01)


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Set the limits in seconds; those not given never pass."""

    def set_all(**seconds: float) -> None:
        for name in ("_HEAD", "_IDLE", "_REFUSED"):
            monkeypatch.setattr(connections, name, seconds.get(name.strip("_").lower(), NEVER))

    return set_all


@pytest.fixture
def _no_last_moment_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is refused, and stays, may do so for the whole test."""
    monkeypatch.setattr(connections, "_CLOSING", NEVER)


# --- time ---


async def test_a_head_that_does_not_end_is_told_so(limits: Any, start_relay: StartRelay) -> None:
    limits(head=SOON)
    async with connected(await start_relay(), GET[:-2]) as (reader, _):
        told = await last_words(reader)
        assert (told.status, told.refusal["code"]) == (408, "request_timeout")
        assert told.refusal["error"] == "The head of the request did not arrive within 0.1 seconds."


async def test_a_head_in_drops_is_given_no_more_time(limits: Any, start_relay: StartRelay) -> None:
    limits(head=SOON)
    async with connected(await start_relay(), GET[:-2]) as (reader, writer):
        told = asyncio.create_task(last_words(reader))
        while not told.done():
            writer.write(b"x")
            await asyncio.sleep(SOON / 10)
        assert (await told).status == 408


async def test_a_connection_without_a_word_is_closed_without_one(
    limits: Any, start_relay: StartRelay
) -> None:
    """Browsers open some in advance, and would take a word for the answer to their next request."""
    limits(head=SOON)
    async with connected(await start_relay()) as (reader, _):
        assert await reader.read() == b""


async def test_between_requests_there_is_more_time(limits: Any, start_relay: StartRelay) -> None:
    """But the next head has its own limit, from its first byte on."""
    limits(head=SOON)
    async with connected(await start_relay()) as (reader, writer):
        for _ in range(3):
            assert await healthy(reader, writer)
            await asyncio.sleep(SOON * 2)
        writer.write(GET[:10])
        assert (await last_words(reader)).status == 408


async def test_an_idle_connection_is_closed(limits: Any, start_relay: StartRelay) -> None:
    limits(idle=SOON)
    async with connected(await start_relay()) as (reader, writer):
        assert await healthy(reader, writer)
        assert await reader.read() == b""


async def test_a_stream_has_all_the_time_it_needs(limits: Any, start_relay: StartRelay) -> None:
    limits(head=SOON, idle=SOON, refused=SOON)
    relay = await start_relay()
    async with relay.asking("!tokens=4 !pause=0.5") as listening:
        assert (await listening.rest()).end["reason"] == "complete"


async def test_a_body_has_a_limit_of_its_own(limits: Any, start_relay: StartRelay) -> None:
    limits(head=SOON, idle=SOON)
    body = b'{"question": "!echo hi"}'
    head = POST + b"Content-Length: %d\r\n\r\n" % len(body)
    async with connected(await start_relay(), head + body[:5]) as (reader, writer):
        await asyncio.sleep(SOON * 3)
        writer.write(body[5:])
        assert b"event: final_end" in await reader.readuntil(b"\r\n0\r\n\r\n")


async def test_a_client_that_takes_no_answers_is_given_up(
    limits: Any, monkeypatch: pytest.MonkeyPatch, start_relay: StartRelay
) -> None:
    """It asks again and again without reading, until the answers fill every buffer on the way."""
    monkeypatch.setattr(connections, "_CLOSING", SOON)
    limits(idle=1)
    relay = await start_relay(send_buffer=4096)
    async with connected(relay) as (_, writer):
        with pytest.raises(ConnectionError):
            while True:
                writer.write(GET * 1000)
                await writer.drain()
    while relay.connections:
        await asyncio.sleep(0.01)


# --- number ---


async def test_the_longest_idle_one_goes_for_a_new_one(limits: Any, start_relay: StartRelay) -> None:
    limits()
    relay = await start_relay(relay_max_connections=3)
    async with (
        relay.asking("!silent"),
        connected(relay) as first,
        connected(relay) as second,
    ):
        assert await healthy(*first)
        assert await healthy(*second)
        assert await healthy(*first)
        async with connected(relay) as third:
            assert await healthy(*third)
            assert await second[0].read() == b""
            assert await healthy(*first)


async def test_idle_ones_go_before_those_that_begin_to_ask(limits: Any, start_relay: StartRelay) -> None:
    limits()
    relay = await start_relay(relay_max_connections=2)
    async with connected(relay, GET[:-2]) as asking, connected(relay) as idle:
        assert await healthy(*idle)
        async with connected(relay) as third:
            assert await healthy(*third)
            assert await idle[0].read() == b""
            asking[1].write(b"\r\n")
            assert (await answer(asking[0])).status == 200


async def test_a_head_that_has_to_go_is_told_why(limits: Any, start_relay: StartRelay) -> None:
    limits()
    relay = await start_relay(relay_max_connections=1)
    async with connected(relay, GET[:-2]) as (reader, _):
        while not relay.connections:
            await asyncio.sleep(0)
        async with connected(relay) as another:
            assert await healthy(*another)
        told = await last_words(reader)
        assert (told.status, told.refusal["code"]) == (503, "too_many_connections")


async def test_when_all_are_busy_a_new_one_is_refused(
    limits: Any, start_relay: StartRelay, caplog: pytest.LogCaptureFixture
) -> None:
    limits()
    relay = await start_relay(relay_max_connections=2)
    async with relay.asking("!silent"), relay.asking("!endless") as listening:
        for _ in range(3):
            async with connected(relay, GET) as (reader, _):
                told = await last_words(reader)
        assert (told.status, told.headers["Retry-After"]) == (503, "1")
        assert told.refusal["code"] == "too_many_connections"
        assert "RELAY_MAX_CONNECTIONS" in told.refusal["error"]
        await listening.until("chunk")
    while relay.connections:
        await asyncio.sleep(0.01)
    async with connected(relay) as another:
        assert await healthy(*another)
    told_in_log = [vars(one)["fields"] for one in caplog.records if "turned away" in one.message]
    assert sum(fields["connections"] for fields in told_in_log) == 3


async def test_a_refused_one_that_says_nothing_is_not_waited_for(
    limits: Any, start_relay: StartRelay
) -> None:
    limits(refused=SOON)
    relay = await start_relay(relay_max_connections=1)
    async with relay.asking("!silent"), connected(relay) as (reader, _):
        assert await reader.read() == b""


@pytest.mark.usefixtures("_no_last_moment_ends")
async def test_those_that_are_refused_and_stay_keep_no_place(
    limits: Any, start_relay: StartRelay
) -> None:
    """They need no key for that; clients with a request come first, each at the cost of the oldest."""
    limits()
    relay = await start_relay(relay_max_connections=20)
    async with AsyncExitStack() as stack:
        refused = [
            await stack.enter_async_context(connected(relay, b"rubbish\r\n\r\n")) for _ in range(20)
        ]
        for reader, _ in refused:
            assert (await answer(reader)).status == 400
        good = [await stack.enter_async_context(connected(relay)) for _ in range(20)]
        for number, client in enumerate(good, start=1):
            assert await healthy(*client)
            assert relay.connections <= 21, number
        async with relay.asking("!echo hi") as listening:
            assert (await listening.rest()).text == "hi"


@pytest.mark.usefixtures("_no_last_moment_ends")
async def test_those_without_a_place_take_none_that_gets_free(
    limits: Any, start_relay: StartRelay
) -> None:
    limits()
    relay = await start_relay(relay_max_connections=2)
    async with relay.asking("!silent"), AsyncExitStack() as stack:
        async with relay.asking("!silent"):
            for data in (b"", GET, b"", GET):
                reader, _ = await stack.enter_async_context(connected(relay, data))
                if data:  # nobody is cut off for one that has no place either
                    assert (await last_words(reader)).status == 503
        while len(relay.app[STREAMS]) > 1 or relay.connections > 5:
            await asyncio.sleep(0.01)
        async with connected(relay) as good:
            assert await healthy(*good)


@pytest.mark.usefixtures("_no_last_moment_ends")
async def test_only_so_many_are_told_at_once_that_they_have_no_place(
    limits: Any, start_relay: StartRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are cut off without a word: a flood must not use up what the relay may open."""
    limits()
    monkeypatch.setattr(connections, "MAX_LEAVING", 3)
    relay = await start_relay(relay_max_connections=1)
    async with relay.asking("!silent"), AsyncExitStack() as stack:
        for _ in range(20):
            reader, _ = await stack.enter_async_context(connected(relay, GET))
            assert (await last_words(reader)).status == 503
            assert relay.connections <= 4


@pytest.mark.parametrize("limit", [500, 2500])
async def test_five_hundred_that_send_a_byte_now_and_then_keep_nobody_waiting(
    start_relay: StartRelay, standin: StandIn, limit: int
) -> None:
    """Each gets the 10 s of a head, whether they leave a place free or none."""
    relay = await start_relay(relay_max_connections=limit)
    async with AsyncExitStack() as stack:
        slow = [await stack.enter_async_context(connected(relay, b"G")) for _ in range(500)]
        ended = [asyncio.create_task(reader.read()) for reader, _ in slow]
        for letter in (b"E", b"T"):
            assert (await relay.ask("!echo hi")).text == "hi"
            assert sum(task.done() for task in ended) == (1 if limit == 500 else 0)
            await asyncio.sleep(4.5)
            for _, writer in slow:
                writer.write(letter)
        told = await asyncio.gather(*ended)
        late = [words for words in told if words.startswith(b"HTTP/1.1 408 ")]
        assert len(late) == (499 if limit == 500 else 500)
        assert (await relay.ask("!echo hi")).text == "hi"


# --- what is no HTTP ---

NO_HTTP = {
    "rubbish": b"\x00\xff\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\r\n" * 5,
    "version": b"GET / HTTP/9\r\n\r\n",
    "header": b"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization Bearer secret\r\n\r\n",
    "large header": b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 9000 + b"\r\n\r\n",
    "many headers": b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: x\r\n" * 200 + b"\r\n",
    "two lengths": POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
}


@pytest.mark.parametrize("data", NO_HTTP.values(), ids=NO_HTTP)
async def test_what_is_no_http_is_refused_in_a_line(
    relay: Relay, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """In JSON as all else; the log tells it without a traceback, and without its bytes."""
    caplog.set_level("DEBUG")
    async with connected(relay, data) as (reader, _):
        told = await last_words(reader)
    assert (told.status, told.refusal["code"]) == (400, "bad_request")
    assert "not well-formed HTTP" in told.refusal["error"]
    lines = [record for record in caplog.records if record.name != "asyncio"]
    assert [line.message for line in lines] == ["a malformed request was refused"]
    assert lines[0].exc_info is None


REFUSED_IN_MID_SENTENCE = {
    "large header": (400, NO_HTTP["large header"][:-4]),
    "odd version": (400, b"POST / HTTP/2.0\r\nHost: localhost\r\nContent-Length: 100000000\r\n\r\n"),
    "slow head": (408, GET[:-2]),
}


@pytest.mark.parametrize(
    ("status", "data"), REFUSED_IN_MID_SENTENCE.values(), ids=REFUSED_IN_MID_SENTENCE
)
async def test_who_is_refused_while_it_sends_can_read_why(
    limits: Any, start_relay: StartRelay, status: int, data: bytes
) -> None:
    """Closing a socket with unread bytes resets it, and takes our words out of the client's buffer."""
    limits(head=SOON)
    relay = await start_relay()
    async with connected(relay, data) as (reader, writer):
        refusal = await reader.readexactly(1)
        for _ in range(50):
            writer.write(b"x" * 10_000)
            await writer.drain()
        refusal += await reader.read()
        assert refusal.split(b" ")[1] == b"%d" % status
        assert refusal.endswith(b"}")
    while relay.connections:
        await asyncio.sleep(0.01)


async def test_who_is_refused_and_goes_on_sending_is_cut_off(
    monkeypatch: pytest.MonkeyPatch, relay: Relay
) -> None:
    monkeypatch.setattr(connections, "_CLOSING", SOON)
    async with connected(relay, NO_HTTP["rubbish"]) as (_, writer):
        with pytest.raises(ConnectionError):
            while True:
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.001)


@pytest.mark.parametrize("pause", [False, True])
async def test_a_body_that_breaks_is_refused_at_once(
    relay: Relay, pause: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Not after the time for a body, and only once, whether or not the body is being read by then."""
    head = POST + b"Transfer-Encoding: chunked\r\n\r\n"
    async with connected(relay, head + b'5\r\n{"que\r\n') as (reader, writer):
        if pause:
            await writer.drain()
            await asyncio.sleep(0.05)
        writer.write(b"nonsense\r\n")
        told = await last_words(reader)
    assert (told.status, told.refusal["code"]) == (400, "bad_request")
    assert not [record for record in caplog.records if record.exc_info]


async def test_a_refused_body_is_not_taken_for_the_next_request(relay: Relay, standin: StandIn) -> None:
    """What was refused before it was read may be long, and may look like a request itself."""
    inner = POST + b'Content-Length: 22\r\n\r\n{"question": "smuggle"}'
    head = POST.replace(b"application/json", b"text/plain") + b"Content-Length: 100000\r\n\r\n"
    async with connected(relay, head + inner) as (reader, writer):
        told = await answer(reader)
        assert (told.status, told.headers["Connection"]) == (415, "close")
        writer.write(inner)
        writer.write_eof()
        assert await reader.read() == b""
    assert not standin.asks
