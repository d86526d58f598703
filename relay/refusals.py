"""Refusals as responses (docs/protocol.md, "Refusals")."""

import random
from typing import Final

from aiohttp import web

from relay.completion_response import told_error
from relay.errors import Code, RelayError

# The library's own would tell its version, and Python's.
SERVER: Final = "relay"
_NOTHING_HERE: Final = (
    "There is nothing at this address; ask at POST /stream-ask, or at POST /v1/chat/completions."
)


def as_json(refusal: RelayError, status: int | None = None) -> web.Response:
    """Return what tells a refusal, with the status of its code unless another is given."""
    told = {"error": refusal.message, "code": refusal.code}
    status = status or refusal.status or 500
    return web.json_response(told, status=status, headers=refusal.headers)


def as_openai(refusal: RelayError) -> web.Response:
    """Return what tells a refusal as OpenAI's clients know it.

    They would ask again by themselves after many a status; what does not help is said not to.
    """
    status = refusal.status or 500
    headers = dict(refusal.headers)
    if not refusal.retryable:
        headers["X-Should-Retry"] = "false"
    told = told_error(refusal.message, refusal.code, status)
    return web.json_response(told, status=status, headers=headers)


def of_no_request(refusal: RelayError) -> web.Response:
    """Return the last words to a connection, where no request is known that they answer."""
    response = as_json(refusal)
    response.headers.update({"Server": SERVER, "X-Request-ID": new_id(), "Connection": "close"})
    response.force_close()
    return response


def as_bytes(refusal: RelayError) -> bytes:
    """Return the same as it goes over the wire."""
    response = of_no_request(refusal)
    body = response.text or ""
    response.headers["Content-Length"] = str(len(body))
    lines = [f"HTTP/1.1 {response.status} {response.reason}"]
    lines += [f"{name}: {value}" for name, value in response.headers.items()]
    return "\r\n".join([*lines, "", body]).encode()


def new_id() -> str:
    """Return an id for a request that has none."""
    return f"{random.getrandbits(64):016x}"


def of_http(error: web.HTTPException) -> RelayError:
    """Return the library's refusal in our words."""
    if isinstance(error, web.HTTPMethodNotAllowed):
        allow = ", ".join(sorted(error.allowed_methods))
        message = f"{error.method} is not for this address; use {allow}."
        return RelayError(Code.METHOD_NOT_ALLOWED, message, headers={"Allow": allow})
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        message = "The body is too large (RELAY_MAX_BODY_BYTES)."
        return RelayError(Code.TOO_LARGE, message)
    if isinstance(error, web.HTTPNotFound):
        return RelayError(Code.NOT_FOUND, _NOTHING_HERE)
    return RelayError(Code.BAD_REQUEST, f"The request cannot be read: {error.reason}.")
