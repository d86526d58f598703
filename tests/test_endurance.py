"""A relay process under many streams, for long: what it keeps, and whom it keeps waiting."""

import asyncio
import json
import random
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from relay.sockets import raise_descriptor_limit
from relay.standin import StandIn
from tests.program import Program, spawn, upstream

MIB = 2**20
KIB = 2**10
END = b"\r\n0\r\n\r\n"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        sys.platform != "linux", reason="reads the memory of a process where Linux tells it"
    ),
]

Start = Callable[..., Awaitable[Program]]


@pytest.fixture
async def relay(nothing_left_over: None, standin: StandIn, tmp_path: Path) -> AsyncIterator[Start]:
    """Start a relay process in front of the stand-in; keyword arguments are its settings."""
    raise_descriptor_limit()
    async with AsyncExitStack() as stack:

        async def start(**env: str) -> Program:
            settings = {**upstream(standin.url), "RELAY_PORT": "0", "RELAY_LOG_LEVEL": "error", **env}
            program = await spawn(tmp_path, (), settings)
            stack.push_async_callback(program.kill)
            await program.says("Try it")
            return program

        yield start


def port_of(program: Program) -> int:
    return int(program.url.rpartition(":")[2])


def request(question: str) -> bytes:
    body = json.dumps({"question": question}).encode()
    head = "POST /stream-ask HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def resident(program: Program) -> int:
    """Bytes of memory that the process holds."""
    status = Path(f"/proc/{program.pid}/status").read_text()
    found = re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
    assert found
    return int(found[1]) * KIB


async def metric(program: Program, name: str) -> float:
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(program))
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    text = (await reader.read()).decode()
    writer.close()
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(f"{name} "))


async def no_stream_left(program: Program) -> None:
    while await metric(program, "relay_streams_active"):
        await asyncio.sleep(0.05)


async def test_readers_that_never_read_cost_little_and_keep_nobody_waiting(
    relay: Start, standin: StandIn
) -> None:
    """AnythingLLM has 20 MB for each of two hundred; a reader beside them hears its own as ever."""
    program = await relay(RELAY_SEND_TIMEOUT="8")
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(program))
    writer.write(request("!endless !slow=0.05"))
    gaps: list[float] = []

    async def listen() -> None:
        loop = asyncio.get_running_loop()
        last: float | None = None
        while True:
            await reader.readuntil(b"event: chunk")
            if last is not None:
                gaps.append(loop.time() - last)
            last = loop.time()

    listening = asyncio.create_task(listen())
    before = resident(program)
    stuck = []
    for _ in range(200):
        one = socket.socket()
        one.setblocking(True)
        one.connect(("127.0.0.1", port_of(program)))
        one.sendall(request("!burst=200000"))
        stuck.append(one)
        await asyncio.sleep(0)
    most = 0
    while await metric(program, 'relay_clients_dropped_total{reason="stuck"}') < 200:
        most = max(most, resident(program))
        await asyncio.sleep(0.1)
    assert most - before < 200 * 500 * KIB
    assert await metric(program, "relay_streams_active") == 1
    listening.cancel()
    await asyncio.wait([listening])
    assert len(gaps) > 50
    assert max(gaps) < 8  # who waits for a stuck reader waits until it is dropped
    writer.close()
    for one in stuck:
        one.close()
    await no_stream_left(program)
    assert {ask.outcome for ask in standin.asks} == {"left"}
    print(f"a stuck reader: {(most - before) / 200 / KIB:.0f} KiB; longest gap: {max(gaps):.3f} s")  # noqa: T201


async def test_memory_does_not_grow_with_streams(relay: Start, standin: StandIn) -> None:
    """Twenty thousand short ones, a third left at a random point: the second half adds nothing."""
    program = await relay(RELAY_MAX_STREAMS="64")
    chance = random.Random(20_000)

    async def ask_and_leave() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(program))
        writer.write(request("!tokens=5"))
        for _ in range(chance.randrange(12)):  # none of the head, up to most of the answer
            await reader.readline()
        writer.close()

    async def ask_many(count: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(program))
        for _ in range(count):
            if not chance.randrange(3):
                await ask_and_leave()
            else:
                writer.write(request("!tokens=5"))
                answer = await reader.readuntil(END)
                assert answer.count(b"event: final_end") == 1
        writer.close()

    async def ask(count: int) -> int:
        await asyncio.gather(*[ask_many(count // 16) for _ in range(16)])
        await no_stream_left(program)
        return resident(program)

    half = await ask(10_000)
    whole = await ask(10_000)
    assert whole - half < max(0.05 * half, 4 * MIB)
    assert {ask.outcome for ask in standin.asks} <= {"complete", "left"}
    while standin.connections:  # pooled ones go when they were not used for a while
        await asyncio.sleep(0.05)
    print(f"after 10,000 streams: {half / MIB:.1f} MiB, after 20,000: {whole / MIB:.1f} MiB")  # noqa: T201


async def test_a_thousand_streams_are_told_of_the_stop(relay: Start, standin: StandIn) -> None:
    """Each has its end, and the end of its body."""
    program = await relay(RELAY_SHUTDOWN_GRACE="0.5")

    async def ask() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(program))
        writer.write(request("!tokens=9 !pause=3600"))
        try:
            return await reader.read()
        finally:
            writer.close()

    asking = [asyncio.create_task(ask()) for _ in range(1000)]
    for _ in asking:
        await (await standin.next_ask()).first_frame.wait()
    program.signal(signal.SIGTERM)
    answers = await asyncio.gather(*asking)
    assert sum(answer.count(b"event: final_end") for answer in answers) == 1000
    assert sum(b'"reason":"shutdown"' in answer for answer in answers) == 1000
    assert sum(answer.endswith(END) for answer in answers) == 1000
    assert await program.ended() == 0
