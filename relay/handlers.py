"""The addresses of the relay: `POST /stream-ask`, `GET /healthz`, `GET /readyz`."""

import logging
import re
from typing import Final, NamedTuple

from aiohttp import web

from relay import body, question
from relay.errors import RelayError
from relay.frames import Answer, Limits
from relay.middlewares import OWNER, request_id
from relay.question import Policy, Question
from relay.redact import Redactor
from relay.refusals import as_json
from relay.response import EventStreamResponse
from relay.stream import RelayStream
from relay.streams import Streams
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

_TRACEPARENT: Final = re.compile(r"[0-9a-f-]{1,128}", re.ASCII)

log = logging.getLogger(__name__)
routes = web.RouteTableDef()


@routes.post("/stream-ask", expect_handler=body.on_expect)
async def stream_ask(request: web.Request) -> web.StreamResponse:
    """Ask, and stream the answer for as long as the client stays."""
    asked = question.parse(await body.fields(request), request.app[POLICY])
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
