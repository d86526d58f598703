"""Serving, and the stop."""

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from relay.app import create_app
from relay.server import serve
from relay.sockets import listen
from relay.standin import StandIn
from tests.running import Listening, settings

LOOPBACK = "127.0.0.1"


def _ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not _ipv6(), reason="this machine has no IPv6")
needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="no signals for the event loop")


@asynccontextmanager
async def serving(app: web.Application, host: str = LOOPBACK) -> AsyncIterator[str]:
    """Serve in this process and yield the URL; leaving waits for the end, so stop it first."""
    url: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(serve(app, host, 0, max_connections=100, grace=20, ready=url.set_result))
        yield await url


def relay(standin: StandIn) -> web.Application:
    return create_app(settings(anythingllm_base_url=standin.url))


def stop() -> None:
    """Send this process what a service manager sends; only while it serves."""
    signal.raise_signal(signal.SIGTERM)


@needs_signals
@pytest.mark.parametrize("host", [LOOPBACK, pytest.param("::1", marks=needs_ipv6), "localhost"])
async def test_url_can_be_asked(standin: StandIn, host: str) -> None:
    """The URL that is told is one a client can use, an IPv6 address in brackets included."""
    async with serving(relay(standin), host) as url, aiohttp.ClientSession() as client:
        async with client.get(f"{url}/healthz") as response:
            assert response.status == 200
        assert ("[::1]" in url) == (host == "::1")
        stop()


@needs_signals
async def test_stream_finishes_first(standin: StandIn) -> None:
    """On plain asyncio too, a stream ends well within the grace, and the sockets are gone after it."""
    async with serving(relay(standin)) as url, aiohttp.ClientSession() as client:
        body = {"question": "!tokens=5 !slow=0.05"}
        async with client.post(f"{url}/stream-ask", json=body) as response:
            listening = Listening(response)
            await listening.until("chunk")
            stop()
            heard = await listening.rest()
        assert heard.end["reason"] == "complete"
    with pytest.raises(aiohttp.ClientConnectorError):
        async with aiohttp.ClientSession() as client:
            await client.get(url)


async def test_failed_start_closes_the_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the relay cannot start after all, the port is free again."""
    opened: list[socket.socket] = []
    monkeypatch.setattr("relay.server.listen", remembering(listen, opened))
    with pytest.raises(RuntimeError, match="no start"):
        await serve(unable_to_start(), "localhost", 0, max_connections=100, grace=0, ready=print)
    assert [one.fileno() for one in opened] == [-1] * len(opened)
    assert opened


def unable_to_start() -> web.Application:
    async def fail(_: web.Application) -> None:
        raise RuntimeError("no start")

    app = web.Application()
    app.on_startup.append(fail)
    return app


def remembering(
    opens: Callable[..., list[socket.socket]], opened: list[socket.socket]
) -> Callable[..., list[socket.socket]]:
    """Listen, and keep the sockets where the test can look at them."""

    def listening(*where: Any) -> list[socket.socket]:
        opened.extend(opens(*where))
        return opened

    return listening
