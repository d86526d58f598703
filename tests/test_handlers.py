"""The addresses of the relay: what is asked on, and every refusal before a stream."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp
import pytest
from aiohttp import web

from relay import middlewares
from relay.access import AccessRules
from relay.clock import Clock
from relay.handlers import STREAMS, UPSTREAM
from relay.keys import ClientKeys
from relay.metrics import Metrics
from relay.readiness import Readiness
from relay.response import EventStreamResponse
from relay.standin import KEY, StandIn
from relay.standin.answers import NO_HISTORY, RESET
from tests.conftest import StartRelay
from tests.running import Relay
from tests.test_upstream import server

TEXT = "!echo \U0001f600 a\r\nb\rc\n\u2028\u2029\0é"
ATTACHMENT = {
    "name": "\U0001f600.txt",
    "mime": "text/plain",
    "contentString": "data:text/plain;base64,YQ==",
}
JSON_TYPE = b"Content-Type: application/json\r\n"
BODY = b'{"question": "!echo hi"}'
KEY_ONE, KEY_TWO = "key-of-client-one", "key-of-client-two"


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def raw(relay: Relay, head: bytes, body: bytes = b"", *, length: bool = True) -> bytes:
    """Send bytes that no good client would, and return all that comes back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
    counted = b"Content-Length: %d\r\n" % len(body) if length else b""
    writer.write(head + b"Host: localhost\r\nConnection: close\r\n" + counted + b"\r\n" + body)
    answer = await reader.read()
    writer.close()
    return answer


