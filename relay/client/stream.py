"""One question and its answer over aiohttp: asked once, followed over lost connections, stopped."""

import asyncio
import random
import re
import secrets
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any, Final, Literal, TypedDict, Unpack
from urllib.parse import urlsplit

import aiohttp
import msgspec

from relay.client.decoding import AnyEvent, Unreadable, decode
from relay.client.errors import Lost, Refused, Unreachable
from relay.errors import Code
from relay.events import FinalEnd
from relay.sse import Decoder, LineTooLong

_CONNECTING: Final = 10.0  # seconds to connect
_STOPPING: Final = 2.0  # seconds for telling the relay to stop
_STEADY: Final = 10.0  # seconds after which a connection was a good one, also without an event
_FIRST_PAUSE: Final = 0.2  # seconds before a lost connection is tried again; then twice as long ...
_LONGEST_PAUSE: Final = 5.0  # ... up to this
_REFUSAL: Final = 65_536  # bytes of a refusal that are read
_PASSING: Final = (408, 429, 500, 502, 503, 504)  # what a relay, or a proxy before it, takes back later
_STREAM_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,200}", re.ASCII)
# Not connected, or to something that speaks no HTTP.
_NEVER_SENT: Final = (
    aiohttp.ClientConnectorError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.ClientResponseError,
)
_NO_RELAY: Final = "What answers at {url} is no relay."
_NO_ADDRESS: Final = "the address of a relay is one like http://localhost:5000"


class Options(TypedDict, total=False):
    """What may be said besides the question; `ask` tells of each."""

    key: str | None
    workspace: str | None
    thread: str | None
    session_id: str | None
    mode: Literal["chat", "query", "automatic"] | None
    attachments: Sequence[Mapping[str, str]] | None
    reset: bool
    reasoning: Literal["inline", "separate", "hide"] | None
    sources: Literal["titles", "full", "none"] | None
    resumable: bool
    patience: float
    silence: float
    on_lost: Callable[[], None] | None


async def ask(
    url: str,
    question: str | None,
    *,
    session: aiohttp.ClientSession | None = None,
    **options: Unpack[Options],
) -> AsyncGenerator[AnyEvent, None]:
    """Ask the relay at `url` (`http://localhost:5000`), and yield the events of the answer.

    The pieces of the answer are `Chunk`s; joined, they are the answer. The last event is always a
    `FinalEnd`. An answer that fails has an `Error` just before it, which is an event like the others:
    the text before it counts.

    What the relay is asked (docs/protocol.md, "Asking"), each left to the relay where it is not given:
    `workspace`, `thread`, `session_id`, `mode`, `attachments` (`name`, `mime` and `contentString` of
    each), `reset` (then `question` may be None), `reasoning`, `sources`; and `key`, the client's key.

    How the answer is followed:

    - `resumable` (true): the answer outlives a lost connection, which is tried again for `patience`
      seconds (60); every event comes once and in order all the same. `on_lost` is called whenever it is
      lost. False, or where the relay has no room to hold an answer: a lost connection is the end.
    - `silence` (60): after so many seconds without a byte the connection counts as lost. The relay
      sends one at least every `RELAY_HEARTBEAT` seconds (15).
    - `session`: an aiohttp session to use, which stays open; otherwise one is made for this question.

    Leaving the loop early, by `break`, `aclose()` or a cancelled task, stops the answer, and
    AnythingLLM with it; that takes up to 2 s where the relay does not answer. After a `break` it happens
    when Python finalizes the generator: `contextlib.aclosing` makes it happen at a known place.

    Raises Unreachable, Refused and Lost, whose texts are for a person, and ValueError for what cannot
    be sent.
    """
    stream = Stream(url, question, session, **options)
    try:
        while events := await stream.read():
            for event in events:
                yield event
    finally:
        await stream.leave()


class _NoRoom(Exception):
    """The relay answers, but cannot hold the answer for who comes back."""


class _TryAgain(Exception):
    """A relay is there again, but not ready."""

    def __init__(self, after: float | None) -> None:
        super().__init__()
        self.after = after or 0.0


