"""The clients' connections: how many there may be, and how long one may stay without asking."""

import asyncio
import logging
from collections.abc import Iterator
from typing import Any, Final, NoReturn, cast

from aiohttp import HttpVersion10, HttpVersion11, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import _ErrInfo

from relay.errors import Code, RelayError
from relay.refusals import as_bytes, of_no_request

# Seconds for the head of a request: from the connection on, or from the first byte of a later one.
_HEAD: Final = 10.0
# Seconds a client may keep a connection without asking.
_IDLE: Final = 75.0
# Seconds for a client without a place to say something: closing earlier could cost it our answer.
_REFUSED: Final = 1.0
# Seconds to take our last words.
_CLOSING: Final = 2.0
# Connections that may be open beyond the limit, to be told why they have no place.
MAX_LEAVING: Final = 256
# Seconds between looks at those that wait.
_LOOK: Final = 1.0

log = logging.getLogger(__name__)


class Connections(web.Server):
    """Serves at most `limit` connections, and none that keeps its place without asking.

    When all places are taken, the connection that has waited longest without a request is closed for
    a new one; when each has a request, the new one is refused with 503. One that is refused or being
    closed has no place any more.
    """

    def __init__(self, server: web.Server, *, limit: int, **options: Any) -> None:
        """Take over from `server`; `options` are those of web.RequestHandler."""
        super().__init__(
            self._guarded,
            request_factory=server.request_factory,
            handler_cancellation=server.handler_cancellation,
        )
        # The library's own limit on idle connections would be a second one.
        self._options = {**options, "keepalive_timeout": 10 * _IDLE}
        self._handler = server.request_handler
        self._limit = limit
        self._open: set[Connection] = set()
        self._turned_away = 0
        self._clock: asyncio.TimerHandle | None = None
        self._heads = _Waiting(_HEAD)
        self._idle = _Waiting(_IDLE)
        self._refused = _Waiting(_REFUSED)
        self._closing = _Waiting(_CLOSING)

    def __call__(self) -> "Connection":
        """Make the protocol of a new connection."""
        return Connection(self, loop=self._loop, **self._options)

    async def shutdown(self, timeout: float | None = None) -> None:
        """Close every connection."""
        for connection in self._closing:
            connection.abort()
        await super().shutdown(timeout)
        if self._clock is not None:
            self._clock.cancel()

    def opened(self, connection: "Connection") -> None:
        """Count a new connection, and find it a place."""
        self._open.add(connection)
        if len(self._open) - len(self._closing) - len(self._refused) > self._limit:
            self._turned_away += 1
            oldest = self._idle.oldest() or self._heads.oldest()
            if oldest is None:
                self._refuse(connection)
                return
            self._turn_away(oldest)
        elif len(self._open) > self._limit and (leaving := self._closing.oldest()) is not None:
            self._let_go(leaving)
        self._wait(connection, self._heads)

    def heard(self, connection: "Connection") -> bool:
        """Note that bytes came; return whether they may be read."""
        if connection.waits is self._idle:
            self._wait(connection, self._heads)
        elif connection.waits is self._refused:
            self._turn_away(connection)
        return connection.waits is not self._closing

    def closing(self, connection: "Connection") -> None:
        """Give a connection a last moment, in which nothing is read any more."""
        self._wait(connection, self._closing)

    def lost(self, connection: "Connection") -> None:
        """Forget a connection."""
        self._open.discard(connection)
        self._wait(connection, None)

    async def _guarded(self, request: web.BaseRequest) -> web.StreamResponse:
        """Handle a request, during which its connection waits for nothing."""
        connection = cast(Connection, request.protocol)
        if words := _odd(request):
            self._close(connection, RelayError(Code.BAD_REQUEST, words))
            await connection.leave()
        self._wait(connection, None)
        connection.begins(request)
        try:
            response = await self._handler(request)
        finally:
            connection.ends()
            if connection.transport is not None:
                self._wait(connection, self._idle)
        if not request.content.is_eof() or request.content.exception() is not None:
            response.force_close()  # the rest of the body would be taken for the next request
            connection.over = True
        return response

    def _wait(self, connection: "Connection", waits: "_Waiting | None") -> None:
        if connection.waits is not None:
            connection.waits.discard(connection)
        connection.waits = waits
        if waits is None:
            return
        waits.add(connection, self._loop.time())
        if self._clock is None:
            self._clock = self._loop.call_later(_LOOK, self._look)

    def _look(self) -> None:
        now = self._loop.time()
        for connection in self._heads.overdue(now):
            message = f"The head of the request did not arrive within {_HEAD:g} seconds."
            refusal = RelayError(Code.REQUEST_TIMEOUT, message)
            self._close(connection, refusal if connection.said else None)
        for connection in self._idle.overdue(now):
            self._close(connection)
        for connection in self._refused.overdue(now):
            self._turn_away(connection)
        for connection in self._closing.overdue(now):
            self._let_go(connection)
        if self._turned_away:
            fields = {"connections": self._turned_away, "limit": self._limit}
            log.warning("turned away (RELAY_MAX_CONNECTIONS)", extra={"fields": fields})
            self._turned_away = 0
        waiting = (self._heads, self._idle, self._refused, self._closing)
        again = any(waits.oldest() for waits in waiting)
        self._clock = self._loop.call_later(_LOOK, self._look) if again else None

    def _refuse(self, connection: "Connection") -> None:
        if len(self._refused) + len(self._closing) >= MAX_LEAVING:
            leaving = self._closing.oldest() or self._refused.oldest()
            if leaving is not None:
                self._let_go(leaving)
        self._wait(connection, self._refused)

    def _turn_away(self, connection: "Connection") -> None:
        message = f"All {self._limit} connections are taken (RELAY_MAX_CONNECTIONS); try again."
        refusal = RelayError(Code.TOO_MANY_CONNECTIONS, message, headers={"Retry-After": "1"})
        self._close(connection, refusal if connection.said else None)

    def _let_go(self, connection: "Connection") -> None:
        self.lost(connection)  # now, not when the loop comes to tell so: others may be waiting
        connection.abort()

    def _close(self, connection: "Connection", refusal: RelayError | None = None) -> None:
        self.closing(connection)
        connection.end(refusal)


