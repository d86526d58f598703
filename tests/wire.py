"""HTTP as bytes on a socket: a client that sends anything and takes only what is well-formed."""

import contextlib
import re
import socket
from typing import Final, NamedTuple, Self

_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([1-5]\d\d) [\t -~\x80-\xff]*")
_HEADER: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ?([\t -~\x80-\xff]*)")
_CHUNK_SIZE: Final = re.compile(rb"[0-9A-Fa-f]{1,8}")
# What a response may not have twice: a client and a proxy could each believe another one.
_ONCE: Final = ("content-length", "transfer-encoding", "content-type", "connection", "x-request-id")


class Answer(NamedTuple):
    """A response, whole."""

    status: int
    headers: dict[str, str]  # by lower-case names
    body: bytes
    raw: bytes


class Wire:
    """A connection to a server on this machine."""

    def __init__(self, port: int, *, seconds: float = 10.0) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=seconds)
        self._received = b""
        self._taken = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Send as much as the server takes: one that refuses may have closed before the last byte."""
        with contextlib.suppress(ConnectionError):
            self._socket.sendall(data)

    def finish(self) -> None:
        """Say that nothing more will be sent, and go on listening."""
        self._socket.shutdown(socket.SHUT_WR)

    def is_closed(self) -> bool:
        """Wait for the next byte; True if the server closed instead of sending one."""
        return not self._received and not self._more()

    def answer(self, *, to_head: bool = False) -> Answer:
        """Read one response; fail if any byte of it is not as the standard has it."""
        self._taken = b""
        status, headers = self.head()
        while status == 100:
            status, headers = self.head()
        body = b"" if to_head or status in (204, 304) else self._body(headers)
        return Answer(status, headers, body, self._taken)

    def head(self) -> tuple[int, dict[str, str]]:
        """Read the status and the headers, by lower-case names."""
        first, *lines = self._until(b"\r\n\r\n").split(b"\r\n")
        found = _STATUS_LINE.fullmatch(first)
        assert found, first
        headers: dict[str, str] = {}
        for line in lines:
            header = _HEADER.fullmatch(line)
            assert header, line
            name, value = header[1].decode().lower(), header[2].decode("latin-1")
            assert name not in headers or name not in _ONCE, f"{name} comes twice"
            headers[name] = value
        return int(found[1]), headers

    def _body(self, headers: dict[str, str]) -> bytes:
        if "transfer-encoding" in headers:
            assert headers["transfer-encoding"] == "chunked"
            assert "content-length" not in headers
            return self._chunks()
        if "content-length" in headers:
            return self._exactly(int(headers["content-length"]))
        while self._more():
            pass
        return self._exactly(len(self._received))

    def _chunks(self) -> bytes:
        body = b""
        while True:
            size = self._until(b"\r\n")
            assert _CHUNK_SIZE.fullmatch(size), size
            chunk = self._exactly(int(size, 16))
            assert self._exactly(2) == b"\r\n"
            if not chunk:
                return body
            body += chunk

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._received:
            assert self._more(), f"closed after {self._taken + self._received!r}"
        return self._exactly(self._received.index(mark) + len(mark)).removesuffix(mark)

    def _exactly(self, length: int) -> bytes:
        while len(self._received) < length:
            assert self._more(), f"closed after {self._taken + self._received!r}"
        data, self._received = self._received[:length], self._received[length:]
        self._taken += data
        return data

    def _more(self) -> bool:
        try:
            data = self._socket.recv(65536)
        except ConnectionError:  # closed while something of ours was unread
            return False
        self._received += data
        return bool(data)
