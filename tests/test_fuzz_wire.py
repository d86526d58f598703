"""Hostile bytes on real sockets: requests to the relay, and answers of what should be AnythingLLM.

Hypothesis cannot drive an async test, so each example here is a coroutine on one event loop, where the
relay outlives them all; its limits on silence are short, so that it ends what an example leaves open.
Counts are low, so that the suite stays quick: to hunt, raise FACTOR.
"""

import asyncio
import gc
import gzip
import json
import logging
import socket
import struct
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, suppress
from typing import Any, Literal, NamedTuple

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import relay.body
import relay.connections
import relay.frames
import relay.upstream
from relay.errors import TABLE, Code
from relay.handlers import STREAMS, UPSTREAM
from relay.readiness import Readiness
from relay.standin import KEY, StandIn
from tests import recorded, running, strict
from tests.cuts import pieces
from tests.running import Relay
from tests.spoiled import cuts, spoiled

FACTOR = 1
SILENCE = 0.5  # seconds: that AnythingLLM may be silent; its answers come byte by byte too
LONG = 20.0  # seconds: whoever takes longer hangs

# The limits on a client that keeps its connection, and on AnythingLLM's silence where it matters little.
LIMITS = [
    (relay.connections, "_LOOK", 0.01),
    (relay.connections, "_IDLE", 0.05),
    (relay.connections, "_HEAD", 0.2),
    (relay.body, "_BODY_TIMEOUT", 0.2),
    (relay.frames, "GRACE", 0.1),
    (relay.upstream, "_ERROR_TIMEOUT", 0.1),
    (relay.upstream, "_PROBE_TIMEOUT", 0.5),
]
Leaving = Literal["waits", "closes one side", "resets"]


def examples(count: int) -> settings:
    return settings(
        max_examples=count * FACTOR,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


class Complaints(logging.Handler):
    """Keeps what nobody wants in a log: errors, and tracebacks of any level."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR or (record.exc_info and record.levelno > logging.DEBUG):
            self.heard.append(logging.Formatter().format(record))


class AnyUpstream:
    """Takes AnythingLLM's place: answers the next request with any bytes, all others well."""

    def __init__(self) -> None:
        self.next: Answer | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> str:
        """Return the URL."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                await self._answer(reader, writer)
        writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]
        await reader.readexactly(int(length or 0))
        answer, self.next = self.next or Answer(GOOD, [len(GOOD)], "goes on"), None
        for data in pieces(answer.data, answer.cut):
            writer.write(data)
            await writer.drain()
            await asyncio.sleep(0)  # so that it is a read of its own
        if answer.then == "closes":
            raise ConnectionError
        if answer.then == "resets":
            reset(writer)
            raise ConnectionError


class Answer(NamedTuple):
    """What the upstream sends, in reads of these sizes, and what it does then."""

    data: bytes
    cut: list[int]
    then: Literal["goes on", "closes", "resets"]


def reset(writer: asyncio.StreamWriter) -> None:
    """Close as a process that was killed does: the other side is told that its bytes were not read."""
    wire: socket.socket = writer.get_extra_info("socket")
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Heard(NamedTuple):
    """What a client read until the relay closed the connection; `cut` if it may not be all."""

    raw: bytes
    cut: bool


class Bench:
    """A relay and what is behind it, and a client without manners."""

    def __init__(self, run: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
        self.run = run
        self.upstream = AnyUpstream()
        self.complaints = Complaints()

    async def start(self, stack: AsyncExitStack, *, real: bool, **changes: Any) -> None:
        """Start the relay, in front of the stand-in (`real`) or of bytes of any kind."""
        logging.getLogger().addHandler(self.complaints)
        stack.callback(logging.getLogger().removeHandler, self.complaints)
        if real:
            url = (await stack.enter_async_context(StandIn(pace=0))).url
        else:
            url = await self.upstream.start()
            stack.push_async_callback(self.upstream.stop)
        chosen = running.settings(
            anythingllm_base_url=url,
            anythingllm_first_event_timeout=SILENCE,
            anythingllm_idle_timeout=SILENCE,
            **changes,
        )
        self.relay = await stack.enter_async_context(Relay(chosen))
        client = self.relay.app[UPSTREAM]
        client.readiness = Readiness(client.probe, counts=0.0, prompt=LONG, alive_for=0.0)

    async def send(self, data: bytes, cut: list[int], leaving: Leaving = "waits") -> Heard:
        """Send the bytes in reads of these sizes, then leave; return what came back."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.relay.port)
        hearing = asyncio.create_task(hear(reader))
        with suppress(OSError):  # it may close at any byte
            for part in pieces(data, cut):
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0)
            if leaving == "closes one side":
                writer.write_eof()
            if leaving == "resets":
                reset(writer)
        heard = await hearing
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        return heard._replace(cut=heard.cut or leaving != "waits")

    async def settle(self) -> None:
        """Wait until the relay has let go of everything."""
        async with asyncio.timeout(LONG):
            while self.relay.connections or len(self.relay.app[STREAMS]) or tasks_of_streams():
                await asyncio.sleep(0.002)

    def example(self, played: Coroutine[Any, Any, None]) -> None:
        """Play one example, and fail if the log complains of it."""
        self.complaints.heard.clear()
        try:
            self.run(played)
        finally:
            self.check()

    def check(self) -> None:
        assert not self.complaints.heard, "\n".join(self.complaints.heard)