def _odd(request: web.BaseRequest) -> str | None:
    """Return what is wrong with a head that the library would serve, or stumble over."""
    if request.version not in (HttpVersion10, HttpVersion11):
        return "The relay speaks HTTP/1.1 and HTTP/1.0 only."
    if request.headers.get("Expect", "100-continue").lower() != "100-continue":
        return "Of what `Expect` may ask for, the relay knows 100-continue only."
    return None


class Connection(web.RequestHandler):
    """One client's connection."""

    __slots__ = ("_broken", "_connections", "_malformed", "_request", "_wire", "over", "said", "waits")

    def __init__(
        self, connections: Connections, *, loop: asyncio.AbstractEventLoop, **options: Any
    ) -> None:
        super().__init__(connections, loop=loop, **options)
        self._connections = connections
        self._request: web.BaseRequest | None = None
        self.said = False  # whether bytes came that may be a request
        self.over = False  # whether the last answer is on its way
        self._broken = False  # whether what was read last is no HTTP
        self._malformed = False  # whether what came last is no HTTP
        self.waits: _Waiting | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a place."""
        super().connection_made(transport)
        self._wire = cast(asyncio.Transport, transport)  # the library forgets its own when it closes
        self._connections.opened(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Give it back."""
        super().connection_lost(exc)
        self._connections.lost(self)

    def data_received(self, data: bytes) -> None:
        """Read what the client sent, if it has a place."""
        if data:
            self.said = True
            if self._broken or not self._connections.heard(self):
                return
        super().data_received(data)
        self._notice_rubbish()
        self._notice_broken_body()

    def begins(self, request: web.BaseRequest) -> None:
        """Note the request that is handled."""
        self._request = request
        self.said = False
        self._notice_broken_body()

    def ends(self) -> None:
        """Note that none is."""
        self._request = None

    def end(self, refusal: RelayError | None) -> None:
        """Close; a client that said something is told why, if there is a reason."""
        if refusal is None or self.over or self.transport is None:
            self.force_close()
        else:
            self.transport.write(as_bytes(refusal))
            self.transport.write_eof()

    async def leave(self) -> NoReturn:
        """Wait for the connection to be lost, which cancels the waiting.

        Closing while the client still sends would reset the connection, and could cost it our answer.
        """
        self._connections.closing(self)
        if self.transport is not None:
            self.transport.write_eof()
        await self._loop.create_future()
        raise ConnectionResetError

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send the end of an answer; after one to what is no HTTP, nothing more can be understood."""
        done = await super().finish_response(request, resp, start_time)
        if self._malformed:
            await self.leave()
        return done

    def abort(self) -> None:
        """Close without waiting for the client to take what was written."""
        self._wire.abort()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Refuse what is no HTTP: without a traceback, and without its bytes, which may hold a key."""
        if isinstance(exc, ConnectionError):
            raise exc  # the client has left: the library takes it so from here
        if not isinstance(exc, HttpProcessingError):
            return super().handle_error(request, status, exc, message)
        log.info("a malformed request was refused")
        self._malformed = True
        words = "The request is not well-formed HTTP, or its head is too large."
        return of_no_request(RelayError(Code.BAD_REQUEST, words))

    def _notice_rubbish(self) -> None:
        """Read no further behind what is no HTTP; it may wait for a stream to end before it is refused.

        The library's parser would go on, and queue an error with all the bytes in it for each read.
        """
        if self._messages and isinstance(self._messages[-1][0], _ErrInfo):
            self._broken = True
            self._messages[-1] = (_ErrInfo(400, HttpProcessingError(), ""), self._messages[-1][1])

    def _notice_broken_body(self) -> None:
        """Tell the reader of a body that the parser gave it up.

        The library's parser tells only the queue of requests; the body would be waited for until its
        time is up. Anything queued behind a body that has not ended says so.
        """
        if self._request is None or not self._messages:
            return
        content = self._request.content
        if not content.is_eof():
            content.set_exception(web.RequestPayloadError("broken"))
            content.feed_eof()


class _Waiting:
    """Connections that wait for the same thing, none longer than `limit` seconds; the oldest first."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._since: dict[Connection, float] = {}

    def add(self, connection: Connection, now: float) -> None:
        self._since[connection] = now

    def discard(self, connection: Connection) -> None:
        self._since.pop(connection, None)

    def __len__(self) -> int:
        return len(self._since)

    def __iter__(self) -> Iterator[Connection]:
        return iter(self._since)

    def oldest(self) -> Connection | None:
        return next(iter(self._since), None)

    def overdue(self, now: float) -> Iterator[Connection]:
        """Yield those whose time is up; each must be taken away before the next."""
        while (oldest := self.oldest()) is not None and self._since[oldest] + self._limit <= now:
            yield oldest
