"""A client made for load: it notes what arrives and when; `bench.hear` looks into it afterwards."""

import asyncio
import json
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast

from bench.hear import Form, Reads
from bench.order import Order

_END: Final = b"0\r\n\r\n"  # no frame has a CR in it, so nothing else ends like this


@dataclass(frozen=True, slots=True)
class Target:
    """Whom to ask, and how."""

    port: int
    form: Form
    path: str
    key: str

    def request(self, order: Order) -> bytes:
        """The bytes of a request."""
        field = "message" if self.form == "anythingllm" else "question"
        body = json.dumps({field: str(order)}).encode()
        head = (
            f"POST {self.path} HTTP/1.1\r\nHost: localhost:{self.port}\r\n"
            f"Authorization: Bearer {self.key}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


class Connection(asyncio.Protocol):
    """One connection to a relay; asks one question at a time."""

    _transport: asyncio.Transport

    def __init__(self) -> None:
        self._reads: Reads = []
        self._done: asyncio.Future[Reads] | None = None
        self.open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self.open = True

    def connection_lost(self, exc: Exception | None) -> None:
        """End the answer where it is: `hear` sees that it was cut."""
        self.open = False
        self._end()

    def data_received(self, data: bytes) -> None:
        """Note the time and the bytes, and nothing else: this runs 20,000 times a second."""
        self._reads.append((time.monotonic_ns(), data))
        if data[-5:] == _END or (len(data) < 5 and self._tail() == _END):
            self._end()

    def ask(self, request: bytes) -> asyncio.Future[Reads]:
        """Send a request; the result is the whole response, cut or not, as it arrived."""
        self._reads = []
        self._done = asyncio.get_running_loop().create_future()
        if self.open:
            self._transport.write(request)
        else:  # closed by the other side in the meantime: no response
            self._end()
        return self._done

    @property
    def heard(self) -> int:
        """How many reads the answer had so far."""
        return len(self._reads)

    def stop_reading(self) -> None:
        """Never read again."""
        self._transport.pause_reading()

    def close(self) -> None:
        """Leave."""
        self._transport.close()

    def _tail(self) -> bytes:
        return b"".join(data for _, data in self._reads[-5:])[-5:]

    def _end(self) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_result(self._reads)


async def connect(target: Target, receive_buffer: int | None = None) -> Connection:
    """Open a connection; `receive_buffer` is the kernel's, in bytes."""
    loop = asyncio.get_running_loop()
    one = socket.socket()
    one.setblocking(False)
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if receive_buffer is not None:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    try:
        await loop.sock_connect(one, ("127.0.0.1", target.port))
        _, connection = await loop.create_connection(Connection, sock=one)
    except BaseException:
        one.close()
        raise
    return connection


async def connect_many(
    target: Target, count: int, receive_buffer: int | None = None, at_once: int = 64
) -> list[Connection]:
    """Open connections, some at a time so that no backlog runs over."""
    made: list[Connection] = []
    while len(made) < count:
        step = min(at_once, count - len(made))
        made += await asyncio.gather(*(connect(target, receive_buffer) for _ in range(step)))
    return made


async def ask_all(
    target: Target, order: Order, times: int, connections: Sequence[Connection]
) -> list[Reads]:
    """Ask the same so many times, one question after the other on each connection."""
    request, left, answers = target.request(order), iter(range(times)), list[Reads]()

    async def work(connection: Connection) -> None:
        for _ in left:
            if not connection.open:  # a server may close what it does not want to keep
                connection = await connect(target)
                others.append(connection)
            answers.append(await connection.ask(request))

    others: list[Connection] = []
    await asyncio.gather(*map(work, connections))
    for connection in others:
        connection.close()
    return answers
