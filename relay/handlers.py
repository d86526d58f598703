"""The addresses of the relay: `POST /stream-ask`, `GET /healthz`, `GET /readyz`."""

import asyncio
import logging
import re
import warnings
from typing import Any, Final, NamedTuple

from aiohttp import BodyPartReader, HttpVersion11, MultipartReader, StreamReader, web
from aiohttp.http_exceptions import HttpProcessingError

from relay import question
from relay.errors import Code, RelayError
from relay.frames import Answer, Limits
from relay.middlewares import OWNER, request_id
from relay.question import Policy, Question
from relay.redact import Redactor
from relay.refusals import as_json
from relay.response import EventStreamResponse
from relay.stream import RelayStream, Streams
from relay.upstream import Upstream


class Timing(NamedTuple):
    """Seconds: silence before a comment, patience with a stuck client, the limits on AnythingLLM."""

    heartbeat: float
    send_timeout: float
    upstream: Limits


POLICY: Final = web.AppKey("policy", Policy)
TIMING: Final = web.AppKey("timing", Timing)
MAX_LINE_BYTES: Final = web.AppKey("max_line_bytes", int)
REDACTOR: Final = web.AppKey("redactor", Redactor)
UPSTREAM: Final = web.AppKey("upstream", Upstream)
STREAMS: Final = web.AppKey("streams", Streams)

_BODY_TIMEOUT: Final = 30.0
_JSON: Final = "application/json"
_URLENCODED: Final = "application/x-www-form-urlencoded"
_MULTIPART: Final = "multipart/form-data"
# Characters: parsing one of eight thousand would keep everybody waiting for a second.
_MAX_CONTENT_TYPE: Final = 256
# What aiohttp raises for a body that is broken in one of many ways, multipart above all.
_BROKEN_BODY: Final = (
    ValueError,
    LookupError,
    RuntimeError,
    HttpProcessingError,
    web.RequestPayloadError,
)
_TRACEPARENT: Final = re.compile(r"[0-9a-f-]{1,128}", re.ASCII)

log = logging.getLogger(__name__)
routes = web.RouteTableDef()


async def _on_expect(request: web.Request) -> None:
    """Ask for the body that the client waits to send, unless it is going to be refused for its size."""
    if request.version == HttpVersion11 and not _is_too_large(request):
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")


@routes.post("/stream-ask", expect_handler=_on_expect)
async def stream_ask(request: web.Request) -> web.StreamResponse:
    """Ask, and stream the answer for as long as the client stays."""
    asked = question.parse(await _fields(request), request.app[POLICY])
    if OWNER in request:
        asked = question.owned_by(asked, request[OWNER])
    streams = request.app[STREAMS]
    streams.admit()
    stream = RelayStream(request.app[UPSTREAM], asked, _answer(request.app, asked), _trace(request))
    timing = request.app[TIMING]
    response = EventStreamResponse(heartbeat=timing.heartbeat, send_timeout=timing.send_timeout)
    try:
        with streams.running(stream):
            await _deliver(stream, request, response)
    except ConnectionResetError:
        # The client left. If it closed one side only, what it does not take would keep it open.
        if request.transport is not None:
            request.transport.abort()
    finally:
        _log_end(request, stream, response)
    return response


async def _deliver(stream: RelayStream, request: web.Request, response: EventStreamResponse) -> None:
    async with stream:
        await response.prepare(request)
        async with response:
            while events := await stream.read():
                await response.write(events)
            await response.finish()


@routes.get("/healthz", allow_head=False)
async def healthz(_request: web.Request) -> web.Response:
    """Tell that the process serves."""
    return web.json_response({"status": "ok"})


@routes.get("/readyz", allow_head=False)
async def readyz(request: web.Request) -> web.Response:
    """Tell whether a question would be answered: AnythingLLM is there and takes our key."""
    try:
        request.app[STREAMS].refuse_if_draining()
        await request.app[UPSTREAM].probe()
    except RelayError as error:
        return as_json(error, 503)
    return web.json_response({"status": "ok"})


