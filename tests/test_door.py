"""How several workers share those who come: here, two doors before the same sockets."""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from relay import door
from relay.door import Door
from relay.server import Runner
from relay.sockets import listen


@asynccontextmanager
async def house(
    name: str, sockets: list[socket.socket], others_have_fewer: Callable[[int], bool]
) -> AsyncIterator[Door]:
    """Answer with a name whoever comes through the door; it is still to be opened."""

    async def tell(_: web.Request) -> web.Response:
        return web.Response(text=name)

    app = web.Application()
    app.router.add_get("/", tell)
    runner = Runner(app, max_connections=100)
    await runner.setup()
    one = Door(sockets, runner, others_have_fewer)
    try:
        yield one
    finally:
        one.close()
        await runner.cleanup()


async def ask(port: int) -> str:
    async with aiohttp.ClientSession() as client, client.get(f"http://127.0.0.1:{port}/") as response:
        return await response.text()


async def test_who_comes_is_left_to_those_with_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as there is somebody who takes them; if not, they are let in all the same."""
    sockets = listen("127.0.0.1", 0)
    port = sockets[0].getsockname()[1]
    seen = []

    def fewer(clients: int) -> bool:
        seen.append(clients)
        return True

    async with house("full", [one.dup() for one in sockets], fewer) as full:
        full.open()
        assert await ask(port) == "full"
        assert seen == [0]
        monkeypatch.setattr(door, "_OTHERS_FIRST", 3600)
        async with house("free", sockets, lambda _: False) as free:
            free.open()
            assert [await ask(port) for _ in range(20)] == ["free"] * 20


async def test_clients_are_counted() -> None:
    """From the moment they are let in until they are gone."""
    sockets = listen("127.0.0.1", 0)
    async with house("here", sockets, lambda _: False) as here:
        here.open()
        assert here.clients == 0
        _, writer = await asyncio.open_connection(*sockets[0].getsockname())
        while here.clients != 1:
            await asyncio.sleep(0.01)
        writer.close()
        await writer.wait_closed()
        while here.clients:
            await asyncio.sleep(0.01)


async def test_a_closed_door_leaves_who_comes_to_others() -> None:
    """Those who knocked before another opened too."""
    sockets = listen("127.0.0.1", 0)
    port = sockets[0].getsockname()[1]
    async with house("old", [one.dup() for one in sockets], lambda _: False) as old:
        old.open()
        old.close()
        asking = asyncio.create_task(ask(port))
        await asyncio.sleep(0.05)
        async with house("new", sockets, lambda _: False) as new:
            new.open()
            assert await asking == "new"


async def test_who_finds_no_room_waits(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the process may open no more files it says so, and tries again later."""
    monkeypatch.setattr(door, "_FULL", 0.05)

    class Full(socket.socket):
        tries = 0

        def accept(self) -> Any:
            Full.tries += 1
            if Full.tries < 3:
                raise OSError(errno.EMFILE, "Too many open files")
            return super().accept()

    (one,) = listen("127.0.0.1", 0)
    port = one.getsockname()[1]
    async with house("here", [Full(fileno=one.detach())], lambda _: False) as here:
        here.open()
        assert await ask(port) == "here"
    assert caplog.messages.count("no connection can be taken: Too many open files") == 2
