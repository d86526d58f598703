"""The addresses of the relay."""

import logging
import re
from typing import Any, Final, Literal, NamedTuple

from aiohttp import web

from relay import body, question
from relay.clock import Clock
from relay.encoding import Encoding, EventEncoding
from relay.errors import Code, RelayError
from relay.frames import Answer, Limits
from relay.metrics import CONTENT_TYPE, Metrics
from relay.middlewares import METRICS, OWNER, ids, traceparent
from relay.question import Policy, Question
from relay.redact import Redactor
from relay.refusals import as_json
from relay.response import EventStreamResponse
from relay.resumable import Asked, Followed, ResumableStreams
from relay.store import Store
from relay.stream import Outlet, RelayStream
from relay.streams import Streams
from relay.upstream import Upstream
from relay.window import EventsGone


class Timing(NamedTuple):
    """Seconds: silence before a comment, patience with a stuck client, the limits on AnythingLLM."""

    heartbeat: float
    send_timeout: float
    upstream: Limits


POLICY: Final = web.AppKey("policy", Policy)
TIMING: Final = web.AppKey("timing", Timing)
CLOCK: Final = web.AppKey("clock", Clock)
MAX_LINE_BYTES: Final = web.AppKey("max_line_bytes", int)
REDACTOR: Final = web.AppKey("redactor", Redactor)
UPSTREAM: Final = web.AppKey("upstream", Upstream)
STREAMS: Final = web.AppKey("streams", Streams)
RESUMABLE: Final = web.AppKey("resumable", ResumableStreams)
STORE: Final[web.AppKey[Store | None]] = web.AppKey("store")
NOT_RESUMABLE: Final = web.AppKey("not_resumable", str)  # why none can be held, if so

_IDEMPOTENCY_KEY: Final = re.compile(r"[!-~]{1,200}", re.ASCII)
_EVENT_ID: Final = re.compile(r"[0-9]{1,18}", re.ASCII)

log = logging.getLogger(__name__)
routes = web.RouteTableDef()


@routes.post("/stream-ask", expect_handler=body.on_expect)
async def stream_ask(request: web.Request) -> web.StreamResponse:
    """Ask, and stream the answer: for as long as the client stays, or for whoever comes back."""
    app = request.app
    with app[STREAMS].serving():  # from here on: a stop does not cut off who is still sending
        key = _idempotency_key(request)
        asked = question.parse(await body.fields(request), app[POLICY])
        if OWNER in request:
            asked = question.owned_by(asked, request[OWNER])
        if key is None and not asked.resumable:
            return await answer(request, asked, EventEncoding(app[REDACTOR]))
        return await _follow(request, await _resumable(request, asked, key), after=0)


@routes.get("/streams/{id}", allow_head=False, expect_handler=body.on_expect)
async def follow(request: web.Request) -> web.StreamResponse:
    """Go on with a resumable stream where its reader was cut off, or read it from the start."""
    held = await _resumable_streams(request).find(request.match_info["id"], request.get(OWNER))
    return await _follow(request, held, _event_id(request))


@routes.delete("/streams/{id}", expect_handler=body.on_expect)
async def cancel(request: web.Request) -> web.Response:
    """Stop a resumable stream, for all its readers."""
    resumable = _resumable_streams(request)
    await resumable.cancel(await resumable.find(request.match_info["id"], request.get(OWNER)))
    return web.Response(status=204)


@routes.get("/healthz", allow_head=False, expect_handler=body.on_expect)
async def healthz(_request: web.Request) -> web.Response:
    """Tell that the process serves."""
    return web.json_response({"status": "ok"})


@routes.get("/readyz", allow_head=False, expect_handler=body.on_expect)
async def readyz(request: web.Request) -> web.Response:
    """Tell whether a question would be answered: AnythingLLM is there and takes our key."""
    try:
        request.app[STREAMS].refuse_if_draining()
        await request.app[UPSTREAM].readiness.check()
    except RelayError as error:
        return as_json(error, 503)
    known = {"status": "ok"}
    if (store := request.app[STORE]) is not None:  # without it, all but resumable streams goes on
        known["resumable"] = "ok" if store.up else "unavailable"
    return web.json_response(known)


@routes.get("/metrics", allow_head=False, expect_handler=body.on_expect)
async def metrics(request: web.Request) -> web.Response:
    """Tell what was counted, to Prometheus; what it tells of AnythingLLM is known the next time."""
    request.app[UPSTREAM].readiness.ask()
    return web.Response(body=request.app[METRICS].text(), headers={"Content-Type": CONTENT_TYPE})


async def answer(request: web.Request, asked: Question, encoding: Encoding) -> web.StreamResponse:
    """Stream an answer that belongs to its one reader."""
    response = _event_stream(request.app)
    stream = make_stream(request, asked, encoding, response)
    request.app[STREAMS].admit(stream, request.get(OWNER))
    try:
        await response.prepare(request)
        await stream.run()
        await response.taken()
    except ConnectionResetError:
        let_go(request)
    finally:
        response.close()
        release(request, stream, taken=response.ended, stuck=response.stuck)
    return response


