"""The program as a person runs it: its words, its exit statuses, its signals, its log."""

import asyncio
import json
import shlex
import signal
import socket
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple

import aiohttp
import pytest

from relay.standin import KEY, StandIn
from tests.canary import Canary
from tests.program import LOG_LINE, Program, asking, get, spawn, upstream
from tests.redis_server import RedisServer
from tests.running import Listening

# Longer than any test may last: a program that ends all the same did not wait for it.
NEVER: Final = "3600"
# The head of a question sent over a bare socket, but for the length and the empty line.
ASK: Final = b"POST /stream-ask HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals end the program here")


class Finished(NamedTuple):
    """A program that has ended by itself."""

    status: int
    out: str
    err: str


Run = Callable[..., Awaitable[Finished]]
Start = Callable[..., Awaitable[Program]]


@pytest.fixture
async def begin(nothing_left_over: None, tmp_path: Path, canary: Canary) -> AsyncIterator[Start]:
    """Begin `python run.py ...` in an empty folder; keyword arguments are its environment."""
    async with AsyncExitStack() as stack:

        async def begin(*arguments: str, **env: str) -> Program:
            program = await spawn(tmp_path, arguments, env)
            for name in ("ANYTHINGLLM_API_KEY", "RELAY_API_KEYS"):
                canary.guard_words(*env.get(name, "").split(","))
            stack.callback(lambda: canary.hear((program.out + program.err).encode()))
            stack.push_async_callback(program.kill)
            return program

        yield begin


@pytest.fixture
def run(begin: Start) -> Run:
    """Run the program to its end."""

    async def run(*arguments: str, **env: str) -> Finished:
        program = await begin(*arguments, **env)
        return Finished(await program.ended(), program.out, program.err)

    return run


@pytest.fixture
def start(begin: Start) -> Start:
    """Run the program until it serves, on any free port."""

    async def start(*arguments: str, **env: str) -> Program:
        program = await begin(*arguments, **{"RELAY_PORT": "0"} | env)
        await program.says("Try it")
        return program

    return start


@pytest.fixture
def relay(start: Start, standin: StandIn) -> Start:
    """Run the program in front of the stand-in, where its asks can be seen."""

    async def relay(**env: str) -> Program:
        return await start(**upstream(standin.url), **env)

    return relay


