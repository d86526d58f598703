"""More than one process on one port: gunicorn looks after them, aiohttp's worker class serves in each.

The master opens the sockets and makes the memory that all share, forks the workers, and replaces those
that die. What gunicorn does by itself, and a relay must not, is put right here: a signal that cuts
streams, a reload that sends old workers away before new ones serve, clients that all come to one.
"""

import asyncio
import logging
import mmap
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from math import ceil
from types import FrameType
from typing import Any, ClassVar, Final, NoReturn

from aiohttp import web
from aiohttp.worker import GunicornUVLoopWebWorker
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.glogging import Logger

from config.settings import Settings
from relay.app import create_app
from relay.door import Door
from relay.handlers import STREAMS
from relay.metrics import Board, Metrics
from relay.server import Runner, tune_collector
from relay.sockets import listen, url_of

# Workers there may be at the same time, with those of earlier settings whose streams still run.
_ROWS: Final = 1024
# Seconds without a sign of life after which a worker is killed. Its streams are lost then, so it must be
# one that will not come back: a busy one gives a sign every second, and heartbeats are due after 15.
_STALLED: Final = 60
# Seconds beyond the grace that a worker has for its last words, before it is killed.
_LAST_WORDS: Final = 6
# Seconds in which a worker that is told to end finds out whether all do: a service manager, and Ctrl-C,
# signal the workers and the master alike, and who comes first is chance.
_WORD: Final = 0.5
# Seconds in which clients that ask again and again over one connection learn that it ends.
_HANDOVER: Final = 1.0
# Seconds between looks at workers that begin.
_SOON: Final = 0.05
_MEMORY: Final = "/dev/shm"  # noqa: S108 - where files are not on a disk, which a sign of life could wait for
_BEGINS, _SERVES, _LEAVES = range(3)

log = logging.getLogger(__name__)


def serve(
    settings: Settings,
    *,
    reread: Callable[[Settings], Settings | None],
    ready: Callable[[str], None],
) -> NoReturn:
    """Serve with RELAY_WORKERS processes until SIGINT or SIGTERM, then drain and exit with status 0.

    Calls `ready` with the relay's URL once all of them can be asked, and `reread` at a SIGHUP with the
    settings in force: it returns the new ones, or None where those stay. A second signal ends all
    processes at once, with status 1. Raises CannotListen. Workers leave by SystemExit too.
    """
    sockets = listen(settings.relay_host, settings.relay_port)
    _Master(_Relay(settings), sockets, reread, ready).run()
    raise SystemExit  # never comes here


