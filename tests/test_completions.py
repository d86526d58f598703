"""OpenAI's addresses, asked with OpenAI's own packages and by hand."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from unittest.mock import Mock

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from relay import completions
from relay.handlers import STREAMS
from relay.standin import KEY, StandIn
from tests.clients import PATIENCE, running
from tests.conftest import StartRelay
from tests.openai_client import NPM, needs_npm
from tests.running import Relay

COMPLETIONS = "/v1/chat/completions"
KEYS = ("key-of-client-one", "key-of-client-two")


@asynccontextmanager
async def connected(relay: Relay, key: str = "none", **options: Any) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{relay.url}/v1", api_key=key, **options) as client:
        yield client


def asking(question: str, **more: Any) -> dict[str, Any]:
    return {"model": "demo", "messages": [{"role": "user", "content": question}], **more}


async def ask(client: AsyncOpenAI, question: str, **more: Any) -> ChatCompletion:
    answer: ChatCompletion = await client.chat.completions.create(**asking(question, **more))
    return answer


async def stream(client: AsyncOpenAI, question: str, **more: Any) -> list[ChatCompletionChunk]:
    chunks = await client.chat.completions.create(**asking(question, stream=True, **more))
    return [chunk async for chunk in chunks]


def text(chunks: list[ChatCompletionChunk]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


async def refused(relay: Relay, method: str, path: str, **sent: Any) -> tuple[int, dict[str, Any]]:
    """Return the status and the error of what is refused, which must have OpenAI's shape."""
    async with relay.client.request(method, path, **sent) as response:
        told = await response.json()
        assert told.keys() == {"error"}
        assert told["error"].keys() == {"message", "type", "param", "code"}
        assert (response.headers.get("X-Should-Retry") == "false") == (response.status != 503)
        return response.status, told["error"]


# --- answers ---


async def test_a_stream_as_the_python_package_hears_it(relay: Relay) -> None:
    async with connected(relay) as client:
        options = {"include_usage": True}
        *chunks, last = await stream(client, "!reason !tokens=3", stream_options=options)
    assert text(chunks) == "tok1 tok2 tok3"
    extra = [chunk.choices[0].delta.model_extra or {} for chunk in chunks]
    assert "".join(one.get("reasoning_content", "") for one in extra) == "I should think first."
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert {(chunk.id, chunk.model, chunk.object) for chunk in chunks} == {
        (last.id, "demo", "chat.completion.chunk")
    }
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.completion_tokens == 3
    assert last.usage.total_tokens == last.usage.prompt_tokens + 3


async def test_an_answer_in_one_piece_as_the_python_package_hears_it(relay: Relay) -> None:
    async with connected(relay) as client:
        raw = await client.chat.completions.with_raw_response.create(
            **asking("!reason !tokens=3"), extra_headers={"X-Request-ID": "mine"}
        )
    answer = raw.parse()
    (choice,) = answer.choices
    assert choice.message.content == "tok1 tok2 tok3"
    assert (choice.message.model_extra or {})["reasoning_content"] == "I should think first."
    assert (choice.message.role, choice.finish_reason) == ("assistant", "stop")
    assert (answer.id, answer.model, answer.object) == ("chatcmpl-mine", "demo", "chat.completion")
    assert answer.created > 1_700_000_000
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3
    assert raw.headers["Content-Type"] == "application/json"


async def test_a_stream_is_heard_while_it_arrives(relay: Relay, standin: StandIn) -> None:
    """The head at once, then each piece: the model pauses after three tokens."""
    async with connected(relay) as client:
        chunks = await client.chat.completions.create(**asking("!tokens=6 !pause=3600", stream=True))
        heard = ""
        async for chunk in chunks:
            heard += chunk.choices[0].delta.content or ""
            if heard == "tok1 tok2 tok3":
                break
        assert (await standin.next_ask()).outcome == "open"
        await chunks.close()