@pytest.fixture
def refusing_port() -> Iterator[int]:
    """A port that nobody else takes and where nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


async def send(program: Program, data: bytes) -> bytes:
    """Send bytes over a bare socket, and no more; return all that comes back."""
    host, _, port = program.url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(data)
        writer.write_eof()
        return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


# Starting


async def test_help_names_every_option(run: Run) -> None:
    """`--help` tells of every option and exits well."""
    status, out, err = await run("--help")
    assert (status, err) == (0, "")
    for option in ("--demo", "--check", "--host", "--port", "--workers"):
        assert option in out


async def test_demo_answers(start: Start) -> None:
    """`--demo` needs no settings: it is ready, and a question is answered to the end."""
    program = await start("--demo")
    assert (await get(program, "/healthz"))[0] == 200
    assert (await get(program, "/readyz"))[0] == 200
    async with asking(program, "Hello") as listening:
        heard = await listening.rest()
    assert heard.text
    assert heard.end["reason"] == "complete"
    assert "stand-in" in program.out
    assert await program.stop() == 0


async def test_printed_command_answers(start: Start) -> None:
    """The command after "Try it" works as it stands, in any shell."""
    program = await start("--demo")
    command = program.out.splitlines()[-1].removeprefix("Try it").split()
    assert "-H" not in command
    curl = await asyncio.create_subprocess_exec(*command, "--silent", stdout=PIPE)
    answer, _ = await curl.communicate()
    assert answer.count(b"event: final_end") == 1


async def test_printed_command_shows_where_the_key_goes(start: Start) -> None:
    """With client keys set, and listening on every interface, it still works with a key filled in."""
    program = await start("--demo", "--host", "0.0.0.0", RELAY_API_KEYS="client-key-1")  # noqa: S104
    command = program.out.splitlines()[-1].removeprefix("Try it").replace("KEY", "client-key-1")
    curl = await asyncio.create_subprocess_exec(*shlex.split(command), "--silent", stdout=PIPE)
    answer, _ = await curl.communicate()
    assert answer.count(b"event: final_end") == 1


async def test_printed_command_works_with_a_file_of_keys_and_other_names(
    start: Start, tmp_path: Path
) -> None:
    """With keys in a file, and when the relay goes by names that do not lead to it from here."""
    (tmp_path / "keys").write_text("client-key-1\n")
    env = {"RELAY_API_KEYS_FILE": "keys", "RELAY_ALLOWED_HOSTS": "relay.example.com:8443,other.example"}
    program = await start("--demo", **env)
    command = program.out.splitlines()[-1].removeprefix("Try it").replace("KEY", "client-key-1")
    assert "Host: relay.example.com:8443" in shlex.split(command)
    curl = await asyncio.create_subprocess_exec(*shlex.split(command), "--silent", stdout=PIPE)
    answer, _ = await curl.communicate()
    assert answer.count(b"event: final_end") == 1


async def test_demo_ignores_upstream_settings_aloud(start: Start) -> None:
    """`--demo` names the ANYTHINGLLM_ settings it ignores, without their values, and keeps RELAY_."""
    program = await start("--demo", ANYTHINGLLM_API_KEY="K3Y-0F-M1NE", RELAY_API_KEYS="client-key-1")
    async with asking(program, "Hello") as listening:
        assert listening.response.status == 401
    assert await program.stop() == 0
    assert "ignores ANYTHINGLLM_API_KEY" in program.err
    assert "K3Y-0F-M1NE" not in program.out + program.err


async def test_settings_come_from_env_file(start: Start, standin: StandIn, tmp_path: Path) -> None:
    """A `.env` in the current folder is enough."""
    lines = "\n".join(f"{name} = '{value}'" for name, value in upstream(standin.url).items())
    (tmp_path / ".env").write_text(lines)
    program = await start()
    assert standin.url in program.out
    async with asking(program, "!echo from the file") as listening:
        assert (await listening.rest()).text == "from the file"


async def test_missing_settings(run: Run) -> None:
    """Without settings: one message that names every missing key, status 2, no traceback."""
    status, out, err = await run()
    assert (status, out) == (2, "")
    for name in upstream(""):
        assert err.count(f"{name}: is not set") == 1
    assert "copy .env.example to .env" in err
    assert "Traceback" not in err


async def test_placeholders_count_as_missing(run: Run, tmp_path: Path) -> None:
    """A `.env` whose placeholders were left in is refused, with the names of those."""
    (tmp_path / ".env").write_text(
        "ANYTHINGLLM_BASE_URL=http://localhost:3001\n"
        "ANYTHINGLLM_API_KEY=XXXXXXX-XXXXXXX-XXXXXXX-XXXXXXX\n"
        "ANYTHINGLLM_WORKSPACE_SLUG=XXXX\n"
    )
    status, _, err = await run()
    assert status == 2
    assert "ANYTHINGLLM_API_KEY: still holds the placeholder" in err
    assert "ANYTHINGLLM_WORKSPACE_SLUG: still holds the placeholder" in err
    assert "ANYTHINGLLM_BASE_URL" not in err


@pytest.mark.parametrize("port", ["99999", "-1", "http"])
async def test_bad_port(run: Run, port: str) -> None:
    """A port that is none is refused by the name of the option."""
    status, _, err = await run("--demo", f"--port={port}")
    assert status == 2
    assert "--port" in err
    assert port in err
    assert "Traceback" not in err


async def test_port_taken(run: Run, start: Start) -> None:
    """A taken port is one line that names it and the way out."""
    first = await start("--demo")
    port = first.url.rpartition(":")[2]
    status, out, err = await run("--demo", "--port", port)
    assert status == 2
    assert err == f"Port {port} is taken; choose another with --port or RELAY_PORT.\n"
    assert "http" not in out


@pytest.mark.parametrize("host", ["192.0.2.1", "a..b"])
async def test_host_of_another_machine(run: Run, host: str) -> None:
    """An address that is not ours is one line that names the setting."""
    env = {"RELAY_API_KEYS": "client-key-1", "RELAY_ALLOWED_HOSTS": "localhost"}
    status, _, err = await run("--demo", "--host", host, RELAY_PORT="0", **env)
    assert status == 2
    assert host in err
    assert "RELAY_HOST" in err
    assert err.count("\n") == 1


async def test_unknown_name_is_a_warning(start: Start) -> None:
    """A misspelt setting is told with the nearest known one, and the relay starts."""
    program = await start("--demo", RELAY_LOG_LEVLE="debug")
    assert (await get(program, "/healthz"))[0] == 200
    assert await program.stop() == 0
    assert "RELAY_LOG_LEVLE is not a setting (did you mean RELAY_LOG_LEVEL?)" in program.err


async def test_more_open_files_than_there_may_be_is_a_warning(start: Start, tmp_path: Path) -> None:
    """With the settings that ask for them, and what to do. Below that there is none."""
    (tmp_path / "sitecustomize.py").write_text(
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (200, 1000))"
    )
    few = await start("--demo", PYTHONPATH=str(tmp_path))
    enough = await start(
        "--demo", PYTHONPATH=str(tmp_path), RELAY_MAX_STREAMS="200", RELAY_MAX_CONNECTIONS="400"
    )
    assert await few.stop() == 0
    assert "may need 3820 open files, and this process may have 1000" in few.err
    assert await enough.stop() == 0
    assert "Warning" not in enough.err


# --check


async def test_check_passes(run: Run, standin: StandIn) -> None:
    """`--check` tells each step that is good, exits with 0, and has asked no question."""
    status, out, err = await run("--check", **upstream(standin.url))
    assert (status, err) == (0, "")
    assert standin.url in out
    assert out.count("ok ") == 2
    assert "failed" not in out
    assert standin.asks == []


async def test_check_asks_redis(run: Run, standin: StandIn, redis: RedisServer) -> None:
    """Where there is one; without it, the status is that of an AnythingLLM that cannot be used."""
    env = upstream(standin.url) | {"RELAY_REDIS_URL": redis.url}
    assert (await run("--check", **env)).status == 0
    await redis.kill()
    status, out, _ = await run("--check", **env)
    assert status == 1
    assert "failed  Redis (RELAY_REDIS_URL)" in out


async def test_check_asks_for_every_workspace(run: Run, standin: StandIn) -> None:
    """One that only requests name may be missing too."""
    status, out, _ = await run(
        "--check", **upstream(standin.url), ANYTHINGLLM_ALLOWED_WORKSPACES="elsewhere"
    )
    assert status == 1
    assert "ok      workspace demo" in out
    assert "no workspace elsewhere; check ANYTHINGLLM_ALLOWED_WORKSPACES" in out


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ANYTHINGLLM_API_KEY", "wr0ng-k3y"),
        ("ANYTHINGLLM_WORKSPACE_SLUG", "elsewhere"),
        ("ANYTHINGLLM_BASE_URL", "{url}/nope"),  # a web page is there
    ],
    ids=["key", "workspace", "web page"],
)
async def test_check_names_what_to_mend(run: Run, standin: StandIn, name: str, value: str) -> None:
    """`--check` exits with 1 and names the setting that is wrong, not its secret."""
    bad = {name: value.format(url=standin.url)}
    status, out, err = await run("--check", **upstream(standin.url) | bad)
    assert (status, err) == (1, "")
    failed = out.splitlines()[-1]
    assert failed.startswith("failed")
    assert name in failed
    assert "wr0ng-k3y" not in out


async def test_check_finds_nothing_listening(run: Run, refusing_port: int) -> None:
    """`--check` says so when nothing listens at the address."""
    url = f"http://127.0.0.1:{refusing_port}"
    status, out, err = await run("--check", **upstream(url))
    assert (status, err) == (1, "")
    assert url in out
    assert "connection refused" in out
    assert "check that AnythingLLM runs" in out


async def test_check_refuses_bad_settings(run: Run) -> None:
    """`--check` with bad settings exits with 2, as a start does."""
    status, _, err = await run("--check", **upstream("localhost:3001"))
    assert status == 2
    assert "ANYTHINGLLM_BASE_URL: is not an http:// or https:// address" in err


async def test_check_is_interrupted(begin: Start) -> None:
    """Ctrl-C while `--check` waits for an answer ends it without a traceback, and is no success."""
    connected: asyncio.Future[asyncio.StreamWriter] = asyncio.get_running_loop().create_future()
    server = await asyncio.start_server(lambda _, writer: connected.set_result(writer), "127.0.0.1", 0)
    async with server:
        program = await begin("--check", **upstream(f"http://127.0.0.1:{port_of(server)}"))
        writer = await connected
        try:
            program.signal(signal.SIGINT)
            assert await program.ended() == 130
        finally:  # or the server waits for it
            writer.close()
            await writer.wait_closed()
    assert program.err == ""


def port_of(server: asyncio.Server) -> int:
    port: int = server.sockets[0].getsockname()[1]
    return port


# Stopping

SIGNALS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])


@SIGNALS
async def test_idle_relay_stops_at_once(relay: Start, number: signal.Signals) -> None:
    """A relay that answers nobody does not wait for anybody, however long the grace."""
    program = await relay(RELAY_SHUTDOWN_GRACE=NEVER)
    program.signal(number)
    assert await program.ended() == 0
    assert "Traceback" not in program.err


async def test_nohup_is_heeded(relay: Start) -> None:
    """Who starts it so wants it to outlive the terminal."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # which a new program inherits
    try:
        program = await relay()
    finally:
        signal.signal(signal.SIGHUP, before)
    program.signal(signal.SIGHUP)
    async with asking(program, "!tokens=3") as listening:
        assert (await listening.rest()).end["reason"] == "complete"
    assert await program.stop() == 0