async def _fields(request: web.Request) -> dict[str, Any]:
    """Read the body in either of its two kinds."""
    kind, charset = _content_type(request)
    if kind not in (_JSON, _URLENCODED, _MULTIPART):
        raise _unsupported(f"Send the question as {_JSON}, or as a form.")
    if charset.lower() not in ("utf-8", "utf8"):
        raise _unsupported("The body must be UTF-8.")
    if any(coding.lower() != "identity" for coding in request.headers.getall("Content-Encoding", ())):
        raise _unsupported("The body must not be compressed.")
    if _is_too_large(request):
        raise web.HTTPRequestEntityTooLarge(request.client_max_size)
    try:
        async with asyncio.timeout(_BODY_TIMEOUT):
            body = await request.read()
        if kind == _MULTIPART:
            return question.from_form(await _parts(request, body))
    except TimeoutError:
        message = f"The body did not arrive within {_BODY_TIMEOUT:g} seconds."
        raise RelayError(Code.REQUEST_TIMEOUT, message) from None
    except _BROKEN_BODY:
        raise RelayError(Code.BAD_REQUEST, "The body cannot be read.") from None
    return question.from_json(body) if kind == _JSON else question.from_urlencoded(body)


def _content_type(request: web.Request) -> tuple[str, str]:
    """Return the kind of the body and its charset; no kind for one that cannot be told."""
    if not 0 < len(request.headers.get("Content-Type", "")) <= _MAX_CONTENT_TYPE:
        return "", ""
    try:
        return request.content_type, request.charset or "utf-8"
    except IndexError:  # of Python's own parser, at a parameter whose name ends with a star
        return "", ""


async def _parts(request: web.Request, body: bytes) -> list[tuple[str, object]]:
    """Read a form in parts, all of which are here; a file is None. Raises what is in _BROKEN_BODY."""
    if not body.startswith(b"--"):  # a megabyte of lines to skip would hold everybody up for seconds
        raise RelayError(Code.BAD_REQUEST, "The body of such a form must begin with its boundary.")
    content = StreamReader(request.protocol, len(body), loop=asyncio.get_running_loop())
    content.feed_data(body)
    content.feed_eof()
    found: list[tuple[str, object]] = []
    with warnings.catch_warnings():  # it warns of each odd header, and would remember every one
        warnings.simplefilter("ignore")
        async for part in MultipartReader(request.headers, content):
            if not isinstance(part, BodyPartReader) or part.name is None:
                raise ValueError("a part that is no field")
            if len(found) == question.MAX_FORM_FIELDS:
                raise question.too_many_fields()
            text = None
            if part.filename is None:
                text = (await part.read(decode=True)).decode(part.get_charset("utf-8"))
            found.append((part.name, text))
    return found


def _is_too_large(request: web.Request) -> bool:
    """Whether the length that a body is said to have is over the limit; one without is counted."""
    return (request.content_length or 0) > request.client_max_size


def _unsupported(message: str) -> RelayError:
    return RelayError(Code.UNSUPPORTED_MEDIA_TYPE, message)


def _answer(app: web.Application, asked: Question) -> Answer:
    return Answer(
        format=asked.format,
        reasoning=asked.reasoning,
        sources=asked.sources,
        limits=app[TIMING].upstream,
        max_line_bytes=app[MAX_LINE_BYTES],
        redactor=app[REDACTOR],
    )


def _trace(request: web.Request) -> dict[str, str]:
    traceparent = request.headers.get("traceparent", "")
    return {"traceparent": traceparent} if _TRACEPARENT.fullmatch(traceparent) else {}


def _log_end(request: web.Request, stream: RelayStream, response: EventStreamResponse) -> None:
    """One line a stream; neither the question nor the answer is in it."""
    if stream.fault is not None:
        id_only = {"fields": {"id": request_id(request)}}
        log.error("the relay failed in mid-answer", exc_info=stream.fault, extra=id_only)
    outcome = stream.outcome if stream.delivered else "left"
    first = stream.first_event_after
    fields = {
        "id": request_id(request),
        "outcome": "stuck" if response.stuck else outcome,
        "events": stream.events,
        "bytes": stream.bytes,
        "first_event_s": None if first is None else round(first, 3),
        "total_s": round(stream.age, 3),
    }
    log.info("stream ended", extra={"fields": fields})
