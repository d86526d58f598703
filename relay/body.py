"""The body of a request, read with a limit in time and size, as JSON or as a form."""

import asyncio
import warnings
from typing import Any, Final

from aiohttp import BodyPartReader, HttpVersion11, MultipartReader, StreamReader, web
from aiohttp.http_exceptions import HttpProcessingError

from relay import question
from relay.errors import Code, RelayError

_BODY_TIMEOUT: Final = 30.0
_JSON: Final = "application/json"
_URLENCODED: Final = "application/x-www-form-urlencoded"
_MULTIPART: Final = "multipart/form-data"
_UTF_8: Final = ("utf-8", "utf8")
# Characters: parsing one of eight thousand would keep everybody waiting for a second.
_MAX_CONTENT_TYPE: Final = 256
# Bytes of one header of a part, for the same reason, and how many of them a part may have.
_MAX_PART_HEADER: Final = 256
_MAX_PART_HEADERS: Final = 8
# What aiohttp raises for a body that is broken in one of many ways, multipart above all, or that
# cannot be asked for any more.
_BROKEN_BODY: Final = (
    ConnectionError,
    ValueError,
    LookupError,
    RuntimeError,
    HttpProcessingError,
    web.RequestPayloadError,
)


async def on_expect(_request: web.Request) -> None:
    """Ask for no body yet: the library calls this before it is known whether the client may ask."""


async def fields(request: web.Request, *, forms: bool = True) -> dict[str, Any]:
    """Return the fields of a question, as JSON or a form has them. Raises RelayError."""
    kind, charset = _content_type(request)
    if kind != _JSON and not (forms and kind in (_URLENCODED, _MULTIPART)):
        raise _unsupported(f"Send the question as {_JSON}{', or as a form' if forms else ''}.")
    if charset.lower() not in _UTF_8:
        raise _unsupported("The body must be UTF-8.")
    if any(coding.lower() != "identity" for coding in request.headers.getall("Content-Encoding", ())):
        raise _unsupported("The body must not be compressed.")
    if _is_too_large(request):
        raise web.HTTPRequestEntityTooLarge(request.client_max_size)
    try:
        body = _arrived(request)
        if body is None:
            async with asyncio.timeout(_BODY_TIMEOUT):
                if request.version == HttpVersion11 and "Expect" in request.headers:
                    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                body = await request.read()
        if kind == _MULTIPART:
            return question.from_form(await _parts(request, body))
    except TimeoutError:
        message = f"The body did not arrive within {_BODY_TIMEOUT:g} seconds."
        raise RelayError(Code.REQUEST_TIMEOUT, message) from None
    except _BROKEN_BODY:
        raise RelayError(Code.BAD_REQUEST, "The body cannot be read.") from None
    return question.from_json(body) if kind == _JSON else question.from_urlencoded(body)


def _arrived(request: web.Request) -> bytes | None:
    """Return a body that came with the head, as that of nearly every question does; None otherwise."""
    content = request.content
    fits = 0 < content.total_bytes <= request.client_max_size
    if fits and content.is_eof() and "Expect" not in request.headers:
        return content.read_nowait()
    return None


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
    content = StreamReader(request.protocol, len(body), loop=asyncio.get_running_loop())
    content.feed_data(body)
    content.feed_eof()
    reader = MultipartReader(
        request.headers, content, max_field_size=_MAX_PART_HEADER, max_headers=_MAX_PART_HEADERS
    )
    _check_beginning(body, reader._boundary)
    found: list[tuple[str, object]] = []
    with warnings.catch_warnings():  # it warns of each odd header, and would remember every one
        warnings.simplefilter("ignore")
        async for part in reader:
            if not isinstance(part, BodyPartReader) or part.name is None:
                raise ValueError("a part that is no field")
            if len(found) == question.MAX_FORM_FIELDS:
                raise question.too_many_fields()
            found.append((part.name, None if part.filename is not None else await _text(part)))
    return found


def _check_beginning(body: bytes, boundary: bytes) -> None:
    """Raise RelayError for text before the first part.

    A megabyte of lines to skip would hold everybody up for seconds.
    """
    line = body.partition(b"\n")[0].rstrip()
    if line not in (boundary, boundary + b"--"):
        raise RelayError(Code.BAD_REQUEST, "The body of such a form must begin with its boundary.")


async def _text(part: BodyPartReader) -> str:
    # Some of Python's other codecs take seconds for a long text. A form may name one for all its parts.
    if part.get_charset("utf-8").lower() not in _UTF_8:
        raise _unsupported("Each part of the form must be UTF-8.")
    return (await part.read(decode=True)).decode()


def _is_too_large(request: web.Request) -> bool:
    """Whether the length that a body is said to have is over the limit; one without is counted."""
    return (request.content_length or 0) > request.client_max_size


def _unsupported(message: str) -> RelayError:
    return RelayError(Code.UNSUPPORTED_MEDIA_TYPE, message)
