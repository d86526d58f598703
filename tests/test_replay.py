"""Every recorded case through the whole relay: a replaying upstream, a relay process, a client.

The upstream sends each recording as it was sent (head, chunk framing, its way of ending), but cut into
reads in several ways; the relay runs as its users run it, as a process.
"""

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any

import aiohttp
import pytest

from tests import described, recorded
from tests.cuts import at_random, pieces
from tests.running import Heard, Listening

ROOT = Path(__file__).parent.parent
CUTTINGS = ("frames", "bytes", "whole", "random")
# Cut into single bytes these take a second or more each, and show nothing that the others do not.
TOO_LONG_FOR_BYTES = 40_000

CLEAN = "terminal chunk"
CUT_OFF = "connection closed without the terminal chunk"


def http_chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def head_of(name: str) -> bytes:
    head = (recorded.FOLDER / f"{name}.headers.txt").read_bytes()
    return head.replace(b"\r\n", b"\n").strip().replace(b"\n", b"\r\n") + b"\r\n\r\n"


def reads(name: str, cutting: str) -> list[bytes]:
    """Cut the response after its head as it goes over the wire, framing included."""
    parts = [part + b"\n\n" for part in recorded.body(name).split(b"\n\n") if part]
    framed = [http_chunk(part) for part in parts]
    if recorded.cases()[name]["ended"] == CLEAN:
        framed.append(b"0\r\n\r\n")
    data = b"".join(framed)
    if cutting == "frames":
        return framed
    if cutting == "bytes" and len(data) < TOO_LONG_FOR_BYTES:
        return pieces(data, [1])
    if cutting == "whole":
        return [data]
    return at_random(data, seed=len(name), longest=200)


class Replaying(StreamRequestHandler):
    """One connection to the replaying upstream; the message of a question names the recording."""

    disable_nagle_algorithm = True

    def handle(self) -> None:
        with suppress(ConnectionError):  # the relay leaves a recording once it knows how it ends
            self.replay_all()

    def replay_all(self) -> None:
        """Replay what each request asks for, until one ends the connection."""
        while line := self.rfile.readline():
            length = 0
            while line.strip():
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
                line = self.rfile.readline()
            if not self.replay(*json.loads(self.rfile.read(length))["message"].split()):
                return

    def replay(self, name: str, cutting: str) -> bool:
        """Send one recording; return whether the connection stays open."""
        self.wfile.write(head_of(name))
        for data in reads(name, cutting):
            self.wfile.write(data)
        ended = recorded.cases()[name]["ended"]
        if ended not in (CLEAN, CUT_OFF):  # still open and silent: until the relay gives up
            self.rfile.read(1)
            return False
        return bool(ended == CLEAN)


@pytest.fixture
def nothing_left_over() -> None:
    """Not checked here: upstream and relay outlive a test, and the former's sockets are ours."""


@pytest.fixture(scope="module")
def upstream() -> Iterator[str]:
    """The URL of the replaying upstream."""
    ThreadingTCPServer.daemon_threads = True
    with ThreadingTCPServer(("127.0.0.1", 0), Replaying) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def relay(upstream: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a relay process in front of it."""
    ours = {n: v for n, v in os.environ.items() if not n.startswith(("RELAY_", "ANYTHINGLLM_"))}
    theirs = {
        "ANYTHINGLLM_BASE_URL": upstream,
        "ANYTHINGLLM_API_KEY": "replay-key",
        "ANYTHINGLLM_WORKSPACE_SLUG": "demo",
        "ANYTHINGLLM_IDLE_TIMEOUT": "1.5",
    }
    with subprocess.Popen(
        [sys.executable, ROOT / "run.py", "--host", "127.0.0.1", "--port", "0"],
        cwd=tmp_path_factory.mktemp("relay"),
        env={**ours, **theirs},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        url = next(line.split()[1] for line in process.stdout if line.startswith("Relay "))
        yield url
        process.terminate()
        assert process.wait(20) == 0 or sys.platform == "win32"  # which knows no SIGTERM


async def ask(url: str, question: str) -> tuple[Heard, bytes]:
    async with aiohttp.ClientSession() as client:
        response = await client.post(f"{url}/stream-ask", json={"question": question})
        listening = Listening(response)
        heard = await listening.rest()
        response.close()
        return heard, listening.raw


def without_silence(raw: bytes) -> bytes:
    return raw.replace(b": ping\n", b"")


@pytest.mark.parametrize("name", recorded.NAMES)
async def test_every_recorded_case_in_every_cutting(relay: str, name: str) -> None:
    """The client hears the same bytes however the upstream's were cut, and they mean what was said."""
    answers = await asyncio.gather(*[ask(relay, f"{name} {cutting}") for cutting in CUTTINGS])
    meant = recorded.meaning(name)
    for told in answers[0][0]:
        described.check_event(told.name, told.data)
    for heard, raw in answers:
        assert heard.text == meant.text
        assert without_silence(raw) == without_silence(answers[0][1])
        if meant.code is None:
            assert heard.end["reason"] == "complete"
        else:
            assert_failed(heard, name, meant)


def assert_failed(heard: Heard, name: str, meant: recorded.Meaning) -> None:
    """The end is that of the recording, here with the connection's own way of ending."""
    ended: Any = recorded.cases()[name]["ended"]
    error = heard.error
    if ended == CUT_OFF:
        assert error["code"] == "upstream_truncated"
    elif ended != CLEAN:
        assert error["code"] == "upstream_timeout"
        assert "ANYTHINGLLM_IDLE_TIMEOUT" in error["message"]
    else:
        assert (error["code"], error["message"]) == (meant.code, meant.message)
        assert error["retryable"] is meant.retryable
