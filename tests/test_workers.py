"""Several processes on one port: they answer, are replaced and reloaded, and stop as one does.

`Program.ended` returns when nobody holds the program's output any more: no worker is left then.
"""

import asyncio
import json
import os
import re
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

import aiohttp
import pytest

from relay.standin import StandIn
from tests.canary import Canary
from tests.program import LOG_LINE, Program, asking, get, spawn, upstream
from tests.running import Heard

# Longer than any test may last: a program that ends all the same did not wait for it.
NEVER: Final = "3600"
WORKERS: Final = 2

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is one process only")

Begin = Callable[..., Awaitable[Program]]
Start = Callable[..., Awaitable[tuple[Program, list[int]]]]


@pytest.fixture
async def begin(nothing_left_over: None, tmp_path: Path, canary: Canary) -> AsyncIterator[Begin]:
    """Begin `python run.py ...` with workers, in an empty folder; keyword arguments: its environment."""
    async with AsyncExitStack() as stack:

        async def begin(*arguments: str, **env: str) -> Program:
            given = {"RELAY_PORT": "0", "RELAY_WORKERS": str(WORKERS)} | env
            program = await spawn(tmp_path, arguments, given)
            canary.guard_words(env.get("ANYTHINGLLM_API_KEY", ""))
            stack.callback(lambda: canary.hear((program.out + program.err).encode()))
            stack.push_async_callback(end, program)
            return program

        yield begin


async def end(program: Program) -> None:
    with suppress(ProcessLookupError):
        program.signal_group(signal.SIGKILL)
    await program.ended()


@pytest.fixture
def start(begin: Begin, standin: StandIn) -> Start:
    """Run it in front of the stand-in until all workers serve; return their ids too."""

    async def start(*arguments: str, **env: str) -> tuple[Program, list[int]]:
        program = await begin(*arguments, **upstream(standin.url) | env)
        pids = [await started(program) for _ in range(WORKERS)]
        await program.says("Try it")
        return program, pids

    return start


async def started(program: Program) -> int:
    """Wait for the next worker that serves; return its id."""
    return pid_in(await program.logs("worker started"))


def pid_in(line: str) -> int:
    found = re.search(r" pid=(\d+)$", line)
    assert found, line
    return int(found[1])


@contextmanager
def only(pid: int, pids: list[int]) -> Iterator[None]:
    """Have no other worker take what comes."""
    others = [other for other in pids if other != pid]
    for other in others:
        os.kill(other, signal.SIGSTOP)
    try:
        yield
    finally:
        for other in others:
            os.kill(other, signal.SIGCONT)


async def counted(program: Program, metric: str) -> float:
    _, text = await get(program, "/metrics")
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(metric + " "))


async def until_counted(program: Program, metric: str, value: float) -> None:
    while await counted(program, metric) != value:
        await asyncio.sleep(0.05)


async def ask(program: Program, question: str = "!tokens=2") -> Heard:
    async with asking(program, question) as listening:
        assert listening.response.status == 200
        return await listening.rest()


# Serving


async def test_every_worker_answers_and_lets_go(start: Start, standin: StandIn) -> None:
    """A client that leaves stops the model in whichever process its stream is; all count together."""
    program, pids = await start()
    for pid in pids:
        with only(pid, pids):
            assert (await ask(program)).end["reason"] == "complete"
            assert pid_in(await program.logs("stream ended")) == pid
            async with asking(program, "!stall") as listening:
                await listening.until("chunk")
            line = await program.logs("stream ended")
            assert "outcome=client_closed" in line
            assert pid_in(line) == pid
    assert [one.outcome for one in standin.asks] == ["complete", "left"] * WORKERS
    await until_counted(program, 'relay_streams_total{outcome="complete"}', WORKERS)
    await until_counted(program, 'relay_streams_total{outcome="client_closed"}', WORKERS)
    await until_counted(program, "relay_time_to_first_chunk_seconds_count", 2 * WORKERS)
    assert await counted(program, "relay_workers") == WORKERS
    assert await program.stop() == 0


