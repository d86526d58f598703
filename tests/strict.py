"""Strict readers of what the relay sends: they forgive nothing that a client should not have to."""

import json
import re
from typing import Any, NamedTuple

_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5]\d\d) [ -~]*")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ([\t -~\x80-\xff]*)")
_SIZE = re.compile(rb"[0-9a-fA-F]{1,8}")
_PING = b": ping\n"
_NO_BODY = (204, 304)


class Cut(Exception):
    """The bytes end in the middle of something."""


class Response(NamedTuple):
    """One HTTP response; `whole` is false if its body was cut off."""

    status: int
    headers: dict[str, str]
    body: bytes
    whole: bool


def responses(raw: bytes, *, may_be_cut: bool = False) -> list[Response]:
    """Read all responses of a connection that was then closed. Fails for anything that is none."""
    found: list[Response] = []
    while raw:
        assert not found or found[-1].headers.get("connection") != "close", [*found, raw]
        try:
            response, raw = _response(raw, may_be_cut)
        except Cut:
            assert may_be_cut, raw
            return found
        assert response.whole or may_be_cut, response
        found.append(response)
    return found


def _response(raw: bytes, may_be_cut: bool) -> tuple[Response, bytes]:
    head, separator, rest = raw.partition(b"\r\n\r\n")
    if not separator:
        raise Cut
    first, *lines = head.split(b"\r\n")
    matched = _STATUS.fullmatch(first)
    assert matched, first
    status = int(matched[1])
    headers = _headers(lines)
    if status < 200 or status in _NO_BODY:
        assert not headers.keys() & {"content-length", "transfer-encoding"}
        return Response(status, headers, b"", whole=True), rest
    if not headers.keys() & {"content-length", "transfer-encoding"}:  # it ends with the connection
        assert headers.get("connection") == "close" or first.startswith(b"HTTP/1.0"), headers
        return Response(status, headers, rest, not may_be_cut), b""
    body, rest, whole = _body(headers, rest)
    return Response(status, headers, body, whole), rest


def _headers(lines: list[bytes]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        matched = _HEADER.fullmatch(line)
        assert matched, line
        name = matched[1].decode().lower()
        assert name not in headers, name
        headers[name] = matched[2].decode()
    return headers


def _body(headers: dict[str, str], rest: bytes) -> tuple[bytes, bytes, bool]:
    if "content-length" in headers:
        assert "transfer-encoding" not in headers
        length = int(headers["content-length"])
        return rest[:length], rest[length:], len(rest) >= length
    assert headers["transfer-encoding"] == "chunked"
    return _chunks(rest)


def _chunks(rest: bytes) -> tuple[bytes, bytes, bool]:
    body = b""
    while True:
        line, separator, rest = rest.partition(b"\r\n")
        if not separator:
            return body, b"", False
        assert _SIZE.fullmatch(line), line
        size = int(line, 16)
        data, end, rest = rest[:size], rest[size : size + 2], rest[size + 2 :]
        body += data
        if len(end) < 2:
            return body, b"", False
        assert end == b"\r\n", end
        if size == 0:
            return body, rest, True


class Told(NamedTuple):
    """One event as a client hears it."""

    name: str
    data: dict[str, Any]


def events(raw: bytes, *, may_be_cut: bool = False) -> list[Told]:
    """Read a stream as the most credulous client does: line ends of any kind are some to it."""
    told: list[Told] = []
    while raw:
        if raw.startswith(_PING):
            raw = raw.removeprefix(_PING)
            continue
        event, separator, raw = raw.partition(b"\n\n")
        if not separator:
            assert may_be_cut, event
            return told
        told.append(_event(event.decode()))
    return told


def _event(text: str) -> Told:
    *named, line = text.splitlines()
    assert len(named) <= 1, text
    assert line.startswith("data: "), text
    name = named[0].removeprefix("event: ") if named else ""
    data = json.loads(line.removeprefix("data: "), parse_constant=_refuse)
    assert isinstance(data, dict)
    assert name == data["type"] or not named, text
    return Told(name, data)


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")
