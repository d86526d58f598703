"""Sockets: which are opened, with which options, and what is said when they cannot be."""

import errno
import os
import socket
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from relay.sockets import CannotListen, listen, to_anythingllm
from tests.test_server import LOOPBACK, needs_ipv6


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


# Options


def test_little_is_kept_for_a_client_that_does_not_read(open_sockets: list[socket.socket]) -> None:
    """Every connection has the options of the socket it came to."""
    open_sockets += listen(LOOPBACK, 0)
    open_sockets.append(socket.create_connection((LOOPBACK, port_of(open_sockets[0]))))
    connection, _ = open_sockets[0].accept()
    open_sockets.append(connection)
    assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) <= 2 * 64 * 1024


def test_little_is_kept_of_what_is_not_read_yet(open_sockets: list[socket.socket]) -> None:
    """And a machine that vanished in silence is noticed, where no limit on silence is set."""
    address = (socket.AF_INET, socket.SOCK_STREAM, 0, "", (LOOPBACK, 1))
    open_sockets.append(to_anythingllm(address))
    assert open_sockets[0].getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) <= 2 * 64 * 1024
    assert open_sockets[0].getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
