"""A real redis-server."""

import asyncio
import os
import re
import shutil
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path
from typing import Final, Self

PROGRAM: Final = shutil.which("redis-server")
CLIENT: Final = shutil.which("redis-cli")


class RedisServer:
    """Runs on a socket in a folder of its own; what it holds is gone when it is killed."""

    def __init__(self) -> None:
        # Not pytest's folder, whose path may be too long for a socket.
        self._folder = Path(tempfile.mkdtemp(prefix="redis-"))
        self._socket = self._folder / "socket"
        self._process: Process | None = None
        self.url = f"unix://{self._socket}"

    async def start(self) -> None:
        """Start it, and return once it answers."""
        assert PROGRAM is not None
        options = f"--port 0 --unixsocket {self._socket} --dir {self._folder} --save '' --appendonly no"
        self._process = await asyncio.create_subprocess_exec(
            PROGRAM, *(word.strip("'") for word in options.split()), stdout=DEVNULL
        )
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(self._socket)
            except (FileNotFoundError, ConnectionRefusedError):
                await asyncio.sleep(0.01)
                continue
            writer.write(b"PING\r\n")
            answer = await reader.readline()
            writer.close()
            await writer.wait_closed()
            if answer == b"+PONG\r\n":
                return

    async def ask(self, *words: str) -> str:
        """Return what redis-cli says to a command."""
        assert CLIENT is not None
        process = await asyncio.create_subprocess_exec(
            CLIENT, "-s", str(self._socket), *words, stdout=PIPE
        )
        out, _ = await process.communicate()
        return out.decode()

    async def keys(self) -> set[str]:
        """Return the names of all that it holds."""
        return set((await self.ask("KEYS", "*")).split())

    async def commands(self) -> dict[str, int]:
        """Return how often each command was given."""
        lines = (await self.ask("INFO", "commandstats")).splitlines()
        found = [re.match(r"cmdstat_([^:]+):calls=(\d+)", line) for line in lines]
        return {one[1]: int(one[2]) for one in found if one}

    async def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            await self._process.wait()
            self._process = None

    def signal(self, number: int) -> None:
        """Send it a signal."""
        assert self._process is not None
        os.kill(self._process.pid, number)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.kill()
        shutil.rmtree(self._folder)
