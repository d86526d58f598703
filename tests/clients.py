"""Clients of every kind, each driven as its user would; tests/test_clients.py asks the same of all."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Final, Protocol

from relay.sse import Decoder
from tests.program import take_interrupts

PATIENCE: Final = 20.0  # seconds for anything a client does; a browser's first page takes a few


@dataclass(frozen=True, slots=True)
class Result:
    """What the user has in the end."""

    text: str
    ends: int  # how often the client said that the answer is over
    error: str = ""  # the words shown for a failure; none for an answer that is whole


class Asking(Protocol):
    """A question on its way, and its answer as the user sees it."""

    async def shows(self, text: str) -> None:
        """Wait until the answer, which is not over, shows this text."""

    async def cancel(self) -> None:
        """Stop the answer as a user does: Ctrl-C, Stop, leaving the loop."""

    async def result(self) -> Result:
        """Wait for the end of the answer."""


class Client(Protocol):
    """A client that can be driven."""

    def ask(self, url: str, question: str) -> AbstractAsyncContextManager[Asking]:
        """Ask the relay at this address (`http://127.0.0.1:PORT`); nothing is left over afterwards."""


class ProgramAsking:
    """A client that is a process, which writes what it hears to its standard output."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._out = b""

    async def shows(self, text: str) -> None:
        """Read on until it is there."""
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            while text not in self.text:
                data = await self._process.stdout.read(65536)
                assert data, f"it ended without showing {text!r}: {self._out!r}"
                self._out += data

    async def cancel(self) -> None:
        """Press Ctrl-C."""
        self._process.send_signal(signal.SIGINT)
        async with asyncio.timeout(PATIENCE):
            await self._process.wait()

    async def result(self) -> Result:
        """Read it to its end."""
        async with asyncio.timeout(PATIENCE):
            out, err = await self._process.communicate()
        self._out += out
        return Result(self.text, self.ends, self.error(err.decode()))

    @property
    def out(self) -> str:
        """What it wrote so far, without a character that is cut in two."""
        return self._out.decode(errors="ignore")

    @property
    def text(self) -> str:
        """The answer in what it wrote: all of it, where a client writes nothing else."""
        return self.out

    @property
    def ends(self) -> int:
        """A process ends once, if it does."""
        return int(self._process.returncode is not None)

    def error(self, err: str) -> str:
        """Return the words of a failure, which a program writes to its standard error."""
        return err.strip()


class CurlAsking(ProgramAsking):
    """curl, which writes the events as they come."""

    @property
    def text(self) -> str:
        """What a reader of the events makes of them."""
        return "".join(data["content"] for name, data in self._told() if name == "chunk")

    @property
    def ends(self) -> int:
        """The last events."""
        return sum(name == "final_end" for name, _ in self._told())

    def error(self, err: str) -> str:
        """An error is an event."""
        return "".join(data["message"] for name, data in self._told() if name == "error")

    def _told(self) -> list[tuple[str, dict[str, str]]]:
        return [(told.event, json.loads(told.data)) for told in Decoder().feed(self._out)]


class Curl:
    """`curl -N`, as the README has it."""

    @asynccontextmanager
    async def ask(self, url: str, question: str) -> AsyncIterator[Asking]:
        """Post a form."""
        command = ("curl", "-sSN", f"{url}/stream-ask", "--data-urlencode", f"question={question}")
        async with running(command) as process:
            yield CurlAsking(process)


@asynccontextmanager
async def running(
    command: Sequence[str], *, env: dict[str, str] | None = None, cwd: str | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a client's command; it is ended with the context."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env=env,
        cwd=cwd,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        preexec_fn=None if sys.platform == "win32" else take_interrupts,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
