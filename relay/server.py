"""Serving: signals, and a stop that cuts nobody off."""

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Final

from aiohttp import web

from relay.connections import Connections
from relay.handlers import STREAMS
from relay.sockets import BACKLOG, listen, url_of

# Objects after which the garbage collector looks at the youngest ones, and how often it does so before
# it looks at older ones and at all. By itself it begins with 700: several times for each short answer.
_COLLECT: Final = (50_000, 20, 20)
# Seconds for connections to end once their streams are over.
_CLOSING: Final = 1.0

log = logging.getLogger(__name__)


async def serve(
    app: web.Application,
    host: str,
    port: int,
    *,
    max_connections: int,
    grace: float,
    ready: Callable[[str], None],
) -> None:
    """Serve until SIGINT, SIGTERM or SIGHUP, then drain for at most `grace` seconds.

    Calls `ready` with the relay's URL once it can be asked. A second signal ends the process at once,
    with status 1. Raises CannotListen.
    """
    sockets = listen(host, port)
    runner = Runner(app, max_connections=max_connections)
    try:
        await runner.setup()
        for one in sockets:
            await web.SockSite(runner, one, backlog=BACKLOG).start()
        stop = _stop_signal()
        tune_collector()
        ready(url_of(sockets[0]))
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


def tune_collector() -> None:
    """Have Python look for cycles seldom: few things here are one, and each look stops all streams."""
    gc.collect()
    gc.freeze()  # what is loaded by now stays
    gc.set_threshold(*_COLLECT)


def _stop_signal() -> asyncio.Event:
    stop = asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            logging.shutdown()
            os._exit(1)
        stop.set()

    loop = asyncio.get_running_loop()
    for number in _stop_signals():
        try:
            loop.add_signal_handler(number, on_signal)
        except NotImplementedError:  # Windows: Ctrl-C is a KeyboardInterrupt there
            break
    return stop


def _stop_signals() -> Iterator[signal.Signals]:
    yield signal.SIGINT
    yield signal.SIGTERM
    # A terminal that closes, or a reload of what has only one process: its streams are told, too.
    if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # by nohup
        yield signal.SIGHUP