async def test_the_head_comes_before_anythingllm_says_a_word(relay: Relay) -> None:
    body = asking("!silent", stream=True)
    async with relay.client.post(COMPLETIONS, json=body) as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert await response.content.readany() == b": ping\n"


async def test_comments_disturb_no_client(start_relay: StartRelay) -> None:
    relay = await start_relay(relay_heartbeat=0.1)
    async with connected(relay) as client:
        assert text(await stream(client, "!tokens=6 !pause=0.5")) == "tok1 tok2 tok3 tok4 tok5 tok6"


async def test_the_synchronous_client(relay: Relay) -> None:
    def asked() -> tuple[str, str | None]:
        with OpenAI(base_url=f"{relay.url}/v1", api_key="none") as client:
            chunks = client.chat.completions.create(**asking("!tokens=3", stream=True))
            whole = client.chat.completions.create(**asking("!tokens=3"))
            return text(list(chunks)), whole.choices[0].message.content

    assert await asyncio.to_thread(asked) == ("tok1 tok2 tok3", "tok1 tok2 tok3")


async def test_what_an_agent_does_is_heard_as_reasoning(relay: Relay) -> None:
    async with connected(relay) as client:
        answer = await ask(client, "@agent !file !tokens=2")
        (choice,) = answer.choices
        assert choice.message.content == "tok1 tok2"
        assert "report.txt" in (choice.message.model_extra or {})["reasoning_content"]
        chunks = await stream(client, "@agent !tool !tokens=2")
    assert text(chunks) == "Let me look that up.tok1 tok2"


@needs_npm
async def test_all_of_it_as_the_npm_package_hears_it(start_relay: StartRelay, standin: StandIn) -> None:
    relay = await start_relay(relay_api_keys=KEYS[0], relay_heartbeat=0.1)
    command = ("node", str(NPM / "check.mjs"), relay.url, KEYS[0])
    async with running(command) as process, asyncio.timeout(PATIENCE):
        out, err = await process.communicate()
    assert process.returncode == 0, err
    told = json.loads(out)
    assert (told["models"], told["model"]) == (["demo"], "demo")
    assert told["whole"]["content"] == told["streamed"]["content"] == "tok1 tok2 tok3"
    assert told["whole"]["reasoning_content"] == told["streamed"]["reasoning"] == "I should think first."
    assert told["usage"] == told["streamed"]["usage"]
    assert told["usage"]["completion_tokens"] == 3
    assert told["streamed"]["stops"] == ["stop"]
    assert told["slow"]["content"] == "tok1 tok2 tok3 tok4 tok5 tok6"
    assert (told["noModel"]["kind"], told["noModel"]["code"]) == ("NotFoundError", "model_not_found")
    assert (told["noKey"]["kind"], told["noKey"]["code"]) == ("AuthenticationError", "unauthorized")
    assert told["twoAnswers"]["kind"] == "BadRequestError"
    assert told["rateLimit"]["kind"] == "RateLimitError"
    assert told["modelFailed"]["kind"] == "InternalServerError"
    assert told["midStream"]["kind"] == "APIError"
    assert "429 Rate limit" in told["midStream"]["message"]
    questions = [ask.body["message"] for ask in standin.asks]
    assert [one for one in questions if "abort" in one] == ["!abort=429", "!abort=500", "!abort=429"]
    assert questions[-1] == "!endless"
    async with asyncio.timeout(PATIENCE):
        await standin.asks[-1].ended.wait()
    assert standin.asks[-1].outcome == "left"


# --- models ---


async def test_workspaces_are_models(start_relay: StartRelay) -> None:
    """The default one first."""
    relay = await start_relay(anythingllm_allowed_workspaces="docs,demo,api")
    async with connected(relay) as client:
        assert [model.id async for model in await client.models.list()] == ["demo", "api", "docs"]
        assert (await client.models.retrieve("docs")).id == "docs"
        with pytest.raises(openai.NotFoundError, match="gpt-4o"):
            await client.models.retrieve("gpt-4o")


