"""The clients of docs/protocol.md as programs; tests/test_clients.py takes them with the others."""

import asyncio
import os
import re
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

from tests.clients import PATIENCE, Asking, ProgramAsking
from tests.program import take_interrupts

_PROTOCOL: Final = (Path(__file__).parent.parent / "docs" / "protocol.md").read_text()


class Written(NamedTuple):
    """A client as it stands in the document, under a heading: its language, and what runs it."""

    heading: str
    language: str
    file: str
    command: tuple[str, ...]

    @property
    def missing(self) -> str:
        """What it needs and is not here, as a reason to skip; empty if all is."""
        needed = {"sh": ("curl", "jq", "grep")}.get(self.command[0], self.command[:1])
        return ", ".join(f"{name} is not installed" for name in needed if shutil.which(name) is None)

    @property
    def text(self) -> str:
        """The program."""
        section = _PROTOCOL.partition(f"\n### {self.heading}\n")[2]
        found = re.search(rf"^```{self.language}\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
        assert found, self.heading
        return found[1]

    @asynccontextmanager
    async def run(self, *arguments: str, key: str = "") -> AsyncIterator[asyncio.subprocess.Process]:
        """Run it; it is ended with the context, and so is all that it started."""
        env = {name: value for name, value in os.environ.items() if name != "ASK_RELAY_KEY"}
        with TemporaryDirectory() as folder:
            file = Path(folder, self.file)
            file.write_text(self.text)
            process = await asyncio.create_subprocess_exec(
                *self.command,
                str(file),
                *arguments,
                env={**env, "ASK_RELAY_KEY": key} if key else env,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
                preexec_fn=None if sys.platform == "win32" else take_interrupts,
            )
            try:
                yield process
            finally:
                if process.returncode is None:
                    os.killpg(process.pid, signal.SIGKILL)
                await process.communicate()

    @asynccontextmanager
    async def ask(self, url: str, question: str) -> AsyncIterator[Asking]:
        """Ask as its reader would."""
        async with self.run(url, question) as process:
            yield _InTerminal(process)


class _InTerminal(ProgramAsking):
    """A program whose Ctrl-C comes from a terminal: all that it started hears it too."""

    async def cancel(self) -> None:
        os.killpg(self._process.pid, signal.SIGINT)
        async with asyncio.timeout(PATIENCE):
            await self._process.wait()


PYTHON: Final = Written("In Python", "python", "ask.py", (sys.executable, "-I"))
NODE: Final = Written("In JavaScript", "js", "ask.mjs", ("node",))
CURL: Final = Written("With curl", "sh", "ask.sh", ("sh",))
ALL: Final = (PYTHON, NODE, CURL)