def told(answer: bytes) -> tuple[int, dict[str, Any]]:
    """Return the status and the JSON of a refusal."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"\r\nContent-Type: application/json" in head
    refusal = json.loads(body)
    assert set(refusal) == {"error", "code"}
    return int(head.split()[1]), refusal


def assert_refusal(response: aiohttp.ClientResponse, refusal: dict[str, Any]) -> None:
    """A sentence for a person, a code for a program, and an id for both."""
    assert response.content_type == "application/json"
    assert set(refusal) == {"error", "code"}
    assert refusal["error"].endswith(".")
    assert response.headers["X-Request-ID"]


# --- what AnythingLLM is asked ---


async def test_json_reaches_anythingllm_unchanged(relay: Relay, standin: StandIn) -> None:
    fields = {"session_id": "s é", "attachments": [ATTACHMENT], "mode": "query", "stray": 1}
    heard = await relay.ask(TEXT, **fields)
    ask = await standin.next_ask()
    assert ask.body == {
        "message": TEXT,
        "mode": "query",
        "sessionId": "s é",
        "attachments": [ATTACHMENT],
    }
    assert (ask.workspace, ask.thread) == ("demo", None)
    assert heard.text == TEXT.removeprefix("!echo ")


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data"])
async def test_a_form_reaches_anythingllm_unchanged(relay: Relay, standin: StandIn, kind: str) -> None:
    fields = {
        "question": TEXT,
        "attachments": json.dumps([ATTACHMENT]),
        "sessionId": "s é",
        "reset": "on",
        "stray": "1",
    }
    form = aiohttp.FormData(fields, default_to_multipart=kind.startswith("multipart"))
    async with relay.client.post("/stream-ask", data=form) as response:
        assert response.request_info.headers["Content-Type"].startswith(kind)
        assert response.status == 200
        await response.read()
    assert (await standin.next_ask()).body == {
        "message": TEXT,
        "mode": "chat",
        "sessionId": "s é",
        "attachments": [ATTACHMENT],
        "reset": True,
    }


@pytest.mark.parametrize(
    "kind",
    ["application/json; charset=UTF-8", 'Application/JSON; charset="utf8"', "application/json; x=y"],
)
async def test_json_may_say_that_it_is_utf_8(relay: Relay, kind: str) -> None:
    async with relay.client.post("/stream-ask", data=BODY, headers={"Content-Type": kind}) as response:
        assert response.status == 200
        await response.read()


async def test_json_may_begin_with_a_byte_order_mark_and_name_a_field_twice(
    relay: Relay, standin: StandIn
) -> None:
    body = b'\xef\xbb\xbf{"question": "!echo first", "question": "!echo last"}'
    async with relay.client.post(
        "/stream-ask", data=body, headers={"Content-Type": "application/json"}
    ) as response:
        assert response.status == 200
        await response.read()
    assert (await standin.next_ask()).body["message"] == "!echo last"


@pytest.mark.parametrize("length", [True, False])
async def test_json_comes_with_a_length_or_in_chunks(relay: Relay, *, length: bool) -> None:
    head = b"POST /stream-ask HTTP/1.1\r\n" + JSON_TYPE
    if length:
        answer = await raw(relay, head, BODY)
    else:
        head += b"Transfer-Encoding: chunked\r\n"
        pieces = b"".join(b"1\r\n%c\r\n" % byte for byte in BODY) + b"0\r\n\r\n"
        answer = await raw(relay, head, pieces, length=False)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"event: final_end" in answer


async def test_the_mode_is_always_sent(start_relay: StartRelay, standin: StandIn) -> None:
    """Without one, AnythingLLM takes the workspace's, which may be an agent's."""
    relay = await start_relay(anythingllm_mode="query")
    await relay.ask("!echo hi")
    await relay.ask(reset=True)
    assert [ask.body["mode"] for ask in standin.asks] == ["query", "query"]


async def test_a_thread_is_asked_on_its_own_route(relay: Relay, standin: StandIn) -> None:
    await relay.ask("!echo hi", thread="thread-1")
    ask = await standin.next_ask()
    assert (ask.workspace, ask.thread) == ("demo", "thread-1")
    assert ask.body == {"message": "!echo hi", "mode": "chat"}


async def test_an_allowed_workspace_is_asked(start_relay: StartRelay, standin: StandIn) -> None:
    relay = await start_relay(anythingllm_allowed_workspaces="other")
    heard = await relay.ask("!echo hi", workspace="other")
    assert (await standin.next_ask()).workspace == "other"
    assert "other" in heard.error["message"]  # the stand-in has only one


async def test_a_reset_forgets(relay: Relay, standin: StandIn) -> None:
    await relay.ask("first", session_id="s")
    assert "first" in (await relay.ask("!history", session_id="s")).text
    heard = await relay.ask(reset=True, session_id="s")
    assert (heard.text, heard.end["reason"]) == (RESET, "complete")
    assert "message" not in standin.asks[-1].body
    assert (await relay.ask("!history", session_id="s")).text == NO_HISTORY
    assert (await relay.ask("!history", session_id="s", reset=True)).text == NO_HISTORY


async def test_agents_answer_where_they_are_allowed(start_relay: StartRelay, standin: StandIn) -> None:
    everything = await start_relay()
    assert (await everything.ask("@agent !tool")).of("thought")
    assert (await everything.ask("!tool", mode="automatic")).of("thought")
    relay = await start_relay(anythingllm_allowed_modes="chat,query")
    for body in ({"question": " @agent !tool"}, {"question": "!tool", "mode": "automatic"}):
        status, refusal = await relay.refused(body)
        assert (status, refusal["code"]) == (400, "bad_request")
    assert len(standin.asks) == 2


# --- what of a request's head goes on ---


async def test_a_trace_goes_on_and_nothing_else(relay: Relay, standin: StandIn) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    mine = {
        "traceparent": trace,
        "tracestate": "a=b",
        "Cookie": "session=secret",
        "Authorization": "Bearer client-secret",
        "X-Request-ID": "mine",
        "X-Forwarded-For": "10.0.0.1",
        "User-Agent": "client-agent",
        "Accept-Language": "tlh",
    }
    async with relay.asking("!echo hi", headers=mine) as listening:
        await listening.rest()
    sent = (await standin.next_ask()).headers
    assert sent["traceparent"] == trace
    assert sent["Authorization"] == f"Bearer {KEY}"
    others = [value for name, value in mine.items() if name != "traceparent"]
    assert not set(others) & set(sent.values())


TRACE: Final = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT: Final = "00f067aa0ba902b7"


async def end_of(relay: Relay, caplog: pytest.LogCaptureFixture, **headers: str) -> dict[str, Any]:
    """Ask with these headers, and return the fields of the log line about it."""
    caplog.set_level("INFO", logger="relay")
    async with relay.asking("!echo hi", headers=headers) as listening:
        await listening.rest()
    await relay.idle()
    (record,) = caplog.records
    return dict(vars(record)["fields"])


@pytest.mark.parametrize("trace", [f"00-{TRACE}-{PARENT}-01", f"cc-{TRACE}-{PARENT}-00-what-comes"])
async def test_a_trace_is_in_the_log(
    relay: Relay, standin: StandIn, caplog: pytest.LogCaptureFixture, trace: str
) -> None:
    """By its id alone, and beside the request's."""
    sent = {"traceparent": trace, "X-Request-ID": "mine"}
    fields = await end_of(relay, caplog, **sent)
    assert (fields["id"], fields["trace_id"]) == ("mine", TRACE)
    assert (await standin.next_ask()).headers["traceparent"] == trace


@pytest.mark.parametrize(
    "trace",
    [
        "",
        "00-XYZ",
        "0" * 129,
        f"00-{TRACE}-{PARENT}",
        f"00-{TRACE}-{PARENT}-01-more",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{PARENT}-01",
        f"cc-{TRACE}-{PARENT}-01-{'x' * 101}",
    ],
)
async def test_a_bad_trace_does_not_go_on(
    relay: Relay, standin: StandIn, caplog: pytest.LogCaptureFixture, trace: str
) -> None:
    assert "trace_id" not in await end_of(relay, caplog, traceparent=trace)
    assert "traceparent" not in (await standin.next_ask()).headers


