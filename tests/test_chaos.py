"""The relay between two networks that fail in every way they can."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from typing import Any

import aiohttp
import pytest

from relay.standin import StandIn
from tests.chaos import CAN_VANISH, Chaos, Ending, vanish
from tests.conftest import StartRelay
from tests.running import Heard, Listening, Relay, Told

# A guard against hanging, not a measure.
PROMPTLY = 2.0
needs_vanishing = pytest.mark.skipif(not CAN_VANISH, reason="only Linux lets a socket go deaf")
ENDINGS = pytest.mark.parametrize("then", ["close", "reset"])


Between = Callable[[int], Awaitable[Chaos]]


@pytest.fixture
async def between(nothing_left_over: None) -> AsyncIterator[Between]:
    """Put a proxy in front of a port."""
    async with AsyncExitStack() as stack:

        async def put(port: int) -> Chaos:
            return await stack.enter_async_context(Chaos(port))

        yield put


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


@pytest.fixture
async def upstream(between: Between, standin: StandIn) -> Chaos:
    """What lies between the relay and AnythingLLM."""
    return await between(port_of(standin.url))


# Between the relay and AnythingLLM


async def size_of_an_answer(standin: StandIn, question: str) -> int:
    """Bytes of AnythingLLM's whole response to a question."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(standin.url))
    body = json.dumps({"message": question, "mode": "chat"}).encode()
    head = (
        "POST /api/v1/workspace/demo/stream-chat HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"Authorization: Bearer {standin.key}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    size = 0
    while not (data := await reader.readuntil(b"\n")).startswith(b"0\r\n"):
        size += len(data)
    writer.close()
    await writer.wait_closed()
    await standin.next_ask()
    return size + len(b"0\r\n\r\n")


def outcome_of(heard: Heard) -> str:
    complete = heard.end["reason"] == "complete"
    return str(heard.end["reason"] if complete else heard.error["code"])


async def test_an_answer_in_single_bytes_is_the_same(
    upstream: Chaos, standin: StandIn, start_relay: StartRelay
) -> None:
    upstream.piece = 1
    relay = await start_relay(anythingllm_base_url=upstream.url)
    heard = await relay.ask('!echo a "b"\nc é 😀')
    assert heard.text == 'a "b"\nc é 😀'
    assert heard.end["reason"] == "complete"


@ENDINGS
async def test_anythingllm_may_be_lost_after_any_byte(
    upstream: Chaos, standin: StandIn, start_relay: StartRelay, then: Ending
) -> None:
    """One end each time, the right one; what came before it is told, and nothing is kept open."""
    relay = await start_relay(anythingllm_base_url=upstream.url)
    question = "!tokens=3"
    size = await size_of_an_answer(standin, question)
    seen = set()
    for most in range(1, size, 1 if then == "close" else 3):
        upstream.most, upstream.then = most, then
        heard = await relay.ask(question)
        assert "tok1 tok2 tok3".startswith(heard.text)
        seen.add(outcome := outcome_of(heard))
        if outcome == "upstream_unreachable":
            assert heard.text == ""
        elif outcome == "complete":
            assert heard.text == "tok1 tok2 tok3"
    assert seen == {"upstream_unreachable", "upstream_truncated", "complete"}
    await relay.idle()
    await upstream.none_left()


async def test_anythingllm_may_fall_silent_after_any_byte(
    upstream: Chaos, standin: StandIn, start_relay: StartRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limits on silence hold, and its connection is closed."""
    monkeypatch.setattr("relay.frames.GRACE", 0.1)
    relay = await start_relay(
        anythingllm_base_url=upstream.url,
        anythingllm_first_event_timeout=0.1,
        anythingllm_idle_timeout=0.1,
    )
    question = "!tokens=3"
    size = await size_of_an_answer(standin, question)
    upstream.then = "silence"

    async def ask(most: int) -> Heard:
        upstream.most = most
        return await relay.ask(question)

    seen = set()
    for most in range(1, size, 17):
        heard = await ask(most)
        seen.add(outcome_of(heard))
    assert seen == {"upstream_timeout", "complete"}
    upstream.end("close")
    await relay.idle()


@needs_vanishing
async def test_anythingllms_machine_vanishes(upstream: Chaos, start_relay: StartRelay) -> None:
    relay = await start_relay(anythingllm_base_url=upstream.url, anythingllm_idle_timeout=0.3)
    async with relay.asking("!endless !slow=0.01") as listening:
        await listening.until("chunk")
        upstream.end("vanish")
        assert (await listening.rest()).error["code"] == "upstream_timeout"
    upstream.end("close")


async def test_a_slow_line_delays_and_breaks_nothing(
    upstream: Chaos, start_relay: StartRelay, standin: StandIn
) -> None:
    upstream.piece, upstream.delay = 50, 0.002
    relay = await start_relay(anythingllm_base_url=upstream.url)
    heard = await asyncio.gather(*[relay.ask(f"!tokens={20 + n}") for n in range(10)])
    for n, one in enumerate(heard):
        assert len(one.text.split()) == 20 + n
        assert one.end["reason"] == "complete"


# Between a client and the relay


class Client:
    """An editor behind a bad line: it comes back until it has the end."""

    def __init__(self, line: Chaos, key: str) -> None:
        self._line = line
        self._session = aiohttp.ClientSession(line.url, connector=aiohttp.TCPConnector(force_close=True))
        self._headers = {"Idempotency-Key": key}
        self._stream: str | None = None
        self.heard: list[Told] = []
        self.tries = 0

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._session.close()

    async def ask(self, **question: Any) -> None:
        """Ask until the whole answer is here, whatever the line does."""
        while not self.heard or self.heard[-1].name != "final_end":
            self.tries += 1
            with suppress(aiohttp.ClientError, ConnectionError):
                await self._try(question)
            if self._line.most is not None:
                self._line.most += 40  # else it would never come to the second event

    async def _try(self, question: dict[str, Any]) -> None:
        if self._stream is None:
            response = await self._session.post("/stream-ask", json=question, headers=self._headers)
        else:
            last = {"Last-Event-ID": self.heard[-1].id} if self.heard else {}
            response = await self._session.get(f"/streams/{self._stream}", headers=last)
        try:
            assert response.status == 200
            self._stream = response.headers["X-Stream-ID"]
            listening = Listening(response)
            while (told := await listening.next()) is not None:
                self.heard.append(told)
        finally:
            response.close()


@ENDINGS
async def test_a_client_behind_a_bad_line_hears_all_of_it_once(
    between: Between, relay: Relay, standin: StandIn, then: Ending
) -> None:
    """Cut after any number of bytes, the head included, while the answer is being written."""
    line = await between(relay.port)
    sizes = range(1, 700, 13)
    for most in sizes:
        line.most, line.then = most, then
        async with Client(line, key=f"cut-after-{most}") as client:
            await client.ask(question="!tokens=12 !slow=0.001")
        assert [told.id for told in client.heard] == [str(number) for number in range(1, 14)]
        assert client.heard[-1].data["reason"] == "complete"
        assert "".join(told.data.get("content", "") for told in client.heard).split()[-1] == "tok12"
        assert client.tries > 1
    assert len(standin.asks) == len(sizes)


@ENDINGS
async def test_a_plain_stream_on_a_cut_line_is_stopped(
    between: Between, relay: Relay, standin: StandIn, then: Ending
) -> None:
    line = await between(relay.port)
    question = {"question": "!endless !slow=0.01"}
    async with (
        aiohttp.ClientSession(line.url) as client,
        client.post("/stream-ask", json=question) as response,
    ):
        await Listening(response).until("chunk")
        line.end(then)
        ask = await standin.next_ask()
        async with asyncio.timeout(PROMPTLY):
            await ask.ended.wait()
    assert ask.outcome == "left"


@needs_vanishing
@pytest.mark.parametrize("question", ["!silent", "!endless !slow=0.01"])
async def test_a_client_whose_machine_vanishes_is_found_by_a_heartbeat(
    start_relay: StartRelay, standin: StandIn, question: str
) -> None:
    """No FIN, no RST, nothing: what was sent to it is never acknowledged."""
    relay = await start_relay(relay_heartbeat=0.2, relay_send_timeout=0.4)
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
    body = json.dumps({"question": question}).encode()
    head = "POST /stream-ask HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    await reader.readuntil(b": ping\n")
    vanish(writer.get_extra_info("socket"))
    ask = await standin.next_ask()
    async with asyncio.timeout(2 + PROMPTLY):
        await ask.ended.wait()
    assert ask.outcome == "left"
    await relay.idle()
    assert await relay.counted('relay_clients_dropped_total{reason="stuck"}') == 1
    writer.close()


@needs_vanishing
async def test_a_laptop_that_closes_loses_nothing(start_relay: StartRelay, standin: StandIn) -> None:
    """Its connection vanishes; when it wakes up it goes on where it was."""
    relay = await start_relay(relay_heartbeat=0.1, relay_send_timeout=0.2)
    async with relay.asking("!tokens=60 !slow=0.02", resumable=True) as listening:
        told = await listening.until("chunk")
        connection = listening.response.connection
        assert connection is not None
        assert connection.transport is not None
        vanish(connection.transport.get_extra_info("socket"))
        while not await relay.counted('relay_clients_dropped_total{reason="stuck"}'):
            await asyncio.sleep(0.01)
    heard = await relay.follow(listening.stream_id, int(told.id))
    assert [one.id for one in heard] == [str(number) for number in range(2, 62)]
    assert (await standin.next_ask()).outcome == "complete"
