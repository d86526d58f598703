"""When a client leaves, AnythingLLM is let go at once, in every phase."""

import asyncio
import json
import socket
import struct
import sys
from typing import Any

import aiohttp
import pytest

from relay.handlers import STREAMS
from relay.response import EventStreamResponse
from relay.standin import StandIn
from tests.conftest import StartRelay
from tests.running import Relay, settings, unanswered

# Far more than it takes (a few milliseconds), far less than any limit that would end a stream anyway.
PROMPTLY = 5


def raw_request(question: str, **fields: Any) -> bytes:
    """A request for clients that are rougher than a library lets them be."""
    body = json.dumps({"question": question, **fields}).encode()
    head = "POST /stream-ask HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def gone(standin: StandIn) -> None:
    """Wait until the stand-in noticed that its client left."""
    ask = await standin.next_ask()
    async with asyncio.timeout(PROMPTLY):
        await ask.ended.wait()
    assert ask.outcome == "left"


async def test_leaving_while_anythingllm_prepares_its_head(relay: Relay, standin: StandIn) -> None:
    """The request is there, but no byte of an answer."""
    async with relay.asking("!late=3600"):
        while not standin.asks:
            await asyncio.sleep(0)
    await gone(standin)


async def test_leaving_before_the_first_frame(relay: Relay, standin: StandIn) -> None:
    """The head is there, and the model is silent."""
    async with relay.asking("!silent"):
        while not standin.asks:
            await asyncio.sleep(0)
    await gone(standin)


async def test_leaving_between_frames(relay: Relay, standin: StandIn) -> None:
    """The model pauses in mid-answer."""
    async with relay.asking("!tokens=9 !pause=3600") as listening:
        await listening.until("chunk")
    await gone(standin)