async def test_a_workspace_is_asked_by_its_name(start_relay: StartRelay, standin: StandIn) -> None:
    relay = await start_relay(anythingllm_allowed_workspaces="docs,demo")
    async with connected(relay) as client:
        assert (await ask(client, "!tokens=1", model="demo")).model == "demo"
        with pytest.raises(openai.NotFoundError) as caught:
            await ask(client, "hi", model="gpt-4o")
    assert caught.value.code == "model_not_found"
    async with relay.client.post(COMPLETIONS, json={"messages": asking("!tokens=1")["messages"]}) as it:
        assert (await it.json())["model"] == "demo"
    assert [ask.workspace for ask in standin.asks] == ["demo", "demo"]


# --- the conversation ---


async def test_a_conversation_is_asked_as_one_question(relay: Relay, standin: StandIn) -> None:
    """In a session of its own each time, so that AnythingLLM adds no history."""
    messages: list[Any] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "One."},
        {"role": "user", "content": "!history"},
    ]
    async with connected(relay) as client:
        for _ in range(2):
            answer = await client.chat.completions.create(model="demo", messages=messages)
            assert answer.choices[0].message.content == "No earlier questions."
    first, second = (ask.body for ask in standin.asks)
    assert first["message"] == second["message"]
    assert first["message"].endswith("\n\n!history")
    assert first["mode"] == "chat"
    assert first["sessionId"] != second["sessionId"]


