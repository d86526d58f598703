"""The client of AnythingLLM: the only file that knows aiohttp's client and its exceptions."""

import asyncio
import errno
import os
import re
import ssl
from collections.abc import Callable, Mapping
from typing import Any, Final, Self

import aiohttp
import msgspec

from relay.arrived import all_before_the_break, way_to_empty
from relay.errors import Code, RelayError
from relay.posting import READ, Body, Poster, Request, Spoiled, post
from relay.question import SLUG, Question
from relay.readiness import Readiness
from relay.redact import Redactor
from relay.sockets import to_anythingllm

# Node closes an idle connection after 5 s (recorded); well below that, ours is never the loser.
_KEEPALIVE: Final = 2.0
_PROBE_TIMEOUT: Final = 10.0
_MAX_ERROR_BODY: Final = 64 * 1024
_ERROR_TIMEOUT: Final = 2.0  # seconds for the words of a rejection; its status is enough without
# Time given to the end of a body whose last frame is here, so that its connection can be used again.
_BODY_END: Final = 0.1
_KIND: Final = re.compile(r"text/(?:html|plain|xml)|application/(?:json|xml|octet-stream)")
_CODING: Final = re.compile(r"gzip|deflate|br|zstd")
_BROKEN_JSON: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_HOW_TO_REACH: Final = "check that AnythingLLM runs and that ANYTHINGLLM_BASE_URL is its address"