async def hear(reader: asyncio.StreamReader) -> Heard:
    raw = b""
    try:
        async with asyncio.timeout(LONG):
            while data := await reader.read(65536):
                raw += data
    except ConnectionError:  # it closed before it had read all of ours
        return Heard(raw, cut=True)
    return Heard(raw, cut=False)


def tasks_of_streams() -> list[object]:
    """Tasks that belong to one stream; those of connections have another owner to count them."""
    names = [getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks()]
    return [name for name in names if name.startswith(("RelayStream.", "EventStreamResponse."))]


def benches(*, real: bool, **changes: Any) -> Iterator[Bench]:
    """One bench for all tests of a fixture's scope."""

    async def stop(stack: AsyncExitStack) -> None:
        await stack.aclose()
        async with asyncio.timeout(LONG):
            while len(asyncio.all_tasks()) > 1:
                await asyncio.sleep(0.01)
        gc.collect()  # what nobody looked at, or closed, complains only now

    with pytest.MonkeyPatch.context() as patch, asyncio.Runner() as runner:
        for module, limit, seconds in LIMITS:
            patch.setattr(module, limit, seconds)
        stack = AsyncExitStack()
        bench = Bench(runner.run)
        runner.run(bench.start(stack, real=real, **changes))
        yield bench
        bench.example(stop(stack))


# Requests


@pytest.fixture(scope="module")
def served() -> Iterator[Bench]:
    """A relay in front of the stand-in, with a page that may use it."""
    yield from benches(real=True, relay_allowed_origins="vscode-webview://*", relay_max_body_bytes=4096)


def asked(kind: bytes, body: bytes, *headers: bytes, version: bytes = b"1.1") -> bytes:
    head = [b"POST /stream-ask HTTP/" + version, b"Host: localhost", b"Content-Type: " + kind, *headers]
    return b"\r\n".join([*head, b"Content-Length: %d" % len(body), b"", body])