async def test_leaving_while_text_flows(
    relay: Relay, standin: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    """The model writes on and on; the log says who ended it."""
    caplog.set_level("INFO", logger="relay")
    async with relay.asking("!endless") as listening:
        await listening.until("chunk")
    await gone(standin)
    await relay.idle()
    assert vars(caplog.records[-1])["fields"]["outcome"] == "client_closed"


async def test_leaving_an_agent(relay: Relay, standin: StandIn) -> None:
    """A tool runs; the relay lets go all the same (what AnythingLLM then does is its own affair)."""
    async with relay.asking("@agent !slowtool") as listening:
        await listening.until("thought")
    await gone(standin)


async def test_leaving_with_a_full_buffer(relay: Relay, standin: StandIn) -> None:
    """The client stopped reading long before, and everything between is full."""
    async with relay.asking("!endless") as listening:
        await listening.until("chunk")
        ask = standin.asks[0]
        before = -1
        while ask.frames != before:  # until backpressure has reached the stand-in
            before = ask.frames
            await asyncio.sleep(0.2)
    await gone(standin)


async def test_leaving_while_the_connection_is_made(start_relay: StartRelay) -> None:
    """AnythingLLM's machine does not even answer the handshake: the stream ends with its client."""
    with unanswered() as url:
        relay = await start_relay(anythingllm_base_url=url)
        async with relay.asking("hi"):
            assert len(relay.app[STREAMS]) == 1
        await relay.idle()


async def test_a_reset_is_leaving_too(relay: Relay, standin: StandIn) -> None:
    """A client that vanishes with RST leaves as one that closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
    writer.write(raw_request("!silent"))
    await reader.readuntil(b": ping\n")
    linger = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()
    await gone(standin)


async def test_a_client_that_has_said_all_and_closes_its_side_has_left(
    relay: Relay, standin: StandIn
) -> None:
    """A half-closed connection is nobody's reader."""
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
    writer.write(raw_request("!silent"))
    await reader.readuntil(b": ping\n")
    writer.write_eof()
    await gone(standin)
    writer.close()
    await writer.wait_closed()


async def test_leaving_after_rubbish(relay: Relay, standin: StandIn) -> None:
    """What is no HTTP waits to be refused after the stream; of what follows nothing is kept."""
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
    writer.write(raw_request("!silent"))
    await reader.readuntil(b": ping\n")
    for _ in range(100):
        writer.write(bytes(100_000))
        await writer.drain()
    (connection,) = [one for one in relay.served if one._messages]
    assert len(connection._messages) == 1
    writer.transport.abort()
    await gone(standin)


async def test_five_hundred_leave_together_and_the_next_is_served(
    relay: Relay, standin: StandIn
) -> None:
    """Leaving in a crowd is leaving all the same."""
    client = aiohttp.ClientSession(relay.url, connector=aiohttp.TCPConnector(limit=0))
    responses = await asyncio.gather(
        *[client.post("/stream-ask", json={"question": "!silent"}) for _ in range(500)]
    )
    asks = [await standin.next_ask() for _ in responses]
    for response in responses:
        response.close()
    await client.close()
    async with asyncio.timeout(PROMPTLY):
        for ask in asks:
            await ask.ended.wait()
    assert {ask.outcome for ask in asks} == {"left"}
    assert (await relay.ask("!tokens=1")).end["reason"] == "complete"


async def test_a_client_that_takes_nothing_is_dropped(
    start_relay: StartRelay, standin: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    """After RELAY_SEND_TIMEOUT without a byte its connection is aborted, and AnythingLLM let go."""
    caplog.set_level("INFO", logger="relay")
    relay = await start_relay(relay_send_timeout=0.2)
    async with relay.asking("!endless"):  # it reads no further
        await gone(standin)
        await relay.idle()
    assert vars(caplog.records[-1])["fields"]["outcome"] == "stuck"


async def test_a_client_that_does_not_take_the_end_is_dropped(
    start_relay: StartRelay, caplog: pytest.LogCaptureFixture
) -> None:
    """Also when the whole answer is written, and only the last of it waits."""
    caplog.set_level("INFO", logger="relay")
    relay = await start_relay(relay_send_timeout=0.3, send_buffer=4096)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", relay.port))
        client.sendall(raw_request("!line=60000"))  # and reads nothing
        while not caplog.records:
            await asyncio.sleep(0.01)
    assert vars(caplog.records[-1])["fields"]["outcome"] == "stuck"


async def test_closing_one_side_with_a_full_buffer_is_leaving(
    start_relay: StartRelay, standin: StandIn
) -> None:
    """What the client never takes does not keep AnythingLLM at work."""
    relay = await start_relay(send_buffer=4096)
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.port, limit=1024)
    writer.write(raw_request("!endless"))
    await reader.readuntil(b": ping\n")
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    while not standin.asks:
        await asyncio.sleep(0)
    ask, before = standin.asks[0], -1
    while ask.frames != before:  # until backpressure has reached the stand-in
        before = ask.frames
        await asyncio.sleep(0.2)
    writer.write_eof()
    await gone(standin)
    writer.transport.abort()


async def test_nobody_who_closed_one_side_is_kept(start_relay: StartRelay) -> None:
    """Whatever waits for it at that moment, little or much, the connection is let go too."""
    relay = await start_relay(send_buffer=8192)
    clients = [socket.socket() for _ in range(20)]
    for client in clients:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", relay.port))
        client.sendall(raw_request("!endless"))
    await asyncio.sleep(0.3)  # until much waits for each
    for client in clients:
        client.shutdown(socket.SHUT_WR)
    async with asyncio.timeout(PROMPTLY):
        while relay.connections:
            await asyncio.sleep(0.01)
    for client in clients:
        client.close()


async def test_a_client_that_takes_nothing_costs_nothing(
    start_relay: StartRelay, standin: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The relay looks at it a few times until it is given up, also when a comment is overdue."""
    looks = 0
    left = EventStreamResponse._left

    def counted(response: EventStreamResponse) -> int:
        nonlocal looks
        looks += 1
        return left(response)

    monkeypatch.setattr(EventStreamResponse, "_left", counted)
    relay = await start_relay(relay_send_timeout=0.8, relay_heartbeat=0.2)
    async with relay.asking("!endless"):  # it reads no further
        await gone(standin)
        await relay.idle()
    assert 3 <= looks <= 200  # a busy loop would look tens of thousands of times


async def test_a_client_that_closes_on_final_end_was_served(
    relay: Relay, caplog: pytest.LogCaptureFixture
) -> None:
    """It has all there is: that it does not wait for the end of the body is no leaving."""
    caplog.set_level("INFO", logger="relay")
    for _ in range(20):
        async with relay.asking("!tokens=2") as listening:
            await listening.until("final_end")
    await relay.idle()
    outcomes = [vars(record)["fields"]["outcome"] for record in caplog.records]
    assert outcomes == ["complete"] * 20


async def test_a_client_that_is_slow_is_kept(start_relay: StartRelay) -> None:
    """A few bytes now and then are a sign of life: no limit on the whole applies."""
    relay = await start_relay(relay_send_timeout=2, send_buffer=4096)
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.port, limit=1024)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    writer.write(raw_request("!line=300000"))
    received = b""
    while not received.endswith(b"\r\n0\r\n\r\n"):
        data = await reader.read(1024)
        assert data, "the relay dropped a living client"
        received += data
        await asyncio.sleep(0.003)  # in all more than twice the limit
    assert received.count(b"event: final_end") == 1
    assert len(received) > 300_000
    writer.close()
    await writer.wait_closed()


async def test_after_a_finished_answer_the_connection_is_used_again(
    relay: Relay, standin: StandIn
) -> None:
    """Only a connection that was read to its end is pooled."""
    for _ in range(3):
        await relay.ask("!tokens=1")
        await relay.idle()
    assert {ask.connection for ask in standin.asks} == {1}


@pytest.mark.parametrize("question", ["!nofinalize", "!stall"])
async def test_after_any_other_end_the_connection_is_closed(
    start_relay: StartRelay, standin: StandIn, question: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is still to come on it would be taken for the next answer."""
    monkeypatch.setattr("relay.frames.GRACE", 0.1)
    relay = await start_relay(anythingllm_idle_timeout=0.1)
    await relay.ask(question)
    assert (await relay.ask("!tokens=2")).text == "tok1 tok2"
    assert [ask.connection for ask in standin.asks] == [1, 2]


def test_settings_of_the_tests_are_those_of_a_newcomer() -> None:
    """The promptness above is not bought with settings of the tests' own."""
    assert settings().relay_heartbeat == 15
    assert settings().relay_send_timeout == 30