class Reply(asyncio.Protocol):
    """The body of AnythingLLM's answer, as it arrives. Use it as a context manager at once.

    Leaving it early closes the connection.

    It stands between the connection and aiohttp's own protocol, and passes on all that comes: so it
    knows when bytes are there without a task that has to wake up for them.
    """

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        open_ones: "set[Reply]",
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._response = response
        self._open_ones = open_ones
        self._loop = loop
        self._content = response.content
        self._all_of = way_to_empty(response.content)
        self._transport: asyncio.Transport | None = None
        self._take: Callable[[bytes], bool] | None = None
        self._taken: asyncio.Future[bool] | None = None

    def __enter__(self) -> Self:
        self._open_ones.add(self)
        connection = self._response.connection  # None if the body is here already
        if connection is not None and connection.protocol is not None:
            self._library = connection.protocol
            self._transport = connection.transport
            if self._transport is not None:
                self._transport.set_protocol(self)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._step_aside()
        self._open_ones.discard(self)
        self._response.close()

    async def hand_to(self, take: Callable[[bytes], bool]) -> bool:
        """Call `take` with what is here, and with what comes at the moment it does, until it says no.

        Returns whether there may be more, False at the end of the body. Raises what `take` raises, and
        RelayError (upstream_truncated). Safe to cancel: nothing read is lost.
        """
        self._take = take
        taken: asyncio.Future[bool] = self._loop.create_future()
        self._taken = taken
        try:
            self._hand_on()
            return await taken
        finally:
            self._take = self._taken = None
            del taken  # an error in it would hold this frame, and so itself

    async def finish(self) -> None:
        """Read to the end of the body if it comes at once: only then can the connection be reused."""
        if self._content.is_eof():
            return
        try:
            async with asyncio.timeout(_BODY_END):
                await self.hand_to(lambda _data: True)
        except (RelayError, TimeoutError):
            pass  # it is closed then, not pooled

    def data_received(self, data: bytes) -> None:
        """Hand on what came, and stay no longer than the body: others may use the connection then."""
        self._library.data_received(data)
        if self._content.is_eof():
            self._step_aside()
        if self._take is not None:
            self._hand_on()

    def eof_received(self) -> None:
        """Pass it on."""
        self._library.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever reads; aiohttp does not where it was chunk framing that broke."""
        self._library.connection_lost(exc)
        if not self._content.is_eof() and self._content.exception() is None:
            self._content.set_exception(aiohttp.ClientPayloadError())
        if self._take is not None:
            self._hand_on()

    def pause_writing(self) -> None:
        """Pass it on: AnythingLLM may answer before it has read the whole question."""
        self._library.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        self._library.resume_writing()

    def _step_aside(self) -> None:
        if self._transport is not None:
            self._transport.set_protocol(self._library)
            self._transport = None

    def _hand_on(self) -> None:
        """Give what is here to who takes it; runs in the midst of the event loop, so raises nothing."""
        take, taken = self._take, self._taken
        try:
            if take is None or taken is None or taken.done():
                return
            while data := self._arrived():
                if not take(data):
                    taken.set_result(True)
                    return
                if self._content.exception() is None:
                    break  # that was all
            if self._content.is_eof():
                self._step_aside()  # the end may have come only now, out of what was held back
                taken.set_result(False)
        except Exception as error:
            if taken is not None:
                taken.set_exception(error)
        finally:
            del take, taken  # as above

    def _arrived(self) -> bytes:
        """Return what is here already. Raises RelayError (upstream_truncated)."""
        if self._content.exception() is None:
            return self._all_of(self._content)
        if arrived := all_before_the_break(self._content):
            return arrived
        message = "The connection to AnythingLLM broke before the answer was finished; ask again."
        raise RelayError(Code.UPSTREAM_TRUNCATED, message)


class Upstream:
    """One AnythingLLM server. Use it as an async context manager.

    Connections are kept for as many streams as may run. A connection is closed, not pooled, unless its
    answer was read to the end.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        *,
        connect_timeout: float,
        max_streams: int,
        redactor: Redactor = Redactor(),  # noqa: B008 (immutable)
    ) -> None:
        self._api = f"{base_url}/api/v1"
        self._headers = {"Authorization": f"Bearer {api_key}", "Accept-Encoding": "identity"}
        self._timeout = aiohttp.ClientTimeout(total=None, connect=connect_timeout)
        self._connect_timeout = connect_timeout
        self._max_streams = max_streams
        self._redactor = redactor
        self._replies: set[Reply] = set()
        self.readiness = Readiness(self.probe)

    @property
    def connections(self) -> int:
        """Connections that carry an answer now."""
        return len(self._replies)

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        pool = aiohttp.TCPConnector(
            limit=self._max_streams, keepalive_timeout=_KEEPALIVE, socket_factory=to_anythingllm
        )
        self._session = self._open_session(pool, Request)
        self._poster = Poster(self._session, pool, self._api)
        # For the one retry, and for probes, which must not wait for a stream's connection.
        self._fresh = self._open_session(
            aiohttp.TCPConnector(limit=0, force_close=True, socket_factory=to_anythingllm)
        )
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.readiness.close()
        await self._session.close()
        await self._fresh.close()

    def _open_session(
        self,
        connector: aiohttp.TCPConnector,
        request: type[aiohttp.ClientRequest] = aiohttp.ClientRequest,
    ) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=connector,
            headers=self._headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=self._timeout,
            request_class=request,
            auto_decompress=False,
            read_bufsize=READ,
        )

    async def ask(self, question: Question, headers: Mapping[str, str] | None = None) -> Reply:
        """Ask AnythingLLM; the context of what is returned holds the connection.

        Waits for the head of the answer without a limit of its own: the caller's, on silence, covers
        it. Raises RelayError.
        """
        response = await self._post(_path(question), msgspec.json.encode(question.body()), headers or {})
        try:
            await self._check(response)
        except BaseException as error:
            response.close()
            if isinstance(error, RelayError):
                error.upstream_status = response.status
            raise
        self.readiness.alive(self._loop.time())
        return Reply(response, self._replies, self._loop)

    async def probe(self) -> None:
        """Check that AnythingLLM is there and takes our key. Raises RelayError saying what is wrong."""
        answer = await self._get("/auth")
        if not isinstance(answer, dict) or answer.get("authenticated") is not True:
            raise _not_anythingllm("it does not answer like AnythingLLM")

    async def probe_workspace(self, slug: str, setting: str) -> None:
        """Check that there is such a workspace. Raises RelayError naming the setting that has it."""
        answer = await self._get(f"/workspace/{slug}")
        # Recorded: an unknown slug is no error there, but an empty list.
        if not isinstance(answer, dict) or not answer.get("workspace"):
            message = f"AnythingLLM has no workspace {slug}; check {setting}."
            raise RelayError(Code.UPSTREAM_REJECTED, message)

    async def _get(self, path: str) -> Any:
        """Get JSON, over a connection of its own."""
        try:
            async with (
                asyncio.timeout(_PROBE_TIMEOUT),
                self._fresh.get(self._api + path, allow_redirects=False) as response,
            ):
                await self._check(response, "application/json")
                return msgspec.json.decode(await _head_of(response))
        except aiohttp.ClientError as error:
            raise self._translated(error.with_traceback(None)) from None
        except TimeoutError:
            message = f"AnythingLLM did not answer within {_PROBE_TIMEOUT:g} seconds; {_HOW_TO_REACH}."
            raise RelayError(Code.UPSTREAM_TIMEOUT, message) from None
        except OSError as error:
            raise self._translated(error.with_traceback(None)) from None
        except _BROKEN_JSON:
            raise _not_anythingllm("it sent broken JSON") from None

    async def _post(self, path: str, body: bytes, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        sent = Body(body, self._loop)
        try:
            return await self._poster.post(path, sent, headers)
        except (aiohttp.ClientError, OSError) as error:
            if not isinstance(error, Spoiled) and not sent.dead_on_arrival(error):
                raise self._translated(error.with_traceback(None)) from None
        try:
            return await post(self._fresh, self._api + path, Body(body, self._loop), headers)
        except (aiohttp.ClientError, OSError) as error:
            raise self._translated(error.with_traceback(None)) from None

    async def _check(
        self, response: aiohttp.ClientResponse, expected: str = "text/event-stream"
    ) -> None:
        """Raise RelayError unless this is the kind of answer that was asked for."""
        if response.status in (401, 403):
            message = (
                "AnythingLLM refused the API key; check ANYTHINGLLM_API_KEY "
                "(made in AnythingLLM under Settings > Tools > Developer API)."
            )
            raise RelayError(Code.UPSTREAM_UNAUTHORIZED, message)
        if response.status != 200:
            raise await self._rejected(response)
        coding = response.headers.get("Content-Encoding", "identity").lower()
        if coding != "identity":  # was not asked for, and may unpack to anything
            raise _not_anythingllm(f"its answer is compressed ({_shown(coding, _CODING)})")
        # Recorded: an unknown workspace on the thread route is told in a stream without a content type.
        kind = response.headers.get("Content-Type", expected).partition(";")[0].strip().lower()
        if kind != expected:
            raise _not_anythingllm(f"it sent {_shown(kind, _KIND)}, not {expected}")

    async def _rejected(self, response: aiohttp.ClientResponse) -> RelayError:
        try:
            async with asyncio.timeout(_ERROR_TIMEOUT):
                words = self._redactor.text(_error_words(await _head_of(response)))
        except (aiohttp.ClientError, OSError):  # a TimeoutError is one of these
            words = ""
        message = f"AnythingLLM answered {response.status}"
        if words:
            message += f": {words.rstrip('.')}"
        if 300 <= response.status < 400:
            message += ", a redirect, which is not followed; set ANYTHINGLLM_BASE_URL to where it leads"
        elif not words:
            message += f"; {_HOW_TO_REACH}"
        elif "is not a valid workspace" in words:
            message += "; check ANYTHINGLLM_WORKSPACE_SLUG, or the `workspace` of the request"
        retryable = response.status == 429 or response.status >= 500
        return RelayError(Code.UPSTREAM_REJECTED, message + ".", retryable=retryable)

    def _translated(self, error: Exception) -> RelayError:
        """Say in a sentence what aiohttp says in a class."""
        if isinstance(error, aiohttp.ServerTimeoutError):
            message = (
                f"AnythingLLM did not accept a connection within {self._connect_timeout:g} seconds "
                f"(ANYTHINGLLM_CONNECT_TIMEOUT); {_HOW_TO_REACH}."
            )
            return RelayError(Code.UPSTREAM_TIMEOUT, message)
        if isinstance(error, aiohttp.ClientResponseError):
            return _not_anythingllm("it does not speak HTTP")
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            message = "The relay may open no more files; raise its limit (ulimit -n, LimitNOFILE=)."
            return RelayError(Code.UPSTREAM_UNREACHABLE, message)
        message = f"AnythingLLM cannot be reached ({_why(error)}); {_HOW_TO_REACH}."
        return RelayError(Code.UPSTREAM_UNREACHABLE, message)


def _path(question: Question) -> str:
    # Checked here as well, at the place where a slash would be another route.
    for slug in (question.workspace, question.thread or "-"):
        if not SLUG.fullmatch(slug):
            raise ValueError(f"not a slug: {slug!r}")
    thread = f"/thread/{question.thread}" if question.thread else ""
    return f"/workspace/{question.workspace}{thread}/stream-chat"


async def _head_of(response: aiohttp.ClientResponse) -> bytes:
    """Read a short body; a long one is cut."""
    body = b""
    while len(body) < _MAX_ERROR_BODY and (data := await response.content.readany()):
        body += data
    return body


def _error_words(body: bytes) -> str:
    """Return what a JSON error says; nothing for a web page."""
    try:
        value = msgspec.json.decode(body)
    except _BROKEN_JSON:
        return ""
    words = value.get("error") if isinstance(value, dict) else None
    return words if isinstance(words, str) else ""


def _not_anythingllm(what: str) -> RelayError:
    message = f"What answered is not AnythingLLM's API: {what}; {_HOW_TO_REACH}."
    return RelayError(Code.UPSTREAM_PROTOCOL, message)


def _shown(value: str, pattern: re.Pattern[str]) -> str:
    """Return a header's value if it is of the usual kind; it may as well be a secret, or a book."""
    return value if pattern.fullmatch(value) else "something else"


def _why(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "the name of its host is not known"
    if isinstance(error, aiohttp.ClientConnectorCertificateError | ssl.CertificateError):
        return "its certificate is not trusted"
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return "TLS failed; perhaps it speaks plain http"
    refused = isinstance(getattr(error, "os_error", error), ConnectionRefusedError)
    if refused:  # Windows has no words of its own for it
        return "connection refused"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    return "it closed the connection"
