"""Two relays of four workers on one Redis, and the death of what an answer hangs on."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

import aiohttp
import pytest

from relay.standin import StandIn
from tests.program import Program, asking, spawn, upstream
from tests.redis_server import RedisServer
from tests.running import Heard, Listening, Told

WORKERS: Final = 4
# A guard against hanging: far more than it takes to find out that a process is gone.
SOON: Final = 30.0

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is one process only")


class Site(NamedTuple):
    """A relay, and the ids of its workers."""

    program: Program
    pids: list[int]


Start = Callable[[], Awaitable[Site]]


@pytest.fixture
async def start(
    nothing_left_over: None, tmp_path: Path, redis: RedisServer, standin: StandIn
) -> AsyncIterator[Start]:
    """Start relays in front of the stand-in, which share one Redis."""
    async with AsyncExitStack() as stack:

        async def start() -> Site:
            shared = {"RELAY_PORT": "0", "RELAY_WORKERS": str(WORKERS), "RELAY_REDIS_URL": redis.url}
            program = await spawn(tmp_path, (), upstream(standin.url) | shared)
            stack.push_async_callback(end, program)
            lines = [await program.logs("worker started") for _ in range(WORKERS)]
            await program.says("Try it")
            return Site(program, [int(line.rpartition("pid=")[2]) for line in lines])

        yield start


async def end(program: Program) -> None:
    with suppress(ProcessLookupError):
        program.signal_group(signal.SIGKILL)
    await program.ended()


@asynccontextmanager
async def at_home(site: Site, question: str) -> AsyncIterator[Listening]:
    """Ask the first worker of a relay."""
    async with AsyncExitStack() as stack:
        for other in site.pids[1:]:
            os.kill(other, signal.SIGSTOP)
        try:
            resumable = asking(site.program, question, headers={"Idempotency-Key": "key"})
            listening = await stack.enter_async_context(resumable)
        finally:
            for other in site.pids[1:]:
                os.kill(other, signal.SIGCONT)
        yield listening


@asynccontextmanager
async def following(site: Site, stream: str, after: int) -> AsyncIterator[Listening]:
    """Come back, to whichever worker takes it."""
    headers = {"Last-Event-ID": str(after)}
    async with (
        aiohttp.ClientSession(site.program.url) as client,
        client.get(f"/streams/{stream}", headers=headers) as response,
    ):
        assert response.status == 200, await response.text()
        yield Listening(response)


async def status(site: Site, stream: str, after: int) -> int:
    async with (
        aiohttp.ClientSession(site.program.url) as client,
        client.get(f"/streams/{stream}?after={after}") as response,
    ):
        return response.status


def last(heard: list[Told]) -> int:
    return int(heard[-1].id)


async def few(listening: Listening) -> list[Told]:
    return [await listening.until("chunk") for _ in range(5)]


async def test_a_client_that_loses_workers_and_a_relay_has_every_event_once(
    start: Start, standin: StandIn
) -> None:
    """What runs in one process is read through others, which die one after the other."""
    home, other = await start(), await start()
    async with at_home(home, "!tokens=200 !slow=0.05") as listening:
        heard = await few(listening)
    stream = listening.stream_id
    async with following(other, stream, last(heard)) as reading:
        heard += await few(reading)
        for pid in other.pids:
            os.kill(pid, signal.SIGKILL)
        with suppress(aiohttp.ClientError):
            while (told := await reading.next()) is not None:
                heard.append(told)
    for _ in other.pids:
        await other.program.logs("worker started")
    async with following(other, stream, last(heard)) as reading:
        heard += await few(reading)
        other.program.signal_group(signal.SIGKILL)
        with suppress(aiohttp.ClientError):
            while (told := await reading.next()) is not None:
                heard.append(told)
    async with following(home, stream, last(heard)) as reading:
        heard += await reading.rest()
    assert [int(told.id) for told in heard] == list(range(1, 202))
    assert Heard(heard).end["reason"] == "complete"
    assert len(standin.asks) == 1


async def test_what_a_worker_has_ended_is_held_when_it_is_gone(start: Start, standin: StandIn) -> None:
    home, other = await start(), await start()
    async with at_home(home, "!tokens=50") as listening:
        heard = await listening.rest()
    async with following(other, listening.stream_id, 0) as reading:
        assert await reading.rest() == heard
    home.program.signal_group(signal.SIGKILL)
    await home.program.ended()
    async with following(other, listening.stream_id, 10) as reading:
        assert await reading.rest() == heard[10:]
    assert len(standin.asks) == 1


async def test_the_readers_of_a_worker_that_dies_are_told(start: Start) -> None:
    """Those elsewhere, and those who come from it, who have heard more; every event once."""
    home, other = await start(), await start()
    async with at_home(home, "!endless !slow=0.02") as listening:
        here = await few(listening)
        async with following(other, listening.stream_id, 0) as reading:
            there = await few(reading)
            os.kill(home.pids[0], signal.SIGKILL)
            with suppress(aiohttp.ClientError):
                while (told := await listening.next()) is not None:
                    here.append(told)
            async with asyncio.timeout(SOON):
                there += await reading.rest()
    for heard in (here, there):
        if heard is here:
            async with following(home, listening.stream_id, last(here)) as reading:
                here += await reading.rest()
        assert Heard(heard).error["code"] == "upstream_truncated"
        assert Heard(heard).error["retryable"] is True
        assert [told.name for told in heard][-3:] == ["chunk", "error", "final_end"]
        numbers = [int(told.id) for told in heard]
        assert numbers == sorted(set(numbers))
        assert numbers[:-2] == list(range(1, len(numbers) - 1))
    assert await status(other, listening.stream_id, last(there)) == 204


async def test_a_worker_that_was_taken_for_dead_ends_its_answer(start: Start, standin: StandIn) -> None:
    """It stood still for so long that its readers elsewhere were told that it is gone."""
    home, other = await start(), await start()
    async with at_home(home, "!endless !slow=0.05") as listening:
        await few(listening)
        async with following(other, listening.stream_id, 0) as reading:
            await few(reading)
            os.kill(home.pids[0], signal.SIGSTOP)
            try:
                async with asyncio.timeout(SOON):
                    assert (await reading.rest()).error["code"] == "upstream_truncated"
            finally:
                os.kill(home.pids[0], signal.SIGCONT)
        async with asyncio.timeout(SOON):
            assert (await listening.rest()).error["code"] == "upstream_truncated"
    ask = await standin.next_ask()
    async with asyncio.timeout(SOON):
        await ask.ended.wait()
    assert ask.outcome == "left"
