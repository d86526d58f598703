"""Serving: which sockets are opened, what is said when they cannot be, and the stop."""

import asyncio
import errno
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from relay.app import create_app
from relay.server import CannotListen, listen, serve
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


@pytest.fixture
def open_sockets() -> Iterator[list[socket.socket]]:
    """Sockets that are closed when the test is over."""
    sockets: list[socket.socket] = []
    yield sockets
    for one in sockets:
        one.close()


def taken(family: socket.AddressFamily, address: str) -> socket.socket:
    return socket.create_server((address, 0), family=family)


def port_of(one: socket.socket) -> int:
    port: int = one.getsockname()[1]
    return port


def refusal(host: str, port: int = 0) -> str:
    """Listen where that cannot be; return what is said, which is one line."""
    with pytest.raises(CannotListen) as caught:
        listen(host, port)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def failing(
    monkeypatch: pytest.MonkeyPatch, number: int, family: socket.AddressFamily | None = None
) -> None:
    """Make opening sockets (of one family) fail as the system would."""
    create = socket.create_server

    def create_server(address: Any, **kwargs: Any) -> socket.socket:
        if family in (None, kwargs["family"]):
            raise OSError(number, os.strerror(number))
        return create(address, **kwargs)

    monkeypatch.setattr(socket, "create_server", create_server)


# Listening


@needs_ipv6
def test_localhost_is_both_families(open_sockets: list[socket.socket]) -> None:
    """`localhost` is 127.0.0.1 and ::1 on one port: it does not matter which one an editor takes."""
    open_sockets += listen("localhost", 0)
    addresses = [one.getsockname()[:2] for one in open_sockets]
    port = port_of(open_sockets[0])
    assert addresses == [(LOOPBACK, port), ("::1", port)]
    for address in addresses:
        socket.create_connection(address).close()


def test_localhost_without_ipv6(
    monkeypatch: pytest.MonkeyPatch, open_sockets: list[socket.socket]
) -> None:
    """Where there is no ::1, `localhost` is 127.0.0.1 alone."""
    failing(monkeypatch, errno.EADDRNOTAVAIL, socket.AF_INET6)
    open_sockets += listen("localhost", 0)
    assert [one.getsockname()[0] for one in open_sockets] == [LOOPBACK]


def test_one_address(open_sockets: list[socket.socket]) -> None:
    """An address is listened at, and no other."""
    open_sockets += listen(LOOPBACK, 0)
    assert [one.getsockname()[0] for one in open_sockets] == [LOOPBACK]


def test_port_taken(open_sockets: list[socket.socket]) -> None:
    """A taken port is named, with the way out."""
    open_sockets.append(taken(socket.AF_INET, LOOPBACK))
    port = port_of(open_sockets[0])
    for host in ("localhost", LOOPBACK):
        assert refusal(host, port) == f"Port {port} is taken; choose another with --port or RELAY_PORT."


@needs_ipv6
def test_port_half_taken(open_sockets: list[socket.socket]) -> None:
    """A port taken in one family is taken; the socket that was opened in the other is closed."""
    open_sockets.append(taken(socket.AF_INET6, "::1"))
    port = port_of(open_sockets[0])
    assert f"Port {port} is taken" in refusal("localhost", port)
    open_sockets += listen(LOOPBACK, port)  # free again


def test_port_5000_on_macos(monkeypatch: pytest.MonkeyPatch) -> None:
    """On macOS, AirPlay is named, which holds 5000; for other ports it is not."""
    failing(monkeypatch, errno.EADDRINUSE)
    assert "AirPlay" not in refusal(LOOPBACK, 5000) or sys.platform == "darwin"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert "AirPlay" in refusal(LOOPBACK, 5000)
    assert "AirPlay" not in refusal(LOOPBACK, 5001)


def test_privileged_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that needs more rights is told with one that needs none."""
    failing(monkeypatch, errno.EACCES)
    message = "Port 80 may not be used; choose another with --port or RELAY_PORT."
    assert refusal("localhost", 80) == message


@pytest.mark.parametrize("host", ["nowhere.invalid", "a..b", "a" * 64])
def test_unknown_host(host: str) -> None:
    """A name that cannot be found, or cannot be a name, is told with its setting."""
    assert refusal(host) == f"RELAY_HOST: {host} is not an address of this machine."


def test_address_of_another_machine() -> None:
    """An address that no interface has is told with its setting."""
    message = refusal("192.0.2.1", 5000)  # reserved for documentation
    assert message.startswith("Cannot listen on 192.0.2.1 port 5000: ")
    assert "RELAY_HOST" in message


# Serving


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
    opens: Callable[[str, int], list[socket.socket]], opened: list[socket.socket]
) -> Callable[[str, int], list[socket.socket]]:
    """Listen, and keep the sockets where the test can look at them."""

    def listening(host: str, port: int) -> list[socket.socket]:
        opened.extend(opens(host, port))
        return opened

    return listening
