"""Where several workers take their clients from: each has its share of those that come at once."""

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any, Final

from aiohttp import web

# Seconds in which who waits is left to workers with fewer: they are as awake as we are, or busy.
_OTHERS_FIRST: Final = 0.002
# Seconds until it is tried again to take a client for whom there was no room.
_FULL: Final = 1.0

log = logging.getLogger(__name__)


class Door:
    """Lets clients in one by one, and leaves them to workers that have fewer, where those take them.

    An event loop's own server takes all that wait. The worker that woke first would have nearly all of
    those that come together, for as long as they stay.
    """

    def __init__(
        self,
        sockets: list[socket.socket],
        runner: web.AppRunner,
        others_have_fewer: Callable[[int], bool],
    ) -> None:
        """Take clients from `sockets` to the server of `runner`.

        `others_have_fewer` is told how many clients are here, and tells whether another has fewer.
        """
        self._sockets = sockets
        self._runner = runner
        self._others_have_fewer = others_have_fewer
        self._loop = asyncio.get_running_loop()
        self._entering: set[asyncio.Task[Any]] = set()

    @property
    def clients(self) -> int:
        """How many there are."""
        server = self._runner.server
        return len(self._entering) + (0 if server is None else len(server.connections))

    def open(self) -> None:
        """Let in who comes, until it is closed."""
        for one in self._sockets:
            one.setblocking(False)
            self._loop.add_reader(one, self._come, one)

    def close(self) -> None:
        """Leave who comes to others, for ever."""
        self._lock()
        for one in self._sockets:
            one.close()
        self._sockets = []

    def _lock(self) -> None:
        for one in self._sockets:
            self._loop.remove_reader(one)

    def _lock_for(self, seconds: float) -> None:
        self._lock()
        self._loop.call_later(seconds, self._open_again)

    def _open_again(self) -> None:
        self.open()
        for one in self._sockets:
            self._let_in(one)  # the others had their time

    def _come(self, listening: socket.socket) -> None:
        if self._others_have_fewer(self.clients):
            self._lock_for(_OTHERS_FIRST)
        else:
            self._let_in(listening)

    def _let_in(self, listening: socket.socket) -> None:
        try:
            client, _ = listening.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return  # it is with another worker, or gone
        except OSError as error:  # no descriptor is left, say
            log.error("no connection can be taken: %s", error.strerror)
            self._lock_for(_FULL)
            return
        client.setblocking(False)
        entering = asyncio.ensure_future(self._enter(client))
        self._entering.add(entering)
        entering.add_done_callback(self._entering.discard)

    async def _enter(self, client: socket.socket) -> None:
        server = self._runner.server
        try:
            if server is not None:
                await self._loop.connect_accepted_socket(server, client)
        except OSError:
            client.close()  # gone already: nobody needs to know