def release(request: web.Request, stream: RelayStream, *, taken: bool, stuck: bool) -> None:
    """Note that an answer to this request runs no more, and whether its one reader took it."""
    metrics = request.app[METRICS]
    request.app[STREAMS].release(stream)
    outcome = stream.outcome if taken else None
    if stuck:
        outcome = "stuck"
        metrics.dropped("stuck")
    _tell_end(metrics, ids(request), stream, outcome or "client_closed")


def _resumable_streams(request: web.Request) -> ResumableStreams:
    """Return those of this relay. Raises RelayError (resume_unavailable) where it cannot hold any."""
    if (reason := request.app.get(NOT_RESUMABLE)) is not None:
        # Another setting can change that, and needs no restart: a minute is soon enough to ask again.
        raise RelayError(Code.RESUME_UNAVAILABLE, reason, headers={"Retry-After": "60"})
    return request.app[RESUMABLE]


async def _resumable(request: web.Request, asked: Question, key: str | None) -> Followed:
    """Return the stream that was asked for with the same key before, or begin one."""
    resumable, owner = _resumable_streams(request), request.get(OWNER)
    metrics, told = request.app[METRICS], ids(request)  # not the request, which may be large
    before = None if key is None else Asked(key, asked.digest())
    if before is not None and (held := await resumable.find_asked(before, owner)) is not None:
        return held

    def make(window: Outlet) -> RelayStream:
        encoding = EventEncoding(request.app[REDACTOR], numbered=True)
        return make_stream(request, asked, encoding, window)

    def ended(stream: RelayStream) -> None:
        _tell_end(metrics, told, stream, stream.outcome or "client_closed")

    return await resumable.open(make, owner=owner, asked=before, ended=ended)


async def _follow(request: web.Request, held: Followed, after: int) -> web.StreamResponse:
    """Stream the events of a resumable stream that come after this one."""
    if not await held.has_more(after):
        return web.Response(status=204)
    response = _event_stream(request.app)
    response.headers["X-Stream-ID"] = held.id
    with request.app[STREAMS].serving(), held.reading(after) as reader:
        try:
            await response.prepare(request)
            while events := await reader.read():
                if not response.put([events]):
                    await response.room()
            await response.end()
            await response.taken()
        except ConnectionResetError:
            let_go(request)
        except EventsGone:
            let_go(request)
            _tell_dropped(request, "behind")
        finally:
            response.close()
            if response.stuck:
                _tell_dropped(request, "stuck")
    return response


def let_go(request: web.Request) -> None:
    """Close the connection now: the client left, perhaps on one side only, or has to."""
    if request.transport is not None:
        request.transport.abort()


def make_stream(
    request: web.Request, asked: Question, encoding: Encoding, outlet: Outlet
) -> RelayStream:
    """Return the answer to a question, still to be asked."""
    app = request.app
    answer = Answer(
        format=asked.format,
        reasoning=asked.reasoning,
        sources=asked.sources,
        limits=app[TIMING].upstream,
        max_line_bytes=app[MAX_LINE_BYTES],
        redactor=app[REDACTOR],
    )
    trace = traceparent(request)
    return RelayStream(
        app[UPSTREAM],
        asked,
        answer,
        encoding,
        outlet,
        clock=app[CLOCK],
        headers=None if trace is None else {"traceparent": trace[0]},
        metrics=app[METRICS],
    )


def _event_stream(app: web.Application) -> EventStreamResponse:
    timing = app[TIMING]
    return EventStreamResponse(
        app[CLOCK],
        heartbeat=timing.heartbeat,
        send_timeout=timing.send_timeout,
        last=app[STREAMS].draining,
    )


def _idempotency_key(request: web.Request) -> str | None:
    key = request.headers.get("Idempotency-Key")
    if key is not None and not _IDEMPOTENCY_KEY.fullmatch(key):
        message = "`Idempotency-Key` must be 1 to 200 visible ASCII characters."
        raise RelayError(Code.BAD_REQUEST, message)
    return key


def _event_id(request: web.Request) -> int:
    """Return the id of the last event that the reader has; 0 if it has none."""
    name, given = "Last-Event-ID", request.headers.get("Last-Event-ID")
    if not given:
        name, given = "after", request.query.get("after")
    if not given:
        return 0
    if not _EVENT_ID.fullmatch(given):
        raise RelayError(Code.BAD_REQUEST, f"`{name}` must be the id of an event, a number.")
    return int(given)


def _tell_dropped(request: web.Request, reason: Literal["stuck", "behind"]) -> None:
    request.app[METRICS].dropped(reason)
    fields = {**ids(request), "reason": reason}
    log.info("reader dropped", extra={"fields": fields})


def _tell_end(metrics: Metrics, told: dict[str, str], stream: RelayStream, outcome: str) -> None:
    """One line a stream; neither the question nor the answer is in it."""
    metrics.ended(outcome)
    if stream.fault is not None:
        log.error("the relay failed in mid-answer", exc_info=stream.fault, extra={"fields": told})
    first = stream.first_event_after
    fields: dict[str, Any] = {
        **told,
        "outcome": outcome,
        "upstream_status": stream.upstream_status,
        "workspace": stream.question.workspace,
        "mode": stream.question.mode,
        "events": stream.events,
        "bytes": stream.bytes,
        "first_event_s": None if first is None else round(first, 3),
        "total_s": round(stream.age, 3),
    }
    if stream.why is not None:
        fields["why"] = stream.why
    log.info("stream ended", extra={"fields": fields})