async def test_with_keys_the_session_belongs_to_the_key(
    start_relay: StartRelay, standin: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even the same session would be another for another key."""
    monkeypatch.setattr("relay.completions.secrets.token_urlsafe", lambda _: "always the same")
    relay = await start_relay(relay_api_keys=",".join(KEYS))
    for key in KEYS:
        async with connected(relay, key) as client:
            await ask(client, "!tokens=1")
    first, second = (ask.body["sessionId"] for ask in standin.asks)
    assert first != second
    assert "always the same" not in (first, second)


async def test_images_are_attachments(relay: Relay, standin: StandIn) -> None:
    pixel = "data:image/png;base64,iVBORw0KGgo="
    parts = [
        {"type": "text", "text": "!tokens=1"},
        {"type": "image_url", "image_url": {"url": pixel}},
    ]
    async with relay.client.post(
        COMPLETIONS, json={"messages": [{"role": "user", "content": parts}]}
    ) as it:
        assert it.status == 200
    (one,) = standin.asks
    assert one.body["message"] == "!tokens=1"
    assert one.body["attachments"] == [{"name": "image-1", "mime": "image/png", "contentString": pixel}]


async def test_agents_run_only_where_they_are_allowed(start_relay: StartRelay, standin: StandIn) -> None:
    relay = await start_relay(anythingllm_allowed_modes="chat,query")
    messages: list[Any] = [
        {"role": "user", "content": "@agent !tokens=1"},
        {"role": "assistant", "content": "@agent"},
        {"role": "user", "content": "!tokens=1"},
    ]
    async with connected(relay) as client:
        await client.chat.completions.create(model="demo", messages=messages)
        for asked in ([messages[0]], messages[1:] + messages[:1]):
            with pytest.raises(openai.BadRequestError, match="@agent"):
                await client.chat.completions.create(model="demo", messages=asked)
    (one,) = standin.asks
    assert not one.body["message"].startswith("@agent")


# --- failures ---


@pytest.mark.parametrize(
    ("question", "kind", "told"),
    [
        ("!abort=429", openai.RateLimitError, (429, "upstream_aborted")),
        ("!status=429", openai.RateLimitError, (429, "upstream_rejected")),
        ("!refused=401", openai.InternalServerError, (502, "upstream_aborted")),
        ("!status=503", openai.InternalServerError, (502, "upstream_rejected")),
        ("!eof", openai.InternalServerError, (502, "upstream_truncated")),
        ("!html", openai.InternalServerError, (502, "upstream_protocol")),
        ("!empty", openai.InternalServerError, (502, "empty_answer")),
        ("!silent", openai.InternalServerError, (504, "upstream_timeout")),
    ],
)
async def test_a_failure_is_raised_and_not_asked_again(
    start_relay: StartRelay,
    standin: StandIn,
    question: str,
    kind: type[openai.APIStatusError],
    told: tuple[int, str],
) -> None:
    """The packages ask twice more by themselves, unless they are told not to."""
    relay = await start_relay(anythingllm_first_event_timeout=0.3)
    async with connected(relay) as client:
        with pytest.raises(kind) as caught:
            await ask(client, question)
    assert (caught.value.status_code, caught.value.code) == told
    assert len(standin.asks) == 1
    code = told[1]
    assert await relay.counted(f'relay_streams_total{{outcome="{code}"}}') == 1
    assert await relay.counted(f'relay_upstream_errors_total{{code="{code}"}}') == 1


async def test_a_failure_in_mid_stream_is_raised_behind_the_text(relay: Relay, standin: StandIn) -> None:
    heard = ""
    async with connected(relay) as client:
        chunks = await client.chat.completions.create(**asking("!tokens=9 !abort=429", stream=True))
        with pytest.raises(openai.APIError) as caught:
            async for chunk in chunks:
                heard += chunk.choices[0].delta.content or ""
    assert heard == "tok1 tok2 tok3"
    assert caught.value.message == "429 Rate limit reached for requests"
    assert (caught.value.code, caught.value.type) == ("upstream_aborted", "rate_limit_error")
    assert len(standin.asks) == 1


async def test_a_wrong_key_is_refused(start_relay: StartRelay) -> None:
    relay = await start_relay(relay_api_keys=KEYS[0])
    async with connected(relay, KEYS[0]) as client:
        assert (await ask(client, "!tokens=1")).choices[0].message.content == "tok1"
        assert [model.id async for model in await client.models.list()] == ["demo"]
    async with connected(relay, "wrong") as client:
        for call in (ask(client, "hi"), stream(client, "hi"), client.models.retrieve("demo")):
            with pytest.raises(openai.AuthenticationError) as caught:
                await call
            assert caught.value.code == "unauthorized"


@pytest.mark.parametrize(("per_key", "status"), [(0, 503), (1, 429)])
async def test_a_question_that_finds_no_place_is_asked_again(
    start_relay: StartRelay,
    standin: StandIn,
    monkeypatch: pytest.MonkeyPatch,
    per_key: int,
    status: int,
) -> None:
    """That costs no model anything: the package waits and tries again, and is served."""
    relay = await start_relay(
        relay_api_keys=KEYS[0], relay_max_streams=1 + per_key, relay_max_streams_per_key=per_key
    )
    headers = {"Authorization": f"Bearer {KEYS[0]}"}
    streams = relay.app[STREAMS]
    tried = Mock(side_effect=streams.admit)
    monkeypatch.setattr(streams, "admit", tried)
    async with connected(relay, KEYS[0]) as client:
        async with relay.asking("!silent", headers=headers):
            await standin.next_ask()
            async with relay.client.post(COMPLETIONS, json=asking("hi"), headers=headers) as response:
                assert response.status == status
                assert (await response.json())["error"]["code"] == "too_many_streams"
                assert response.headers["Retry-After"] == "1"
                assert "X-Should-Retry" not in response.headers
            waiting = asyncio.create_task(ask(client, "!tokens=1"))
            while tried.call_count < 3:  # who is there, and two that were refused
                await asyncio.sleep(0.01)
        assert (await waiting).choices[0].message.content == "tok1"


@pytest.mark.parametrize(
    ("method", "path", "sent", "told"),
    [
        ("GET", "/v1", {}, (404, "not_found")),
        ("POST", "/v1/embeddings", {"json": {}}, (404, "not_found")),
        ("GET", "/v1/models/gpt-4o", {}, (404, "model_not_found")),
        ("GET", COMPLETIONS, {}, (405, "method_not_allowed")),
        ("DELETE", "/v1/models", {}, (405, "method_not_allowed")),
        ("POST", COMPLETIONS, {"data": {"question": "hi"}}, (415, "unsupported_media_type")),
        ("POST", COMPLETIONS, {"json": []}, (400, "bad_request")),
        ("POST", COMPLETIONS, {"json": {}}, (400, "bad_request")),
        ("POST", COMPLETIONS, {"json": {"x": "y" * 5000}}, (413, "too_large")),
        ("GET", "/v1/models", {"headers": {"Host": "evil.example.com"}}, (403, "forbidden_host")),
        (
            "GET",
            "/v1/models",
            {"headers": {"Origin": "https://evil.example"}},
            (403, "forbidden_origin"),
        ),
    ],
)
async def test_refusals_have_openais_shape(
    start_relay: StartRelay, method: str, path: str, sent: dict[str, Any], told: tuple[int, str]
) -> None:
    relay = await start_relay(relay_max_body_bytes=4096)
    status, error = await refused(relay, method, path, **sent)
    assert (status, error["code"]) == told
    assert error["type"] == "invalid_request_error"


async def test_other_addresses_keep_theirs(relay: Relay) -> None:
    for path in ("/v2/models", "/v1x", "/stream-ask"):
        async with relay.client.get(path) as response:
            assert (await response.json()).keys() == {"error", "code"}


async def test_a_fault_of_ours_is_told_without_a_traceback(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completions, "parse", lambda *_: 1 / 0)
    status, error = await refused(relay, "POST", COMPLETIONS, json=asking("hi"))
    assert (status, error["code"], error["type"]) == (500, "internal", "server_error")
    assert "ZeroDivision" not in error["message"]


async def test_pages_of_an_allowed_origin_may_ask(start_relay: StartRelay) -> None:
    origin = {"Origin": "https://chat.example.com"}
    relay = await start_relay(relay_allowed_origins=origin["Origin"])
    for stream in (False, True):
        body = asking("!tokens=1", stream=stream)
        async with relay.client.post(COMPLETIONS, json=body, headers=origin) as response:
            assert response.status == 200
            assert response.headers["Access-Control-Allow-Origin"] == origin["Origin"]
    preflight = {**origin, "Access-Control-Request-Method": "POST"}
    async with relay.client.options(COMPLETIONS, headers=preflight) as response:
        assert response.status == 204


# --- leaving, limits, stopping ---


async def test_breaking_out_of_a_stream_stops_the_model(relay: Relay, standin: StandIn) -> None:
    async with connected(relay) as client:
        async with await client.chat.completions.create(**asking("!endless", stream=True)) as chunks:
            async for chunk in chunks:
                if chunk.choices[0].delta.content:
                    break
        await left(standin)


@pytest.mark.parametrize("question", ["!late=3600", "!silent", "!endless !slow=0.01"])
async def test_giving_up_an_answer_in_one_piece_stops_the_model(
    relay: Relay, standin: StandIn, caplog: pytest.LogCaptureFixture, question: str
) -> None:
    caplog.set_level("INFO", logger="relay")
    async with connected(relay) as client:
        waiting = asyncio.create_task(ask(client, question))
        while not standin.asks:
            await asyncio.sleep(0.01)
        waiting.cancel()
        await asyncio.wait([waiting])
        await left(standin)
    await relay.idle()
    assert vars(caplog.records[-1])["fields"]["outcome"] == "client_closed"


async def left(standin: StandIn) -> None:
    one = await standin.next_ask()
    async with asyncio.timeout(PATIENCE):
        await one.ended.wait()
    assert one.outcome == "left"


async def test_an_answer_that_is_too_large_for_one_piece_is_ended(
    relay: Relay, standin: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In words, and the model stops."""
    monkeypatch.setattr(completions, "_MOST", 1000)
    status, error = await refused(relay, "POST", COMPLETIONS, json=asking("!endless"))
    assert (status, error["code"]) == (502, "too_large")
    assert "`stream`" in error["message"]
    await left(standin)


async def test_a_large_answer_comes_whole(relay: Relay) -> None:
    async with connected(relay) as client:
        answer = await ask(client, "!line=3000000")
    assert answer.choices[0].message.content == "x" * 3_000_000


async def test_a_client_that_takes_nothing_is_dropped(
    start_relay: StartRelay, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="relay")
    relay = await start_relay(relay_send_timeout=0.3, send_buffer=4096)
    with asking_by_hand(relay, "!line=3000000"):  # and reads nothing
        while not caplog.records:
            await asyncio.sleep(0.01)
        while relay.connections:
            await asyncio.sleep(0.01)
    assert vars(caplog.records[-1])["fields"]["outcome"] == "stuck"
    assert await relay.counted('relay_clients_dropped_total{reason="stuck"}') == 1
    assert [record.levelname for record in caplog.records] == ["INFO"]


async def test_a_client_that_leaves_before_it_took_all_has_left(
    start_relay: StartRelay, standin: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    """Though the model had said it all."""
    caplog.set_level("INFO", logger="relay")
    relay = await start_relay(send_buffer=4096)
    with asking_by_hand(relay, "!line=3000000"):
        await (await standin.next_ask()).ended.wait()
        (running_now,) = relay.app[STREAMS]._running
        while running_now.outcome is None:
            await asyncio.sleep(0.01)
    await relay.idle()
    assert vars(caplog.records[-1])["fields"]["outcome"] == "client_closed"


@contextmanager
def asking_by_hand(relay: Relay, question: str) -> Iterator[None]:
    """Ask, and read nothing."""
    body = json.dumps(asking(question)).encode()
    head = f"POST {COMPLETIONS} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", relay.port))
        client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        yield


