"""An upstream, a peer in front of it, and what the scenarios do with both."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from bench import client, cpu, memory
from bench.client import Connection, Target
from bench.hear import Heard, Reads, Spoilt, hear
from bench.order import Order
from bench.roster import Peer, upstream_running

PATIENCE: Final = 120.0
"""Seconds that a peer gets for a step of a scenario."""
_WARM: Final = (256, 16)  # requests before anything is measured, on so many connections


class Failed(Exception):
    """A peer could not do what the scenario asks; the text says what happened."""


@dataclass(slots=True)
class Stage:
    """What a scenario has to do with."""

    target: Target
    pid: int
    upstream: int
    """The upstream's port."""
    upstream_pid: int

    def cpu(self) -> int:
        """CPU time of the peer so far, in ns."""
        return cpu.used(self.pid)

    def memory(self) -> int:
        """Memory of the peer in bytes."""
        return memory.resident(self.pid)

    async def stats(self) -> dict[str, Any]:
        """What the upstream knows: see `bench.upstream.Upstream.stats`."""
        stats: dict[str, Any] = json.loads(await self._steer("GET", "/stats"))
        return stats

    async def go(self) -> None:
        """Let all streams go on that wait for it."""
        await self._steer("POST", "/go")

    async def open(
        self, count: int, order: Order
    ) -> tuple[list[Connection], list[asyncio.Future[Reads]]]:
        """Ask on so many new connections, and wait until the upstream holds all those streams."""
        request = self.target.request(order)
        held = (await self.stats())["held"]
        connections, answers = list[Connection](), list[asyncio.Future[Reads]]()
        while len(connections) < count:
            some = await client.connect_many(self.target, min(64, count - len(connections)))
            connections += some
            answers += [one.ask(request) for one in some]
        await self.until(lambda stats: stats["held"] >= held + count, f"{count} streams were not opened")
        await wait_for(
            lambda: all(one.heard for one in connections), "streams were opened without a first piece"
        )
        return connections, answers

    async def until(self, true: Callable[[dict[str, Any]], bool], otherwise: str) -> None:
        """Wait until something is true of the upstream. Raises Failed."""

        async def look() -> bool:
            return true(await self.stats())

        await wait_for(look, otherwise)

    async def finish(self, answers: list[asyncio.Future[Reads]]) -> list[Reads]:
        """Wait for answers. Raises Failed."""
        try:
            async with asyncio.timeout(PATIENCE):
                return await asyncio.gather(*answers)
        except TimeoutError:
            left = sum(not answer.done() for answer in answers)
            raise Failed(f"{left} of {len(answers)} streams had no end after {PATIENCE:.0f} s") from None

    async def short(self, times: int, at_once: int, order: Order) -> list[Reads]:
        """Ask so many times, at so many connections."""
        connections = await client.connect_many(self.target, at_once)
        try:
            async with asyncio.timeout(PATIENCE):
                return await client.ask_all(self.target, order, times, connections)
        except TimeoutError:
            raise Failed(f"{times} short answers were not done after {PATIENCE:.0f} s") from None
        finally:
            for one in connections:
                one.close()

    def hear(self, answers: list[Reads]) -> list[Heard]:
        """Look into all answers. Raises Failed if the text of one is not whole."""
        heard, spoilt = list[Heard](), list[str]()
        for reads in answers:
            try:
                heard.append(hear(reads, self.target.form))
            except Spoilt as error:
                spoilt.append(str(error))
        if spoilt:
            raise Failed(f"{len(spoilt)} of {len(answers)} streams were bad: {spoilt[0]}")
        return heard

    async def _steer(self, method: str, path: str) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.upstream)
        try:
            writer.write(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            size = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
            return await reader.readexactly(size)
        finally:
            writer.close()


async def wait_for(true: Callable[[], bool | Awaitable[bool]], otherwise: str) -> None:
    """Look again and again until it is true. Raises Failed after `PATIENCE`."""
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                result = true()
                if result if isinstance(result, bool) else await result:
                    return
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise Failed(f"{otherwise} after {PATIENCE:.0f} s") from None


@asynccontextmanager
async def stage(peer: Peer, streams: int) -> AsyncIterator[Stage]:
    """Start an upstream and a peer for so many streams, warmed up. Raises CannotStart, Failed."""
    async with (
        upstream_running() as (port, upstream_pid),
        peer.running(port, streams) as (target, pid),
    ):
        made = Stage(target, pid, port, upstream_pid)
        made.hear(await made.short(*_WARM, Order()))
        yield made