async def test_many_streams_are_spread(start: Start) -> None:
    """Each worker has its share of those that come at once, and the gauge is of all."""
    program, pids = await start(RELAY_SHUTDOWN_GRACE="0")
    async with AsyncExitStack() as stack:
        coming = [stack.enter_async_context(asking(program, "!stall")) for _ in range(60)]
        every = await asyncio.gather(*coming)
        for listening in every:
            await listening.until("chunk")
        await until_counted(program, "relay_streams_active", 60)
        program.signal(signal.SIGTERM)
        for listening in every:
            assert (await listening.rest()).end["reason"] == "shutdown"
    assert await program.ended() == 0
    of = Counter(pid_in(line) for line in program.err.splitlines() if "stream ended" in line)
    assert sum(of.values()) == 60
    assert min(of[pid] for pid in pids) >= 20
    for line in program.err.splitlines():
        assert LOG_LINE.match(line), program.err


async def test_resumable_streams_are_refused(start: Start) -> None:
    """They would be in one of the processes only."""
    program, _ = await start()
    async with aiohttp.ClientSession(program.url) as client:
        for method, path, kwargs in (
            ("POST", "/stream-ask", {"json": {"question": "Hello", "resumable": True}}),
            (
                "POST",
                "/stream-ask",
                {"json": {"question": "Hello"}, "headers": {"Idempotency-Key": "k"}},
            ),
            ("GET", "/streams/abc", {}),
            ("DELETE", "/streams/abc", {}),
        ):
            async with client.request(method, path, **kwargs) as response:
                refusal = await response.json()
                assert (response.status, refusal["code"]) == (503, "resume_unavailable")
                assert response.headers["Retry-After"] == "60"
                assert "RELAY_WORKERS is more than 1 and RELAY_REDIS_URL is not set" in refusal["error"]
    assert await program.stop() == 0


async def test_the_demo_has_one_stand_in(begin: Begin) -> None:
    """All workers ask the same one, which is gone with them, and not before: Ctrl-C is not for it."""
    program = await begin("--demo", "--workers", "2", RELAY_WORKERS="1")
    pids = [await started(program) for _ in range(2)]
    await program.says("Try it")
    for pid in pids:
        with only(pid, pids):
            assert (await ask(program)).end["chat_id"] == pids.index(pid) + 1
    async with asking(program, "!tokens=9 !slow=0.1") as listening:
        await listening.until("chunk")
        program.signal_group(signal.SIGINT)
        assert (await listening.rest()).end["reason"] == "complete"
    assert await program.ended() == 0
    assert program.out.count("Relay ") == 1


async def test_the_port_is_taken(begin: Begin, start: Start) -> None:
    """One line, as with one process."""
    program, _ = await start()
    port = program.url.rpartition(":")[2]
    other = await begin("--demo", RELAY_PORT=port)
    assert await other.ended() == 2
    assert other.err == f"Port {port} is taken; choose another with --port or RELAY_PORT.\n"


async def test_what_gunicorn_would_read_changes_nothing(start: Start, tmp_path: Path) -> None:
    """Its own file and variables are not the relay's settings, good or bad."""
    (tmp_path / "gunicorn.conf.py").write_text("raise SystemExit('read')")
    theirs = {
        "GUNICORN_CMD_ARGS": "--workers 7 --bind nowhere",
        "WEB_CONCURRENCY": "many",
        "PORT": "one",
    }
    program, _ = await start(**theirs, FORWARDED_ALLOW_IPS="?", SENDFILE="?", GUNICORN_PID="?")
    assert (await ask(program)).end["reason"] == "complete"
    assert await counted(program, "relay_workers") == WORKERS
    assert await program.stop() == 0


# Stopping

SIGNALS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
TO_WHOM = pytest.mark.parametrize("to", ["master", "all at once", "workers first"])


async def send(program: Program, pids: list[int], number: signal.Signals, to: str) -> None:
    """Signal as a person does, a terminal, or a service manager."""
    if to == "all at once":
        program.signal_group(number)
        return
    if to == "workers first":
        for pid in pids:
            os.kill(pid, number)
        await asyncio.sleep(0.1)
    program.signal(number)


@SIGNALS
@TO_WHOM
async def test_open_streams_are_told(start: Start, number: signal.Signals, to: str) -> None:
    """In every worker; meanwhile what is new is refused, not cut. It does not take two signals."""
    program, pids = await start(RELAY_SHUTDOWN_GRACE="1")
    async with AsyncExitStack() as stack:
        every = []
        for pid in pids:
            with only(pid, pids):
                listening = await stack.enter_async_context(asking(program, "!stall"))
                await listening.until("chunk")
                every.append(listening)
        await send(program, pids, number, to)
        for _ in pids:
            assert "open_streams=1" in await program.logs("stopping")
        async with asking(program, "Hello") as refused:
            assert refused.response.status == 503
            assert (await refused.response.json())["code"] == "shutting_down"
        for listening in every:
            heard = await listening.rest()
            assert heard.error["code"] == "shutting_down"
            assert heard.end["reason"] == "shutdown"
    assert await program.ended() == 0
    assert "Traceback" not in program.err


