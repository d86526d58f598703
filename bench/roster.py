"""Who competes, and how each is started."""

import os
import shutil
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence, Set
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from bench import processes, upstream
from bench.client import Target
from bench.hear import Form

ROOT: Final = Path(__file__).parent.parent.resolve()
PEERS: Final = Path(__file__).parent / "peers"
PYTHON: Final = ROOT / ".bench" / "bin" / "python"
"""Of the environment that `make bench` installs for peers and figures."""
CLIENT_KEY: Final = "bench-client-key"
SPARE: Final = 64
"""Streams that a peer is set up for beyond those of the scenario."""


class Peer(ABC):
    """One way to pass AnythingLLM's answers on."""

    form: Form = "events"
    path = "/stream-ask"
    key = CLIENT_KEY
    cores: Set[int] = frozenset()
    """Those that it keeps to; none: all that this process has."""

    def __init__(self, name: str, title: str) -> None:
        self.name = name
        self.title = title

    @asynccontextmanager
    async def running(self, upstream_port: int, streams: int) -> AsyncIterator[tuple[Target, int]]:
        """Run it in front of an upstream, for so many streams: whom to ask, and the process id.

        Raises CannotStart.
        """
        if (reason := self.missing()) is not None:
            raise processes.CannotStart(reason)
        port = processes.free_port()
        theirs = {
            "ANYTHINGLLM_BASE_URL": f"http://127.0.0.1:{upstream_port}",
            "ANYTHINGLLM_API_KEY": upstream.KEY,
            "ANYTHINGLLM_WORKSPACE_SLUG": upstream.WORKSPACE,
        }
        env = {**_clean(), **theirs, **self.environment(port, streams)}
        command = self.command(port, upstream_port, streams)
        async with processes.running(command, port, env, self.cores) as pid:
            yield Target(port, self.form, self.path, self.key), pid

    def missing(self) -> str | None:
        """What this machine lacks for it, in a few words; None if nothing."""
        return None

    def environment(self, port: int, streams: int) -> Mapping[str, str]:
        """Variables for its process besides AnythingLLM's address, key and workspace."""
        return {}

    @abstractmethod
    def command(self, port: int, upstream_port: int, streams: int) -> Sequence[str]:
        """The command that starts it."""


class Direct(Peer):
    """No relay at all: what the benchmark itself takes."""

    form: Form = "anythingllm"
    path = upstream.PATH
    key = upstream.KEY

    @asynccontextmanager
    async def running(self, upstream_port: int, streams: int) -> AsyncIterator[tuple[Target, int]]:
        """Start nothing; the process is the benchmark's own."""
        yield Target(upstream_port, self.form, self.path, self.key), os.getpid()

    def command(self, port: int, upstream_port: int, streams: int) -> Sequence[str]:
        """Nothing."""
        return ()


class Relay(Peer):
    """The relay of this project, from any checkout, as its users start it: nothing is switched off."""

    def __init__(self, name: str, title: str, checkout: Path = ROOT) -> None:
        super().__init__(name, title)
        self._checkout = checkout.resolve()

    def environment(self, port: int, streams: int) -> Mapping[str, str]:
        """A port, a key for clients, and room."""
        return {
            "RELAY_PORT": str(port),
            "RELAY_API_KEYS": CLIENT_KEY,
            "RELAY_MAX_STREAMS": str(streams + SPARE),
        }

    def missing(self) -> str | None:
        """The folder must be one of a checkout."""
        there = (self._checkout / "run.py").is_file()
        return None if there else f"there is no run.py in {self._checkout.name}"

    def command(self, port: int, upstream_port: int, streams: int) -> Sequence[str]:
        """Another checkout has an environment of its own, or else uses this one."""
        python = self._checkout / ".venv" / "bin" / "python"
        ours = self._checkout == ROOT or not python.exists()
        return (sys.executable if ours else str(python), str(self._checkout / "run.py"))


