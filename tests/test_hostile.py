"""What attackers and broken clients send, as a table: tests/hostile.json.

Each entry is one request (or what should be one), sent over a bare socket to a relay that runs as a
process of its own and is the same for the whole table. Its answer must be the one the table has,
well-formed to the byte, and without secrets. After each entry a good question must be answered.

An entry is what is sent:

- `raw`: these bytes; or a request put together from
- `line` (`POST /stream-ask HTTP/1.1`), `host` (`localhost`; null: none), `headers` (more of them),
  `type` (of the body; `application/json`; null: none said) and `body`, or `fields`, which are JSON
  beside a good question. A POST of which nothing else is said asks that question. The length is
  added unless `headers` say it.
- `relay`: `guarded` for the one that wants a key, allows some pages and no agents; else it is `open`.
- `upon_100`: what is sent once the relay says that it waits for the body.
- `finish`: true if the client says that no more will come, and listens on.
- `slow`: true if the answer comes only after seconds.

Bytes are Latin-1 text, or a list of parts: text, `[parts, times]` or `{"gzip": parts}`.

And it is what comes back:

- `status`, and of a refusal its `code` and `says`, a pattern that is in its sentence. A list where HTTP
  leaves the choice. 0: closed without a word.
- `answer`: the text of a good answer, where it is not the usual one.
- `next`: the statuses of further answers; `later`, if it is there, is sent before them.
- `then`: `close`: the relay closes; `open`: it takes another request; `leave`: the request was cut, and
  we leave. Without a word the relay may do either, as long as it takes no byte of this request for
  another.
"""

import gzip
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from relay.sse import Decoder
from relay.standin import KEY
from tests.program import LOG_LINE, RUN, environment, upstream
from tests.wire import Answer, Wire

CLIENT_KEY: Final = "let-this-client-in"
SECRETS: Final = (KEY.encode(), CLIENT_KEY.encode())
RELAYS: Final = {
    "open": {},
    "guarded": {
        "RELAY_API_KEYS": CLIENT_KEY,
        "RELAY_ALLOWED_ORIGINS": "https://chat.example.com, vscode-webview://*",
        "ANYTHINGLLM_ALLOWED_MODES": "chat, query",
    },
}
FINE: Final = "fine"
GOOD: Final = {"question": f"!echo {FINE}"}
COMPOSED: Final = {"line", "host", "headers", "type", "body", "fields"}
EXPECTED: Final = {"status", "code", "says", "answer", "next", "then"}
KNOWN: Final = {"name", "relay", "slow", "upon_100", "finish", "later", "raw", *COMPOSED, *EXPECTED}
# Seconds for an answer that the relay holds back on purpose.
PATIENCE: Final = 30.0

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGTERM ends the program here")

Entry = dict[str, Any]


def load() -> list[Entry]:
    """Read the table; those whose answers take time come last, and are sent first."""
    entries: list[Entry] = json.loads(Path(__file__).with_name("hostile.json").read_text("utf-8"))
    return sorted(entries, key=lambda entry: "slow" in entry)


TABLE: Final = load()


def sent(parts: Any) -> bytes:
    """Return the bytes of parts."""
    match parts:
        case str():
            return parts.encode("latin-1")
        case {"gzip": inner}:
            return gzip.compress(sent(inner), mtime=0)
        case [inner, int(times)]:
            return sent(inner) * times
    return b"".join(map(sent, parts))


def request(entry: Entry) -> bytes:
    """Return what an entry sends."""
    if "raw" in entry:
        return sent(entry["raw"])
    line = entry.get("line", "POST /stream-ask HTTP/1.1")
    body = None
    if "body" in entry:
        body = sent(entry["body"])
    elif "fields" in entry or sent(line).startswith(b"POST"):
        body = json.dumps({**GOOD, **entry.get("fields", {})}).encode()
    more = b"".join(sent(header) + b"\r\n" for header in entry.get("headers", ()))
    head = sent(line) + b"\r\n"
    if entry.get("host", "localhost") is not None:
        head += b"Host: " + sent(entry.get("host", "localhost")) + b"\r\n"
    if body is not None:
        if entry.get("type", "") is not None:
            head += b"Content-Type: " + sent(entry.get("type", "application/json")) + b"\r\n"
        if not re.search(rb"(?im)^(content-length|transfer-encoding)\b", more):
            head += b"Content-Length: %d\r\n" % len(body)
    return head + more + b"\r\n" + (body or b"")


