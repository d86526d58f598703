"""The stand-in speaks as the recorded AnythingLLM, and misbehaves as it is told."""

import asyncio
import json
import re
import signal
import sys
from collections.abc import AsyncIterator
from itertools import groupby
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

import relay.standin
from relay.standin import KEY, ORDERS, Ask, StandIn
from relay.standin.agents import AGENT
from relay.standin.answers import ANSWER, NO_HISTORY, TEXTS, pieces
from relay.standin.asks import NEWEST, Asks
from relay.standin.frames import encode
from relay.standin.histories import QUESTIONS, SESSIONS, Histories, Session
from relay.standin.orders import MOST, parse
from relay.standin.pages import PAGES
from relay.standin.scripts import CHAT

RECORDINGS = Path(__file__).parent / "recordings"
CHAT_PATH = "/api/v1/workspace/demo/stream-chat"
THREAD_PATH = "/api/v1/workspace/demo/thread/{}/stream-chat"
NO_LIMIT = aiohttp.ClientTimeout(total=None)


@pytest.fixture
async def client(standin: StandIn) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(
        standin.url, headers={"Authorization": f"Bearer {KEY}"}, timeout=NO_LIMIT
    ) as client:
        yield client


def question(message: object, mode: str = "chat", **fields: object) -> dict[str, object]:
    return {"message": message, "mode": mode, **fields}


async def body(client: aiohttp.ClientSession, message: str, mode: str = "chat") -> bytes:
    async with client.post(CHAT_PATH, json=question(message, mode)) as response:
        assert response.status == 200
        return await response.read()


def frames(raw: bytes) -> list[dict[str, Any]]:
    return [json.loads(line.removeprefix(b"data: ")) for line in raw.split(b"\n\n") if line]


def text(raw: bytes) -> str:
    chunks = (each for each in frames(raw) if each["type"] == "textResponseChunk")
    return "".join(each["textResponse"] for each in chunks)


async def said(client: aiohttp.ClientSession, message: str, mode: str = "chat") -> str:
    return text(await body(client, message, mode))


