"""A terminal with a program in it: what it writes, and what a person then sees (POSIX)."""

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from tests.clients import PATIENCE

_TOKEN: Final = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|[\r\n]|[^\x1b\r\n]", re.DOTALL)


class Screen:
    """As much of a terminal as the programs here use; strict with all else."""

    def __init__(self, rows: int, columns: int) -> None:
        self._rows, self._columns = rows, columns
        self._lines: list[list[str]] = [[]]  # with those that have scrolled away
        self._row = self._column = 0
        self.cursor_shown = True

    @property
    def text(self) -> str:
        """All lines, from the first one on."""
        return "\n".join("".join(line).rstrip() for line in self._lines).rstrip("\n")

    @property
    def shown(self) -> str:
        """What is on the screen now."""
        return "\n".join("".join(line).rstrip() for line in self._lines[self._top :])

    @property
    def _top(self) -> int:
        return max(0, len(self._lines) - self._rows)

    def take(self, text: str) -> None:
        """Do what a program writes."""
        end = 0
        for match in _TOKEN.finditer(text):
            assert match.start() == end, f"not understood: {text[end : match.start()]!r}"
            end = match.end()
            if match[2]:
                self._obey(match[1], match[2])
            elif match[0] == "\r":
                self._column = 0
            elif match[0] == "\n":
                self._down()
            else:
                self._put(match[0])
        assert end == len(text), f"not understood: {text[end:]!r}"

    def _obey(self, numbers: str, command: str) -> None:
        if command == "A":
            self._row = max(self._top, self._row - int(numbers or 1))
        elif command == "K":
            assert numbers == "2"
            self._lines[self._row] = []
        elif command in "hl":
            assert numbers == "?25"
            self.cursor_shown = command == "h"
        else:
            assert command == "m", command

    def _down(self) -> None:
        self._row += 1
        if self._row == len(self._lines):
            self._lines.append([])

    def _put(self, character: str) -> None:
        if self._column == self._columns:
            self._column = 0
            self._down()
        line = self._lines[self._row]
        line.extend(" " * (self._column + 1 - len(line)))
        line[self._column] = character
        self._column += 1


class Terminal:
    """A program that runs in a terminal."""

    def __init__(self, process: asyncio.subprocess.Process, fd: int, screen: Screen) -> None:
        self._process, self._fd = process, fd
        self.screen = screen
        self.raw = b""
        self._undecoded = b""
        self._news = asyncio.Event()
        asyncio.get_running_loop().add_reader(fd, self._read)

    async def shows(self, pattern: str) -> None:
        """Wait until something like it is on the screen."""
        async with asyncio.timeout(PATIENCE):
            while not re.search(pattern, self.screen.shown):
                self._news.clear()
                await self._news.wait()

    def types(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self._fd, keys)

    async def ended(self) -> int:
        """Wait for its end; return its exit status."""
        async with asyncio.timeout(PATIENCE):
            status = await self._process.wait()
        self._read()
        return status

    def _read(self) -> None:
        try:
            while data := os.read(self._fd, 65536):
                self.raw += data
                self._undecoded += data
                if len(data) < 65536:
                    break
        except OSError:  # nobody writes there any more, or nothing for now
            pass
        # A sequence that is cut in two waits for its other half.
        text = self._undecoded.decode(errors="ignore")
        cut = text.rfind("\x1b")
        if cut >= 0 and not _TOKEN.match(text, cut):
            text = text[:cut]
        self._undecoded = self._undecoded[len(text.encode()) :]
        self.screen.take(text)
        self._news.set()


@asynccontextmanager
async def terminal(
    *command: str, env: dict[str, str], cwd: Path, rows: int = 24, columns: int = 80
) -> AsyncIterator[Terminal]:
    """Run a program in a terminal of this size; it is ended with the context."""
    import fcntl  # noqa: PLC0415 (not on Windows)
    import pty  # noqa: PLC0415
    import struct  # noqa: PLC0415
    import termios  # noqa: PLC0415

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    os.set_blocking(ours, False)

    def own_terminal() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # Ctrl-C goes to whoever this is the terminal of

    process = await asyncio.create_subprocess_exec(
        *command,
        env={**env, "TERM": "xterm-256color"},
        cwd=cwd,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=own_terminal,
    )
    try:
        yield Terminal(process, ours, Screen(rows, columns))
    finally:
        asyncio.get_running_loop().remove_reader(ours)
        if process.returncode is None:
            process.kill()
            await process.wait()
        os.close(ours)
        os.close(theirs)