async def test_two_traces_are_none(relay: Relay, standin: StandIn) -> None:
    twice = [("traceparent", f"00-{TRACE}-{PARENT}-0{n}") for n in range(2)]
    async with relay.client.post("/stream-ask", json={"question": "x"}, headers=twice) as response:
        await response.read()
    assert "traceparent" not in (await standin.next_ask()).headers


STATUSES: Final[list[tuple[str, str, int | None]]] = [
    ("!echo hi", "complete", 200),
    ("!abort=429", "upstream_aborted", 200),
    ("!eof", "upstream_truncated", 200),
    ("!status=503", "upstream_rejected", 503),
    ("!status=403", "upstream_unauthorized", 403),
    ("!html", "upstream_protocol", 200),
]


@pytest.mark.parametrize(("question", "outcome", "status"), STATUSES)
async def test_the_log_says_what_was_asked_where_and_the_status_that_came_back(
    relay: Relay, caplog: pytest.LogCaptureFixture, question: str, outcome: str, status: int | None
) -> None:
    caplog.set_level("INFO", logger="relay")
    await relay.ask(question, mode="query")
    await relay.idle()
    fields = vars(caplog.records[-1])["fields"]
    assert (fields["outcome"], fields["upstream_status"]) == (outcome, status)
    assert (fields["workspace"], fields["mode"]) == ("demo", "query")
    words_of_others = outcome in ("complete", "upstream_aborted", "upstream_rejected")
    assert ("why" in fields) is not words_of_others


@pytest.mark.parametrize("given", ["a", "A.b_c-9", "x" * 128])
async def test_a_request_keeps_its_id(relay: Relay, given: str) -> None:
    async with relay.asking("!echo hi", headers={"X-Request-ID": given}) as listening:
        assert listening.response.headers["X-Request-ID"] == given
        await listening.rest()
    async with relay.client.get("/nowhere", headers={"X-Request-ID": given}) as response:
        assert (response.status, response.headers["X-Request-ID"]) == (404, given)


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "é", "a;b"])
async def test_a_bad_id_is_replaced_by_a_new_one(relay: Relay, given: str) -> None:
    seen = set()
    for _ in range(2):
        async with relay.client.get("/healthz", headers={"X-Request-ID": given}) as response:
            seen.add(response.headers["X-Request-ID"])
    assert len(seen) == 2
    assert given not in seen


# --- clients with keys ---


async def test_clients_do_not_see_each_others_questions(
    start_relay: StartRelay, standin: StandIn
) -> None:
    relay = await start_relay(relay_api_keys=f"{KEY_ONE},{KEY_TWO}")

    async def ask(key: str, question: str, **fields: Any) -> str:
        async with relay.asking(question, headers=bearer(key), **fields) as listening:
            return (await listening.rest()).text

    for fields in ({"session_id": "same"}, {}):
        await ask(KEY_ONE, "secret of one", **fields)
        assert await ask(KEY_TWO, "!history", **fields) == NO_HISTORY
        await ask(KEY_TWO, "", reset=True, **fields)
        assert "secret of one" in await ask(KEY_ONE, "!history", **fields)
    stolen = standin.asks[0].body["sessionId"]
    assert await ask(KEY_TWO, "!history", session_id=stolen) == NO_HISTORY


async def test_without_keys_a_session_is_as_the_client_names_it(relay: Relay, standin: StandIn) -> None:
    await relay.ask("!echo hi", sessionId="s")
    await relay.ask("!echo hi")
    assert [ask.body.get("sessionId") for ask in standin.asks] == ["s", None]


# --- refusals ---

BAD_FIELDS: list[tuple[Any, str]] = [
    ({}, "`question`"),
    ({"question": None}, "`question`"),
    ({"question": " \n"}, "`question`"),
    ({"question": ["a"]}, "`question`"),
    ({"question": "\ud83d"}, "`question`"),
    ({"question": "x", "mode": {}}, "`mode`"),
    ({"question": "x", "mode": "agent"}, "`mode`"),
    ({"question": "x", "workspace": "../../system"}, "`workspace`"),
    ({"question": "x", "thread": "a/b"}, "`thread`"),
    ({"question": "x", "thread": "t", "session_id": "s"}, "`thread`"),
    ({"question": "x", "session_id": 1}, "`session_id`"),
    ({"question": "x", "sessionId": "s" * 257}, "`sessionId`"),
    ({"question": "x", "attachments": [{"name": "\ud83d"}]}, "`attachments`"),
    ({"question": "x", "reset": 1}, "`reset`"),
    ({"question": "x", "reasoning": []}, "`reasoning`"),
    ({"question": "x", "sources": "all"}, "`sources`"),
    ({"question": "x", "format": "sse"}, "`format`"),
    ({"question": "x", "format": "anythingllm", "reasoning": "hide"}, "`reasoning`"),
    ([], "JSON object"),
    ("text", "JSON object"),
]


