"""The relay as a process of its own."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import aiohttp

from relay.standin import KEY, WORKSPACE
from tests.running import Listening

RUN: Final = Path(__file__).parent.parent / "run.py"
LOG_LINE: Final = re.compile(r"\d{4}-\d\d-\d\d [\d:,]+ (DEBUG|INFO) ")
_OURS: Final = ("RELAY_", "ANYTHINGLLM_")


class Program:
    """A relay that runs as a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.out = ""
        self.err = ""

    @property
    def url(self) -> str:
        """The address that it printed."""
        found = re.search(r"^Relay +(http://\S+)", self.out, re.MULTILINE)
        assert found, self.out
        return found[1]

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    def signal_group(self, number: signal.Signals) -> None:
        """Signal it and all its children, as Ctrl-C in a terminal does."""
        os.killpg(self.pid, number)

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def says(self, words: str) -> str:
        """Wait for the line of its output with these words."""
        assert self._process.stdout is not None
        while line := (await self._process.stdout.readline()).decode():
            self.out += line
            if words in line:
                return line
        raise AssertionError(f"it ended without saying {words!r}: {await self.ended()}")

    async def logs(self, words: str) -> str:
        """Wait for the line of its log with these words."""
        assert self._process.stderr is not None
        while line := (await self._process.stderr.readline()).decode():
            self.err += line
            if words in line:
                return line
        raise AssertionError(f"it ended without logging {words!r}: {await self.ended()}")

    async def ended(self) -> int:
        """Wait for its end and take down its last words; return its exit status."""
        out, err = await self._process.communicate()
        self.out += out.decode()
        self.err += err.decode()
        return await self._process.wait()

    async def stop(self) -> int:
        """Stop it as a service manager does; return its exit status."""
        self.signal(signal.SIGTERM)
        return await self.ended()

    async def kill(self) -> None:
        """End it in any case."""
        if self._process.returncode is None:
            self._process.kill()
        await self.ended()


def environment(env: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment without settings of the relay, and then these."""
    clean = {name: value for name, value in os.environ.items() if not name.upper().startswith(_OURS)}
    return clean | dict(env)


async def spawn(cwd: Path, arguments: tuple[str, ...], env: Mapping[str, str]) -> Program:
    """Begin `python run.py ...` in this folder."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(RUN),
        *arguments,
        cwd=cwd,
        env=environment(env),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        preexec_fn=None if sys.platform == "win32" else take_interrupts,
        process_group=None if sys.platform == "win32" else 0,  # as a terminal has it
    )
    return Program(process)


def take_interrupts() -> None:
    """Undo what the tests may have inherited: a shell has its background jobs ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def upstream(url: str) -> dict[str, str]:
    """Return the settings of a relay that is in front of the stand-in at this address."""
    return {
        "ANYTHINGLLM_BASE_URL": url,
        "ANYTHINGLLM_API_KEY": KEY,
        "ANYTHINGLLM_WORKSPACE_SLUG": WORKSPACE,
    }


@asynccontextmanager
async def asking(
    program: Program, question: str, headers: dict[str, str] | None = None
) -> AsyncIterator[Listening]:
    """Ask over a connection of its own; leaving early is leaving."""
    body = {"question": question}
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as client,
        client.post(f"{program.url}/stream-ask", json=body, headers=headers) as response,
    ):
        yield Listening(response)


async def get(program: Program, path: str) -> tuple[int, str]:
    """Return the status and the body of what is at this address."""
    async with aiohttp.ClientSession() as client, client.get(program.url + path) as response:
        return response.status, await response.text()
