"""What the fuzz tests found, each as a plain case (test_fuzz.py, test_fuzz_wire.py)."""

import asyncio
import gzip
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from relay.events import Error, FinalEnd, RawFrame
from relay.frames import Answer
from relay.standin import KEY
from tests import strict
from tests.conftest import StartRelay
from tests.running import Relay

HEAD = b"POST /stream-ask HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
JSON = b'{"question": "!echo hi"}'
EVENTS = b"Content-Type: text/event-stream\r\n"


def asked(kind: bytes, body: bytes = JSON, head: bytes = HEAD) -> bytes:
    return head + b"Content-Type: %b\r\nContent-Length: %d\r\n\r\n%b" % (kind, len(body), body)


async def exchange(relay: Relay, data: bytes) -> list[strict.Response]:
    """Send the bytes as they are, and read until the relay closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
    writer.write(data)
    raw = await reader.read()
    writer.close()
    return strict.responses(raw)


async def answer_to(relay: Relay, data: bytes) -> strict.Response:
    (answer,) = await exchange(relay, data)
    return answer


def code_of(answer: strict.Response) -> str:
    return str(json.loads(answer.body)["code"])


@asynccontextmanager
async def upstream(answer: bytes) -> AsyncIterator[str]:
    """Answer every request with these bytes; yields the URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await request(reader)
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def request(reader: asyncio.StreamReader) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(
        int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0] or 0)
    )


def said(text: str, head: bytes = EVENTS) -> bytes:
    """A whole answer of AnythingLLM."""
    frames = [
        {"type": "textResponseChunk", "uuid": "u", "textResponse": text, "close": True, "error": False},
        {"type": "finalizeResponseStream", "uuid": "u", "close": True, "error": False},
    ]
    body = b"".join(b"data: %b\n\n" % json.dumps(frame).encode() for frame in frames)
    return b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body)


# Frames


def test_a_number_of_too_many_digits_costs_only_its_frame() -> None:
    """Python reads no number of more than 4300 digits; frames that are handed on are read by it."""
    odd = b'data: {"type": "news", "n": ' + b"9" * 5000 + b"}\n\n"
    good = b'data: {"type": "finalizeResponseStream", "textResponse": "hi"}\n\n'
    events = Answer(format="anythingllm").feed(odd + good)
    assert [type(event) for event in events] == [RawFrame, FinalEnd]


@pytest.mark.parametrize("sources", [{"url": "file:///srv/a"}, [{"url": ["file:///srv/a"]}]])
def test_no_shape_of_sources_tells_a_path(sources: object) -> None:
    """A place is text, and sources are a list of objects; what is neither is left out."""
    told = json.dumps({"type": "finalizeResponseStream", "textResponse": "hi", "sources": sources})
    for answer in (Answer(sources="full"), Answer(format="anythingllm", sources="full")):
        events = answer.feed(b"data: %b\n\n" % told.encode())
        assert "file:" not in str(events)


@pytest.mark.parametrize("again", ["eof", "timeout"])
def test_an_end_is_told_once(again: str) -> None:
    """Also where the reading of an answer ends after the answer has."""
    answer = Answer()
    answer.feed(b'data: {"type": "textResponseChunk", "textResponse": "hi", "close": true}\n\n')
    assert not any(isinstance(event, Error) for event in answer.eof())
    assert getattr(answer, again)() == []


# Requests


@pytest.mark.parametrize("origin", [b"http://a\xff", b"vscode-webview://\xff"])
async def test_an_origin_that_is_no_text_is_not_allowed(start_relay: StartRelay, origin: bytes) -> None:
    """It cannot be sent back as it came; without the C extension of aiohttp not at all."""
    relay = await start_relay(relay_allowed_origins="vscode-webview://*")
    head = b"GET /healthz HTTP/1.1\r\nHost: a\xff\r\nConnection: close\r\nOrigin: %b\r\n\r\n" % origin
    answer = await answer_to(relay, head)
    assert answer.status == 200
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    "kind", [b"application/json; a*", b"multipart/form-data; boundary=X; charset*", b"text/plain; a*"]
)
async def test_a_content_type_that_cannot_be_parsed_is_refused(relay: Relay, kind: bytes) -> None:
    """The standard library's parser fails at a parameter that ends with a star."""
    answer = await answer_to(relay, asked(kind))
    assert answer.status in (400, 415)


@pytest.mark.parametrize(
    "disposition",
    [
        b"form-data; name=\"a\"; filename*=utf-8''%ff",
        b'"form-data"; name="a"',
        b"form-data; name=a; name=b",
        b"form-data; ;",
    ],
)
async def test_a_part_with_an_odd_disposition_is_no_fault_and_warns_of_nothing(
    relay: Relay, disposition: bytes
) -> None:
    """The library warns of each by Python's warnings, which remember every text they ever showed."""
    part = b"--X\r\nContent-Disposition: %b\r\n\r\nx\r\n--X--\r\n" % disposition
    answer = await answer_to(relay, asked(b"multipart/form-data; boundary=X", part))
    assert answer.status == 400