@pytest.mark.parametrize(("body", "named"), BAD_FIELDS)
async def test_a_bad_field_is_named(relay: Relay, standin: StandIn, body: Any, named: str) -> None:
    async with relay.client.post("/stream-ask", json=body) as response:
        refusal = await response.json()
        assert response.status == 400
        assert_refusal(response, refusal)
    assert refusal["code"] == "bad_request"
    assert named in refusal["error"]
    assert not standin.asks


BAD_JSON = [
    b"",
    b"{",
    b"\xff",
    b"[" * 100_000,
    b'{"question": ' + b"9" * 5000 + b"}",
    b"\0",
    b"question=x",
]


@pytest.mark.parametrize("body", BAD_JSON)
async def test_a_body_that_is_no_json_is_refused(relay: Relay, body: bytes) -> None:
    sent = {"Content-Type": "application/json"}
    status, refusal = await relay.refused(data=body, headers=sent)
    assert (status, refusal["code"]) == (400, "bad_request")


async def test_what_is_odd_in_an_attachment_breaks_no_stream(relay: Relay, standin: StandIn) -> None:
    heard = await relay.ask("!echo hi", attachments=[{**ATTACHMENT, "note": "\ud83d"}])
    assert heard.text == "hi"
    assert (await standin.next_ask()).body["attachments"] == [ATTACHMENT]


async def test_another_workspace_is_forbidden(relay: Relay, standin: StandIn) -> None:
    status, refusal = await relay.refused({"question": "x", "workspace": "secret"})
    assert (status, refusal["code"]) == (403, "forbidden_workspace")
    assert not standin.asks


@pytest.mark.parametrize("path", ["/nowhere", "/stream-ask/", "//stream-ask", "/%FF", "/healthz/"])
async def test_there_is_nothing_at_other_addresses(relay: Relay, path: str) -> None:
    answer = await raw(relay, b"POST " + path.encode() + b" HTTP/1.1\r\n" + JSON_TYPE, BODY)
    status, refusal = told(answer)
    assert (status, refusal["code"]) == (404, "not_found")
    assert "POST /stream-ask" in refusal["error"]


METHODS = [
    ("/stream-ask", ("GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"), "POST"),
    ("/healthz", ("POST", "HEAD", "OPTIONS"), "GET"),
    ("/readyz", ("POST", "HEAD", "OPTIONS"), "GET"),
]


@pytest.mark.parametrize(
    ("path", "method", "allow"),
    [(path, method, allow) for path, methods, allow in METHODS for method in methods],
)
async def test_another_method_is_told_the_right_one(
    relay: Relay, path: str, method: str, allow: str
) -> None:
    async with relay.client.request(method, path) as response:
        assert response.status == 405
        assert response.headers["Allow"] == allow
        assert response.headers["X-Request-ID"]
        if method == "HEAD":
            assert await response.read() == b""
        else:
            refusal = await response.json()
            assert_refusal(response, refusal)
            assert refusal["code"] == "method_not_allowed"