JSON = b'{"question": "!echo hi", "session_id": "s", "reset": true, "format": "events"}'
FORM = b"question=%21echo+hi&session_id=s&reset=on"
PARTS = (
    b'--X\r\nContent-Disposition: form-data; name="question"\r\n\r\n!echo hi\r\n'
    b'--X\r\nContent-Disposition: form-data; name="mode"\r\nContent-Type: text/plain; charset=utf-8\r\n'
    b"\r\nchat\r\n--X--\r\n"
)
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
CHUNKED = asked(b"application/json", b"", b"Transfer-Encoding: chunked").replace(
    b"Content-Length: 0\r\n", b""
) + b"10\r\n%b\r\n%x;a=b\r\n%b\r\n0\r\nX-Trailer: a\r\n\r\n" % (JSON[:16], len(JSON) - 16, JSON[16:])
REQUESTS = {
    "json": asked(b"application/json", JSON, b"X-Request-ID: a.b", b"traceparent: 00-a-b-01"),
    "form": asked(b"application/x-www-form-urlencoded; charset=UTF-8", FORM, b"Accept: */*"),
    "multipart": asked(b"multipart/form-data; boundary=X", PARTS),
    "chunked": CHUNKED,
    "expecting": asked(b"application/json", JSON, b"Expect: 100-continue"),
    "old": asked(b"application/json", JSON, version=b"1.0"),
    "health": HEALTH,
    "ready": HEALTH.replace(b"healthz", b"readyz"),
    "absolute": HEALTH.replace(b"/healthz", b"http://localhost:80/healthz?a=%20b#c"),
    "preflight": b"OPTIONS /stream-ask HTTP/1.1\r\nHost: localhost\r\nOrigin: vscode-webview://0a\r\n"
    b"Access-Control-Request-Method: POST\r\n\r\n",
    "page": asked(b"application/json", JSON, b"Origin: vscode-webview://0a"),
    "many": HEALTH + asked(b"application/json", JSON) + HEALTH.replace(b"healthz", b"nothing") + CHUNKED,
}
ODD_REQUEST_LINES = b"""\
Transfer-Encoding: chunked
Transfer-Encoding: gzip
Content-Length: 5
Content-Length: 99999999999999999999
Content-Encoding: deflate
Content-Encoding: \xff
Content-Type: text/plain; charset=\xff
Content-Type: application/json; charset=idna
Content-Type: application/json; a*
Content-Type: multipart/form-data
Content-Type: multipart/mixed; boundary=X
Content-Disposition: form-data; name="a"; filename*=utf-8\'\'%ff
Content-Disposition: form-data; name="\xff"; filename="\xff"
Content-Disposition: form-data; name="_charset_"
Content-Transfer-Encoding: base64
Connection: close
Connection: keep-alive
Connection: upgrade
Upgrade: h2c
Expect: 100-continue
Expect: nothing
Host: elsewhere
Host: a\xff
Origin: vscode-webview://\xff
Origin: http://localhost
Origin: null
Sec-Fetch-Site: cross-site
Authorization: Bearer \xff
X-Request-ID: \xff
Cookie: \xff=;;=
traceparent: \xff
 folded
--X
--X--
0
-1
ffffffffffffffff
"""
ODD_REQUESTS = (
    *[line + b"\r\n" for line in ODD_REQUEST_LINES.splitlines()],
    *[
        b"\r\n",
        b"\n",
        b"\0",
        b"\xff",
        b"\xc3\xa9",
        b" ",
        b"\t",
        b":",
        b"%",
        b"%ff",
        b"; a*",
        b"//",
        b"*",
    ],
    *[b"HTTP/2.0", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"CONNECT ", b"http://[::1"],
    *[b"x" * 9000, b"X: y\r\n" * 200, b'"question": "\\ud83d",', b"9" * 5000, b"[" * 3000],
)
requests = spoiled(REQUESTS.values(), ODD_REQUESTS)
leavings: st.SearchStrategy[Leaving] = st.sampled_from(
    ["waits", "closes one side", "closes one side", "resets"]
)
REFUSED_BUSY = {Code.TOO_MANY_STREAMS, Code.TOO_MANY_CONNECTIONS, Code.SHUTTING_DOWN}


def assert_answered_well(heard: Heard) -> list[strict.Response]:
    """Everything that came is HTTP, and what the protocol tells of."""
    answers = strict.responses(heard.raw, may_be_cut=heard.cut)
    for answer in answers:
        if answer.status == 100:
            continue
        assert "x-request-id" in answer.headers
        kind = answer.headers.get("content-type")
        if kind == "text/event-stream; charset=utf-8":
            assert answer.status == 200
            assert_stream(answer)
        elif answer.status == 204:
            assert "access-control-allow-methods" in answer.headers
        elif answer.whole:
            assert kind == "application/json; charset=utf-8"
            assert_json(answer)
    return answers


def assert_stream(answer: strict.Response) -> None:
    told = strict.events(answer.body, may_be_cut=not answer.whole)
    names = [one.name for one in told]
    if answer.whole:
        assert names[-1] == "final_end"
        assert names.count("final_end") == 1
    if "error" in names:
        code = told[names.index("error")].data["code"]
        assert code in TABLE
        assert code != Code.INTERNAL
        assert "final_end" not in names or names[-2:] == ["error", "final_end"]