async def test_idle_connection_does_not_hold_it(relay: Start) -> None:
    """A connection kept open after its answer does not delay the stop."""
    program = await relay(RELAY_SHUTDOWN_GRACE=NEVER)
    async with aiohttp.ClientSession() as client:
        async with client.get(f"{program.url}/healthz") as response:
            await response.read()
        assert await program.stop() == 0


@SIGNALS
async def test_open_stream_is_told(relay: Start, number: signal.Signals) -> None:
    """After the grace an open stream gets an error and its end; the body ends cleanly."""
    program = await relay(RELAY_SHUTDOWN_GRACE="0.5")
    async with asking(program, "!endless !slow=0.05") as listening:
        await listening.until("chunk")
        program.signal(number)
        heard = await listening.rest()
    assert heard.error["code"] == "shutting_down"
    assert heard.error["retryable"] is True
    assert heard.end["reason"] == "shutdown"
    assert await program.ended() == 0
    assert "outcome=shutting_down" in program.err or "outcome=shutdown" in program.err


async def test_silent_streams_are_told(relay: Start) -> None:
    """A stream that waits for AnythingLLM is told too, and so are its neighbours."""
    program = await relay(RELAY_SHUTDOWN_GRACE="0")
    async with (
        asking(program, "!silent") as silent,
        asking(program, "!late=3600") as late,
        asking(program, "!stall") as stalled,
    ):
        await stalled.until("chunk")
        program.signal(signal.SIGTERM)
        for listening in (silent, late, stalled):
            assert (await listening.rest()).error["code"] == "shutting_down"
    assert await program.ended() == 0