async def test_when_the_relay_stops_whoever_waits_is_told(relay: Relay, standin: StandIn) -> None:
    async with connected(relay) as client:
        calls: list[Awaitable[Any]] = [ask(client, "!silent"), stream(client, "!silent")]
        waiting = [asyncio.ensure_future(call) for call in calls]
        for _ in waiting:
            await standin.next_ask()
        await relay.app[STREAMS].drain(0.01)
        whole, streamed = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(whole, openai.InternalServerError)
    assert (whole.status_code, whole.code) == (503, "shutting_down")
    assert isinstance(streamed, openai.APIError)
    assert streamed.code == "shutting_down"
    status, error = await refused(relay, "POST", COMPLETIONS, json=asking("hi"))
    assert (status, error["code"]) == (503, "shutting_down")


async def test_the_relays_key_goes_out_in_no_form(relay: Relay) -> None:
    async with connected(relay) as client:
        answer = await ask(client, f"!echo {KEY}")
        assert answer.choices[0].message.content == "[redacted]"
        assert text(await stream(client, f"!line=3 {KEY}"))


@pytest.mark.parametrize("streams", [False, True])
async def test_the_log_has_a_line_for_each_answer(
    relay: Relay, standin: StandIn, caplog: pytest.LogCaptureFixture, streams: bool
) -> None:
    caplog.set_level("INFO", logger="relay")
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    headers = {"X-Request-ID": "mine", "traceparent": trace}
    body = asking("!tokens=2", stream=streams)
    async with relay.client.post(COMPLETIONS, json=body, headers=headers) as response:
        await response.read()
        assert response.headers["X-Request-ID"] == "mine"
    await relay.idle()
    (record,) = caplog.records
    fields = vars(record)["fields"]
    assert (fields["id"], fields["outcome"], fields["events"]) == ("mine", "complete", 3)
    assert fields["bytes"] > 0
    assert standin.asks[0].headers["traceparent"] == trace
    assert await relay.counted("relay_chunks_total") == 2