def assert_json(answer: strict.Response) -> None:
    told = json.loads(answer.body)
    if answer.status == 200:
        assert told == {"status": "ok"}
        return
    assert sorted(told) == ["code", "error"]
    told["error"].encode()  # no halves of surrogate pairs
    code = Code(told["code"])
    assert answer.status == (TABLE[code].status or 503)
    assert answer.status < 500 or code in REFUSED_BUSY or TABLE[code].status is None


async def play(bench: Bench, data: bytes, cut: list[int], leaving: Leaving) -> None:
    """One client without manners, then a good one."""
    assert_answered_well(await bench.send(data, cut, leaving))
    told = strict.events((await good_answer(bench, REQUESTS["old"])).body)
    assert [one.data.get("content") for one in told] == ["hi", None]
    await bench.settle()


async def good_answer(bench: Bench, request: bytes) -> strict.Response:
    """Ask well; again if it was so slow that one of the short limits struck."""
    async with asyncio.timeout(LONG):
        while True:
            answers = assert_answered_well(await bench.send(request, [1000]))
            late = not answers or answers[0].status == 408 or b'"upstream_timeout"' in answers[0].body
            if not late:
                (answer,) = answers
                return answer


@examples(150)
@given(data=requests, cut=cuts(200), leaving=leavings)
def test_a_spoiled_request_is_answered_well_and_harms_nobody(
    served: Bench, data: bytes, cut: list[int], leaving: Leaving
) -> None:
    """Strict HTTP and the protocol's own words; no error in the log; the next client is served."""
    served.example(play(served, data, cut, leaving))


# Answers of what should be AnythingLLM


@pytest.fixture(scope="module")
def fooled() -> Iterator[Bench]:
    """A relay in front of bytes of any kind."""
    yield from benches(real=False)


def http_chunks(body: bytes, size: int) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in pieces(body, [size])) + b"0\r\n\r\n"


STREAM = (
    b"HTTP/1.1 200 OK\r\nX-Powered-By: Express\r\nAccess-Control-Allow-Origin: *\r\nSet-Cookie: a=b\r\n"
)
STREAM += b"Cache-Control: no-cache\r\nContent-Type: text/event-stream\r\nConnection: keep-alive\r\n"


def streamed(body: bytes, size: int = 300) -> bytes:
    return STREAM + b"Transfer-Encoding: chunked\r\n\r\n" + http_chunks(body, size)


def sized(status: bytes, kind: bytes, body: bytes) -> bytes:
    head = b"HTTP/1.1 %b\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n"
    return head % (status, kind, len(body)) + body


def zipped(body: bytes) -> bytes:
    head = b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
    return STREAM + head + http_chunks(gzip.compress(body, mtime=0), 50)