async def test_refuses_during_the_grace(relay: Start) -> None:
    """While open streams finish, new questions are refused over new connections, with Retry-After."""
    program = await relay(RELAY_SHUTDOWN_GRACE="50")
    async with asking(program, "!stall") as listening:
        await listening.until("chunk")
        program.signal(signal.SIGTERM)
        await program.logs("stopping")
        status, text = await get(program, "/readyz")
        assert (status, json.loads(text)["code"]) == (503, "shutting_down")
        assert (await get(program, "/healthz"))[0] == 200
        async with asking(program, "Hello") as refused:
            assert refused.response.status == 503
            assert (await refused.response.json())["code"] == "shutting_down"
            assert 1 <= int(refused.response.headers["Retry-After"]) <= 50
    assert await program.ended() == 0


async def test_who_is_still_sending_at_the_stop_is_told(relay: Start) -> None:
    """A question that is half here is refused when it is whole, and not cut off."""
    program = await relay(RELAY_SHUTDOWN_GRACE=NEVER)
    host, _, port = program.url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    body = b'{"question": "Hello"}'
    writer.write(ASK + b"Content-Length: %d\r\n\r\n" % len(body) + body[:-5])
    await writer.drain()
    assert (await get(program, "/healthz"))[0] == 200  # by now it has read what came before
    program.signal(signal.SIGTERM)
    await program.logs("stopping")
    for _ in range(5):  # the stop waits for it
        await asyncio.sleep(0.1)
        assert (await get(program, "/readyz"))[0] == 503
    writer.write(body[-5:])
    answer = await reader.readuntil(b"}")
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"shutting_down" in answer
    writer.close()
    assert await program.ended() == 0