def template(raw: bytes) -> list[str]:
    """The lines with what differs from run to run blanked, and a run of equal ones as one."""
    blanked = raw.decode()
    for pattern, blank in (
        (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID"),
        (r'"(model|provider|timestamp)":("[^"]*"|null)', r'"\1":"X"'),
        (r'("textResponse":)"(?!<think>|</think>)([^"\\]|\\.)+"', r'\1"X"'),
        (r'"sources":\[\{.*?\}\]([,}])', r'"sources":[X]\1'),
        (r":-?\d+(\.\d+)?", ":0"),
    ):
        blanked = re.sub(pattern, blank, blanked)
    return [line for line, _ in groupby(blanked.split("\n\n"))]


@pytest.mark.parametrize(
    ("recording", "asked"),
    [
        ("chat", question("!tokens=11")),
        ("usage", question("hello")),
        ("llm_drop_midstream", question("!abort")),
        ("llm_401", question("!refused")),
        ("llm_500", question("!refused=500")),
        ("llm_400_context", question("!refused=400")),
        ("ollama_drop", question("!ollama")),
        ("reasoning", question("!reason")),
        ("reasoning_only", question("!reasononly")),
        ("empty_answer", question("!empty")),
        ("surrogate_halves", question("!surrogate")),
        ("provider_streaming_disabled", question("!whole")),
        ("query_no_documents", question("!refusal", "query")),
        ("sources_chunk1000_top4", question("!sources")),
        ("reset_only", {"reset": True}),
        ("reset_with_invalid_mode", {"reset": True, "mode": "bogus"}),
        ("reset_with_message", question("hello", reset=True)),
        ("message_array", question(["hello"])),
        ("agent_usage", question("hello", "automatic")),
        ("agent_prefix_chat_mode", question("@agent hello")),
        ("agent_word_mid_message", question("hello @agent")),
        ("mode_absent_workspace_default", {"message": "hello"}),
        ("agent_empty", question("!empty", "automatic")),
        ("agent_untooled", question("!untooled", "automatic")),
        ("agent_tool_chart", question("!chart", "automatic")),
        ("agent_tool_with_text_before", question("!tool !sources=4", "automatic")),
        ("agent_llm_500", question("!agenterror", "automatic")),
        ("agent_llm_429", question("!agenterror=429", "automatic")),
    ],
)
async def test_streams_are_as_recorded(
    client: aiohttp.ClientSession, recording: str, asked: dict[str, object]
) -> None:
    """Same frames, same keys in the same order, same bytes but for text, numbers and ids."""
    async with client.post(CHAT_PATH, json=asked) as response:
        raw = await response.read()
    assert template(raw) == template((RECORDINGS / f"{recording}.sse").read_bytes())


async def test_sources_have_the_recorded_keys(client: aiohttp.ClientSession) -> None:
    """Every source looks as the recorded ones."""
    recorded = frames((RECORDINGS / "sources_chunk1000_top4.sse").read_bytes())[-1]["sources"]
    ours = frames(await body(client, "!sources=3"))[-1]["sources"]
    assert len(ours) == 3
    for source in ours:
        assert list(source) == list(recorded[0])
        assert list(map(type, source.values())) == list(map(type, recorded[0].values()))


@pytest.mark.parametrize(
    ("recording", "path", "sent"),
    [
        ("invalid_slug", "/api/v1/workspace/nope/stream-chat", question("hi")),
        ("slug_uppercase", "/api/v1/workspace/DEMO/stream-chat", question("hi")),
        ("empty_message", CHAT_PATH, question("")),
        ("no_message", CHAT_PATH, {"mode": "chat"}),
        ("message_number", CHAT_PATH, question(5)),
        ("message_object", CHAT_PATH, question({})),
        ("body_array", CHAT_PATH, [question("hi")]),
        ("body_not_object", CHAT_PATH, 5),
        ("mode_uppercase", CHAT_PATH, question("hi", "CHAT")),
        ("mode_empty_string", CHAT_PATH, question("hi", "")),
        ("mode_number", CHAT_PATH, {"message": "hi", "mode": 5}),
        ("thread_invalid_thread_slug", THREAD_PATH.format("nope"), question("hi")),
        ("thread_empty_message", THREAD_PATH.format("one"), question("")),
        (
            "thread_invalid_workspace_slug",
            "/api/v1/workspace/nope/thread/one/stream-chat",
            question("hi"),
        ),
    ],
)
async def test_refusals_are_as_recorded(
    client: aiohttp.ClientSession, recording: str, path: str, sent: object
) -> None:
    """What never becomes a stream has the recorded status, type and body."""
    head, _, recorded = (RECORDINGS / f"{recording}.http").read_bytes().partition(b"\r\n\r\n")
    kind = re.search(rb"^Content-Type: (.*)\r$", head, re.MULTILINE)
    async with client.post(path, json=sent) as response:
        raw = await response.read()
        assert response.status == int(head.split()[1])
        assert response.headers.get("Content-Type") == (kind[1].decode() if kind else None)
    assert template(raw)[0] == template(recorded)[0]


async def test_malformed_json_is_seen_before_the_key(standin: StandIn) -> None:
    """A body that is no JSON gets Express's page, key or no key."""
    async with (
        aiohttp.ClientSession(standin.url) as client,
        client.post(CHAT_PATH, data=b"{") as response,
    ):
        assert response.status == 400
        assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert standin.asks == []


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (None, 403),
        ("", 403),
        ("Bearer", 403),
        (KEY, 403),
        ("Bearer wrong", 403),
        (f"Bearer  {KEY}", 403),
        (f"Bearer {KEY.upper()}", 403),
        (f"Bearer {KEY}", 200),
        (f"bearer {KEY}", 200),
        (f"Token {KEY}", 200),
    ],
)
async def test_the_key_counts_and_the_scheme_does_not(
    standin: StandIn, header: str | None, status: int
) -> None:
    """The key is checked before the slug, as one word after any other."""
    headers = {} if header is None else {"Authorization": header}
    async with aiohttp.ClientSession(standin.url, headers=headers) as client:
        async with client.post(CHAT_PATH, json=question("!empty")) as response:
            assert response.status == status
        for path in ("auth", "workspaces", "workspace/demo", "workspace/nope"):
            async with client.get(f"/api/v1/{path}") as response:
                assert response.status == status
        path = "/api/v1/workspace/nope/stream-chat"
        async with client.post(path, json=question("hi")) as response:
            assert response.status == (403 if status == 403 else 400)
            if status == 403:
                assert await response.json() == {"error": "No valid api key found."}