def wants_no_body(entry: Entry) -> bool:
    """Whether an entry sends a HEAD, whose refusal nobody can read."""
    return sent(entry.get("raw", entry.get("line", ""))).startswith(b"HEAD ")


class Process:
    """A relay that runs on its own, and what it wrote."""

    def __init__(self, folder: Path, env: dict[str, str], *, keyed: bool) -> None:
        self._out, self._err = folder / "out", folder / "err"
        self._key = f"Authorization: Bearer {CLIENT_KEY}\r\n" if keyed else ""
        env = {"RELAY_PORT": "0", "RELAY_LOG_LEVEL": "debug", **env}
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, str(RUN)], cwd=folder, env=environment(env), stdout=out, stderr=err
            )

    @property
    def port(self) -> int:
        return int(printed(self.process, self._out, r"Relay +http://\S+:(\d+)"))

    def ask(self) -> None:
        """Ask a good question, which must be answered well."""
        body = json.dumps({"question": "!echo ok"})
        head = f"POST /stream-ask HTTP/1.1\r\nHost: localhost\r\n{self._key}"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        with Wire(self.port) as wire:
            wire.send((head + body).encode())
            assert heard(wire.answer()) == "ok"

    @property
    def logged(self) -> int:
        """How many bytes its log has in whole lines."""
        return self._err.read_bytes().rfind(b"\n") + 1

    def check_log(self, since: int = 0) -> None:
        """Check that its log has lines of ours, none of them a complaint, and no secret."""
        log = self._err.read_bytes()[since:]
        log = log[: log.rfind(b"\n") + 1]  # the last line may be half here
        assert not [secret for secret in SECRETS if secret in log]
        for line in log.decode().splitlines():
            assert LOG_LINE.match(line), log.decode()


def printed(process: subprocess.Popen[bytes], out: Path, pattern: str) -> str:
    """Wait until a process has written what fits the pattern; return its group."""
    deadline = time.monotonic() + PATIENCE
    while not (found := re.search(pattern, out.read_text())):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found[1]