async def test_resumable_streams_may_be_followed_during_the_grace(relay: Start) -> None:
    """Who was cut off can come back, and is asked to close; nothing new begins."""
    program = await relay(RELAY_SHUTDOWN_GRACE=NEVER)
    key = {"Idempotency-Key": "k"}
    async with asking(program, "!tokens=9 !slow=0.2", key) as listening:
        await listening.until("chunk")
        stream = listening.stream_id
    program.signal(signal.SIGTERM)
    await program.logs("stopping open_streams=1")
    async with asking(program, "another", {"Idempotency-Key": "other"}) as refused:
        assert refused.response.status == 503
    async with asking(program, "!tokens=9 !slow=0.2", key) as joined:
        assert joined.stream_id == stream
        assert joined.response.headers["Connection"] == "close"
        async with (
            aiohttp.ClientSession() as client,
            client.get(f"{program.url}/streams/{stream}?after=1") as response,
        ):
            assert response.headers["Connection"] == "close"
            assert (await Listening(response).rest()).end["reason"] == "complete"
        assert len(await joined.rest()) == 10
    assert await program.ended() == 0


async def test_a_resumable_stream_without_a_reader_has_the_grace_too(
    relay: Start, standin: StandIn
) -> None:
    """Then it is ended as any other, and its window is not waited for."""
    program = await relay(RELAY_SHUTDOWN_GRACE="0.5", RELAY_RESUME_WINDOW=NEVER)
    async with asking(program, "!endless !slow=0.05", {"Idempotency-Key": "k"}) as listening:
        await listening.until("chunk")
    async with asking(program, "!tokens=1", {"Idempotency-Key": "ended"}) as listening:
        await listening.rest()
    assert await program.stop() == 0
    assert "outcome=shutting_down" in program.err
    assert standin.asks[0].outcome == "left"


async def test_stream_may_finish_within_the_grace(relay: Start) -> None:
    """An answer that ends within the grace is whole, and the relay does not wait any longer."""
    program = await relay(RELAY_SHUTDOWN_GRACE=NEVER)
    async with asking(program, "!tokens=20 !slow=0.05") as listening:
        first = await listening.until("chunk")
        program.signal(signal.SIGTERM)
        await program.logs("stopping open_streams=1")
        heard = await listening.rest()
    tokens = [f"tok{number}" for number in range(1, 21)]
    assert (first.data["content"] + heard.text).split() == tokens
    assert heard.of("error") == []
    assert heard.end["reason"] == "complete"
    assert await program.ended() == 0
    assert "outcome=complete" in program.err


@SIGNALS
async def test_second_signal_exits_at_once(relay: Start, number: signal.Signals) -> None:
    """Who signals twice does not want to wait: status 1."""
    program = await relay(RELAY_SHUTDOWN_GRACE=NEVER)
    async with asking(program, "!stall") as listening:
        await listening.until("chunk")
        program.signal(signal.SIGTERM)
        await program.logs("stopping")
        program.signal(number)
        assert await program.ended() == 1
    assert "Traceback" not in program.err


async def test_slow_reader_gets_the_whole_answer(relay: Start) -> None:
    """An answer that AnythingLLM ended before the stop is delivered whole, as the client reads it."""
    program = await relay(RELAY_SHUTDOWN_GRACE="50")
    async with bare_ask(program, "!line=500000") as reader:
        await reader.readuntil(b"xxxx")
        program.signal(signal.SIGTERM)
        await program.logs("stopping open_streams=1")
        body = await reader.read()
    assert b"event: final_end" in body
    assert body.endswith(b"\r\n0\r\n\r\n")
    assert await program.ended() == 0


async def test_stuck_reader_does_not_hold_it(relay: Start) -> None:
    """A client that never reads its answer delays the stop no longer than the grace allows."""
    program = await relay(RELAY_SHUTDOWN_GRACE="0")
    async with bare_ask(program, "!line=500000") as reader:
        await reader.readuntil(b"xxxx")
        assert await program.stop() == 0


@asynccontextmanager
async def bare_ask(program: Program, question: str) -> AsyncIterator[asyncio.StreamReader]:
    """Ask over a socket that holds little; yield all that comes back."""
    host, _, port = program.url.removeprefix("http://").rpartition(":")
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect((host, int(port)))
    reader, writer = await asyncio.open_connection(sock=client, limit=1024)
    body = json.dumps({"question": question})
    writer.write(ASK + f"Content-Length: {len(body)}\r\n\r\n{body}".encode())
    try:
        yield reader
    finally:
        writer.close()
        await writer.wait_closed()


# The log