async def test_streams_may_finish_within_the_grace(start: Start) -> None:
    """The program does not wait any longer than for them."""
    program, pids = await start(RELAY_SHUTDOWN_GRACE=NEVER)
    async with asking(program, "!tokens=9 !slow=0.2") as listening:
        await listening.until("chunk")
        program.signal(signal.SIGTERM)
        for _ in pids:
            await program.logs("stopping")
        heard = await listening.rest()
    assert heard.end["reason"] == "complete"
    assert await program.ended() == 0


@SIGNALS
@pytest.mark.parametrize("to", ["master", "all at once"])
async def test_a_second_signal_ends_all_at_once(start: Start, number: signal.Signals, to: str) -> None:
    program, pids = await start(RELAY_SHUTDOWN_GRACE=NEVER)
    async with asking(program, "!stall") as listening:
        await listening.until("chunk")
        await send(program, pids, number, to)
        await program.logs("stopping open_streams=1")
        await send(program, pids, number, to)
        assert await program.ended() == 1
    assert "Traceback" not in program.err


async def test_workers_do_not_outlive_the_master(start: Start) -> None:
    """They drain when it is gone, however it went."""
    program, _ = await start(RELAY_SHUTDOWN_GRACE="1")
    async with asking(program, "!stall") as listening:
        await listening.until("chunk")
        program.signal(signal.SIGKILL)
        await program.logs("stopping open_streams=1")
        async with asking(program, "Hello") as refused:
            assert refused.response.status == 503
        assert (await listening.rest()).end["reason"] == "shutdown"
    assert await program.ended() == -signal.SIGKILL


# Workers that go


async def test_a_killed_worker_is_replaced(start: Start) -> None:
    """Streams of others go on, and no count goes down."""
    program, (first, second) = await start()
    with only(first, [first, second]):
        await ask(program)
    await until_counted(program, "relay_chunks_total", 2)
    with only(second, [first, second]):
        listening = asking(program, "!tokens=9 !slow=0.2")
        stream = await listening.__aenter__()
        await stream.until("chunk")
    os.kill(first, signal.SIGKILL)
    third = await started(program)
    assert third not in (first, second)
    assert (await stream.rest()).end["reason"] == "complete"
    await listening.__aexit__(None, None, None)
    assert await counted(program, "relay_chunks_total") >= 2
    with only(third, [second, third]):
        await ask(program)
    await until_counted(program, "relay_chunks_total", 2 + 9 + 2)
    await until_counted(program, "relay_streams_active", 0)
    assert await counted(program, "relay_workers") == WORKERS
    assert await program.stop() == 0
    assert f"Worker (pid:{first}) was sent SIGKILL" in program.err


async def test_a_terminated_worker_lets_its_streams_finish_and_is_replaced(start: Start) -> None:
    """Others take what is new, at once."""
    program, (first, second) = await start(RELAY_SHUTDOWN_GRACE=NEVER)
    with only(first, [first, second]):
        listening = asking(program, "!tokens=20 !slow=0.2")
        stream = await listening.__aenter__()
        await stream.until("chunk")
    os.kill(first, signal.SIGTERM)
    assert pid_in(await program.logs("worker retires open_streams=1")) == first
    third = await started(program)
    assert third not in (first, second)
    assert "stream ended" not in program.err
    for _ in range(20):
        assert (await ask(program)).end["reason"] == "complete"
    assert (await stream.rest()).end["reason"] == "complete"
    await listening.__aexit__(None, None, None)
    assert await program.stop() == 0
    ended = [line for line in program.err.splitlines() if "stream ended" in line]
    assert [pid_in(line) for line in ended].count(first) == 1


# Reloading


