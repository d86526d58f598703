"""An AnythingLLM made for load: `python -m bench.upstream`, a process of its own.

It speaks AnythingLLM's HTTP (as relay.standin does, which is made for tests and costs ten times as much)
and does what the question orders (`bench.order`). Two addresses more steer it: `GET /stats` and
`POST /go`.
"""

import asyncio
import gc
import json
import sys
import time
from functools import partial
from typing import Any, Final, cast

import uvloop

from bench.order import Order
from bench.pacer import Pacer
from bench.script import HEAD, Script
from relay.sockets import raise_descriptor_limit

KEY: Final = "bench-key"
WORKSPACE: Final = "bench"
PATH: Final = f"/api/v1/workspace/{WORKSPACE}/stream-chat"
BACKLOG: Final = 4096
GATHER: Final = 65536
"""Bytes of an answer without pace that are written at once, each piece an HTTP chunk nevertheless: with
a system call each, the cost of whoever reads would depend on how often he wakes between two of them."""

_ASK: Final = f"POST {PATH} HTTP/1.".encode()
_BEARER: Final = f"authorization: bearer {KEY}\r\n".encode()


class Upstream:
    """All its connections, and what the client wants to know of them."""

    def __init__(self) -> None:
        self.pacer = Pacer()
        self.connections: set[Connection] = set()
        self.held: list[Connection] = []
        self.lost: list[int] = []
        self.asked = 0
        self.gone_bytes = 0

    def go(self) -> None:
        """Let all streams go on that are held, evenly spread over one period."""
        held, self.held = [one for one in self.held if one.script is not None], []
        now = time.monotonic_ns()
        for number, one in enumerate(held):
            one.begin(now, number / len(held))

    def stats(self) -> dict[str, Any]:
        """`held` streams, answers `running`, bytes `accepted` by the system, times of `lost` streams."""
        return {
            "asked": self.asked,
            "held": sum(one.script is not None for one in self.held),
            "running": sum(one.script is not None for one in self.connections),
            "accepted": self.gone_bytes + sum(one.accepted for one in self.connections),
            "lost": self.lost,
        }


class Connection(asyncio.Protocol):
    """One connection of a relay: requests one after the other."""

    _transport: asyncio.Transport

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._received = b""
        self._paused = False
        self._written = 0
        self.script: Script | None = None

    @property
    def accepted(self) -> int:
        """Bytes that the system has taken."""
        return self._written - self._transport.get_write_buffer_size()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count it."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self._upstream.connections.add(self)

    def eof_received(self) -> None:
        """Notice that the other side left: a FIN stops AnythingLLM too. The transport closes."""
        self._notice()

    def connection_lost(self, exc: Exception | None) -> None:
        """Notice, and count no more."""
        self._notice()
        self._upstream.connections.discard(self)
        self._upstream.gone_bytes += self._written

    def pause_writing(self) -> None:
        """Wait with what has no pace."""
        self._paused = True

    def resume_writing(self) -> None:
        """Go on."""
        self._paused = False
        if self.script is not None and self.script.said and not self.script.order.pace:
            self._pump()

    def data_received(self, data: bytes) -> None:
        """Answer as soon as a request is complete."""
        self._received += data
        while self.script is None and (taken := _request(self._received)) is not None:
            head, body, self._received = taken
            self._answer(head, body)

    def begin(self, now: int, phase: float) -> None:
        """Say the answer from where it is; `phase` from 0 to 1 is its place in the period."""
        if self.script is None:
            return
        if not self.script.order.pace:
            self._pump()
            return
        period = int(self.script.order.pace * 1e9)
        self._upstream.pacer.add(partial(self._step, self.script), now + int(phase * period), period)

    def _answer(self, head: bytes, body: bytes) -> None:
        if not head.startswith(_ASK):
            self._steer(head)
            return
        if _BEARER not in head.lower() + b"\r\n":
            self._say_json({"error": "No valid api key found."}, b"403 Forbidden")
            return
        upstream, order = self._upstream, Order.parse(json.loads(body)["message"])
        upstream.asked += 1
        self.script = Script(order)
        if order.hold:
            self._write(HEAD + self.script.next())
            upstream.held.append(self)
        else:
            self._write(HEAD)
            # Numbers far from each other spread over the period, however many there will be.
            self.begin(time.monotonic_ns(), upstream.asked * 0.618034 % 1)

    def _steer(self, head: bytes) -> None:
        if head.startswith(b"GET /stats "):
            self._say_json(self._upstream.stats())
        elif head.startswith(b"POST /go "):
            self._upstream.go()
            self._say_json({})
        else:
            self._say_json({"online": True})

    def _say_json(self, value: object, status: bytes = b"200 OK") -> None:
        body = json.dumps(value).encode()
        head = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        self._transport.write(head % (status, len(body)) + body)

    def _pump(self) -> None:
        """Say all that the connection takes; what is ready at once goes out at once."""
        script = self.script
        while script is not None and not self._paused:
            if script.ended:
                self._end(script)
                return
            if script.order.turns:
                self._write(script.next())
                asyncio.get_running_loop().call_soon(self._go_on, script)
                return
            ready, size = list[bytes](), 0
            while size < GATHER and not script.ended:
                ready.append(script.next())
                size += len(ready[-1])
            self._write(b"".join(ready))

    def _go_on(self, script: Script) -> None:
        if self.script is script:
            self._pump()

    def _step(self, script: Script) -> bool:
        """Say a piece, whether the other side reads or not: AnythingLLM does not mind either."""
        if self.script is not script:
            return False
        if script.ended:
            self._end(script)
            return False
        self._write(script.next())
        return True

    def _end(self, script: Script) -> None:
        self.script = None
        self._write(script.end())
        if self._received:  # the next request is here already
            self.data_received(b"")

    def _write(self, data: bytes) -> None:
        self._written += len(data)
        self._transport.write(data)

    def _notice(self) -> None:
        if self.script is not None:
            self._upstream.lost.append(time.monotonic_ns())
            self.script = None


def _request(data: bytes) -> tuple[bytes, bytes, bytes] | None:
    """Take a request from the front: head, body, rest. None if it is not complete."""
    head, found, rest = data.partition(b"\r\n\r\n")
    if not found:
        return None
    lower = head.lower()
    if (at := lower.find(b"\r\ncontent-length:")) >= 0:
        size = int(lower[at + 17 :].partition(b"\r\n")[0])
        return (head, rest[:size], rest[size:]) if len(rest) >= size else None
    if b"\r\ntransfer-encoding: chunked" not in lower:
        return head, b"", rest
    body = b""
    while True:
        size_line, found, rest = rest.partition(b"\r\n")
        if not found or len(rest) < (size := int(size_line, 16)) + 2:
            return None
        body, rest = body + rest[:size], rest[size + 2 :]
        if not size:
            return head, body, rest


async def serve(port: int = 0) -> None:
    """Serve until cancelled; the first line of the output is the port."""
    loop = asyncio.get_running_loop()
    upstream = Upstream()
    server = await loop.create_server(lambda: Connection(upstream), "127.0.0.1", port, backlog=BACKLOG)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    raise_descriptor_limit()
    gc.freeze()
    uvloop.run(serve(int(sys.argv[1]) if len(sys.argv) > 1 else 0))