async def test_line_per_stream(relay: Start) -> None:
    """A stream leaves one line: its id, how it ended, what it took."""
    program = await relay()
    async with asking(program, "!tokens=3", {"X-Request-ID": "my-id"}) as listening:
        await listening.rest()
    line = await program.logs("stream ended")
    assert LOG_LINE.match(line)
    told = dict(field.split("=") for field in line.split() if "=" in field)
    assert (told["id"], told["outcome"], told["events"]) == ("my-id", "complete", "4")
    assert int(told["bytes"]) > 0
    assert 0 <= float(told["first_event_s"]) <= float(told["total_s"])
    assert await program.stop() == 0
    assert program.err.count("my-id") == 1


async def test_json_line_per_stream(relay: Start) -> None:
    """With RELAY_LOG_FORMAT=json every line is an object with the same fields."""
    program = await relay(RELAY_LOG_FORMAT="json")
    async with asking(program, "!abort=429", {"X-Request-ID": "my-id"}) as listening:
        code = (await listening.rest()).error["code"]
    await program.logs("stream ended")
    assert await program.stop() == 0
    ended, stopping = map(json.loads, program.err.splitlines())
    assert (ended["level"], ended["message"]) == ("info", "stream ended")
    assert (ended["id"], ended["outcome"]) == ("my-id", code)
    assert 0 <= ended["first_event_s"] <= ended["total_s"]
    assert stopping["message"].startswith("stopping")


@pytest.mark.parametrize("level", ["debug", "info"])
async def test_secrets_are_not_told(relay: Start, level: str) -> None:
    """Neither AnythingLLM's key nor a client's is in any output, good request or bad."""
    program = await relay(RELAY_LOG_LEVEL=level, RELAY_API_KEYS="client-secret")
    for key in ("client-secret", "stolen-secret"):
        for question in ("Hello", "!refused", "!status=401", "!die"):
            async with asking(program, question, {"Authorization": f"Bearer {key}"}) as listening:
                await listening.response.read()
    await send(program, b"GET / HTTP/1.1\r\nAuthorization: Bearer client-secret\r\nbroken\r\n\r\n")
    assert await program.stop() == 0
    told = program.out + program.err
    assert KEY not in told
    assert "-secret" not in told


async def test_question_and_answer_are_not_logged(relay: Start) -> None:
    """What people ask and are told stays out of the log."""
    program = await relay()
    for question in ("!echo zebra", "zebra !abort", "zebra !garbage", "zebra !status=500"):
        async with asking(program, question) as listening:
            await listening.rest()
    assert await program.stop() == 0
    assert program.err.count("stream ended") == 4
    assert "zebra" not in program.err
    assert "tok1" not in program.err


async def test_client_that_leaves(relay: Start) -> None:
    """A client that leaves is a line of ours and no traceback."""
    program = await relay()
    async with asking(program, "!endless !slow=0.05") as listening:
        await listening.until("chunk")
    assert "outcome=client_closed" in await program.logs("stream ended")
    async with asking(program, "!silent"):
        pass
    assert "outcome=client_closed" in await program.logs("stream ended")
    assert await program.stop() == 0
    only_our_lines(program)


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x01\x02\xff\xfe\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"hello\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: loc",
        b"GET /\xff HTTP/1.1\r\nHost: \xff\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"",
        ASK + b"Content-Length: 100\r\n\r\n{",
        ASK + b"Content-Length: -1\r\n\r\n{",
        ASK + b"Transfer-Encoding: chunked\r\n\r\n{nonsense",
        ASK + b"Transfer-Encoding: chunked\r\n\r\nZZZ\r\n{}\r\n0\r\n\r\n",
        ASK + b"Content-Encoding: gzip\r\nContent-Length: 8\r\n\r\nnot gzip",
        ASK + b"Content-Length: 2\r\n\r\n[]",
    ],
    ids=[
        "bytes",
        "TLS",
        "a word",
        "version",
        "long header",
        "half a head",
        "no UTF-8",
        "bad address",
        "nothing",
        "half a body",
        "negative length",
        "no chunk size",
        "bad chunk size",
        "no gzip",
        "no object",
    ],
)
async def test_malformed_request(start: Start, data: bytes) -> None:
    """What is no good request leaves no traceback, and the relay serves on."""
    program = await start("--demo")
    answer = await send(program, data)
    assert not answer or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4")), answer
    assert (await get(program, "/healthz"))[0] == 200
    assert await program.stop() == 0
    only_our_lines(program)


def only_our_lines(program: Program) -> None:
    for line in program.err.splitlines():
        assert LOG_LINE.match(line), program.err