async def test_a_reload_cuts_nobody(start: Start, tmp_path: Path) -> None:
    """New workers take over, with new settings; streams of old ones finish, all who ask are heard."""
    (tmp_path / ".env").write_text("ANYTHINGLLM_ALLOWED_MODES=chat\nRELAY_SHUTDOWN_GRACE=30\n")
    program, old = await start()
    taken_over = asyncio.Event()

    async def ask_on(client: aiohttp.ClientSession) -> int:
        """Ask again and again, over a connection that is kept where the relay lets it be."""
        times = 0
        while not taken_over.is_set():
            async with client.post("/stream-ask", json={"question": "!tokens=1"}) as response:
                assert response.status == 200, await response.text()
                assert b"complete" in await response.read()
            times += 1
        return times

    async with (
        AsyncExitStack() as stack,
        aiohttp.ClientSession(program.url) as client,
        aiohttp.ClientSession(program.url) as kept,
        asyncio.TaskGroup() as group,
    ):
        with only(old[0], old):
            long = asking(program, "!tokens=20 !slow=0.2", {"X-Request-ID": "long"})
            stream = await stack.enter_async_context(long)
            await stream.until("chunk")
            async with kept.get("/healthz") as response:
                assert "Connection" not in response.headers
        askers = [group.create_task(ask_on(client)) for _ in range(4)]
        (tmp_path / ".env").write_text("ANYTHINGLLM_ALLOWED_MODES=chat,query\n")
        program.signal(signal.SIGHUP)
        await program.logs("reloading workers=2")
        new = [await started(program) for _ in range(WORKERS)]
        assert not {*new} & {*old}
        for _ in old:
            await program.logs("worker retires")
        async with kept.get("/healthz") as response:
            assert response.headers["Connection"] == "close"
        await program.logs("id=long")  # or nobody reads the log, which stops who writes it
        assert (await stream.rest()).end["reason"] == "complete"
        await until_counted(program, "relay_workers", WORKERS)
        query = {"question": "!tokens=1", "mode": "query"}
        async with client.post("/stream-ask", json=query) as response:
            assert response.status == 200
            await response.read()
        taken_over.set()
    asked = sum(asker.result() for asker in askers) + 1
    assert asked > WORKERS
    await until_counted(program, 'relay_streams_total{outcome="complete"}', asked + 1)
    assert await program.stop() == 0
    assert program.err.count("stream ended") == asked + 1


async def test_bad_settings_change_nothing(start: Start, tmp_path: Path) -> None:
    """They are told, without their secrets, and the workers that are there go on."""
    (tmp_path / ".env").write_text("RELAY_HEARTBEAT=15\n")
    program, pids = await start()
    (tmp_path / ".env").write_text("RELAY_HEARTBEAT=0\nRELAY_API_KEYS=short, K3Y\n")
    program.signal(signal.SIGHUP)
    line = await program.logs("not reloaded")
    assert "RELAY_HEARTBEAT: '0' is not allowed; write a number of seconds above 0" in line
    assert "K3Y" not in line
    for pid in pids:
        with only(pid, pids):
            assert (await ask(program)).end["reason"] == "complete"
            assert pid_in(await program.logs("stream ended")) == pid
    assert await program.stop() == 0


async def test_a_reload_changes_the_number_of_workers_but_not_the_address(
    start: Start, tmp_path: Path
) -> None:
    """What is bound stays, which is told; the log's form changes as any other setting does."""
    (tmp_path / ".env").write_text("RELAY_WORKERS=2\nRELAY_PORT=0\n")
    program, old = await start(RELAY_WORKERS="", RELAY_PORT="")
    (tmp_path / ".env").write_text("RELAY_WORKERS=3\nRELAY_PORT=1\nRELAY_LOG_FORMAT=json\n")
    program.signal(signal.SIGHUP)
    assert "RELAY_HOST and RELAY_PORT stay as they are" in await program.logs("RELAY_PORT")
    new = {json.loads(await program.logs("worker started"))["pid"] for _ in range(3)}
    assert len(new - {*old}) == 3
    for _ in old:
        await program.logs("worker retires")
    await until_counted(program, "relay_workers", 3)
    assert (await ask(program)).end["reason"] == "complete"
    assert await program.stop() == 0


async def test_new_settings_must_be_good_for_the_address_that_stays(
    start: Start, tmp_path: Path
) -> None:
    """Without keys, only loopback may be listened on, and until the next start that is not so."""
    (tmp_path / ".env").write_text(
        "RELAY_HOST=0.0.0.0\nRELAY_API_KEYS=client-key-1\nRELAY_ALLOWED_HOSTS=127.0.0.1\n"
    )
    program, _ = await start()
    (tmp_path / ".env").write_text("RELAY_HOST=localhost\n")
    program.signal(signal.SIGHUP)
    assert "RELAY_API_KEYS: is not set" in await program.logs("not reloaded")
    async with asking(program, "Hello") as refused:
        assert refused.response.status == 401
    assert await program.stop() == 0