class Stream:
    """What `ask` and `ask_sync` read from. `leave` must be called in the end; not for concurrent use."""

    def __init__(
        self,
        url: str,
        question: str | None,
        session: aiohttp.ClientSession | None = None,
        *,
        key: str | None = None,
        workspace: str | None = None,
        thread: str | None = None,
        session_id: str | None = None,
        mode: str | None = None,
        attachments: Sequence[Mapping[str, str]] | None = None,
        reset: bool = False,
        reasoning: str | None = None,
        sources: str | None = None,
        resumable: bool = True,
        patience: float = 60.0,
        silence: float = 60.0,
        on_lost: Callable[[], None] | None = None,
    ) -> None:
        fields = {
            "question": question,
            "workspace": workspace,
            "thread": thread,
            "session_id": session_id,
            "mode": mode,
            "attachments": attachments,
            "reset": reset or None,
            "reasoning": reasoning,
            "sources": sources,
        }
        self._url = _base(url)
        self._body = _json({name: value for name, value in fields.items() if value is not None})
        self._headers = _authorization(key)
        self._post_headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        if resumable:
            self._post_headers["Idempotency-Key"] = secrets.token_urlsafe(16)
        self._resumable = resumable
        self._patience = patience
        self._timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=min(_CONNECTING, silence), sock_read=silence
        )
        self._on_lost = on_lost
        self._session = session
        self._own: aiohttp.TCPConnector | None = None
        self._response: aiohttp.ClientResponse | None = None
        self._decoder = Decoder()
        self._id: str | None = None  # of the stream, once the relay has told it
        self._last = ""  # id of the last event
        self._begun = False  # a question may have left
        self._sent = False  # and it has
        self._over = False  # nothing is left to read or to stop
        self._since = 0.0  # when the last good connection was lost
        self._connected = 0.0
        self._tries = 0  # since then

    async def read(self) -> list[AnyEvent]:
        """Return the events that come next, at least one; none after the last.

        Raises Unreachable, Refused and Lost.
        """
        while not self._over:
            try:
                if events := await self._receive(self._response or await self._connect()):
                    return events
            except aiohttp.InvalidURL:
                self._over = True
                raise ValueError(_NO_ADDRESS) from None
            except (aiohttp.ClientError, OSError, _TryAgain) as error:
                await self._recover(error)
        return []

    async def leave(self) -> None:
        """Close the connection, and stop the answer if it is not over: within 2 s, or not at all."""
        response, self._response = self._response, None
        if response is not None:
            response.close()  # if its end has come, its connection went back to the session then
        try:
            if self._begun and self._resumable and not self._over:
                self._over = True
                await self._stop()
        finally:
            if self._own is not None and self._session is not None:
                await self._session.close()

    async def _receive(self, response: aiohttp.ClientResponse) -> list[AnyEvent]:
        data = await response.content.readany()
        if not data:
            raise aiohttp.ClientPayloadError("the stream ended without final_end")
        events: list[AnyEvent] = []
        try:
            for told in self._decoder.feed(data):
                self._last = told.id
                if (event := decode(told)) is not None:
                    events.append(event)
                if isinstance(event, FinalEnd):
                    self._over = True
                    break
        except (LineTooLong, Unreadable) as error:
            raise Lost(f"What {self._url} sent cannot be read: {error}.") from None
        if events:
            self._tries = 0
        return events

    async def _connect(self) -> aiohttp.ClientResponse:
        """Ask, or go on where the connection was lost."""
        self._begun = True
        response = await (self._post() if self._id is None else self._get())
        try:
            if response.status != 200 or response.content_type != "text/event-stream":
                await self._refused(response)
        except _NoRoom:
            response.close()
            self._resumable = False
            del self._post_headers["Idempotency-Key"]
            return await self._connect()
        except BaseException:
            response.close()
            raise
        self._sent = True
        self._decoder = Decoder()
        self._connected = asyncio.get_running_loop().time()
        self._id = self._id or _stream_id(response)
        self._response = response
        return response

    async def _post(self) -> aiohttp.ClientResponse:
        return await self._request("POST", "/stream-ask", self._post_headers, self._body)

    async def _get(self) -> aiohttp.ClientResponse:
        place = {"Last-Event-ID": self._last} if self._last else {}
        return await self._request("GET", f"/streams/{self._id}", place)

    async def _request(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> aiohttp.ClientResponse:
        if self._session is None:
            # A program that ends cannot look names up any more, but can still stop an answer.
            self._own = aiohttp.TCPConnector(ttl_dns_cache=None)
            self._session = aiohttp.ClientSession(connector=self._own)
        return await self._session.request(
            method,
            self._url + path,
            data=body,
            headers={**self._headers, **headers},
            timeout=self._timeout,
            allow_redirects=False,
        )

    async def _refused(self, response: aiohttp.ClientResponse) -> None:
        """Raise what an answer that is no stream means here."""
        refusal = _refusal(response, await response.content.read(_REFUSAL))
        if self._sent and response.status in _PASSING:
            raise _TryAgain(refusal.retry_after)
        if self._resumable and not self._sent and refusal.code == Code.RESUME_UNAVAILABLE:
            raise _NoRoom
        self._over = True
        if self._id is not None:
            raise Lost(
                f"The connection was lost, and the relay cannot go on with this answer: {refusal}"
            )
        if response.status == 200:
            raise Unreachable(_NO_RELAY.format(url=self._url))
        raise refusal

    async def _recover(self, error: Exception) -> None:
        """Wait until it is time to connect again. Raises Unreachable and Lost where it never is."""
        response, self._response = self._response, None
        if response is not None:
            response.close()
        if not self._sent and isinstance(error, _NEVER_SENT):
            self._over = True
            raise Unreachable(_why_not(self._url, error)) from None
        self._sent = True
        if not self._resumable or (response is not None and self._id is None):
            self._over = True
            raise Lost(f"The connection to {self._url} was lost before the answer was finished.")
        now = asyncio.get_running_loop().time()
        if self._tries == 0 or (response is not None and now - self._connected > _STEADY):
            self._since, self._tries = now, 0
            if self._on_lost is not None:
                self._on_lost()
        longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**self._tries)
        pause = random.uniform(longest / 2, longest)  # noqa: S311 (no secret)
        if isinstance(error, _TryAgain):
            pause = max(pause, error.after)
        if now + pause > self._since + self._patience:
            self._over = True
            raise Lost(
                f"The connection to {self._url} was lost, and there was no other one for "
                f"{self._patience:g} s."
            )
        self._tries += 1
        await asyncio.sleep(pause)
        if self._own is not None:
            self._own.clear_dns_cache()

    async def _stop(self) -> None:
        interrupted: BaseException | None = None
        for _ in range(2):
            try:
                async with asyncio.timeout(_STOPPING):
                    await self._delete()
                break
            except (aiohttp.ClientError, OSError):
                break  # the relay is not there; it stops an answer that nobody reads by itself
            except (asyncio.CancelledError, GeneratorExit) as error:
                # A loop that ends interrupts what still runs, even the generator that is being closed.
                interrupted = error
        if interrupted is not None:
            raise interrupted

    async def _delete(self) -> None:
        if self._id is None:  # the head is still to come: the same question has the same stream
            async with await self._post() as response:
                self._id = _stream_id(response)
                response.close()
        if self._id is not None:
            async with await self._request("DELETE", f"/streams/{self._id}", {}):
                pass


