"""Serving: sockets, signals, and a stop that cuts nobody off."""

import asyncio
import errno
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import Final

from aiohttp import web

from relay.connections import Connections
from relay.handlers import STREAMS

_LOCALHOST: Final = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))
_FROM_HERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (every interface, seen from inside)
_BACKLOG: Final = 1024
_NOT_HERE: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)  # a machine without IPv6, say
# Seconds for connections to end once their streams are over.
_CLOSING: Final = 1.0

log = logging.getLogger(__name__)


class CannotListen(Exception):
    """The address cannot be had; the text is one line for a person."""


async def serve(
    app: web.Application,
    host: str,
    port: int,
    *,
    max_connections: int,
    grace: float,
    ready: Callable[[str], None],
) -> None:
    """Serve until SIGINT or SIGTERM, then drain for at most `grace` seconds.

    Calls `ready` with the relay's URL once it can be asked. A second signal ends the process at once,
    with status 1. Raises CannotListen.
    """
    sockets = listen(host, port)
    runner = Runner(app, max_connections=max_connections)
    try:
        await runner.setup()
        for one in sockets:
            await web.SockSite(runner, one, backlog=_BACKLOG).start()
        stop = _stop_signal()
        ready(_url(sockets[0]))
        await stop.wait()
        log.info("stopping", extra={"fields": {"open_streams": len(app[STREAMS]), "grace_s": grace}})
        await app[STREAMS].drain(grace)
    finally:
        await runner.cleanup()
        for one in sockets:  # those that no site has closed
            one.close()


class Runner(web.AppRunner):
    """Runs the relay as it must be run: connections have limits, and a client's leaving is noticed."""

    def __init__(self, app: web.Application, *, max_connections: int) -> None:
        super().__init__(app, handler_cancellation=True, shutdown_timeout=_CLOSING)
        self._max_connections = max_connections

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        # A body is not unpacked before it is refused for being packed: it may be a bomb.
        return Connections(made, limit=self._max_connections, access_log=None, auto_decompress=False)


def listen(host: str, port: int) -> list[socket.socket]:
    """Open the listening sockets: `localhost` is 127.0.0.1 and ::1, on one port. Raises CannotListen."""
    sockets: list[socket.socket] = []
    try:
        for family, address in _addresses(host):
            try:
                one = socket.create_server((address, port), family=family, backlog=_BACKLOG)
            except OSError as error:
                if sockets and error.errno in _NOT_HERE:
                    continue
                raise CannotListen(_why(error, address, port)) from None
            sockets.append(one)
            port = one.getsockname()[1]  # where any free port would do, all take the first one's
    except CannotListen:
        for one in sockets:
            one.close()
        raise
    return sockets


def _addresses(host: str) -> list[tuple[socket.AddressFamily, str]]:
    if host == "localhost":
        return list(_LOCALHOST)
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):  # the latter for a name that cannot be one, such as a..b
        raise CannotListen(f"RELAY_HOST: {host} is not an address of this machine.") from None
    return list(dict.fromkeys((family, str(address[0])) for family, _, _, _, address in found))


def _why(error: OSError, address: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        message = f"Port {port} is taken; choose another with --port or RELAY_PORT."
        if sys.platform == "darwin" and port == 5000:
            message += " (On macOS it is often AirPlay: System Settings, AirDrop & Handoff.)"
        return message
    if error.errno == errno.EACCES:
        return f"Port {port} may not be used; choose another with --port or RELAY_PORT."
    return f"Cannot listen on {address} port {port}: {os.strerror(error.errno or 0)} (RELAY_HOST)."


def _url(one: socket.socket) -> str:
    address, port = one.getsockname()[:2]
    address = _FROM_HERE.get(address, address)
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"


def _stop_signal() -> asyncio.Event:
    stop = asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            os._exit(1)
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, on_signal)
        except NotImplementedError:  # Windows: Ctrl-C is a KeyboardInterrupt there
            break
    return stop
