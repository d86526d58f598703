"""A relay on a real socket in the test's own process, and a client for it."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from types import TracebackType
from typing import Any, NamedTuple, Self

import aiohttp
from aiohttp import web

from config.settings import Settings
from relay.app import create_app
from relay.connections import Connection
from relay.handlers import STREAMS
from relay.server import Runner
from relay.sockets import listen
from relay.sse import Decoder
from relay.standin import KEY, WORKSPACE


def settings(**changes: Any) -> Settings:
    """Return settings for tests: any port, and what is given."""
    required = {
        "anythingllm_base_url": "http://127.0.0.1:1",
        "anythingllm_api_key": KEY,
        "anythingllm_workspace_slug": WORKSPACE,
        "relay_port": 0,
    }
    return Settings.model_validate({**required, **changes})


class Told(NamedTuple):
    """One event as a client hears it."""

    name: str
    data: dict[str, Any]
    id: str = ""


class Heard(list[Told]):
    """All events of one answer, in order."""

    def of(self, name: str) -> list[dict[str, Any]]:
        """Return the data of the events of this name."""
        return [told.data for told in self if told.name == name]

    @property
    def text(self) -> str:
        """The answer."""
        return "".join(data["content"] for data in self.of("chunk"))

    @property
    def error(self) -> dict[str, Any]:
        """The error, which must be the last event but one."""
        assert [told.name for told in self if told.name in ("error", "final_end")] == [
            "error",
            "final_end",
        ]
        assert self[-2].name == "error"
        assert self.end["reason"] in ("error", "shutdown")
        return self[-2].data

    @property
    def end(self) -> dict[str, Any]:
        """The final_end, which must be the last event and the only one of its kind."""
        assert [told.name for told in self].count("final_end") == 1
        assert self[-1].name == "final_end"
        return self[-1].data


class Listening:
    """An open stream, as a client reads it."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.raw = b""
        self._decoder = Decoder()
        self._ready: list[Told] = []

    @property
    def stream_id(self) -> str:
        """The id of a resumable stream."""
        return self.response.headers["X-Stream-ID"]

    async def next(self) -> Told | None:
        """Return the next event; None at the end."""
        while not self._ready:
            data = await self.response.content.readany()
            if not data:
                return None
            self.raw += data
            for event in self._decoder.feed(data):
                self._ready.append(Told(event.event, json.loads(event.data), event.id))
        return self._ready.pop(0)

    async def until(self, name: str) -> Told:
        """Return the next event of this name."""
        while (told := await self.next()) is not None:
            if told.name == name:
                return told
        raise AssertionError(f"the stream ended without {name}")

    async def rest(self) -> Heard:
        """Return all that is still to come."""
        heard = Heard()
        while (told := await self.next()) is not None:
            heard.append(told)
        return heard


@contextmanager
def unanswered() -> Iterator[str]:
    """The URL of a machine that does not even answer the handshake of a connection."""
    with ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):  # a backlog that is full drops further handshakes
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            with suppress(BlockingIOError):
                filler.connect(full.getsockname())
        yield f"http://127.0.0.1:{full.getsockname()[1]}"


class Relay:
    """The relay under test, and one client of it."""

    def __init__(self, chosen: Settings, send_buffer: int | None = None) -> None:
        self.settings = chosen
        self._send_buffer = send_buffer  # of the kernel, where a test needs a small one
        self.app = create_app(chosen)
        self._runner = Runner(self.app, max_connections=chosen.relay_max_connections)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        (listening,) = listen("127.0.0.1", 0)
        if self._send_buffer:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._send_buffer)
        await web.SockSite(self._runner, listening, backlog=1024).start()
        self.port: int = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = aiohttp.ClientSession(
            self.url, connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None)
        )
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.client.close()
        await self._runner.cleanup()

    @asynccontextmanager
    async def asking(
        self, question: str = "", *, headers: dict[str, str] | None = None, **fields: Any
    ) -> AsyncIterator[Listening]:
        """Ask, and read as long as the context lasts; leaving it early is leaving."""
        body = {"question": question, **fields}
        response = await self.client.post("/stream-ask", json=body, headers=headers)
        try:
            assert response.status == 200, await response.text()
            yield Listening(response)
        finally:
            response.close()

    @asynccontextmanager
    async def following(
        self, stream: str, after: int | None = None, *, headers: dict[str, str] | None = None
    ) -> AsyncIterator[Listening]:
        """Follow a resumable stream as long as the context lasts."""
        place = {} if after is None else {"Last-Event-ID": str(after)}
        response = await self.client.get(f"/streams/{stream}", headers={**place, **(headers or {})})
        try:
            assert response.status == 200, await response.text()
            yield Listening(response)
        finally:
            response.close()

    async def follow(self, stream: str, after: int | None = None) -> Heard:
        """Follow a resumable stream to its end."""
        async with self.following(stream, after) as listening:
            return await listening.rest()

    async def answers(self, method: str, path: str, **kwargs: Any) -> tuple[int, str]:
        """Return the status, and the code of what is a refusal."""
        async with self.client.request(method, path, **kwargs) as response:
            text = await response.text()
            return response.status, json.loads(text)["code"] if text else ""

    async def counted(self, metric: str) -> float:
        """Return the value of a metric; 0 if it was never counted."""
        async with self.client.get("/metrics") as response:
            lines = (await response.text()).splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(metric + " "))

    async def ask(self, question: str = "", **fields: Any) -> Heard:
        """Ask and hear the whole answer."""
        async with self.asking(question, **fields) as listening:
            return await listening.rest()

    async def refused(self, body: Any = None, **kwargs: Any) -> tuple[int, dict[str, Any]]:
        """Send what is to be refused; return the status and the JSON of the refusal."""
        sent = {"json": body} if body is not None else {}
        async with self.client.post("/stream-ask", **sent, **kwargs) as response:
            return response.status, await response.json()

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        server = self._runner.server
        return len(server.connections) if server is not None else 0

    @property
    def served(self) -> list[Connection]:
        """The connections of its clients."""
        server = self._runner.server
        return (
            [] if server is None else [one for one in server.connections if isinstance(one, Connection)]
        )

    async def idle(self) -> None:
        """Wait until no stream runs."""
        while len(self.app[STREAMS]):
            await asyncio.sleep(0.01)