async def test_the_routes_for_checks(client: aiohttp.ClientSession) -> None:
    """Ping, key and workspaces answer; an unknown workspace is an empty list."""
    answers = {}
    for path in ("ping", "v1/auth", "v1/workspaces", "v1/workspace/demo", "v1/workspace/nope"):
        async with client.get(f"/api/{path}") as response:
            assert response.status == 200
            answers[path] = await response.json()
    assert answers["ping"] == {"online": True}
    assert answers["v1/auth"] == {"authenticated": True}
    assert [each["slug"] for each in answers["v1/workspaces"]["workspaces"]] == ["demo"]
    assert answers["v1/workspace/demo"]["workspace"] == answers["v1/workspaces"]["workspaces"]
    assert answers["v1/workspace/nope"] == {"workspace": []}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", CHAT_PATH),
        ("POST", "/v1/workspace/demo/stream-chat"),
        ("POST", "/api/v1/workspace//stream-chat"),
        ("POST", "/api/v1/nope"),
    ],
)
async def test_any_other_address_is_a_web_page(
    client: aiohttp.ClientSession, method: str, path: str
) -> None:
    """As in production: status 200, and HTML."""
    async with client.request(method, path) as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/html; charset=utf-8"


async def test_the_head_comes_at_once_and_as_recorded(
    standin: StandIn, client: aiohttp.ClientSession
) -> None:
    """A stream's head has the recorded fields, and comes before any frame."""
    recorded = (RECORDINGS / "chat.headers.txt").read_text().split("\n")
    expected = dict(line.split(": ", 1) for line in recorded[1:] if line)
    async with client.post(CHAT_PATH, json=question("!silent")) as response:
        assert {**response.headers, "Date": ""} == {**expected, "Date": ""}
        assert (await standin.next_ask()).frames == 0