def _base(url: str) -> str:
    base = url.rstrip("/").removesuffix("/stream-ask").removesuffix("/v1")
    try:
        parts = urlsplit(base)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise ValueError(_NO_ADDRESS)
    return base


def _json(fields: Mapping[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(fields)
    except UnicodeEncodeError:
        raise ValueError("a question must not hold half of a surrogate pair") from None


def _authorization(key: str | None) -> dict[str, str]:
    if key is None:
        return {}
    if not (key.isascii() and key.isprintable() and key.strip()):
        raise ValueError("a key must be visible ASCII characters")
    return {"Authorization": f"Bearer {key}"}


def _stream_id(response: aiohttp.ClientResponse) -> str | None:
    """One that can be part of an address."""
    found = response.headers.get("X-Stream-ID", "")
    return found if _STREAM_ID.fullmatch(found) else None


class _Refusal(msgspec.Struct):
    error: str
    code: str = ""


def _refusal(response: aiohttp.ClientResponse, body: bytes) -> Refused:
    try:
        told = msgspec.json.decode(body, type=_Refusal)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        told = _Refusal(f"It was refused with the HTTP status {response.status}.")
    after = response.headers.get("Retry-After", "")
    seconds = float(after) if after.isdecimal() and len(after) < 10 else None
    return Refused(told.error, response.status, told.code, seconds)


def _why_not(url: str, error: Exception) -> str:
    match error:
        case aiohttp.ClientConnectorDNSError():
            return f"The host of {url} is not known."
        case aiohttp.ClientSSLError():
            return f"There is no safe connection to {url}: {error.os_error.strerror or error}."
        case aiohttp.ConnectionTimeoutError():
            return f"{url} does not answer."
        case aiohttp.ClientResponseError():
            return _NO_RELAY.format(url=url)
    return f"Nothing listens at {url}."
