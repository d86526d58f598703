"""The load test as a process of its own, and servers that do not speak the protocol."""

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from relay.loadtest.load import Load
from relay.loadtest.plan import Plan
from relay.loadtest.questions import BUILT_IN
from tests.program import Program, environment, take_interrupts

ROOT = Path(__file__).parent.parent


def plan(url: str, **changes: Any) -> Plan:
    """Return a small load test: one question, unless changed."""
    return Plan(**{"url": url, "streams": 1, "bodies": [BUILT_IN], "count": 1, **changes})


async def loaded(url: str, **changes: Any) -> Load:
    """Run a load test to its end, in this process."""
    load = Load(plan(url, **changes))
    await load.run(lambda _: None)
    return load


async def program(cwd: Path, *arguments: str, env: Mapping[str, str] | None = None) -> Program:
    """Begin `python -m relay.loadtest ...` in this folder."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "relay.loadtest",
        *arguments,
        cwd=cwd,
        env=environment({"PYTHONPATH": str(ROOT), **(env or {})}),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        preexec_fn=None if sys.platform == "win32" else take_interrupts,
    )
    return Program(process)


@asynccontextmanager
async def saying(*pieces: bytes, hold: bool = False) -> AsyncIterator[str]:
    """Serve these bytes to every request, then close, or hold the connection; yields the URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                await reader.readuntil(b"\r\n\r\n")
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                if hold:
                    while await reader.read(1000):
                        pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/stream-ask"