GOOD = streamed(recorded.body("reasoning"))
LEAK = b'{"error": "401 Incorrect API key provided: %b"}' % KEY.encode()
ANSWERS = {
    "good": GOOD,
    "in one": STREAM + b"Content-Length: %d\r\n\r\n%b" % (1029, recorded.body("agent_untooled")),
    "until it closes": STREAM + b"\r\n" + recorded.body("surrogate_halves"),
    "sources": streamed(recorded.body("sources_cjk_chunk8192_top4")[:9000]),
    "agent": streamed(recorded.body("agent_tool_chart")),
    "aborted": streamed(recorded.body("llm_401")),
    "early": b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + GOOD,
    "twice": GOOD + GOOD,
    "zipped": zipped(recorded.body("ollama_chat")),
    "authorized": sized(b"200 OK", b"application/json", b'{"authenticated": true}'),
    "rejected": sized(b"400 Bad", b"application/json", LEAK),
    "wrong": sized(b"200 OK", b"text/html", b"<html>" + LEAK),
    "moved": sized(b"307 Moved", b"text/plain", LEAK).replace(b"\r\n", b"\r\nLocation: /x\r\n", 1),
    "nothing": b"",
}
ODD_ANSWER_LINES = b"""\
HTTP/1.1 200 OK
HTTP/1.1 101 Switch
HTTP/1.1 204 No
HTTP/1.1 304 No
HTTP/1.1 401 No
HTTP/1.1 500 No
HTTP/2 200
Content-Length: 5
Content-Length: -1
Content-Length: 99999999999999999999
Transfer-Encoding: chunked
Transfer-Encoding: gzip, chunked
Content-Encoding: gzip
Content-Encoding: deflate
Content-Encoding: br
Content-Encoding: zstd
Content-Type: \xff
Content-Type: text/\xed\xa0\xbd
Content-Type: application/json
Content-Type: text/event-stream; a*
Location: http://[
Connection: close
Connection: upgrade
Upgrade: websocket
Set-Cookie: \xff=;=\x7f
 folded
0
-1
ffffffffffffffff
"""
ODD_ANSWERS = (
    *[line + b"\r\n" for line in ODD_ANSWER_LINES.splitlines()],
    *[b"\r\n", b"\n", b"\0", b"\xff", b" ", b":", b"0\r\n\r\n", b"0\r\nX: \xff\r\n\r\n"],
    *[b"X: y\r\n" * 3000, b"X: %b\r\n" % (b"x" * 9000), b"5;%b\r\n" % (b"x" * 9000), b"[" * 3000],
    *[b"data: \xff\n\n", b"data: " + b"9" * 6000 + b"\n\n", b"\n\nevent: final_end\ndata: {}\n\n"],
    b"Content-Type: text/%b\r\n" % KEY.encode(),
    b'data: {"type": "abort", "error": "%b"}\n\n' % KEY.encode(),
    b'data: {"type": "finalizeResponseStream"}\n\n',
    b'{"type": "agentThought", "thought": "',
)
answers = st.builds(
    Answer,
    spoiled(ANSWERS.values(), ODD_ANSWERS),
    cuts(400),
    st.sampled_from(["closes", "closes", "closes", "resets", "goes on"]),
)
# All that an answer may have; none of these comes from AnythingLLM.
OUR_HEADERS = {
    "content-type",
    "cache-control",
    "connection",
    "x-accel-buffering",
    "x-request-id",
    "transfer-encoding",
    "date",
    "server",
}


QUESTIONS = {
    how: asked(
        b"application/json",
        json.dumps({"question": "?", "format": how}).encode(),
        b"Connection: close",
    )
    for how in ("events", "anythingllm")
}


async def fool(bench: Bench, answer: Answer, how: str) -> None:
    """One answer of any kind, to a question or to a probe, then a good one to a question."""
    bench.upstream.next = answer
    if how == "ready":
        heard = await bench.send(REQUESTS["ready"], [1000])
        assert_answered_well(heard)
    else:
        heard = await bench.send(QUESTIONS[how], [1000])
        assert_told_well(heard)
    assert KEY.encode() not in heard.raw
    bench.upstream.next = None
    told = strict.events((await good_answer(bench, QUESTIONS["events"])).body)
    if told[-1].data["reason"] == "error":
        # Bytes that nobody asked for may still drip out of a connection when it is used again: HTTP/1.1
        # cannot tell them from an answer. They cost one question, in words, and the connection.
        assert told[-2].data["code"] in (
            "upstream_unreachable",
            "upstream_protocol",
            "upstream_truncated",
            "empty_answer",
        )
        told = strict.events((await good_answer(bench, QUESTIONS["events"])).body)
    assert told[-1].data["reason"] == "complete", told[-2:]
    await bench.settle()


def assert_told_well(heard: Heard) -> None:
    (response,) = assert_answered_well(heard)
    assert response.status == 200
    assert response.whole
    assert response.headers.keys() <= OUR_HEADERS


@examples(150)
@example(answer=Answer(ANSWERS["agent"] + b"HTTP/1.1 200 OK\r\n" * 2, [1], "closes"), how="events")
@given(answer=answers, how=st.sampled_from([*QUESTIONS, "ready"]))
def test_a_spoiled_answer_is_told_well_and_harms_nobody(fooled: Bench, answer: Answer, how: str) -> None:
    """One end, a documented code, none of its headers; no error in the log; the next answer is good."""
    fooled.example(fool(fooled, answer, how))