async def test_a_field_whose_name_is_no_text_is_refused_in_text(relay: Relay) -> None:
    """Halves of a surrogate pair are refused by strict parsers of JSON."""
    part = b'--X\r\nContent-Disposition: form-data; name="\xff"\r\n\r\nx\r\n'
    answer = await answer_to(relay, asked(b"multipart/form-data; boundary=X", part * 2 + b"--X--\r\n"))
    assert answer.status == 400
    assert json.loads(answer.body)["error"].encode()


async def test_who_leaves_before_being_asked_for_the_body_is_not_complained_of(
    relay: Relay, caplog: pytest.LogCaptureFixture
) -> None:
    """`Expect: 100-continue`, and the connection is closed before we said so."""
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
    writer.write(
        HEAD + b"Content-Type: application/json\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n"
    )
    writer.write_eof()
    await reader.read()
    writer.close()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_http_1_0_expects_nothing(relay: Relay) -> None:
    """RFC 9110, 10.1.1: the expectation must be ignored there."""
    head = b"POST /stream-ask HTTP/1.0\r\nExpect: 100-continue\r\n"
    answers = await exchange(relay, asked(b"application/json", head=head))
    assert [answer.status for answer in answers] == [200]


@pytest.mark.parametrize("line", [b"GET /healthz", b"GET /healthz!HTTP/1.1", b"GET /healthz HTTP/0.9"])
async def test_what_is_older_than_http_1_is_answered_in_http_1(relay: Relay, line: bytes) -> None:
    """No client reads a status line of HTTP/0.9, which has none."""
    answer = await answer_to(relay, line + b"\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert answer.status in (200, 400, 404)


async def test_a_refusal_is_the_last_word(start_relay: StartRelay) -> None:
    """A refused client that is still sending, when its place is needed, is not told a second thing."""
    relay = await start_relay(relay_max_connections=1)
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
    writer.write(HEAD + b"Content-Type: text/plain\r\nContent-Length: 1000\r\n\r\n")
    raw = await reader.readuntil(b'"}')
    writer.write(b"x")
    other = asyncio.create_task(answer_to(relay, b"GET /healthz HTTP/1.0\r\n\r\n"))
    raw += await reader.read()
    writer.close()
    assert [answer.status for answer in strict.responses(raw)] == [415]
    assert (await other).status in (200, 503)


async def test_text_before_the_first_part_of_a_form_is_refused(relay: Relay) -> None:
    """No client sends any; a megabyte of empty lines would hold up everybody for seconds."""
    body = b'--X\r\nContent-Disposition: form-data; name="question"\r\n\r\n!echo hi\r\n--X--\r\n'
    kind = b"multipart/form-data; boundary=X"
    assert (await answer_to(relay, asked(kind, body))).status == 200
    assert (await answer_to(relay, asked(kind, b"\n" * 1000 + body))).status == 400


# Answers


async def test_an_answer_that_nobody_asked_for_is_nobodys(start_relay: StartRelay) -> None:
    """It comes on a connection that waits for its next question, which may be another client's."""
    ended, sent = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await request(reader)
                writer.write(said("asked for"))
                await ended.wait()
                writer.write(said("not asked for"))
                sent.set()
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        relay = await start_relay(anythingllm_base_url=url)
        assert (await relay.ask("one")).text == "asked for"
        await relay.idle()
        ended.set()
        await sent.wait()
        async with relay.client.get("/healthz"):  # meanwhile it was read, if anybody reads it
            pass
        assert (await relay.ask("two")).text == "asked for"


async def test_a_stream_whose_content_type_cannot_be_parsed_is_no_fault(start_relay: StartRelay) -> None:
    """Neither for who asks nor for who asks whether it is ready."""
    async with upstream(said("hi", b"Content-Type: text/event-stream; a*\r\n")) as url:
        relay = await start_relay(anythingllm_base_url=url)
        heard = await relay.ask("?")
        assert heard.text == "hi" or heard.error["code"] == "upstream_protocol"
        ready = await answer_to(relay, b"GET /readyz HTTP/1.0\r\n\r\n")
        assert (ready.status, code_of(ready)) == (503, "upstream_protocol")


@pytest.mark.parametrize("kind", ["text/" + KEY, "text/" + "x" * 5000])
async def test_a_content_type_is_told_short_and_without_secrets(
    start_relay: StartRelay, kind: str
) -> None:
    """Its words come from outside as those of a rejection do."""
    async with upstream(said("hi", b"Content-Type: %b\r\n" % kind.encode())) as url:
        relay = await start_relay(anythingllm_base_url=url)
        error = (await relay.ask("?")).error
        assert error["code"] == "upstream_protocol"
        assert KEY not in error["message"]
        assert len(error["message"]) < 500


async def test_a_compressed_answer_is_refused(start_relay: StartRelay) -> None:
    """None was asked for; a few kilobytes may unpack to what holds up everybody for seconds."""
    packed = gzip.compress(b"\n" * 1_000_000, mtime=0)
    head = b"HTTP/1.1 200 OK\r\n%bContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
    async with upstream(head % (EVENTS, len(packed)) + packed) as url:
        relay = await start_relay(anythingllm_base_url=url)
        error = (await relay.ask("?")).error
    assert error["code"] == "upstream_protocol"
    assert "gzip" in error["message"]