async def test_a_frame_is_a_chunk_and_the_connection_stays(standin: StandIn) -> None:
    """Every frame is one HTTP chunk; the zero chunk ends the answer and not the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(standin.url.split(":")[-1]))
    sent = json.dumps(question("!echo héllo 😀\u2028 wörld")).encode()
    head = f"POST {CHAT_PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(sent)}\r\n\r\n"
    for _ in range(2):
        writer.write(head.encode() + sent)
        await reader.readuntil(b"\r\n\r\n")
        chunks = []
        while size := int(await reader.readuntil(b"\r\n"), 16):
            chunks.append(await reader.readexactly(size))
            assert await reader.readexactly(2) == b"\r\n"
        assert await reader.readexactly(2) == b"\r\n"
        assert all(re.fullmatch(rb"data: \{[^\r\n]*\}\n\n", chunk) for chunk in chunks)
        assert text(b"".join(chunks)) == "héllo 😀\u2028 wörld"
    writer.close()
    await writer.wait_closed()
    assert [ask.connection for ask in standin.asks] == [1, 1]


@pytest.mark.parametrize("mode", ["chat", "query", "automatic"])
async def test_the_ordinary_answer_says_what_it_is(client: aiohttp.ClientSession, mode: str) -> None:
    """It is no model, it shows Python, and it tells how to reach a real AnythingLLM."""
    answer = await said(client, "What is a pump?", mode)
    assert answer == ANSWER
    for needed in ("not a model", "```python", ".env.example", "--check", "ANYTHINGLLM_API_KEY"):
        assert needed in answer


def test_every_order_is_documented_and_obeyed() -> None:
    """The table, the docstring and the code know the same words."""
    others = {"slow", "late", "silent", "pause", "sources", "notype"}
    assert set(ORDERS) == others | set(TEXTS) | set(PAGES) | set(CHAT) | set(AGENT)
    for word, sentence in ORDERS.items():
        assert re.search(rf"^  !{word} +{re.escape(sentence)}$", relay.standin.__doc__ or "", re.M)


def test_orders_are_whole_words() -> None:
    """An order stands between blanks, unknown words and bad numbers order nothing."""
    orders = parse("a!slow=1 !slow=2.5, x !late=0.5 !tokens=x !burst=99999999999 !nope\n!die=0 !eof")
    assert list(orders) == ["slow", "late", "tokens", "burst", "die", "eof"]
    assert orders.seconds("slow", 7.0) == 7.0
    assert orders.seconds("late", 7.0) == 0.5
    assert orders.seconds("pause", None) is None
    assert orders.number("tokens", 20) == 20
    assert orders.number("burst", 100) == 100
    assert orders.number("die", 3) == 0
    assert parse(f"!tokens={MOST}").number("tokens", 1) == MOST
    assert list(parse("!slow=1 !echo !late=1 !die")) == ["slow", "echo"]
    assert parse("!slow=nan").seconds("slow", 1.0) == 1.0
    assert parse("!slow=-1").seconds("slow", 1.0) == 1.0


@given(st.text())
def test_pieces_make_the_whole(whole: str) -> None:
    """An echo is cut into one to seven characters and nothing is lost."""
    cut = list(pieces(whole))
    assert "".join(cut) == whole
    assert all(1 <= len(piece) <= 7 for piece in cut)
    assert cut == list(pieces(whole))


@given(st.text(st.characters()))
def test_json_is_what_javascript_writes(value: str) -> None:
    """Compact, nothing escaped that need not be, and always UTF-8."""
    encoded = encode({"a": value, "b": [1, None]})
    assert json.loads(encoded.decode()) == {"a": value, "b": [1, None]}
    assert encoded.endswith(b'","b":[1,null]}')
    assert encode("é\u2028\u0000\n") == '"é\u2028\\u0000\\n"'.encode()
    assert encode("A\ud83d") == b'"A\\ud83d"'
    assert encode("\ude00\ud83d\ude00") == '"\\ude00😀"'.encode()


@pytest.mark.parametrize("mode", ["chat", "automatic"])
@pytest.mark.parametrize(
    ("message", "answer"),
    [
        ("please !echo  two  blanks !die\n", " two  blanks !die\n"),
        ("!echo é😀\u2028\x00\ud83d", "é😀\u2028\x00\ud83d"),
        ("!echo", ""),
        ("!tokens=3", "tok1 tok2 tok3"),
        ("!burst=3", "tok1 tok2 tok3"),
        ("!line=100000", "x" * 100_000),
        ("!surrogate", "A\ud83d\ude00B"),
        ("!unknown", "tok1 tok2"),
        ("!reason !tokens=2", "<think>I should think first.</think>tok1 tok2"),
        ("!eof !tokens=9", "tok1 tok2 tok3"),
        ("!notype !tokens=1", "tok1"),
        ("!pause=0.001 !slow=0.001 !late=0.001 !silent=0.001 !tokens=5", "tok1 tok2 tok3 tok4 tok5"),
    ],
)
async def test_what_is_said(client: aiohttp.ClientSession, message: str, answer: str, mode: str) -> None:
    """The orders that choose the text work in every mode."""
    assert await said(client, message, mode) == answer


@pytest.mark.parametrize("message", ["!tool", "!chart=0", "!file", "!untooled", "!slowtool=0"])
async def test_agents_say_the_text_again(client: aiohttp.ClientSession, message: str) -> None:
    """The text at the end is the last turn's; outside agent mode the order is no order."""
    run = frames(await body(client, f"{message} !tokens=2", "automatic"))
    assert run[-1]["textResponse"] == run[-2]["textResponse"] == "tok1 tok2"
    assert "chatId" not in run[-1]
    assert await said(client, f"{message} !tokens=2") == "tok1 tok2"


