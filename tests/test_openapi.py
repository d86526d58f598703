"""The description for programs says what the relay does: its addresses, fields, refusals and events."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openapi_spec_validator import OpenAPIV31SpecValidator

from relay import body, events, question
from relay.app import create_app
from relay.errors import TABLE, Code, RelayError
from relay.frames import Format, SourceDetail
from relay.handlers import STREAMS
from relay.question import Mode, Policy, Question
from relay.reasoning import Handling
from relay.sse import Decoder
from tests import described
from tests.conftest import StartRelay
from tests.described import DOCUMENT, SCHEMAS
from tests.running import Relay, settings
from tests.wire import Wire

FIELDS: Final = SCHEMAS["Question"]["properties"]
RESPONSES: Final = DOCUMENT["components"]["responses"]
UPSTREAM: Final = {code for code, verdict in TABLE.items() if verdict.status is None}
KEY: Final = "a-key-of-a-client-0123456789"
BEARER: Final = {"Authorization": f"Bearer {KEY}"}


def codes(described_: dict[str, Any]) -> set[str]:
    """The codes that a refusal of this kind may have; none for what is no refusal."""
    content = described.resolved(described_).get("content", {}).get("application/json", {})
    told = content.get("schema", {}).get("properties", {})
    told = told.get("error", {}).get("properties", told)  # one level deeper in OpenAI's format
    found: list[str] = told.get("code", {}).get("enum", [])
    return set(found)


def test_it_is_well_formed() -> None:
    """As the specification has it, with every reference leading somewhere."""
    OpenAPIV31SpecValidator(DOCUMENT).validate()


async def test_it_is_served_to_anybody(start_relay: StartRelay) -> None:
    """Without a key, under any name, to any program; it is public."""
    relay = await start_relay(relay_api_keys=KEY)
    async with relay.client.get("/openapi.json", headers={"Host": "elsewhere.example"}) as response:
        assert response.status == 200
        assert response.content_type == "application/json"
        assert await response.json() == DOCUMENT
        assert "Access-Control-Allow-Origin" not in response.headers


def test_it_has_every_route_and_no_other() -> None:
    """Of the application, whatever part of it they come from."""
    routes = {
        (route.method, route.resource.canonical)
        for route in create_app(settings()).router.routes()
        if route.resource is not None
    }
    assert set(described.operations()) == routes


def test_the_protocol_has_every_route_too() -> None:
    """What programs are told, people are told."""
    protocol = (Path(__file__).parent.parent / "docs" / "protocol.md").read_text()
    for method, path in described.operations():
        assert f"{method} {path}" in protocol


def test_the_fields_of_a_question_are_those_of_the_code() -> None:
    """Names, choices, limits and defaults; the same in a form."""
    names = {"question" if name == "text" else name for name in Question.__struct_fields__}
    assert set(FIELDS) == names | {"sessionId"}
    assert set(SCHEMAS["QuestionForm"]["properties"]) == set(FIELDS)
    choices = {"mode": Mode, "reasoning": Handling, "sources": SourceDetail, "format": Format}
    for name, choice in choices.items():
        assert FIELDS[name]["enum"] == [*get_args(choice), None]
        assert SCHEMAS["QuestionForm"]["properties"][name]["enum"] == [*get_args(choice), ""]
    for name in ("workspace", "thread"):
        assert FIELDS[name]["pattern"] == f"^{question.SLUG.pattern}$"
    for name in ("session_id", "sessionId"):
        assert FIELDS[name]["maxLength"] == question._MAX_SESSION_ID
    assert tuple(SCHEMAS["Attachment"]["properties"]) == question._ATTACHMENT
    for name in question._BOOLEANS:
        assert FIELDS[name]["type"] == ["boolean", "null"]
        allowed = SCHEMAS["QuestionForm"]["properties"][name]["enum"]
        assert allowed == [*question._FORM_BOOLEANS, ""] or set(allowed) == {
            *question._FORM_BOOLEANS,
            "",
        }
    asked = question.parse({"question": "?"}, ANYTHING)
    for name, field in FIELDS.items():
        if "default" in field:
            assert getattr(asked, name) == field["default"]


class _All(list[str]):
    def __contains__(self, _: object) -> bool:
        return True


ANYTHING: Final = Policy(workspace="demo", workspaces=_All(), mode="chat", modes=_All(["automatic"]))
TEXTS: Final = st.sampled_from(
    ["", " ", "a", "a b", "x" * 255, "x" * 256, "x" * 257, "é", "true", "full"]
)
CHOICES: Final = st.sampled_from(sorted({c for f in FIELDS.values() for c in f.get("enum", ()) if c}))
ATTACHMENT: Final = st.dictionaries(st.sampled_from([*question._ATTACHMENT, "more"]), TEXTS | st.none())
WHOLE: Final = st.just({"name": "a", "mime": "b", "contentString": "c", "more": 1})
VALUES: Final = (
    TEXTS
    | CHOICES
    | st.none()
    | st.booleans()
    | st.integers()
    | st.lists(ATTACHMENT | WHOLE, max_size=2)
)
ASKED: Final = st.fixed_dictionaries(
    {}, optional={name: VALUES | st.sampled_from(["a", None]) for name in [*FIELDS, "unknown"]}
)
LIKELY: Final = st.fixed_dictionaries(
    {"question": st.just("?")},
    optional={
        name: st.sampled_from([*field.get("enum", ["a", ""]), None])
        for name, field in FIELDS.items()
        if name != "question"
    },
)


@given(ASKED | LIKELY)
def test_the_schema_of_a_question_refuses_what_the_code_refuses(fields: dict[str, Any]) -> None:
    """No more and no less, in any combination."""
    try:
        question.parse(fields, ANYTHING)
    except RelayError as error:
        refused = error.code is Code.BAD_REQUEST
    else:
        refused = False
    if fields.get("session_id") is not None:  # then the code does not look at the other
        fields = {name: value for name, value in fields.items() if name != "sessionId"}
    schema = json.dumps({"$ref": "#/components/schemas/Question"})
    assert described.validator(schema).is_valid(fields) is not refused


# Of one key, and of an answer in one piece.
OTHER_STATUSES: Final = {("429", "too_many_streams"), ("502", "too_large")}


def test_the_codes_are_those_of_the_code() -> None:
    """Of refusals with their statuses, and of errors."""
    at_health = codes(RESPONSES["NotReady"]) & UPSTREAM
    refusals = {str(code) for code, verdict in TABLE.items() if verdict.status is not None}
    assert set(SCHEMAS["RefusalCode"]["enum"]) == refusals | at_health
    assert set(SCHEMAS["ErrorCode"]["enum"]) == UPSTREAM | {Code.SHUTTING_DOWN, Code.INTERNAL}
    everywhere = [{"responses": {"404": RESPONSES["NotFound"], "405": RESPONSES["MethodNotAllowed"]}}]
    told = set()
    for operation in [*described.operations().values(), *everywhere]:
        for status, response in operation["responses"].items():
            for code in codes(response) - UPSTREAM:
                told.add(code)
                assert int(status) == TABLE[Code(code)].status or (status, code) in OTHER_STATUSES
    assert told == refusals


def test_the_events_are_those_of_the_code() -> None:
    """Their names and fields; each with a schema of its own."""
    kinds = {kind: name for kind, name in events.NAMES.items() if name}
    assert set(described.EVENTS) == set(kinds.values())
    for kind, name in kinds.items():
        schema = described.resolved(described.EVENTS[name])
        assert schema["required"] == list(schema["properties"]) == ["type", *kind.__struct_fields__]
        assert schema["properties"]["type"] == {"const": name}
        assert DOCUMENT["components"]["schemas"]["Event"]["discriminator"]["mapping"][name].endswith(
            kind.__name__
        )
    assert tuple(SCHEMAS["FinalEnd"]["properties"]["reason"]["enum"]) == get_args(events.Reason)
    assert tuple(SCHEMAS["Output"]["properties"]["kind"]["enum"]) == get_args(events.OutputKind)


@pytest.mark.parametrize(
    "asked",
    [
        {"question": "hello", "sources": "full"},
        {"question": "!reason", "reasoning": "separate"},
        {"question": "!tool !sources=3", "mode": "automatic"},
        {"question": "!chart", "mode": "automatic"},
        {"question": "!file", "mode": "automatic"},
        {"question": "!abort=429"},
        {"question": "!empty"},
        {"question": "!eof"},
        {"question": "!html"},
        {"question": "!status=500"},
        {"question": "!garbage", "resumable": True},
        {"question": "hello", "format": "anythingllm"},
        {"reset": True},
    ],
    ids=str,
)
async def test_streams_are_as_described(relay: Relay, asked: dict[str, Any]) -> None:
    """Their heads and all events; test_replay.py does the same to every recording."""
    described.check({"$ref": "#/components/schemas/Question"}, asked)
    async with relay.client.post("/stream-ask", json=asked) as response:
        assert response.status == 200
        operation = described.operations()["POST", "/stream-ask"]
        described.check_answer(operation["responses"]["200"], response.headers, b"")
    heard = await relay.ask(**{"question": "", **asked})
    assert heard.end
    for told in heard:
        described.check_event(told.name, told.data)


async def test_a_stopped_stream_is_as_described(relay: Relay) -> None:
    """With the reason that no other has."""
    async with relay.asking("!endless", resumable=True) as listening:
        async with relay.client.delete(f"/streams/{listening.stream_id}") as response:
            responses = described.operations()["DELETE", "/streams/{id}"]["responses"]
            described.check_answer(responses[str(response.status)], response.headers, b"")
        for told in await listening.rest():
            described.check_event(told.name, told.data)
        assert told.data["reason"] == "cancelled"
    async with relay.client.get(
        f"/streams/{listening.stream_id}", headers={"Last-Event-ID": told.id}
    ) as response:
        assert response.status == 204
        responses = described.operations()["GET", "/streams/{id}"]["responses"]
        described.check_answer(responses["204"], response.headers, await response.read())


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/healthz", "/healthz"),
        ("/readyz", "/readyz"),
        ("/metrics", "/metrics"),
        ("/openapi.json", "/openapi.json"),
        ("/", "/"),
        ("/static/{name}", "/static/page.js"),
        ("/static/{name}", "/static/page.css"),
        ("/v1/models", "/v1/models"),
        ("/v1/models/{id}", "/v1/models/demo"),
    ],
)
async def test_what_is_no_answer_is_as_described(relay: Relay, path: str, asked: str) -> None:
    """Status, headers, kind and body."""
    async with relay.client.get(asked) as response:
        assert response.status == 200
        operation = described.operations()["GET", path]
        described.check_answer(operation["responses"]["200"], response.headers, await response.read())


async def test_a_page_that_is_unchanged_is_as_described(relay: Relay) -> None:
    """304, without a body."""
    async with relay.client.get("/") as response:
        tag = response.headers["ETag"]
    status, headers, told = await sent(relay, "GET", "/", headers={"If-None-Match": tag})
    described.check_answer(described.operations()["GET", "/"]["responses"][str(status)], headers, told)
    assert (status, told) == (304, b"")


MESSAGES: Final = [{"role": "user", "content": "!reason"}]
COMPLETE: Final = ("POST", "/v1/chat/completions")


@pytest.mark.parametrize("options", [{}, {"stream_options": {"include_usage": True}}])
async def test_completions_are_as_described(relay: Relay, options: dict[str, Any]) -> None:
    """In chunks and in one piece."""
    asked = {"messages": MESSAGES, "model": "demo", **options}
    described.check({"$ref": "#/components/schemas/CompletionRequest"}, asked)
    response = described.operations()[COMPLETE]["responses"]["200"]
    _, headers, told = await sent(relay, *COMPLETE, json=asked)
    described.check_answer(response, headers, told)
    _, headers, told = await sent(relay, *COMPLETE, json={**asked, "stream": True})
    described.check_answer(response, headers, b"")
    *chunks, done = [event.data for event in Decoder().feed(told)]
    assert done == "[DONE]"
    for chunk in chunks:
        described.check({"$ref": "#/components/schemas/CompletionChunk"}, json.loads(chunk))


async def test_a_completion_that_fails_is_as_described(relay: Relay) -> None:
    """In one piece with a status, in chunks as the last event."""
    asked = {"messages": [{"role": "user", "content": "!abort=500"}]}
    status, headers, told = await sent(relay, *COMPLETE, json=asked)
    assert status == 502
    described.check_answer(described.operations()[COMPLETE]["responses"]["502"], headers, told)
    _, _, told = await sent(relay, *COMPLETE, json={**asked, "stream": True})
    last = Decoder().feed(told)[-1]
    described.check({"$ref": "#/components/schemas/OpenAIRefusal"}, json.loads(last.data))


async def test_not_being_ready_is_as_described(start_relay: StartRelay) -> None:
    """503 with the reason."""
    relay = await start_relay(anythingllm_base_url="http://127.0.0.1:1")
    async with relay.client.get("/readyz") as response:
        assert response.status == 503
        operation = described.operations()["GET", "/readyz"]
        described.check_answer(operation["responses"]["503"], response.headers, await response.read())


ASK: Final = {"question": "!endless"}
Answered = tuple[int, Mapping[str, str], bytes]


async def sent(relay: Relay, method: str, path: str, **kwargs: Any) -> Answered:
    """Send a request and return what came back."""
    async with relay.client.request(method, path, **kwargs) as response:
        return response.status, response.headers, await response.read()


@asynccontextmanager
async def running(relay: Relay, many: int = 1, **fields: Any) -> AsyncIterator[str]:
    """Have answers run; yields the id of the last, if that is resumable."""
    responses = [
        await relay.client.post("/stream-ask", json={**ASK, **fields}, headers=BEARER)
        for _ in range(many)
    ]
    try:
        yield responses[-1].headers.get("X-Stream-ID", "")
    finally:
        for response in responses:
            response.close()


async def by_host(relay: Relay) -> Answered:
    return await sent(relay, "POST", "/stream-ask", json=ASK, headers={"Host": "elsewhere.example"})


async def by_origin(relay: Relay) -> Answered:
    headers = {"Origin": "https://elsewhere.example"}
    return await sent(relay, "POST", "/stream-ask", json=ASK, headers=headers)


async def by_workspace(relay: Relay) -> Answered:
    return await sent(relay, "POST", "/stream-ask", json={**ASK, "workspace": "other"}, headers=BEARER)


async def by_size(relay: Relay) -> Answered:
    return await sent(relay, "POST", "/stream-ask", json={"question": "x" * 100_000}, headers=BEARER)


async def by_kind(relay: Relay) -> Answered:
    return await sent(relay, "POST", "/stream-ask", data=b"hello", headers=BEARER)


async def by_blank(relay: Relay) -> Answered:
    return await sent(relay, "POST", "/stream-ask", json={"question": " "}, headers=BEARER)


async def by_cursor(relay: Relay) -> Answered:
    async with running(relay, resumable=True) as id_:
        headers = {**BEARER, "Last-Event-ID": "x"}
        return await sent(relay, "GET", f"/streams/{id_}", headers=headers)


async def by_no_key(relay: Relay) -> Answered:
    return await sent(relay, "POST", "/stream-ask", json=ASK)


async def by_no_key_at_metrics(relay: Relay) -> Answered:
    return await sent(relay, "GET", "/metrics")


async def by_id(relay: Relay) -> Answered:
    return await sent(relay, "GET", "/streams/nope", headers=BEARER)


async def by_id_to_stop(relay: Relay) -> Answered:
    return await sent(relay, "DELETE", "/streams/nope", headers=BEARER)


async def by_slow_body(relay: Relay) -> Answered:
    def ask() -> Answered:
        with Wire(relay.port) as wire:
            head = f"POST /stream-ask HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n"
            wire.send(f"{head}Content-Type: application/json\r\nContent-Length: 9\r\n\r\n".encode())
            answer = wire.answer()
            headers = {
                name.title().replace("-Id", "-ID"): value for name, value in answer.headers.items()
            }
            return answer.status, headers, answer.body

    return await asyncio.to_thread(ask)


async def by_other_question(relay: Relay) -> Answered:
    headers = {**BEARER, "Idempotency-Key": "one"}
    async with relay.client.post("/stream-ask", json=ASK, headers=headers):
        return await sent(relay, "POST", "/stream-ask", json={"question": "!empty"}, headers=headers)


async def by_age(relay: Relay) -> Answered:
    async with relay.client.post(
        "/stream-ask", json={"question": "!burst=2000", "resumable": True}, headers=BEARER
    ) as response:
        await response.read()
        path = f"/streams/{response.headers['X-Stream-ID']}"
    return await sent(relay, "GET", path, headers={**BEARER, "Last-Event-ID": "1"})


async def by_streams(relay: Relay) -> Answered:
    async with running(relay, 3):
        return await sent(relay, "POST", "/stream-ask", json=ASK, headers=BEARER)


async def by_readers(relay: Relay) -> Answered:
    async with running(relay, resumable=True) as id_:
        readers = [await relay.client.get(f"/streams/{id_}", headers=BEARER) for _ in range(63)]
        try:
            return await sent(relay, "GET", f"/streams/{id_}", headers=BEARER)
        finally:
            for reader in readers:
                reader.close()


async def by_room(relay: Relay) -> Answered:
    asked = {"question": "!silent", "resumable": True}
    async with running(relay, 4, **asked):
        return await sent(relay, "POST", "/stream-ask", json=asked, headers=BEARER)


async def by_connections(relay: Relay) -> Answered:
    async with running(relay, 3):
        return await sent(relay, "POST", "/stream-ask", json=ASK, headers=BEARER)


async def by_stop(relay: Relay) -> Answered:
    async with running(relay):
        draining = asyncio.create_task(relay.app[STREAMS].drain(5))
        await asyncio.sleep(0)
        answered = await sent(relay, "POST", "/stream-ask", json=ASK, headers=BEARER)
    await draining
    return answered


async def by_fault(relay: Relay) -> Answered:
    return await sent(relay, "POST", "/stream-ask", json={"question": "!fault"}, headers=BEARER)


async def to_complete(relay: Relay, messages: Any = MESSAGES, **more: Any) -> Answered:
    return await sent(relay, *COMPLETE, json={"messages": messages, **more}, headers=BEARER)


async def to_complete_nothing(relay: Relay) -> Answered:
    return await to_complete(relay, [])


async def to_complete_elsewhere(relay: Relay) -> Answered:
    return await to_complete(relay, model="other")


async def to_complete_much(relay: Relay) -> Answered:
    return await to_complete(relay, [{"role": "user", "content": "x" * 100_000}])


async def to_complete_in_time(relay: Relay) -> Answered:
    return await to_complete(relay, [{"role": "user", "content": "!silent"}])


async def to_complete_for_many(relay: Relay) -> Answered:
    return await to_complete(relay, [{"role": "user", "content": "!abort=429"}])


async def to_complete_without_a_key(relay: Relay) -> Answered:
    return await sent(relay, *COMPLETE, json={"messages": MESSAGES})


async def to_complete_a_form(relay: Relay) -> Answered:
    return await sent(relay, *COMPLETE, data={"messages": "?"}, headers=BEARER)


async def to_complete_beside_others(relay: Relay) -> Answered:
    async with running(relay, 3):
        return await to_complete(relay)


async def by_model(relay: Relay) -> Answered:
    return await sent(relay, "GET", "/v1/models/other", headers=BEARER)


KEYS: Final = {"relay_api_keys": KEY}


class Case(NamedTuple):
    """A refusal, how to bring it about, and settings that help."""

    method: str
    path: str
    status: int
    code: str
    provoke: Callable[[Relay], Awaitable[Answered]]
    changes: dict[str, Any]


PROVOKED: Final = [
    Case(*row)
    for row in (
        ("POST", "/stream-ask", 400, "bad_request", by_blank, {}),
        ("GET", "/streams/{id}", 400, "bad_request", by_cursor, {}),
        ("POST", "/stream-ask", 401, "unauthorized", by_no_key, KEYS),
        ("GET", "/metrics", 401, "unauthorized", by_no_key_at_metrics, KEYS),
        ("POST", "/stream-ask", 403, "forbidden_host", by_host, {}),
        ("POST", "/stream-ask", 403, "forbidden_origin", by_origin, {}),
        ("POST", "/stream-ask", 403, "forbidden_workspace", by_workspace, {}),
        ("GET", "/streams/{id}", 404, "unknown_stream", by_id, {}),
        ("DELETE", "/streams/{id}", 404, "unknown_stream", by_id_to_stop, {}),
        ("POST", "/stream-ask", 408, "request_timeout", by_slow_body, {}),
        ("POST", "/stream-ask", 409, "idempotency_conflict", by_other_question, {}),
        ("GET", "/streams/{id}", 410, "events_gone", by_age, {"relay_resume_bytes": 4096}),
        ("POST", "/stream-ask", 413, "too_large", by_size, {"relay_max_body_bytes": 65_536}),
        ("POST", "/stream-ask", 415, "unsupported_media_type", by_kind, {}),
        (
            "POST",
            "/stream-ask",
            429,
            "too_many_streams",
            by_streams,
            {**KEYS, "relay_max_streams_per_key": 3},
        ),
        ("POST", "/stream-ask", 500, "internal", by_fault, {}),
        ("POST", "/stream-ask", 503, "too_many_streams", by_streams, {"relay_max_streams": 3}),
        (
            "POST",
            "/stream-ask",
            503,
            "too_many_connections",
            by_connections,
            {"relay_max_connections": 3},
        ),
        ("GET", "/streams/{id}", 503, "too_many_readers", by_readers, {}),
        (
            "POST",
            "/stream-ask",
            503,
            "resume_unavailable",
            by_room,
            {"relay_resume_total_bytes": 16384, "relay_resume_bytes": 4096},
        ),
        ("POST", "/stream-ask", 503, "shutting_down", by_stop, {}),
        ("GET", "/v1/models/{id}", 404, "model_not_found", by_model, {}),
        (*COMPLETE, 400, "bad_request", to_complete_nothing, {}),
        (*COMPLETE, 401, "unauthorized", to_complete_without_a_key, KEYS),
        (*COMPLETE, 404, "model_not_found", to_complete_elsewhere, {}),
        (*COMPLETE, 413, "too_large", to_complete_much, {"relay_max_body_bytes": 65_536}),
        (*COMPLETE, 415, "unsupported_media_type", to_complete_a_form, {}),
        (
            *COMPLETE,
            429,
            "too_many_streams",
            to_complete_beside_others,
            {**KEYS, "relay_max_streams_per_key": 3},
        ),
        (*COMPLETE, 429, "upstream_aborted", to_complete_for_many, {}),
        (*COMPLETE, 503, "too_many_streams", to_complete_beside_others, {"relay_max_streams": 3}),
        (
            *COMPLETE,
            504,
            "upstream_timeout",
            to_complete_in_time,
            {"anythingllm_first_event_timeout": 0.2},
        ),
    )
]


@pytest.mark.parametrize(
    "case", PROVOKED, ids=[f"{one.status}-{one.code}-{one.method}-{one.path}" for one in PROVOKED]
)
async def test_refusals_are_as_described(
    start_relay: StartRelay,
    monkeypatch: pytest.MonkeyPatch,
    case: Case,
) -> None:
    """Status, headers and body of each, from a real relay."""
    monkeypatch.setattr(body, "_BODY_TIMEOUT", 0.2)
    parse = question.parse

    def sometimes(fields: Mapping[str, Any], policy: Policy) -> Question:
        if fields.get("question") == "!fault":
            raise ZeroDivisionError
        return parse(fields, policy)

    monkeypatch.setattr(question, "parse", sometimes)
    relay = await start_relay(**case.changes)
    status, headers, told = await case.provoke(relay)
    refusal = json.loads(told)
    refusal = refusal["error"] if case.path.startswith("/v1") else refusal
    assert (status, refusal["code"]) == (case.status, case.code)
    response = described.operations()[case.method, case.path]["responses"][str(status)]
    assert case.code in codes(response)
    described.check_answer(response, headers, told)


@pytest.mark.parametrize(
    ("method", "path", "name"), [("GET", "/nope", "NotFound"), ("PUT", "/metrics", "MethodNotAllowed")]
)
async def test_refusals_of_no_address_are_as_described(
    relay: Relay, method: str, path: str, name: str
) -> None:
    """Those that belong to no operation."""
    _, headers, told = await sent(relay, method, path)
    described.check_answer(RESPONSES[name], headers, told)


def test_every_code_of_a_refusal_was_provoked() -> None:
    """A new one needs a row in the table above."""
    provoked = {case.code for case in PROVOKED if case.code not in UPSTREAM} | {
        "not_found",
        "method_not_allowed",
    }
    assert provoked == {str(code) for code, verdict in TABLE.items() if verdict.status is not None}