class Nginx(Peer):
    """Passes the bytes on without a look into them."""

    form: Form = "anythingllm"
    path = upstream.PATH
    key = upstream.KEY

    def missing(self) -> str | None:
        """It is a package of the system's."""
        return None if _nginx() else "nginx is not installed"

    def command(self, port: int, upstream_port: int, streams: int) -> Sequence[str]:
        """Debian's binary, and the configuration filled in."""
        template = (PEERS / "nginx.conf").read_text()
        filled = template.replace("UPSTREAM", str(upstream_port)).replace("PORT", str(port))
        files = os.sysconf("SC_OPEN_MAX")
        filled = filled.replace("FILES", str(files)).replace("CONNECTIONS", str(files * 11 // 10))
        script = 'cat > nginx.conf <<"END"\n' + filled + 'END\nexec "$0" -p . -c nginx.conf'
        return ("sh", "-c", script, str(_nginx()))


class Node(Peer):
    """Lines and JSON, in Node."""

    def missing(self) -> str | None:
        """It is a package of the system's."""
        return None if shutil.which("node") else "node is not installed"

    def environment(self, port: int, streams: int) -> Mapping[str, str]:
        """Its port."""
        return {"PORT": str(port)}

    def command(self, port: int, upstream_port: int, streams: int) -> Sequence[str]:
        """The file, as it is."""
        return (shutil.which("node") or "node", str(PEERS / "relay.mjs"))


class FastApi(Peer):
    """FastAPI and httpx, in one uvicorn process with uvloop and httptools."""

    def missing(self) -> str | None:
        """It has an environment of its own."""
        return _without_environment()

    def command(self, port: int, upstream_port: int, streams: int) -> Sequence[str]:
        """As its documentation says, without a line in the log for each request."""
        options = ("--app-dir", str(PEERS), "--port", str(port), "--backlog", "4096", "--no-access-log")
        return (str(PYTHON), "-m", "uvicorn", "fastapi_httpx:app", *options)


class Flask(Peer):
    """Flask and requests, in one gunicorn process with a thread for each stream."""

    def missing(self) -> str | None:
        """It has an environment of its own."""
        return _without_environment()

    def environment(self, port: int, streams: int) -> Mapping[str, str]:
        """How many connections to AnythingLLM it may keep."""
        return {"THREADS": str(streams + SPARE)}

    def command(self, port: int, upstream_port: int, streams: int) -> Sequence[str]:
        """The worker class for threads; no time limit, since streams are long."""
        count = str(streams + SPARE)
        options = ("--chdir", str(PEERS), "--bind", f"127.0.0.1:{port}", "--backlog", "4096")
        worker = ("--worker-class", "gthread", "--workers", "1", "--threads", count)
        limits = (
            "--worker-connections",
            str(2 * streams + SPARE),
            "--timeout",
            "0",
            "--keep-alive",
            "75",
        )
        return (str(PYTHON), "-m", "gunicorn", *options, *worker, *limits, "flask_requests:app")


def roster(against: Path | None = None, cores: Set[int] = frozenset()) -> list[Peer]:
    """All that compete, on these cores; `against` is another checkout of the relay."""
    peers: list[Peer] = [
        Direct("direct", "no relay"),
        Nginx("nginx", "nginx, bytes passed through"),
        Relay("relay", "**the relay**"),
        Node("node", "Node, lines + JSON"),
        FastApi("fastapi", "FastAPI + httpx"),
        Flask("flask", "Flask + requests, threads"),
    ]
    if against is not None:
        peers.insert(3, Relay("against", "the relay, other checkout", against))
    for peer in peers:
        peer.cores = cores
    return peers


@asynccontextmanager
async def upstream_running() -> AsyncIterator[tuple[int, int]]:
    """Run the benchmark's AnythingLLM: its port and its process id."""
    port = processes.free_port()
    env = {**_clean(), "PYTHONPATH": str(ROOT)}
    async with processes.running((sys.executable, "-m", "bench.upstream", str(port)), port, env) as pid:
        yield port, pid


def _clean() -> dict[str, str]:
    """The environment of this process without settings of a relay."""
    ours = ("RELAY_", "ANYTHINGLLM_")
    return {name: value for name, value in os.environ.items() if not name.upper().startswith(ours)}


def _nginx() -> str | None:
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def _without_environment() -> str | None:
    return None if PYTHON.exists() else "its environment is not installed (make bench does that)"
