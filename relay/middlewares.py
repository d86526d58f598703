"""What every request passes before its handler: its id, the access rules, and words for refusals."""

import logging
import re
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from relay import pages
from relay.access import AccessRules
from relay.errors import Code, RelayError
from relay.metrics import Metrics
from relay.refusals import SERVER, as_json, as_openai, new_id, of_http

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Middleware = Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]

OWNER: Final = web.RequestKey("owner", bytes)
REQUEST_ID: Final = web.RequestKey("request_id", str)
_STARTED: Final = web.RequestKey("started", bool)
_ACCESS: Final = web.AppKey("access", AccessRules)
METRICS: Final = web.AppKey("metrics", Metrics)

_FREE: Final = pages.PATHS | {"/healthz", "/readyz", "/openapi.json"}
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,128}", re.ASCII)
# W3C Trace Context: version, trace, parent, flags. Version 00 ends there, ff is none; 0 is no id.
_TRACEPARENT: Final = re.compile(
    r"(?!ff|00.{53}.)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-[!-~]{0,100})?"
)

log = logging.getLogger(__name__)


def install(app: web.Application, rules: AccessRules, metrics: Metrics) -> None:
    """Make every request of the application pass, and have those counted that do not."""
    app[_ACCESS] = rules
    app[METRICS] = metrics
    app.middlewares.append(_answered)
    app.on_response_prepare.append(_add_headers)


def request_id(request: web.Request) -> str:
    """Return the request's id: the client's own if it is one, else a new one."""
    if REQUEST_ID not in request:
        given = request.headers.get("X-Request-ID", "")
        request[REQUEST_ID] = given if _REQUEST_ID.fullmatch(given) else new_id()
    return request[REQUEST_ID]


def traceparent(request: web.Request) -> re.Match[str] | None:
    """Return where a request stands in a trace, if it says so: the header, and in it the trace's id."""
    given = request.headers.getall("traceparent", ())
    return _TRACEPARENT.fullmatch(given[0]) if len(given) == 1 else None


def ids(request: web.Request) -> dict[str, str]:
    """Return what a request is found by in the log: its id, and its trace's if it is part of one."""
    told = {"id": request_id(request)}
    if (trace := traceparent(request)) is not None:
        told["trace_id"] = trace[1]
    return told


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    request[_STARTED] = True
    response.headers["Server"] = SERVER
    response.headers["X-Request-ID"] = request_id(request)
    response.headers.update(request.app[_ACCESS].cors_headers(request.headers))


def _admit(request: web.Request) -> web.Response | None:
    """Let a request pass, or answer one that only asks whether another would. Raises RelayError."""
    if request.path in _FREE:
        return None
    headers, rules = request.headers, request.app[_ACCESS]
    rules.check_host(headers)
    rules.check_origin(headers)
    if request.method == "OPTIONS" and "Access-Control-Request-Method" in headers:
        return web.Response(status=204, headers=rules.preflight_headers(headers))
    owner = rules.check_key(headers)
    if owner is not None:
        request[OWNER] = owner
    return None


@web.middleware
async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every refusal into JSON, and every fault of ours into a sentence without a traceback."""
    try:
        return _admit(request) or await handler(request)
    except RelayError as error:
        refusal = error
    except web.HTTPException as error:
        refusal = of_http(error)
    except Exception:
        log.exception("a request failed", extra={"fields": ids(request)})
        if _STARTED in request:  # a second head would end up in the middle of the body
            request.protocol.force_close()
            raise
        message = f"The relay itself failed; its log says why, under request {request_id(request)}."
        refusal = RelayError(Code.INTERNAL, message)
    request.app[METRICS].refused(refusal.code)
    of_openai = f"{request.path}/".startswith("/v1/")
    return as_openai(refusal) if of_openai else as_json(refusal)