class _Relay(BaseApplication):  # type: ignore[misc]
    """The options gunicorn runs with, and what the processes share."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.board = Board(_ROWS)
        self.states = mmap.mmap(-1, _ROWS)  # of the workers, by the numbers of their rows
        self._clients = memoryview(mmap.mmap(-1, 4 * _ROWS)).cast("i")
        self._stopping = mmap.mmap(-1, 1)
        super().__init__()

    def load_config(self) -> None:
        """Choose gunicorn's options; it reads no file, argument or variable of its own."""
        options = {
            "bind": "127.0.0.1:0",  # for nothing: the master has its sockets
            "workers": self.settings.relay_workers,
            "worker_class": _Worker,
            "logger_class": _Log,
            "timeout": _STALLED,
            "graceful_timeout": ceil(self.settings.relay_shutdown_grace) + _LAST_WORDS,
            "worker_tmp_dir": _MEMORY if os.access(_MEMORY, os.W_OK) else None,
            "control_socket_disable": True,
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def others_have_fewer(self, row: int, clients: int) -> bool:
        """Note how many clients a worker has; return whether another one that serves has fewer."""
        self._clients[row] = clients
        return any(
            self.states[other] == _SERVES and self._clients[other] < clients
            for other in range(self.board.used)
        )

    @property
    def stopping(self) -> bool:
        """Whether all processes are to end."""
        return self._stopping[0] == 1

    def stop(self) -> None:
        """Let all processes know that they are to end."""
        self._stopping[0] = 1


class _Log(Logger):  # type: ignore[misc]
    """Gunicorn's log lines go where ours go; those that say that all is well are not for anybody."""

    def setup(self, cfg: Any) -> None:
        self.cfg = cfg
        self.error_log.propagate = True
        self.error_log.setLevel(logging.WARNING)


class _Master(Arbiter):  # type: ignore[misc]
    SIGNALS: ClassVar = [signal.SIGHUP, signal.SIGINT, signal.SIGTERM]  # others do what they always do

    def __init__(
        self,
        app: _Relay,
        sockets: list[socket.socket],
        reread: Callable[[Settings], Settings | None],
        ready: Callable[[str], None],
    ) -> None:
        super().__init__(app)
        self.LISTENERS = sockets
        self._reread = reread
        self._ready: Callable[[], None] | None = partial(ready, url_of(sockets[0]))
        self._settled = False

    def signal(self, sig: int, frame: FrameType | None) -> None:
        """Note a signal; at the second that says stop, end."""
        if sig != signal.SIGHUP and os.getpid() == self.pid:  # not in a worker that has just begun
            if self.app.stopping:
                self._end_now()
            self.app.stop()
        super().signal(sig, frame)

    def _end_now(self) -> NoReturn:
        for pid in tuple(self.WORKERS):
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        logging.shutdown()
        os._exit(1)

    def handle_hup(self) -> None:
        """Begin anew with new settings, if they can be used."""
        settings = self._reread(self.app.settings)
        if settings is None:
            return
        if self.app.board.free < settings.relay_workers:
            log.warning("not reloaded: the streams of too many earlier workers still run")
            return
        log.info("reloading", extra={"fields": {"workers": settings.relay_workers}})
        self.app.settings = settings
        self.app.reload()
        self.setup(self.app)

    def manage_workers(self) -> None:
        """Have as many workers as there should be; earlier ones go when those of new settings serve."""
        missing = self.num_workers - len(self._current())
        for _ in range(min(missing, self.app.board.free)):
            self.spawn_worker()
        current = self._current()
        self._settled = all(self.app.states[worker.row] == _SERVES for worker in current)
        if not self._settled:
            return
        for pid, worker in tuple(self.WORKERS.items()):
            if worker not in current and self.app.states[worker.row] != _LEAVES:
                self.kill_worker(pid, signal.SIGTERM)
        if self._ready is not None:
            self._ready()
            self._ready = None

    def _current(self) -> list["_Worker"]:
        """Return the workers that have the settings in force, and do not leave."""
        return [
            worker
            for worker in self.WORKERS.values()
            if worker.settings is self.app.settings and self.app.states[worker.row] != _LEAVES
        ]

    def wait_for_signals(self, timeout: float = 1.0) -> list[int]:
        """Wait less long while workers begin."""
        signals: list[int] = super().wait_for_signals(timeout if self._settled else _SOON)
        return signals

    def reap_workers(self) -> None:
        """Let others have the rows of those that are gone."""
        before = dict(self.WORKERS)
        try:
            super().reap_workers()
        finally:
            for pid in before.keys() - self.WORKERS.keys():
                self.app.states[before[pid].row] = _LEAVES
                self.app.board.give_back(before[pid].row)

    def stop(self, graceful: bool = True) -> None:
        """Wait for the worker that may take longest."""
        self.app.stop()
        graces = [worker.settings.relay_shutdown_grace for worker in self.WORKERS.values()]
        self.cfg.set("graceful_timeout", ceil(max(graces, default=0)) + _LAST_WORDS)
        super().stop(graceful)


class _Worker(GunicornUVLoopWebWorker):
    """One process. It is made in the master, before the fork."""

    app: _Relay

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.settings = self.app.settings
        self.row = self.app.board.take()
        self.app.states[self.row] = _BEGINS
        self._all_stop = asyncio.Event()

    def init_process(self) -> None:
        """Say in each log line which process says it."""
        for handler in logging.getLogger().handlers:
            handler.addFilter(_add_pid)
        super().init_process()

    def load_wsgi(self) -> None:
        """Have aiohttp's worker run our runner: its own would not cancel the handlers of who leaves."""
        self.wsgi = self._make_runner
        self._listening: list[socket.socket] = self.sockets
        self.sockets: list[socket.socket] = []  # aiohttp's worker would also shorten their backlog

    async def _make_runner(self) -> web.AppRunner:
        app = create_app(self.settings, Metrics(self.app.board, self.row))
        app.on_response_prepare.append(_close_when_draining)
        limit = self.settings.relay_max_connections
        self._runner = _Runner(app, max_connections=limit, drain=self.drain)
        self._others_have_fewer = partial(self.app.others_have_fewer, self.row)
        self._door = Door(self._listening, self._runner, self._others_have_fewer)
        return self._runner

    def notify(self) -> None:
        """Give a sign of life, once a second; see whether all are to stop, or the master is gone."""
        super().notify()
        if self.app.states[self.row] == _BEGINS and self.booted:
            self._begin()
        self._others_have_fewer(self._door.clients)
        if self.app.stopping or os.getppid() != self.ppid:
            self._all_stop.set()
            self.alive = False

    def _begin(self) -> None:
        tune_collector()
        self._door.open()
        self.app.states[self.row] = _SERVES
        log.info("worker started")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end, at once."""
        self.alive = False
        self._notify_waiter_done()
        if self.app.stopping:
            self._all_stop.set()

    handle_quit = handle_exit  # of SIGINT, too

    async def drain(self) -> None:
        """Let the streams end: all new ones are refused, or, where other workers go on, left to them."""
        streams, grace = self._runner.app[STREAMS], self.settings.relay_shutdown_grace
        living = asyncio.create_task(self._live_on())
        stops = await self._told_to_stop(_WORD)
        self.app.states[self.row] = _LEAVES
        fields = {"open_streams": len(streams), "grace_s": grace}
        if stops:
            log.info("stopping", extra={"fields": fields})
            await streams.drain(grace)
        else:
            log.info("worker retires", extra={"fields": fields})
            self._door.close()
            hand_over = asyncio.create_task(streams.hand_over(max(grace, _HANDOVER), _HANDOVER))
            stop = asyncio.create_task(self._all_stop.wait())
            await asyncio.wait([hand_over, stop], return_when=asyncio.FIRST_COMPLETED)
            streams.refuse()
            stop.cancel()
            await asyncio.wait([hand_over, stop])
        self._door.close()
        living.cancel()
        await asyncio.wait([living])

    async def _told_to_stop(self, seconds: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._all_stop.wait()
        return self._all_stop.is_set()

    async def _live_on(self) -> None:
        while True:
            self.notify()
            await asyncio.sleep(1)


class _Runner(Runner):
    """A runner that ends with the worker's drain."""

    def __init__(
        self,
        app: web.Application,
        *,
        max_connections: int,
        drain: Callable[[], Awaitable[None]],
    ) -> None:
        super().__init__(app, max_connections=max_connections)
        self._drain = drain

    async def cleanup(self) -> None:
        """Drain, then close what is left."""
        await self._drain()
        await super().cleanup()


async def _close_when_draining(request: web.Request, response: web.StreamResponse) -> None:
    """Send who asks over a connection that lasts to another worker, before this one is gone."""
    if request.app[STREAMS].draining:
        response.headers["Connection"] = "close"  # aiohttp has chosen its headers by now
        response.force_close()


def _add_pid(record: logging.LogRecord) -> bool:
    record.fields = {**getattr(record, "fields", {}), "pid": os.getpid()}
    return True
