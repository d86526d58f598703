"""The stand-in as a server: life, routes, keys."""

import asyncio
import itertools
from collections.abc import Collection
from typing import Any, Final, Self

from aiohttp import web

from relay.standin import pages
from relay.standin.asks import Ask, Asks
from relay.standin.chats import Chats
from relay.standin.questions import BadBody, read_body

KEY: Final = "stand-in-key"
WORKSPACE: Final = "demo"

MOST_BODY: Final = 64 * 2**20
BACKLOG: Final = 4096  # thousands of clients may come at once
IDLE: Final = 5.0  # seconds Node keeps an unused connection
END: Final = 2.0  # seconds for what an aborted connection leaves; none are needed


class Connection(web.RequestHandler):
    """A TCP connection that knows which one it is."""

    def __init__(self, server: web.Server, number: int) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=IDLE,
            access_log=None,  # type: ignore[arg-type]  # aiohttp's own runners pass it too
        )
        self.number = number


class StandIn:
    """An AnythingLLM without a model.

    It may be started again after it was stopped or killed, and then keeps its asks and histories,
    as a server keeps its database.
    """

    url: str
    """`http://127.0.0.1:PORT`, once started."""

    def __init__(
        self, *, key: str = KEY, workspaces: Collection[str] = (WORKSPACE,), pace: float = 0.02
    ) -> None:
        self.key = key
        self.workspaces = tuple(workspaces)
        self._asks = Asks()
        self._chats = Chats(self.workspaces, pace)
        self._numbers = itertools.count(1)
        self._runner: web.AppRunner | None = None
        self._listener: asyncio.Server | None = None

    @property
    def asks(self) -> list[Ask]:
        """The newest stream-chat requests whose key and JSON were good, oldest first."""
        return self._asks.all

    @property
    def connections(self) -> int:
        """How many connections are open."""
        server = self._runner.server if self._runner is not None else None
        return 0 if server is None else len(server.connections)

    async def next_ask(self) -> Ask:
        """Wait for the oldest ask that this has not returned yet."""
        return await self._asks.next()

    async def start(self, port: int = 0) -> None:
        """Listen on 127.0.0.1; port 0 takes a free one."""
        self._chats.dying = False
        runner = web.AppRunner(self._application(), handler_cancellation=True, shutdown_timeout=END)
        await runner.setup()
        server = runner.server
        assert server is not None  # noqa: S101 - it is there after setup()
        # No TCPSite: only a factory of one's own sees the connections in order of accept.
        self._listener = await asyncio.get_running_loop().create_server(
            lambda: Connection(server, next(self._numbers)), "127.0.0.1", port, backlog=BACKLOG
        )
        self._runner = runner
        self.url = f"http://127.0.0.1:{self._listener.sockets[0].getsockname()[1]}"

    async def kill(self) -> None:
        """Go as a process does that dies: no more listening, every connection lost at once."""
        if self._runner is None or self._listener is None:
            return
        runner, self._runner = self._runner, None
        self._chats.dying = True
        self._listener.close()
        for connection in runner.server.connections if runner.server else ():
            if connection.transport is not None:
                connection.transport.abort()
        await runner.cleanup()
        await self._listener.wait_closed()

    async def stop(self) -> None:
        """Stop and leave nothing over. AnythingLLM says no goodbye to open streams either."""
        await self.kill()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def _application(self) -> web.Application:
        app = web.Application(client_max_size=MOST_BODY)
        chat = "/api/v1/workspace/{workspace}/stream-chat"
        thread = "/api/v1/workspace/{workspace}/thread/{thread}/stream-chat"
        app.router.add_get("/api/ping", self._ping)
        app.router.add_get("/api/v1/auth", self._auth)
        app.router.add_get("/api/v1/workspaces", self._list)
        app.router.add_get("/api/v1/workspace/{workspace}", self._workspace)
        app.router.add_post(chat, self._stream_chat)
        app.router.add_post(thread, self._stream_chat)
        app.router.add_route("*", "/{anything:.*}", self._page)
        app.on_response_prepare.append(_finish_head)
        return app

    def _knows(self, request: web.Request) -> bool:
        # As AnythingLLM does it: any scheme, one blank, the key.
        _, *key = request.headers.get("Authorization", "").split(" ")
        return key[:1] == [self.key]

    async def _ping(self, _: web.Request) -> web.StreamResponse:
        return pages.json({"online": True})

    async def _page(self, _: web.Request) -> web.StreamResponse:
        return pages.web_page()

    async def _auth(self, request: web.Request) -> web.StreamResponse:
        return pages.json({"authenticated": True}) if self._knows(request) else pages.no_key()

    async def _list(self, request: web.Request) -> web.StreamResponse:
        if not self._knows(request):
            return pages.no_key()
        return pages.json({"workspaces": self._described()})

    async def _workspace(self, request: web.Request) -> web.StreamResponse:
        if not self._knows(request):
            return pages.no_key()
        slug = request.match_info["workspace"]
        found = [each for each in self._described() if each["slug"] == slug]
        return pages.json({"workspace": found})

    def _described(self) -> list[dict[str, Any]]:
        return [pages.workspace(number, slug) for number, slug in enumerate(self.workspaces, 1)]

    async def _stream_chat(self, request: web.Request) -> web.StreamResponse:
        try:
            body = await read_body(request)
        except BadBody:
            return pages.bad_request()
        if not self._knows(request):
            return pages.no_key()
        ask = Ask(
            workspace=request.match_info["workspace"],
            thread=request.match_info.get("thread"),
            body=body,
            headers=request.headers,
            connection=request.protocol.number if isinstance(request.protocol, Connection) else 0,
        )
        self._asks.add(ask)
        return await self._chats.answer(request, ask)


async def _finish_head(request: web.Request, response: web.StreamResponse) -> None:
    """Make the head what Express sends; an empty Content-Type stands for none."""
    headers = response.headers
    headers.popall("Server", None)
    headers["X-Powered-By"] = "Express"
    headers["Vary"] = "Origin"
    headers["Connection"] = "keep-alive"
    if not headers.get("Content-Type"):
        headers.popall("Content-Type", None)
    if not headers.get("Content-Type", "").startswith("text/event-stream"):
        headers["Keep-Alive"] = f"timeout={IDLE:.0f}"
