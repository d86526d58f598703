"""Everything that can go wrong, in one table.

Two families share it: a *refusal* is told before the stream, as JSON with an HTTP status; a *failure*
is told inside the stream, as an `error` event (the head is out by then, so it has no status).
The codes are part of the protocol: docs/protocol.md, "Refusals" and "Errors".
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple


class Code(StrEnum):
    """What a program reads; the message beside it is for a person."""

    BAD_REQUEST = "bad_request"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN_ORIGIN = "forbidden_origin"
    FORBIDDEN_HOST = "forbidden_host"
    FORBIDDEN_WORKSPACE = "forbidden_workspace"
    NOT_FOUND = "not_found"
    UNKNOWN_STREAM = "unknown_stream"
    MODEL_NOT_FOUND = "model_not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    REQUEST_TIMEOUT = "request_timeout"
    IDEMPOTENCY_CONFLICT = "idempotency_conflict"
    EVENTS_GONE = "events_gone"
    TOO_LARGE = "too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    TOO_MANY_CONNECTIONS = "too_many_connections"
    TOO_MANY_STREAMS = "too_many_streams"
    TOO_MANY_READERS = "too_many_readers"
    RESUME_UNAVAILABLE = "resume_unavailable"

    UPSTREAM_UNREACHABLE = "upstream_unreachable"
    UPSTREAM_TIMEOUT = "upstream_timeout"
    UPSTREAM_UNAUTHORIZED = "upstream_unauthorized"
    UPSTREAM_REJECTED = "upstream_rejected"
    UPSTREAM_ABORTED = "upstream_aborted"
    UPSTREAM_TRUNCATED = "upstream_truncated"
    UPSTREAM_PROTOCOL = "upstream_protocol"
    EMPTY_ANSWER = "empty_answer"

    SHUTTING_DOWN = "shutting_down"
    INTERNAL = "internal"


class Verdict(NamedTuple):
    """How a code is told: its HTTP status (None: only inside a stream), and whether to ask again."""

    status: int | None
    retryable: bool


TABLE: Final[Mapping[Code, Verdict]] = {
    Code.BAD_REQUEST: Verdict(400, retryable=False),
    Code.UNAUTHORIZED: Verdict(401, retryable=False),
    Code.FORBIDDEN_ORIGIN: Verdict(403, retryable=False),
    Code.FORBIDDEN_HOST: Verdict(403, retryable=False),
    Code.FORBIDDEN_WORKSPACE: Verdict(403, retryable=False),
    Code.NOT_FOUND: Verdict(404, retryable=False),
    Code.UNKNOWN_STREAM: Verdict(404, retryable=False),
    Code.MODEL_NOT_FOUND: Verdict(404, retryable=False),
    Code.METHOD_NOT_ALLOWED: Verdict(405, retryable=False),
    Code.REQUEST_TIMEOUT: Verdict(408, retryable=True),
    Code.IDEMPOTENCY_CONFLICT: Verdict(409, retryable=False),
    Code.EVENTS_GONE: Verdict(410, retryable=False),
    Code.TOO_LARGE: Verdict(413, retryable=False),
    Code.UNSUPPORTED_MEDIA_TYPE: Verdict(415, retryable=False),
    Code.TOO_MANY_CONNECTIONS: Verdict(503, retryable=True),
    Code.TOO_MANY_STREAMS: Verdict(503, retryable=True),
    Code.TOO_MANY_READERS: Verdict(503, retryable=True),
    Code.RESUME_UNAVAILABLE: Verdict(503, retryable=True),
    Code.UPSTREAM_UNREACHABLE: Verdict(None, retryable=True),
    Code.UPSTREAM_TIMEOUT: Verdict(None, retryable=True),
    Code.UPSTREAM_UNAUTHORIZED: Verdict(None, retryable=False),
    Code.UPSTREAM_REJECTED: Verdict(None, retryable=False),
    Code.UPSTREAM_ABORTED: Verdict(None, retryable=True),
    Code.UPSTREAM_TRUNCATED: Verdict(None, retryable=True),
    Code.UPSTREAM_PROTOCOL: Verdict(None, retryable=False),
    Code.EMPTY_ANSWER: Verdict(None, retryable=True),
    Code.SHUTTING_DOWN: Verdict(503, retryable=True),
    Code.INTERNAL: Verdict(500, retryable=False),
}


class RelayError(Exception):
    """Something went wrong that a person is told about, in a sentence.

    `status` and `retryable` follow the table unless the case knows better (a provider's 429, say).
    `headers` go out with a refusal (`Retry-After`, `Allow`). `upstream_status` is for the log: the
    HTTP status of AnythingLLM's answer, where there is one and it cannot be used.
    """

    upstream_status: int | None = None

    def __init__(
        self,
        code: Code,
        message: str,
        *,
        status: int | None = None,
        retryable: bool | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = TABLE[code].status if status is None else status
        self.retryable = TABLE[code].retryable if retryable is None else retryable
        self.headers = headers or {}