async def test_a_burst_is_more_than_the_client_can_take_at_once(
    standin: StandIn, client: aiohttp.ClientSession
) -> None:
    """Every frame of a long burst arrives, and every one is counted."""
    run = frames(await body(client, "!burst=5000"))
    assert run[4999]["textResponse"] == " tok5000"
    assert (await standin.next_ask()).frames == len(run) == 5002


async def test_garbage_lies_between_good_frames(client: aiohttp.ClientSession) -> None:
    """Four lines are no frames, one frame is no UTF-8, and the rest is an answer."""
    lines = (await body(client, "!garbage")).split(b"\n\n")
    good = [line for line in lines if line.startswith(b'data: {"uuid"')]
    assert len(lines) - len(good) == 5  # the last is what follows the last empty line
    assert sum(b"\xff" in line for line in good) == 1
    assert text(b"\n\n".join(good).replace(b"\xff", b"?")) == "tok1 tok2 b?d tok3"


async def test_closing_chunk_without_finalize(client: aiohttp.ClientSession) -> None:
    """The body ends well after the chunk that closes the text."""
    assert [each["close"] for each in frames(await body(client, "!closeeof !tokens=1"))] == [
        False,
        True,
    ]


@pytest.mark.parametrize(
    ("message", "status", "kind"),
    [
        ("!html", 200, "text/html; charset=utf-8"),
        ("!json", 200, "application/json; charset=utf-8"),
        ("!status=503", 503, "application/json; charset=utf-8"),
        ("!status=99", 500, "application/json; charset=utf-8"),
        ("!redirect", 307, None),
        ("!notype", 200, None),
    ],
)
async def test_heads_that_promise_no_stream(
    client: aiohttp.ClientSession, message: str, status: int, kind: str | None
) -> None:
    """Pages, failures and redirects instead of a stream, and a stream without a type."""
    async with client.post(CHAT_PATH, json=question(message), allow_redirects=False) as response:
        assert response.status == status
        assert response.headers.get("Content-Type") == kind


@pytest.mark.parametrize(
    ("message", "whole", "torn"),
    [
        ("!die=0", 0, False),
        ("!die", 3, False),
        ("!die=1 !tokens=9", 1, False),
        ("!cut", 3, True),
    ],
)
async def test_the_connection_is_lost(
    standin: StandIn, client: aiohttp.ClientSession, message: str, whole: int, torn: bool
) -> None:
    """Frames arrive up to the loss; the end is no end to HTTP."""
    received = b""
    async with client.post(CHAT_PATH, json=question(message)) as response:
        with pytest.raises(aiohttp.ClientPayloadError):
            async for data in response.content.iter_any():
                received += data
    *lines, rest = received.split(b"\n\n")
    assert len(lines) == whole
    assert bool(rest) is torn
    ask = await standin.next_ask()
    await ask.ended.wait()
    assert (ask.outcome, ask.frames, ask.when_left) == ("died", whole, None)


@pytest.mark.parametrize(
    ("message", "seen"),
    [
        ("!silent", 0),
        ("!silent=3600", 0),
        ("!pause=3600", 3),
        ("!slow=3600", 1),
        ("!stall", 5),
        ("!nofinalize !tokens=2", 3),
        ("!slowtool", 1),
        ("!chart=3600", 3),
        ("!endless", 20),
        ("!endless !slow=0.001", 20),
    ],
)
async def test_leaving_is_noticed(
    standin: StandIn, client: aiohttp.ClientSession, message: str, seen: int
) -> None:
    """However silent or busy the stand-in is, it knows when its client has gone."""
    asked = question(f"@agent {message}" if message.startswith(("!slowt", "!chart")) else message)
    received = b""
    async with client.post(CHAT_PATH, json=asked) as response:
        while received.count(b"\n\n") < seen:
            received += await response.content.readany()
        ask = await standin.next_ask()
        assert (ask.outcome, ask.when_left) == ("open", None)
        assert not ask.ended.is_set()
        response.close()
    left = asyncio.get_running_loop().time()
    await ask.ended.wait()
    assert ask.outcome == "left"
    assert ask.when_left is not None
    assert ask.when_left >= left
    assert ask.frames >= seen
    assert ask.first_frame.is_set() is bool(seen)