@pytest.fixture(scope="module")
def relays(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Process]]:
    """The relays of the table, in front of a stand-in."""
    with ExitStack() as stack:
        out = tmp_path_factory.mktemp("standin") / "out"
        with out.open("wb") as file:
            command = [sys.executable, "-m", "relay.standin", "--port", "0"]
            standin = subprocess.Popen(command, cwd=RUN.parent, stdout=file)
        stack.callback(end, standin)
        url = printed(standin, out, r"url +(\S+)")
        found = {}
        for name, env in RELAYS.items():
            folder = tmp_path_factory.mktemp(name)
            found[name] = Process(folder, {**upstream(url), **env}, keyed="RELAY_API_KEYS" in env)
            stack.callback(end, found[name].process)
        yield found


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process in any case."""
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def waiting(relays: dict[str, Process]) -> Iterator[dict[str, Wire]]:
    """Send what is answered late before all else, so that all of it waits at the same time."""
    with ExitStack() as stack:
        wires = {}
        for entry in TABLE:
            if "slow" in entry:
                port = relays[entry.get("relay", "open")].port
                wire = wires[entry["name"]] = stack.enter_context(Wire(port, seconds=PATIENCE))
                wire.send(request(entry))
        yield wires


def heard(answer: Answer) -> str:
    """Return the text of an answer that must be whole and without an error."""
    assert answer.status == 200, answer.raw
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    events = [(event.event, json.loads(event.data)) for event in Decoder().feed(answer.body)]
    names = [name for name, _ in events]
    assert names.count("final_end") == 1
    assert events[-1][0] == "final_end"
    assert events[-1][1]["reason"] == "complete", events
    return "".join(data["content"] for name, data in events if name == "chunk")


def check_head(answer: Answer) -> None:
    """Check what every response has, and what none has."""
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,128}", answer.headers["x-request-id"])
    assert answer.headers["server"] == "relay"
    assert b"Traceback" not in answer.raw
    assert not [secret for secret in SECRETS if secret in answer.raw]


def check_refusal(answer: Answer, code: str | list[str] = "", says: str = "") -> None:
    """Check that an answer is a refusal as docs/protocol.md has it."""
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    told = json.loads(answer.body)
    assert set(told) == {"error", "code"}
    assert not code or told["code"] in (code if isinstance(code, list) else [code]), told
    assert told["error"].encode().endswith(b"."), told  # no half characters, which not all can read
    assert re.search(says, told["error"]), told
    needed = {401: "www-authenticate", 405: "allow", 503: "retry-after"}.get(answer.status)
    assert needed is None or answer.headers[needed]


def check(entry: Entry, wire: Wire) -> None:
    """Check all that comes back."""
    statuses = entry["status"] if isinstance(entry["status"], list) else [entry["status"]]
    if statuses == [0]:
        assert wire.is_closed()
        return
    if "upon_100" in entry:
        assert wire.head()[0] == 100
        wire.send(sent(entry["upon_100"]))
    to_head = wants_no_body(entry)
    answer = wire.answer(to_head=to_head)
    assert answer.status in statuses, answer.raw
    check_head(answer)
    if answer.status >= 400 and not to_head:
        check_refusal(answer, entry["code"], entry["says"])
    elif answer.headers.get("content-type", "").startswith("text/event-stream"):
        assert heard(answer) == entry.get("answer", FINE)
    wire.send(sent(entry.get("later", "")))
    for status in entry.get("next", ()):
        answer = wire.answer()
        assert answer.status == status, answer.raw
        check_head(answer)
        if status >= 400:
            check_refusal(answer)
    then = entry.get("then")
    if then == "leave":
        return
    if then == "close" or answer.headers.get("connection") == "close":
        assert then != "open"
        assert wire.is_closed()
        return
    wire.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: one-more\r\n\r\n")
    if wire.is_closed():
        assert then != "open"
        return
    answer = wire.answer()
    assert (answer.status, answer.headers["x-request-id"]) == (200, "one-more"), answer.raw


# --- the table ---


def test_the_table_is_in_order() -> None:
    """Every entry has a name of its own, and says what must come back."""
    names = [entry["name"] for entry in TABLE]
    assert len(set(names)) == len(names) >= 150
    for entry in TABLE:
        assert set(entry) <= KNOWN, entry
        assert "raw" not in entry or not set(entry) & COMPOSED, entry
        assert not {"body", "fields"} <= set(entry), entry
        assert entry.get("relay", "open") in RELAYS, entry
        assert entry.get("then", "open") in ("open", "close", "leave"), entry
        statuses = entry["status"] if isinstance(entry["status"], list) else [entry["status"]]
        refusal = max(statuses) >= 400 and not wants_no_body(entry)
        assert refusal == ("code" in entry) == ("says" in entry), entry
        assert not set(statuses) & {500, 502, 504}, entry


@pytest.mark.parametrize("entry", TABLE, ids=[entry["name"] for entry in TABLE])
def test_hostile(relays: dict[str, Process], waiting: dict[str, Wire], entry: Entry) -> None:
    """What is sent is answered as the table has it, and harms nobody else."""
    relay = relays[entry.get("relay", "open")]
    logged = relay.logged
    if "slow" in entry:
        check(entry, waiting[entry["name"]])
    else:
        with Wire(relay.port) as wire:
            wire.send(request(entry))
            if "finish" in entry:
                wire.finish()
            check(entry, wire)
    relay.ask()
    relay.check_log(logged)


@pytest.mark.parametrize("name", RELAYS)
def test_it_lives_after_all_of_that(relays: dict[str, Process], name: str) -> None:
    """Last of all: the relay still runs, and stops well."""
    relay = relays[name]
    relay.ask()
    assert relay.process.poll() is None
    relay.process.send_signal(signal.SIGTERM)
    assert relay.process.wait(PATIENCE) == 0
    relay.check_log()
