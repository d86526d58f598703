"""A question on its way to AnythingLLM, over a connection that others used before.

aiohttp's session does much for a request that a question has no use for: redirects, cookies, proxies,
a task to write the body. That is a tenth of all that a short answer costs. So a small question goes to
a connection of the same session directly, through parts of aiohttp that are public, but not meant for
this: `Connector.connect`, `ClientRequest`, `ClientResponse`. Where these are not what they were, and for
large questions, the session's own way is taken.
"""

import asyncio
import inspect
from collections.abc import Mapping
from typing import Final
from weakref import WeakSet

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.helpers import TimerNoop
from aiohttp.http import StreamWriter
from yarl import URL

# A reused connection that ends this soon after sending was closed before our request got there.
_DEAD_ON_ARRIVAL: Final = 0.05
# Bytes read at a time, and what aiohttp may hold ahead: a client that does not read keeps little here.
READ: Final = 16 * 1024
# Bytes that a connection takes at once, whether they are read or not.
_SMALL: Final = 32 * 1024
_CONTENT_TYPES: Final = {"Content-Type": "application/json", "Accept": "text/event-stream"}

# Connections that carried a question.
_used: Final[WeakSet[ResponseHandler]] = WeakSet()


class Spoiled(aiohttp.ClientError):
    """Bytes came over a pooled connection that nobody had asked for."""


class Body:
    """The body of a question, which knows what became of it."""

    def __init__(self, body: bytes, loop: asyncio.AbstractEventLoop) -> None:
        self.bytes = body
        self._loop = loop
        self._sent_at: float | None = None  # over a connection that was used before

    def goes_over(self, protocol: ResponseHandler) -> None:
        """Note that it is sent now. Raises Spoiled: what came before would be taken for the answer."""
        if protocol.should_close:
            raise Spoiled
        if protocol in _used:
            self._sent_at = self._loop.time()
        else:
            _used.add(protocol)

    def dead_on_arrival(self, error: Exception) -> bool:
        """Whether it surely met a connection that the server had already closed."""
        if isinstance(error, aiohttp.ServerDisconnectedError) and not isinstance(error.message, str):
            return False  # a part of an answer came back
        lost = isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError)
        if self._sent_at is None or not lost:
            return False
        return self._loop.time() - self._sent_at <= _DEAD_ON_ARRIVAL


class _Payload(aiohttp.BytesPayload):
    """A body as a session takes it."""

    def __init__(self, body: Body) -> None:
        super().__init__(body.bytes)
        self.question = body


class Request(aiohttp.ClientRequest):
    """What a session whose connections are used again must make of a question."""

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        """Send it, unless the connection is spoiled. Raises Spoiled."""
        if conn.protocol is not None and isinstance(self.body, _Payload):
            self.body.question.goes_over(conn.protocol)
        return await super().send(conn)


class Poster:
    """Posts questions to one server, over the connections of a session."""

    def __init__(
        self, session: aiohttp.ClientSession, connector: aiohttp.BaseConnector, base_url: str
    ) -> None:
        self._session = session
        self._base_url = base_url
        self._direct = _Direct(session, connector, base_url) if DIRECT and _is_url(base_url) else None

    async def post(self, path: str, body: Body, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        """Ask, and return when the head of the answer is here.

        `path` and `headers` must be fit to be sent as they are. Raises aiohttp.ClientError and OSError.
        """
        if self._direct is not None and len(body.bytes) <= _SMALL:
            return await self._direct.post(path, body, headers)
        return await post(self._session, self._base_url + path, body, headers)


async def post(
    session: aiohttp.ClientSession, url: str, body: Body, headers: Mapping[str, str]
) -> aiohttp.ClientResponse:
    """Ask over a session in its own way. Raises aiohttp.ClientError and OSError."""
    return await session.post(
        url, data=_Payload(body), headers={**_CONTENT_TYPES, **headers}, allow_redirects=False
    )


class _Direct:
    """The short way to a connection of a session."""

    def __init__(
        self, session: aiohttp.ClientSession, connector: aiohttp.BaseConnector, base_url: str
    ) -> None:
        self._session = session
        self._connector = connector
        self._timer = TimerNoop()
        # It tells the connector where to connect, and what all heads have in common.
        self._request = aiohttp.ClientRequest(
            "POST",
            URL(base_url),
            headers={**session.headers, **_CONTENT_TYPES},
            loop=asyncio.get_running_loop(),
            session=session,
        )
        lines = [
            f"{name}: {value}\r\n"
            for name, value in self._request.headers.items()
            if name not in ("Content-Length", "Transfer-Encoding")
        ]
        self._head = "".join(lines)

    async def post(self, path: str, body: Body, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        """Do what Poster.post does."""
        try:
            connection = await self._connector.connect(
                self._request, traces=[], timeout=self._session.timeout
            )
        except TimeoutError:
            raise aiohttp.ConnectionTimeoutError from None
        try:
            return await self._over(connection, path, body, headers)
        except BaseException:
            connection.close()
            raise

    async def _over(
        self, connection: Connection, path: str, body: Body, headers: Mapping[str, str]
    ) -> aiohttp.ClientResponse:
        protocol, transport = connection.protocol, connection.transport
        if protocol is None or transport is None:
            raise aiohttp.ServerDisconnectedError
        protocol.set_response_params(
            timer=self._timer,
            read_until_eof=True,
            auto_decompress=False,
            read_bufsize=READ,
        )
        body.goes_over(protocol)
        more = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        head = (
            f"POST {self._request.url.raw_path}{path} HTTP/1.1\r\n"
            f"{self._head}{more}Content-Length: {len(body.bytes)}\r\n\r\n"
        )
        transport.write(head.encode() + body.bytes)
        response = aiohttp.ClientResponse(
            "POST",
            self._request.url,
            writer=None,
            continue100=None,
            timer=self._timer,
            request_info=self._request.request_info,
            traces=[],
            loop=self._request.loop,
            session=self._session,
            stream_writer=StreamWriter(protocol, self._request.loop),
        )
        return await response.start(connection)


def _is_url(text: str) -> bool:
    """Whether the library can make one of it; if not, its session has words for that."""
    try:
        return bool(URL(text).raw_host)
    except ValueError:
        return False


def _fits() -> bool:
    """Whether the parts of aiohttp that the short way uses can be called as it calls them."""
    try:
        inspect.signature(aiohttp.BaseConnector.connect).bind(None, None, traces=[], timeout=None)
        inspect.signature(ResponseHandler.set_response_params).bind(
            None, timer=None, read_until_eof=True, auto_decompress=False, read_bufsize=1
        )
        inspect.signature(aiohttp.ClientResponse).bind(
            "POST",
            None,
            writer=None,
            continue100=None,
            timer=None,
            request_info=None,
            traces=[],
            loop=None,
            session=None,
            stream_writer=None,
        )
        inspect.signature(aiohttp.ClientResponse.start).bind(None, None)
    except (AttributeError, TypeError):
        return False
    return True


DIRECT: Final = _fits()