async def test_leaving_before_the_head_is_noticed(
    standin: StandIn, client: aiohttp.ClientSession
) -> None:
    """A client that gives up waiting for the head has left as well."""
    request = asyncio.create_task(body(client, "!late=3600"))
    ask = await standin.next_ask()
    request.cancel()
    await ask.ended.wait()
    assert (ask.outcome, ask.frames) == ("left", 0)


async def test_a_client_that_does_not_read_holds_the_stream(
    standin: StandIn, client: aiohttp.ClientSession
) -> None:
    """Without a reader even the fastest answer comes to a halt, and others go on."""
    async with client.post(CHAT_PATH, json=question("!burst=1000000")) as response:
        ask = await standin.next_ask()
        await ask.first_frame.wait()
        for _ in range(10):  # other answers, so that the loop has long had its turn
            assert await said(client, "hello") == ANSWER
        held = ask.frames
        for _ in range(10):
            assert await said(client, "hello") == ANSWER
        assert ask.frames == held < 1_000_000
        response.close()
    await ask.ended.wait()
    assert ask.outcome == "left"


async def test_killed_it_is_gone_at_once(standin: StandIn, client: aiohttp.ClientSession) -> None:
    """Open streams break, nothing listens, and it may come back on the same port."""
    async with client.post(CHAT_PATH, json=question("!stall")) as response:
        await response.content.readany()
        await standin.kill()
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()
    assert [ask.outcome for ask in standin.asks] == ["died"]
    with pytest.raises(aiohttp.ClientConnectorError):
        await said(client, "hello")
    await standin.start(int(standin.url.split(":")[-1]))
    assert await said(client, "hello") == ANSWER


async def test_stopped_it_leaves_nothing_over(caplog: pytest.LogCaptureFixture) -> None:
    """No task, socket or log line, whatever was going on; stopping twice is stopping once."""
    before = asyncio.all_tasks()
    standin = StandIn(pace=0)
    await standin.stop()
    await standin.start()
    async with aiohttp.ClientSession(standin.url, headers={"Authorization": f"Bearer {KEY}"}) as client:
        responses = [
            await client.post(CHAT_PATH, json=question(message))
            for message in ("!silent", "!stall", "!endless", "!burst=1000000")
        ]
        await said(client, "hello")  # and one connection that idles
        await standin.stop()
        await standin.stop()
        for response in responses:
            response.close()
    assert {ask.outcome for ask in standin.asks} == {"died", "complete"}
    assert asyncio.all_tasks() == before
    assert caplog.records == []


async def test_what_a_test_sees_of_an_ask(standin: StandIn, client: aiohttp.ClientSession) -> None:
    """Workspace, thread, body, headers, connection; and each ask is handed out once."""
    asked = question("!tokens=2", sessionId="s")
    async with client.post(THREAD_PATH.format("one"), json=asked, headers={"X-A": "b"}) as response:
        await response.read()
    waiting = asyncio.create_task(standin.next_ask())
    ask = await waiting
    assert (ask.workspace, ask.thread, ask.body, ask.connection) == ("demo", "one", asked, 1)
    assert ask.headers["x-a"] == "b"
    assert (ask.outcome, ask.frames) == ("complete", 4)
    async with client.post(CHAT_PATH, json=question("!silent")):
        second = await standin.next_ask()
        assert (second.connection, second.thread) == (1, None)
        await said(client, "!empty")
    assert [each.connection for each in standin.asks] == [1, 1, 2]
    assert standin.asks[:2] == [ask, second]


async def test_only_the_newest_asks_are_kept() -> None:
    """A load test does not fill the memory."""
    asks = Asks()
    many = [
        Ask(workspace="demo", thread=None, body={}, headers={}, connection=number)
        for number in range(NEWEST + 5)
    ]
    for ask in many:
        asks.add(ask)
    assert asks.all == many[5:]
    assert await asks.next() is many[5]