@pytest.mark.parametrize("kind", [JSON_TYPE, b"Content-Type: multipart/form-data; boundary=B\r\n"])
async def test_a_body_that_does_not_come_is_not_waited_for(
    relay: Relay, monkeypatch: pytest.MonkeyPatch, kind: bytes
) -> None:
    monkeypatch.setattr("relay.body._BODY_TIMEOUT", 0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
    head = b"POST /stream-ask HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n"
    writer.write(head + kind + b'\r\n{"question":')
    answer = await reader.readuntil(b"}")
    writer.close()
    status, refusal = told(answer)
    assert (status, refusal["code"]) == (408, "request_timeout")
    assert "0.05 seconds" in refusal["error"]


@pytest.mark.parametrize("rest", [b"", b'"x"'])
async def test_a_client_that_leaves_in_the_middle_of_its_body_leaves_nothing(
    relay: Relay, standin: StandIn, caplog: pytest.LogCaptureFixture, rest: bytes
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
    head = b"POST /stream-ask HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n"
    writer.write(head + JSON_TYPE + b'\r\n{"question":' + rest)
    writer.write_eof()
    assert await reader.read() == b""
    writer.close()
    assert not standin.asks
    assert not caplog.records


def too_large() -> list[Any]:
    text = "x" * 2048
    multipart = aiohttp.FormData({"question": text}, default_to_multipart=True)
    file = aiohttp.FormData()
    file.add_field("file", text.encode(), filename="a.txt")

    async def chunks() -> AsyncIterator[bytes]:
        yield b'{"question": "'
        for _ in range(8):
            yield b"x" * 256
        yield b'"}'

    json_type = {"Content-Type": "application/json"}
    return [
        pytest.param({"json": {"question": text}}, id="json"),
        pytest.param({"data": chunks(), "headers": json_type}, id="chunks"),
        pytest.param({"data": {"question": text}}, id="form"),
        pytest.param({"data": multipart}, id="multipart"),
        pytest.param({"data": file}, id="file"),
        pytest.param({"data": {f"field{n}": "" for n in range(1100)}}, id="fields"),
    ]


@pytest.mark.parametrize("sent", too_large())
async def test_a_body_has_a_size(
    start_relay: StartRelay, standin: StandIn, sent: dict[str, Any]
) -> None:
    relay = await start_relay(relay_max_body_bytes=1024)
    status, refusal = await relay.refused(**sent)
    assert (status, refusal["code"]) == (413, "too_large")
    assert "RELAY_MAX_BODY_BYTES" in refusal["error"]
    assert not standin.asks


UNSUPPORTED = [
    b"",
    b"Content-Type:\r\n",
    b"Content-Type: text/plain\r\n",
    b"Content-Type: text/json\r\n",
    b"Content-Type: application/jsonp\r\n",
    b"Content-Type: application/octet-stream\r\n",
    b"Content-Type: ;;;\r\n",
    b"Content-Type: \xff\r\n",
    b"Content-Type: application/json; charset=latin-1\r\n",
    b"Content-Type: application/json; charset=bogus\r\n",
    b"Content-Type: application/json; charset=\xff\r\n",
    b"Content-Type: application/x-www-form-urlencoded; charset=utf-16\r\n",
    b"Content-Type: multipart/form-data; boundary=B; charset=bogus\r\n",
    JSON_TYPE + b"Content-Encoding: gzip\r\n",
    JSON_TYPE + b"Content-Encoding: deflate\r\n",
    JSON_TYPE + b"Content-Encoding: bogus\r\n",
    JSON_TYPE + b"Content-Encoding: \xff\r\n",
]


@pytest.mark.parametrize("head", UNSUPPORTED)
async def test_another_kind_of_body_is_refused(relay: Relay, standin: StandIn, head: bytes) -> None:
    status, refusal = told(await raw(relay, b"POST /stream-ask HTTP/1.1\r\n" + head, BODY))
    assert (status, refusal["code"]) == (415, "unsupported_media_type")
    assert not standin.asks


def part(head: bytes, text: bytes = b"!echo hi") -> bytes:
    return b"--B\r\n" + head + b"\r\n\r\n" + text + b"\r\n"


QUESTION = b'Content-Disposition: form-data; name="question"'
FORM = b"Content-Type: multipart/form-data; boundary=B\r\n"
END = b"--B--\r\n"
BAD_FORMS = {
    "no boundary": (b"Content-Type: multipart/form-data\r\n", part(QUESTION) + END),
    "empty boundary": (b'Content-Type: multipart/form-data; boundary=""\r\n', part(QUESTION) + END),
    "long boundary": (FORM[:-2] + b"B" * 100 + b"\r\n", part(QUESTION) + END),
    "boundary no text": (FORM[:-2] + b"\xff\r\n", part(QUESTION) + END),
    "other boundary": (FORM, b"--C\r\n\r\nx\r\n--C--"),
    "nothing": (FORM, b""),
    "cut in a value": (FORM, part(QUESTION)[:-5]),
    "cut after a head": (FORM, part(QUESTION)[: len(QUESTION) + 7]),
    "no end": (FORM, part(QUESTION)),
    "no name": (FORM, part(b"Content-Disposition: form-data") + END),
    "no head": (FORM, b"--B\r\n\r\nx\r\n" + END),
    "not utf-8": (FORM, part(QUESTION, b"\xff") + END),
    "a file": (FORM, part(QUESTION + b'; filename="a.txt"') + END),
    "twice": (FORM, part(QUESTION) + part(QUESTION) + END),
    "name no text": (FORM, part(QUESTION.replace(b"question", b"\xff")) * 2 + END),
    "nested": (FORM, part(QUESTION + b"\r\nContent-Type: multipart/mixed; boundary=C") + END),
    "urlencoded not utf-8": (b"Content-Type: application/x-www-form-urlencoded\r\n", b"question=\xff"),
    "urlencoded nothing": (b"Content-Type: application/x-www-form-urlencoded\r\n", b""),
    "urlencoded twice": (b"Content-Type: application/x-www-form-urlencoded\r\n", b"=1&=2"),
}


@pytest.mark.parametrize(("head", "body"), BAD_FORMS.values(), ids=BAD_FORMS)
async def test_a_broken_form_is_refused(
    relay: Relay, standin: StandIn, caplog: pytest.LogCaptureFixture, head: bytes, body: bytes
) -> None:
    status, refusal = told(await raw(relay, b"POST /stream-ask HTTP/1.1\r\n" + head, body))
    assert (status, refusal["code"]) == (400, "bad_request")
    assert not standin.asks
    assert not caplog.records


FAULTS = {
    "cut in a head": (FORM, part(QUESTION)[:20], 400),
    "part header no header": (FORM, part(b"no colon"), 400),
    "part header too long": (FORM, part(QUESTION + b"\r\nX: " + b"x" * 20_000), 400),
    "part with 500 headers": (FORM, part(QUESTION + b"\r\nX: y" * 500), 400),
    "part charset unknown": (FORM, part(QUESTION + b"\r\nContent-Type: text/plain; charset=bogus"), 415),
    "_charset_ alone": (FORM, part(QUESTION.replace(b"question", b"_charset_"), b"bogus"), 400),
    "part coding unknown": (FORM, part(QUESTION + b"\r\nContent-Transfer-Encoding: bogus"), 400),
    "two codings": (JSON_TYPE + b"Content-Encoding: identity\r\nContent-Encoding: gzip\r\n", BODY, 415),
}


PLAIN = QUESTION + b"\r\nContent-Type: text/plain; charset="
# A boundary that looks like a header: else the library loses its way behind this field.
ALL_PARTS = part(QUESTION.replace(b"question", b"_charset_"), b"punycode") + part(QUESTION)
OTHER_CHARSETS = {
    "punycode": (FORM, part(PLAIN + b"punycode", b"a-b")),
    "utf-16": (FORM, part(PLAIN + b'"UTF-16LE"', b"h\0i\0")),
    "of all parts": (FORM[:-3] + b'"B:"\r\n', ALL_PARTS.replace(b"--B", b"--B:")),
}


@pytest.mark.parametrize(("head", "body"), OTHER_CHARSETS.values(), ids=OTHER_CHARSETS)
async def test_a_part_in_another_charset_is_refused(
    relay: Relay, standin: StandIn, head: bytes, body: bytes
) -> None:
    """Some of Python's codecs need seconds for a long text, in which nobody else is served."""
    end = b"--B:--\r\n" if b"B:" in head else END
    status, refusal = told(await raw(relay, b"POST /stream-ask HTTP/1.1\r\n" + head, body + end))
    assert (status, refusal["code"]) == (415, "unsupported_media_type")
    assert not standin.asks


@pytest.mark.parametrize("charset", [b"utf-8", b'"UTF-8"', b"utf8"])
async def test_a_part_may_say_that_it_is_utf_8(relay: Relay, standin: StandIn, charset: bytes) -> None:
    body = part(PLAIN + charset, "!echo é".encode()) + END
    assert b"200 OK" in await raw(relay, b"POST /stream-ask HTTP/1.1\r\n" + FORM, body)
    assert (await standin.next_ask()).body["message"] == "!echo é"


@pytest.mark.parametrize(
    "head",
    [
        QUESTION + b";" * 300,
        QUESTION + b"\r\nContent-Type: text/plain" + b"; a=b" * 60,
        QUESTION + b"\r\nX: y" * 9,
    ],
)
async def test_a_part_with_a_long_head_is_refused(relay: Relay, standin: StandIn, head: bytes) -> None:
    """Taking apart those of a hundred parts, each of eight thousand bytes, took seconds."""
    answer = await raw(relay, b"POST /stream-ask HTTP/1.1\r\n" + FORM, part(head) + END)
    status, refusal = told(answer)
    assert (status, refusal["code"]) == (400, "bad_request")
    assert not standin.asks


async def test_a_field_may_have_a_long_name(relay: Relay) -> None:
    field = b'Content-Disposition: form-data; name="%b"' % (b"n" * 100)
    body = part(field + b"\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 8")
    answer = await raw(relay, b"POST /stream-ask HTTP/1.1\r\n" + FORM, body + part(QUESTION) + END)
    assert b"200 OK" in answer


@pytest.mark.parametrize("preamble", [b"--\n", b"--b\r\n", b"--BB\r\n", b"--B-\r\n", b" --B\r\n", b"\n"])
async def test_a_form_begins_with_its_boundary(relay: Relay, standin: StandIn, preamble: bytes) -> None:
    """What is before it is skipped line by line: a megabyte of empty ones took seconds."""
    body = preamble + b"\n" * 1000 + part(QUESTION) + END
    status, refusal = told(await raw(relay, b"POST /stream-ask HTTP/1.1\r\n" + FORM, body))
    assert (status, refusal["code"]) == (400, "bad_request")
    assert "boundary" in refusal["error"]
    assert not standin.asks


async def test_a_boundary_may_be_quoted_and_followed_by_blanks(relay: Relay) -> None:
    body = part(QUESTION).replace(b"--B\r\n", b"--B \t\r\n") + END
    head = FORM.replace(b"=B", b'="B"')
    assert b"200 OK" in await raw(relay, b"POST /stream-ask HTTP/1.1\r\n" + head, body)


@pytest.mark.parametrize(("head", "body", "expected"), FAULTS.values(), ids=FAULTS)
async def test_no_request_breaks_the_relay(
    relay: Relay, head: bytes, body: bytes, expected: int
) -> None:
    end = END if head is FORM else b""
    status, refusal = told(await raw(relay, b"POST /stream-ask HTTP/1.1\r\n" + head, body + end))
    assert status == expected
    assert refusal["code"] != "internal"


async def test_a_client_that_waits_to_be_asked_for_its_body_is_asked(relay: Relay) -> None:
    """As curl does with a longer one."""
    head = b"POST /stream-ask HTTP/1.1\r\n" + JSON_TYPE + b"Expect: 100-continue\r\n"
    answer = await raw(relay, head, BODY)
    assert b" 100 " in answer.partition(b"\r\n")[0]
    assert answer.count(b"event: final_end") == 1


LENGTH = b"Content-Length: 22\r\n"
EXPECTING = b"POST /stream-ask HTTP/1.1\r\n%bExpect: 100-continue\r\n%b%b"
HOST, KEY_HEAD = b"Host: localhost\r\n", b"Authorization: Bearer %b\r\n" % KEY_ONE.encode()
NEVER_ASKED = {
    "host": (EXPECTING % (b"Host: evil\r\n", JSON_TYPE + KEY_HEAD, LENGTH), 403),
    "origin": (EXPECTING % (HOST + b"Origin: http://evil\r\n", JSON_TYPE + KEY_HEAD, LENGTH), 403),
    "key": (EXPECTING % (HOST, JSON_TYPE, LENGTH), 401),
    "type": (EXPECTING % (HOST, b"Content-Type: text/plain\r\n" + KEY_HEAD, LENGTH), 415),
    "size": (EXPECTING % (HOST, JSON_TYPE + KEY_HEAD, LENGTH.replace(b"22", b"9" * 10)), 413),
    "no reader": (EXPECTING.replace(b"POST /stream-ask", b"GET /healthz") % (HOST, b"", LENGTH), 200),
}


@pytest.mark.parametrize(("head", "status"), NEVER_ASKED.values(), ids=NEVER_ASKED)
async def test_no_body_is_asked_for_that_will_not_be_read(
    start_relay: StartRelay, head: bytes, status: int
) -> None:
    """`100 Continue` comes after the rules on hosts, pages and keys, and after all other refusals."""
    relay = await start_relay(relay_api_keys=KEY_ONE)
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
    writer.write(head + b"\r\n")
    assert (await reader.readline()).split()[1] == b"%d" % status
    writer.close()


async def test_the_body_is_asked_for_once_the_rest_is_good(start_relay: StartRelay) -> None:
    relay = await start_relay(relay_api_keys=KEY_ONE)
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
    body = b"Content-Length: %d\r\n" % len(BODY)
    writer.write(EXPECTING % (HOST, JSON_TYPE + KEY_HEAD, body) + b"\r\n")
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(BODY)
    assert (await reader.readline()).split()[1] == b"200"
    await reader.readuntil(b"event: final_end")
    writer.close()


# --- limits, health, faults ---


async def test_one_stream_too_many_is_told_when_to_come_again(
    start_relay: StartRelay, standin: StandIn
) -> None:
    relay = await start_relay(relay_max_streams=1)
    async with relay.asking("!endless") as listening:
        await listening.until("chunk")
        async with relay.client.post("/stream-ask", json={"question": "!echo hi"}) as response:
            refusal = await response.json()
            assert response.status == 503
            assert_refusal(response, refusal)
            assert refusal["code"] == "too_many_streams"
            assert response.headers["Retry-After"] == "1"
        assert (await relay.refused({}))[0] == 400
        async with relay.client.get("/readyz") as response:
            assert response.status == 200
    assert len(standin.asks) == 1
    await relay.idle()
    assert (await relay.ask("!echo hi")).text == "hi"


async def test_while_it_drains_no_stream_begins_and_the_relay_is_not_ready(relay: Relay) -> None:
    await relay.app[STREAMS].drain(30)
    async with relay.client.post("/stream-ask", json={"question": "x"}) as response:
        assert (response.status, (await response.json())["code"]) == (503, "shutting_down")
        assert int(response.headers["Retry-After"]) in (29, 30)
    async with relay.client.get("/readyz") as response:
        assert (response.status, (await response.json())["code"]) == (503, "shutting_down")
    async with relay.client.get("/healthz") as response:
        assert response.status == 200


async def test_not_ready_while_anythingllm_is_down(relay: Relay, standin: StandIn) -> None:
    client = relay.app[UPSTREAM]
    client.readiness = Readiness(client.probe, counts=0.0)
    port = int(standin.url.rpartition(":")[2])
    await standin.stop()
    async with relay.client.get("/readyz") as response:
        refusal = await response.json()
        assert response.status == 503
        assert_refusal(response, refusal)
        assert refusal["code"] == "upstream_unreachable"
        assert "ANYTHINGLLM_BASE_URL" in refusal["error"]
    async with relay.client.get("/healthz") as response:
        assert (response.status, await response.json()) == (200, {"status": "ok"})
    await standin.start(port)
    async with relay.client.get("/readyz") as response:
        assert (response.status, await response.json()) == (200, {"status": "ok"})


async def test_not_ready_while_anythingllm_refuses_the_key(start_relay: StartRelay) -> None:
    relay = await start_relay(anythingllm_api_key="another-key")
    async with relay.client.get("/readyz") as response:
        refusal = await response.json()
        assert response.status == 503
        assert refusal["code"] == "upstream_unauthorized"
        assert "ANYTHINGLLM_API_KEY" in refusal["error"]
        assert "another-key" not in refusal["error"]


async def test_many_who_ask_whether_it_is_ready_cost_one_question(
    start_relay: StartRelay,
) -> None:
    """They need no key for it. Who leaves meanwhile takes nothing from the others."""
    heads: list[bytes] = []
    goes_on = asyncio.Event()

    async def auth(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        await goes_on.wait()
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 22\r\n\r\n"
        writer.write(head + b'{"authenticated":true}')
        await reader.read()

    async with server(auth) as url:
        relay = await start_relay(anythingllm_base_url=url)
        client = relay.app[UPSTREAM]
        client.readiness = Readiness(client.probe, counts=3600.0)
        first = asyncio.create_task(relay.answers("GET", "/readyz"))
        while not heads:
            await asyncio.sleep(0.01)
        others = [asyncio.create_task(relay.client.get("/readyz")) for _ in range(20)]
        while relay.connections < 21:
            await asyncio.sleep(0.01)
        first.cancel()
        while relay.connections > 20:
            await asyncio.sleep(0.01)
        goes_on.set()
        others.append(asyncio.create_task(relay.client.get("/readyz")))
        for response in await asyncio.gather(*others):
            assert (response.status, await response.json()) == (200, {"status": "ok"})
    assert len(heads) == 1


@asynccontextmanager
async def failing(handler: middlewares.Handler) -> AsyncIterator[aiohttp.ClientSession]:
    """A relay of one address, whose handler fails."""

    async def failing_handler(request: web.Request) -> web.StreamResponse:
        return await handler(request)

    app = web.Application()
    middlewares.install(app, AccessRules(keys=ClientKeys(), hosts=["127.0.0.1"]), Metrics())
    app.router.add_get("/fail", failing_handler)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:
        yield client
    await runner.cleanup()


async def test_a_fault_is_told_without_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(_: web.Request) -> web.StreamResponse:
        raise OSError("secret path")

    async with (
        failing(fail) as client,
        client.get("/fail", headers={"X-Request-ID": "find-me"}) as response,
    ):
        refusal = await response.json()
        assert response.status == 500
        assert_refusal(response, refusal)
    assert refusal["code"] == "internal"
    assert "find-me" in refusal["error"]
    assert "secret path" not in refusal["error"]
    assert vars(caplog.records[-1])["fields"] == {"id": "find-me"}
    assert "secret path" in caplog.text


async def test_a_fault_in_a_stream_puts_no_second_head_into_it() -> None:
    async def fail(request: web.Request) -> web.StreamResponse:
        response = EventStreamResponse(Clock([60]), heartbeat=60, send_timeout=60)
        await response.prepare(request)
        response.close()
        raise OSError("secret path")

    received = b""
    async with failing(fail) as client, client.get("/fail") as response:
        with pytest.raises(aiohttp.ClientPayloadError):
            while data := await response.content.readany():
                received += data
    assert b"HTTP/1.1" not in received
    assert b"internal" not in received


async def test_any_other_refusal_of_the_library_is_json_as_well() -> None:
    async def fail(_: web.Request) -> web.StreamResponse:
        raise web.HTTPGone

    async with failing(fail) as client, client.get("/fail") as response:
        refusal = await response.json()
        assert_refusal(response, refusal)
        assert (response.status, refusal["code"]) == (400, "bad_request")
