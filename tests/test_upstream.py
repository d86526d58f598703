"""The client of AnythingLLM: connections, the one retry, timeouts, probes."""

import asyncio
import gc
import socket
import struct
import sys
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from relay import posting
from relay.errors import Code, RelayError
from relay.question import Question
from relay.redact import Redactor
from relay.standin import KEY, StandIn
from relay.upstream import Reply, Upstream
from tests import recorded
from tests.running import unanswered

QUESTION = Question(
    text="!tokens=2",
    mode="chat",
    workspace="demo",
    thread=None,
    session_id=None,
    attachments=[],
    reset=False,
    reasoning="inline",
    sources="titles",
    format="events",
    resumable=False,
)
HELLO = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 7\r\n\r\ndata: 1"

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(autouse=True, params=[True, False], ids=["direct", "session"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways in which a question may be posted."""
    assert posting.DIRECT  # it fits the aiohttp that is locked
    monkeypatch.setattr(posting, "DIRECT", request.param)


def upstream(url: str, **changes: Any) -> Upstream:
    return Upstream(url, KEY, **{"connect_timeout": 5, "max_streams": 10, **changes})


async def answer(client: Upstream, question: Question = QUESTION) -> bytes:
    """Ask, and read to the end."""
    with await client.ask(question) as reply:
        body = b""
        while data := await read(reply):
            body += data
        return body


async def read(reply: Reply) -> bytes:
    """Return what is here, or comes next; empty at the end."""
    data = b""

    def take(arrived: bytes) -> bool:
        nonlocal data
        data = arrived
        return False

    await reply.hand_to(take)
    return data


@asynccontextmanager
async def server(serve: Serve) -> AsyncIterator[str]:
    """A server that behaves as badly as the test wants; yields its URL."""
    connections: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        try:
            await serve(reader, writer)
        finally:
            writer.close()

    listening = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    finally:
        listening.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)


async def request(reader: asyncio.StreamReader) -> bytes:
    """Read one request."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
    return head + await reader.readexactly(length)


async def failure(client: Upstream, question: Question = QUESTION) -> RelayError:
    with pytest.raises(RelayError) as caught:
        await answer(client, question)
    return caught.value


async def test_the_request_is_what_anythingllm_wants(standin: StandIn) -> None:
    """Method, path, key and body as recorded; fields that were not given are not sent."""
    async with upstream(standin.url) as client:
        await answer(client)
    ask = await standin.next_ask()
    assert (ask.workspace, ask.thread) == ("demo", None)
    assert ask.body == {"mode": "chat", "message": "!tokens=2"}
    assert ask.headers["Authorization"] == f"Bearer {KEY}"
    assert ask.headers["Content-Type"] == "application/json"
    assert ask.headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("slug", ["a/b", "..", "", "a b", "ä", "a" * 256, "a\n"])
async def test_a_slug_is_never_another_route(slug: str) -> None:
    """What is no slug is not sent at all."""
    async with upstream("http://127.0.0.1:1") as client:
        for field in ("workspace", "thread"):
            if field == "thread" and not slug:
                continue
            question = msgspec.structs.replace(QUESTION, **{field: slug})
            with pytest.raises(ValueError, match="not a slug"):
                await answer(client, question)


async def test_connections_are_used_again(standin: StandIn) -> None:
    """As long as the answer was read to its end."""
    async with upstream(standin.url) as client:
        for _ in range(3):
            await answer(client)
    assert [ask.connection for ask in standin.asks] == [1, 1, 1]


async def test_an_idle_connection_is_closed_before_node_would() -> None:
    """AnythingLLM closes an idle one after 5 s; ours is closed well before."""
    closed = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(HELLO)
        assert await reader.read() == b""
        closed.set()

    async with server(serve) as url, upstream(url) as client:
        await answer(client)
        async with asyncio.timeout(4.5):
            await closed.wait()


async def test_what_nobody_asked_for_is_nobodys_answer() -> None:
    """An answer too many, over a connection that waits for its next question."""
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await request(reader)
        writer.write(HELLO)
        if connections == 1:
            await spoil.wait()
            writer.write(HELLO.replace(b"data: 1", b"data: 2"))
            await writer.drain()
            spoilt.set()
        await reader.read()

    spoil, spoilt = asyncio.Event(), asyncio.Event()
    async with server(serve) as url, upstream(url) as client:
        first = await answer(client)
        spoil.set()
        await spoilt.wait()
        assert client._session.connector is not None
        (pooled,) = client._session.connector._conns.values()
        while not pooled[0][0].should_close:  # the bytes are on their way
            await asyncio.sleep(0)
        assert await answer(client) == first
        assert connections == 2


async def test_a_pooled_connection_that_is_reset_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    """A restart of AnythingLLM's ends them all: no line in the log."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(3):
            await request(reader)
            writer.write(HELLO[:-1])
            await writer.drain()
            await asyncio.sleep(0.02)  # the body ends after its head was read
            writer.write(HELLO[-1:])
        await asyncio.sleep(0.05)
        linger = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()  # with a reset

    async with server(serve) as url, upstream(url) as client:
        for _ in range(3):
            await answer(client)
        await asyncio.sleep(0.2)
    gc.collect()
    await asyncio.sleep(0)
    assert not [record for record in caplog.records if record.levelname != "DEBUG"]


# The retry


@asynccontextmanager
async def second_request(behave: Serve) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that answers the first request of a connection, and behaves otherwise at the second."""
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await request(reader))
        writer.write(HELLO)
        seen.append(await request(reader))
        await behave(reader, writer)

    async with server(serve) as url:
        yield url, seen


async def close(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def reset(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


@pytest.mark.parametrize("behave", [close, reset])
async def test_a_dead_connection_costs_one_retry_on_a_fresh_one(
    behave: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server had closed the idle connection when our request arrived: nobody was asked yet."""
    monkeypatch.setattr("relay.posting._DEAD_ON_ARRIVAL", 5)  # however slow this machine is
    async with second_request(behave) as (url, seen), upstream(url) as client:
        await answer(client)
        assert await answer(client) == b"data: 1"
    assert len(seen) == 3
    assert seen[1].partition(b"\r\n\r\n")[2] == seen[2].partition(b"\r\n\r\n")[2]


async def test_the_retry_is_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that keeps closing is unreachable, not asked for ever."""
    monkeypatch.setattr("relay.posting._DEAD_ON_ARRIVAL", 5)
    asked = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        while True:
            await request(reader)
            asked += 1
            if asked > 1:
                return
            writer.write(HELLO)

    async with server(serve) as url, upstream(url) as client:
        await answer(client)
        assert (await failure(client)).code is Code.UPSTREAM_UNREACHABLE
    assert asked == 3


async def test_a_fresh_connection_that_ends_is_not_retried() -> None:
    """The question may have been taken: asking again could ask twice."""
    asked = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        await request(reader)
        asked += 1

    async with server(serve) as url, upstream(url) as client:
        assert (await failure(client)).code is Code.UPSTREAM_UNREACHABLE
    assert asked == 1


async def test_a_connection_that_ends_late_is_not_retried() -> None:
    """After 50 ms the question was surely taken."""

    async def late(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.2)

    async with second_request(late) as (url, seen), upstream(url) as client:
        await answer(client)
        assert (await failure(client)).code is Code.UPSTREAM_UNREACHABLE
    assert len(seen) == 2


async def test_a_part_of_an_answer_is_not_retried() -> None:
    """Bytes came back: the question was taken."""

    async def half(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-")
        await writer.drain()

    async with second_request(half) as (url, seen), upstream(url) as client:
        await answer(client)
        assert (await failure(client)).code in (Code.UPSTREAM_UNREACHABLE, Code.UPSTREAM_PROTOCOL)
    assert len(seen) == 2


# Not reaching it


async def test_a_connection_that_is_never_accepted_is_a_timeout_of_its_own() -> None:
    """The message names the limit and the setting."""
    with unanswered() as url:
        async with upstream(url, connect_timeout=0.3) as client:
            error = await failure(client)
    assert error.code is Code.UPSTREAM_TIMEOUT
    assert "0.3 seconds (ANYTHINGLLM_CONNECT_TIMEOUT)" in error.message


@pytest.mark.parametrize(
    ("host", "why"),
    [
        ("127.0.0.1", "connection refused"),
        ("nowhere.invalid", "the name of its host is not known"),
    ],
)
async def test_why_it_cannot_be_reached_is_told(host: str, why: str) -> None:
    """In words, with what to check, and without the address."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and not listening: the port is surely closed
        url = f"http://{host}:{unused.getsockname()[1]}"
        async with upstream(url) as client:
            error = await failure(client)
    assert error.code is Code.UPSTREAM_UNREACHABLE
    assert why in error.message
    assert "ANYTHINGLLM_BASE_URL" in error.message
    assert url not in error.message


async def test_https_to_a_plain_server_is_told(standin: StandIn) -> None:
    """A frequent slip in the address."""
    async with upstream(standin.url.replace("http:", "https:")) as client:
        error = await failure(client)
    assert error.code is Code.UPSTREAM_UNREACHABLE
    assert "TLS failed; perhaps it speaks plain http" in error.message


async def test_what_is_no_http_is_told() -> None:
    """Another program listens at the address."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(b"220 mail.example.org ESMTP\r\n")
        await writer.drain()

    async with server(serve) as url, upstream(url) as client:
        error = await failure(client)
    assert error.code is Code.UPSTREAM_PROTOCOL
    assert "does not speak HTTP" in error.message


# Rejections


def recorded_response(name: str) -> bytes:
    """A whole recorded answer that was no stream."""
    head, _, body = (
        (recorded.FOLDER / f"{name}.http").read_bytes().replace(b"\r\n", b"\n").partition(b"\n\n")
    )
    lines = [
        line
        for line in head.split(b"\n")
        if not line.lower().startswith((b"content-length", b"transfer-"))
    ]
    lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("key_wrong", Code.UPSTREAM_UNAUTHORIZED, "ANYTHINGLLM_API_KEY"),
        ("key_absent", Code.UPSTREAM_UNAUTHORIZED, "ANYTHINGLLM_API_KEY"),
        (
            "invalid_slug",
            Code.UPSTREAM_REJECTED,
            "not a valid workspace; check ANYTHINGLLM_WORKSPACE_SLUG",
        ),
        ("thread_invalid_thread_slug", Code.UPSTREAM_REJECTED, "400"),
        ("empty_message", Code.UPSTREAM_REJECTED, "400: Message is empty"),
        ("invalid_mode", Code.UPSTREAM_REJECTED, "is not a valid mode"),
        ("malformed_json", Code.UPSTREAM_REJECTED, "answered 400; check that"),
        ("missing_api_prefix", Code.UPSTREAM_PROTOCOL, "text/html"),
        ("unknown_api_route", Code.UPSTREAM_PROTOCOL, "ANYTHINGLLM_BASE_URL"),
        ("dev_build_unknown_api_route", Code.UPSTREAM_REJECTED, "404"),
        ("sync_chat", Code.UPSTREAM_PROTOCOL, "application/json"),
        ("header_20kb", Code.UPSTREAM_REJECTED, "431"),
    ],
)
async def test_recorded_rejections(name: str, code: Code, words: str) -> None:
    """Each says what to do; no web page is passed on; none is worth a retry."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(recorded_response(name))
        await writer.drain()
        await reader.read()

    async with server(serve) as url, upstream(url) as client:
        error = await failure(client)
    assert error.code is code
    assert words in error.message
    assert "<" not in error.message
    assert not error.retryable


async def test_a_rejection_without_end_is_cut() -> None:
    """An error page of any size costs 64 KiB."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(b"HTTP/1.1 500 Fault\r\nContent-Type: text/html\r\n\r\n")
        while True:
            writer.write(b"x" * 10_000)
            await writer.drain()

    async with server(serve) as url, upstream(url) as client:
        error = await failure(client)
    assert error.message.startswith("AnythingLLM answered 500; check that")
    assert error.retryable


async def test_a_rejection_that_breaks_off_still_tells_its_status() -> None:
    """The status came, its words did not."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(b"HTTP/1.1 503 Busy\r\nContent-Length: 100\r\n\r\n{")
        await writer.drain()

    async with server(serve) as url, upstream(url) as client:
        assert "AnythingLLM answered 503; check that" in (await failure(client)).message


async def test_no_secret_comes_back_in_a_rejection() -> None:
    """A proxy may repeat the key it was sent."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        body = b'{"error": "no such key: ' + KEY.encode() + b'"}'
        writer.write(b"HTTP/1.1 400 Bad\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        await writer.drain()

    async with server(serve) as url, upstream(url, redactor=Redactor([KEY])) as client:
        assert (await failure(client)).message == "AnythingLLM answered 400: no such key: [redacted]."


async def test_a_rejection_that_stalls_does_not_wait_for_its_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The status is enough."""
    monkeypatch.setattr("relay.upstream._ERROR_TIMEOUT", 0.1)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(b"HTTP/1.1 500 Fault\r\nContent-Length: 100\r\n\r\n{")
        await reader.read()

    async with server(serve) as url, upstream(url) as client:
        assert "answered 500; check that" in (await failure(client)).message


# Breaking off

CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(("rest", "tail"), [(b"zz\r\n", b""), (b"5\r\nab", b"ab"), (b"", b"")])
async def test_what_came_before_a_break_is_not_lost(rest: bytes, tail: bytes) -> None:
    """Broken framing, a chunk cut short, no last chunk: all that arrived is given, then the error."""
    sent = b"".join(b"data: %06d\n\n" % number for number in range(5000))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(CHUNKED + b"%x\r\n%b\r\n%b" % (len(sent), sent, rest))
        await writer.drain()

    async with server(serve) as url, upstream(url) as client:
        with await client.ask(QUESTION) as reply:
            body = await read(reply)
            await asyncio.sleep(0.1)  # the break arrives while nobody reads
            with pytest.raises(RelayError) as caught:
                while data := await read(reply):
                    body += data
            await reply.finish()
    assert caught.value.code is Code.UPSTREAM_TRUNCATED
    assert body == sent + tail


async def test_broken_framing_wakes_the_reader() -> None:
    """The connection is of no more use from then on: no limit on silence is waited for."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(CHUNKED + b"1\r\na\r\n")
        await writer.drain()
        await asyncio.sleep(0.1)
        writer.write(b"zz\r\n")
        await reader.read()

    async with server(serve) as url, upstream(url) as client:
        with await client.ask(QUESTION) as reply:
            assert await read(reply) == b"a"
            async with asyncio.timeout(5):
                with pytest.raises(RelayError) as caught:
                    await read(reply)
    assert caught.value.code is Code.UPSTREAM_TRUNCATED


async def test_no_chunk_is_left_behind_however_many_small_ones_came_before() -> None:
    """One too many that nobody took make aiohttp pause, which its parser remembers for too long."""
    many, last = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(CHUNKED + b"1\r\n.\r\n")
        await many.wait()
        writer.write(b"1\r\n.\r\n" * 1025)
        await last.wait()
        writer.write(b"5\r\nAAAAA\r\n5\r\nBBBBB\r\n0\r\n\r\n")
        await reader.read()

    async with server(serve) as url, upstream(url) as client:
        with await client.ask(QUESTION) as reply:
            body = await read(reply)
            many.set()
            await asyncio.sleep(0.2)  # they arrive while nobody takes
            while len(body) < 1026:
                body += await read(reply)
            last.set()
            async with asyncio.timeout(5):
                while data := await read(reply):
                    body += data
    assert body == b"." * 1026 + b"AAAAABBBBB"


@pytest.mark.parametrize(
    "head", [b"", CHUNKED + b"1\r\n.\r\n"], ids=["before the head", "amid the body"]
)
async def test_what_fails_is_let_go_at_once(head: bytes) -> None:
    """Not when the garbage collector comes to look for cycles, which is seldom."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(head)
        await writer.drain()

    class Held:
        def take(self, _: bytes) -> bool:
            return True

    async def fail() -> weakref.ref[Held]:
        held = Held()
        try:
            with await client.ask(QUESTION) as reply:
                await reply.hand_to(held.take)
        except RelayError:
            return weakref.ref(held)
        raise AssertionError("it did not fail")

    async with server(serve) as url, upstream(url) as client:
        gc.disable()
        try:
            held = await fail()
            await asyncio.sleep(0)  # the event loop lets go of what woke us
            assert held() is None
        finally:
            gc.enable()


async def test_an_address_that_is_none_is_told_when_it_is_asked() -> None:
    async with upstream("http://h\\x") as client:
        assert (await failure(client)).code is Code.UPSTREAM_UNREACHABLE


# Probes


async def test_probes_tell_the_key_and_the_workspace(standin: StandIn) -> None:
    """Good, wrong key, unknown workspace: each in its own words."""
    async with upstream(standin.url) as client:
        await client.probe()
        await client.probe_workspace("demo", "ANY_SETTING")
        with pytest.raises(RelayError, match="no workspace nope; check ANY_SETTING"):
            await client.probe_workspace("nope", "ANY_SETTING")
    async with Upstream(standin.url, "other", connect_timeout=5, max_streams=1) as client:
        with pytest.raises(RelayError, match="ANYTHINGLLM_API_KEY"):
            await client.probe()


async def test_probes_do_not_wait_for_streams(standin: StandIn) -> None:
    """Whether AnythingLLM is well can be told while every stream runs."""
    silent = msgspec.structs.replace(QUESTION, text="!silent")
    async with upstream(standin.url, max_streams=1) as client:
        with await client.ask(silent):
            await client.probe()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "broken JSON"),
        (b'{"authenticated": false}', "does not answer like AnythingLLM"),
        (b"[]", "does not answer like AnythingLLM"),
        (b'"\xff"', "broken JSON"),
        (b"[" * 60_000, "broken JSON"),
    ],
)
async def test_a_probe_is_not_fooled(body: bytes, words: str) -> None:
    """Something else at the address may well answer 200."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(
            body
        )
        writer.write(head + body)
        await writer.drain()
        await reader.read()

    async with server(serve) as url, upstream(url) as client:
        with pytest.raises(RelayError, match=words):
            await client.probe()


async def test_a_probe_that_gets_no_answer_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hanging AnythingLLM does not hang the check."""
    monkeypatch.setattr("relay.upstream._PROBE_TIMEOUT", 0.2)

    async def serve(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with server(serve) as url, upstream(url) as client:
        with pytest.raises(RelayError, match=r"did not answer within 0\.2 seconds"):
            await client.probe()


@pytest.mark.skipif(sys.platform == "win32", reason="has no such limit")
async def test_a_relay_without_descriptors_says_that_it_is_the_relay(standin: StandIn) -> None:
    """AnythingLLM is well then, and looking at it would help nobody."""
    import resource  # noqa: PLC0415 (not on Windows)

    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with upstream(standin.url) as client:
        with socket.socket() as newest:
            taken = newest.fileno()
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (taken, limits[1]))
            error = await failure(client)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert error.code is Code.UPSTREAM_UNREACHABLE
        assert "ulimit -n" in error.message
        assert b"tok1" in await answer(client)