async def test_sessions_do_not_mix(client: aiohttp.ClientSession) -> None:
    """A history belongs to a thread, to a session, or to the workspace without one."""

    async def ask(message: str, path: str = CHAT_PATH, **fields: object) -> str:
        async with client.post(path, json={**question(message), **fields}) as response:
            return text(await response.read())

    await ask("!echo a", sessionId="s")
    await ask("!echo b", sessionId="s", mode="automatic")
    await ask("!echo c", sessionId=5)
    await ask("!echo d")
    await ask("!echo e", THREAD_PATH.format("s"), sessionId="s")
    assert await ask("!history", sessionId="s") == "1. !echo a\n2. !echo b"
    assert await ask("!history", sessionId="5") == "1. !echo c"
    assert await ask("!history") == "1. !echo d"
    assert await ask("!history", THREAD_PATH.format("s")) == "1. !echo e"
    assert await ask("!history", THREAD_PATH.format("t"), sessionId="s") == NO_HISTORY
    await ask("", sessionId="s", reset=True)
    assert await ask("!history", sessionId="s") == NO_HISTORY
    assert await ask("!history", sessionId="s", reset=True) == NO_HISTORY
    assert await ask("!history") == "1. !echo d\n2. !history"


def test_histories_are_bounded() -> None:
    """Old questions and the sessions used least recently are forgotten."""
    histories = Histories()
    for number in range(SESSIONS + 1):
        histories.add(Session("demo", None, str(number)), "first")
        histories.add(Session("demo", None, "0"), str(number))
    assert histories.earlier(Session("demo", None, "1")) == ()
    assert histories.earlier(Session("demo", None, "2")) == ("first",)
    kept = histories.earlier(Session("demo", None, "0"))
    assert len(kept) == QUESTIONS
    assert kept[-1] == str(SESSIONS)


async def test_many_streams_at_once(standin: StandIn) -> None:
    """Hundreds of streams run side by side, and every one is whole."""
    async with aiohttp.ClientSession(
        standin.url,
        headers={"Authorization": f"Bearer {KEY}"},
        connector=aiohttp.TCPConnector(limit=0),
    ) as client:
        texts = await asyncio.gather(
            *(said(client, f"!slow=0.001 !echo {number:>40}") for number in range(300))
        )
    assert texts == [f"{number:>40}" for number in range(300)]
    assert sorted({ask.connection for ask in standin.asks}) == list(range(1, 301))


async def test_it_runs_alone() -> None:
    """`python -m relay.standin` serves, says where, and Ctrl-C ends it without a word."""
    command = (sys.executable, "-m", "relay.standin", "--port", "0")
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    told = dict([(await process.stdout.readline()).decode().split() for _ in range(3)])
    assert (told["key"], told["workspace"]) == (KEY, "demo")
    async with (
        aiohttp.ClientSession(told["url"]) as client,
        client.get("/api/ping") as response,
    ):
        assert await response.json() == {"online": True}
    process.send_signal(signal.SIGINT)
    assert await process.communicate() == (b"", b"")
    assert process.returncode == 0


async def test_its_help_lists_the_orders() -> None:
    """`--help` prints the table."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "relay.standin", "--help"), stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await process.communicate()
    for word, sentence in ORDERS.items():
        assert f"!{word} " in printed.decode()
        assert sentence in printed.decode()
    assert printed.endswith(b"begins with @agent, or in one with\nmode=automatic.\n")


async def test_a_port_that_is_taken_is_one_line(standin: StandIn) -> None:
    """No traceback for what happens to everybody."""
    port = standin.url.split(":")[-1]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "relay.standin", "--port", port), stderr=asyncio.subprocess.PIPE
    )
    _, complaint = await process.communicate()
    assert process.returncode == 1
    assert complaint.decode().startswith(f"Cannot listen on port {port}: ")
    assert complaint.count(b"\n") == 1
