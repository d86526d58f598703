"""Processes that the benchmark starts, and ends by themselves."""

import asyncio
import os
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence, Set
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import SystemRandom
from typing import Final

START: Final = 30.0  # seconds to listen
STOP: Final = 5.0  # seconds to end
_PORTS: Final = range(20000, 30000)  # below those that the system gives to clients


def split_cores() -> Set[int]:
    """Give one core to the peers, and keep this process and its children off it; none on a single core.

    Left to the system, a peer shares a core with what drives it, now and then, and the time of a chunk
    tells when.
    """
    first, *rest = sorted(os.sched_getaffinity(0))
    if not rest:
        return frozenset()
    os.sched_setaffinity(0, rest)
    return frozenset((first,))


class CannotStart(Exception):
    """It did not start; the text says what it said."""


def free_port() -> int:
    """A port of 127.0.0.1 where nobody listens."""
    while True:
        port = SystemRandom().choice(_PORTS)
        with socket.socket() as one, suppress(OSError):
            one.bind(("127.0.0.1", port))
            return port


@asynccontextmanager
async def running(
    command: Sequence[str],
    port: int,
    env: Mapping[str, str] | None = None,
    cores: Set[int] = frozenset(),
) -> AsyncIterator[int]:
    """Run a command while the context lasts: its process id, once it listens. Raises CannotStart.

    It keeps to these cores, if there are any; otherwise to those of this process.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        log = Path(folder) / "log"
        with log.open("wb") as output:
            try:
                process = await asyncio.create_subprocess_exec(
                    *command,
                    cwd=folder,
                    env=env,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            except OSError as error:
                raise CannotStart(f"{command[0]}: {error.strerror}") from None
        try:
            if cores:
                os.sched_setaffinity(process.pid, cores)
            if not await _listens(port, process):
                said = log.read_text(errors="replace").strip().splitlines()
                raise CannotStart(said[-1] if said else f"{command[0]} did not listen")
            yield process.pid
        finally:
            await _stop(process)


async def _listens(port: int, process: asyncio.subprocess.Process) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(START):
            while process.returncode is None:
                with suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    return True
                await asyncio.sleep(0.05)
    return False


async def _stop(process: asyncio.subprocess.Process) -> None:
    """End the process and its children: the session is its own."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP):
                await process.wait()
                break
    with suppress(ProcessLookupError):  # children that outlived it
        os.killpg(process.pid, signal.SIGKILL)
