"""The benchmark measures what it says it does; how long anything takes is not asked here."""

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("the benchmark reads Linux's /proc", allow_module_level=True)

from bench import client, cpu, hear, memory, scenarios
from bench.client import Target
from bench.goals import GOALS, Goal, judge, ratio, value
from bench.growth import is_full
from bench.hear import Reads, Spoilt
from bench.order import Order
from bench.processes import CannotStart
from bench.report import table
from bench.results import Measured, Results
from bench.roster import Direct, Nginx, Peer, Relay, roster, upstream_running
from bench.rounds import measure, once
from bench.scenarios import Scenario, percentile
from bench.script import HEAD, Script
from bench.stage import Failed, Stage, stage
from bench.words import WORDS
from tests.recorded import frames

ORDERS = (
    Order(),
    Order(chunks=700),  # more than there are words
    Order(chunks=700, per=32),
    Order(chunks=50, per=8, stamp=1),
    Order(chunks=3, size=20_000),
    Order(chunks=10, pace=0.001, stamp=1),
)


def direct() -> Peer:
    return Direct("direct", "no relay")


def relay() -> Peer:
    return Relay("relay", "the relay")


@asynccontextmanager
async def serving(answer: Callable[[bytes], Sequence[bytes]]) -> AsyncIterator[Target]:
    """A server that answers every request with these writes, and then hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        size = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        body = await reader.readexactly(size)
        for data in answer(body):
            writer.write(data)
            await writer.drain()
            await asyncio.sleep(0)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield Target(server.sockets[0].getsockname()[1], "anythingllm", "/", "key")


def scripted(body: bytes) -> list[bytes]:
    """The writes that a question orders."""
    script = Script(Order.parse(json.loads(body)["message"]))
    writes = [HEAD]
    while not script.ended:
        writes.append(script.next())
    return [*writes, script.end()]


async def asked(target: Target, order: Order) -> Reads:
    connection = await client.connect(target)
    try:
        return await connection.ask(target.request(order))
    finally:
        connection.close()


# What is sent


def test_the_words_look_like_code() -> None:
    """Short, of every kind, and nothing that a fair peer would stumble over."""
    texts = [word.text.decode() for word in WORDS]
    assert 4 <= sum(len(word.text) for word in WORDS) / len(WORDS) <= 12
    assert any(not text.isascii() for text in texts)
    assert any("\n" in text for text in texts)
    assert any('"' in text for text in texts)
    assert not re.search("[|\r\u0085\u2028\u2029]", "".join(texts))
    for word in WORDS:
        assert json.loads(b'"%b"' % word.json) == word.text.decode()


def test_the_frames_have_the_keys_of_anythingllms() -> None:
    """Head and frames, held against a recording of a running one."""
    raw = b"".join(scripted(json.dumps({"message": str(Order(chunks=2))}).encode()))
    body = re.sub(rb"\r\n[0-9a-f]+\r\n|\r\n", b"", raw.partition(b"\r\n\r\n")[2])
    ours = [json.loads(line[6:]) for line in re.findall(rb"data: .*", body)]
    theirs = frames("chat")
    for one, other in ((ours[0], theirs[0]), (ours[-2], theirs[-2]), (ours[-1], theirs[-1])):
        assert list(one) == list(other)
        assert (one["type"], one["close"], one["error"]) == (
            other["type"],
            other["close"],
            other["error"],
        )
    assert list(ours[-1]["metrics"]) == list(theirs[-1]["metrics"])


def test_an_order_survives_the_question() -> None:
    """What is written is what is read."""
    for order in ORDERS:
        assert Order.parse(str(order)) == order


# What is heard


@pytest.mark.parametrize("peer", [direct(), relay()], ids=lambda peer: peer.name)
async def test_every_answer_is_heard_whole(peer: Peer) -> None:
    """From the upstream itself and through a relay process, in all its forms."""
    async with stage(peer, 16) as made:
        for order in ORDERS:
            (heard,) = made.hear([await asked(made.target, order)])
            assert heard.chunks == order.chunks
            assert len(heard.sent) == len(heard.arrived) == (order.chunks if order.stamp else 0)
            pairs = list(zip(heard.sent, heard.arrived, strict=True))
            assert all(sent <= arrived for sent, arrived in pairs)
            assert heard.sent == sorted(heard.sent)
        assert (await made.stats())["running"] == 0


@pytest.mark.parametrize("per", [1, 8])
@pytest.mark.parametrize("stamp", [0, 1])
async def test_a_spoilt_answer_is_noticed(per: int, stamp: int) -> None:
    """A piece that is lost, doubled, moved or changed; a byte that is; an end that is missing."""
    order = Order(chunks=40, per=per, stamp=stamp)

    def changed(writes: list[bytes]) -> list[bytes]:
        at = next(number for number, data in enumerate(writes) if b"value" in data)
        return [*writes[:at], writes[at].replace(b"value", b"vulae", 1), *writes[at + 1 :]]

    spoil: dict[str, Callable[[list[bytes]], list[bytes]]] = {
        "lost": lambda writes: writes[:3] + writes[4:],
        "first lost": lambda writes: [writes[0], *writes[2:]],
        "doubled": lambda writes: [*writes[:3], writes[2], *writes[3:]],
        "moved": lambda writes: [*writes[:2], writes[3], writes[2], *writes[4:]],
        "changed": changed,
        "cut": lambda writes: writes[:-1],
        "cut in the end": lambda writes: [*writes[:-1], writes[-1][:-5]],
        "cut in a frame": lambda writes: [*writes[:3], writes[3][:40]],
        "no finalize": lambda writes: [*writes[:-1], writes[-1].partition(b"finalize")[0]],
        "refused": lambda writes: [b"HTTP/1.1 503 Service Unavailable\r\n\r\n"],
        "nothing": lambda writes: [],
    }
    for name, way in spoil.items():
        async with serving(lambda body, way=way: way(scripted(body))) as target:  # type: ignore[misc]
            with pytest.raises(Spoilt):
                hear.hear(await asked(target, order), target.form)
                pytest.fail(name)
    async with serving(scripted) as target:
        assert hear.hear(await asked(target, order), target.form).chunks == order.chunks


async def test_arrivals_are_those_of_the_reads() -> None:
    """Each piece arrived with the read that had its last byte, wherever the reads are cut."""
    raw = b"".join(scripted(json.dumps({"message": str(Order(chunks=9, stamp=1, per=2))}).encode()))
    for step in (1, 7, 100, len(raw)):
        reads = [(at, raw[at : at + step]) for at in range(0, len(raw), step)]
        heard = hear.hear(reads, "anythingllm")
        ends = [match.end() - 1 for match in re.finditer(rb"\|\d+\|", raw)]
        assert heard.arrived == [end // step * step for end in ends]


async def test_requests_are_read_however_they_are_sent() -> None:
    """In pieces, with a chunked body, two at once; only with the key."""
    async with upstream_running() as (port, _):
        target = Target(port, "anythingllm", direct().path, "bench-key")
        head, _, body = target.request(Order()).partition(b"\r\n\r\n")
        lines = [line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length")]
        chunked = b"\r\n".join([*lines, b"Transfer-Encoding: chunked"])
        pieces = b"%x\r\n%b\r\n1\r\n%b\r\n0\r\n\r\n" % (len(body) - 1, body[:-1], body[-1:])
        whole = chunked + b"\r\n\r\n" + pieces
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(target.request(Order()) + whole[:50])
        for at in range(50, len(whole), 9):
            await asyncio.sleep(0)
            writer.write(whole[at : at + 9])
        for _ in range(2):
            data = await reader.readuntil(b"\r\n0\r\n\r\n")
            assert hear.hear([(0, data)], "anythingllm").chunks == 5
        writer.write(head.replace(b"bench-key", b"another") + b"\r\n\r\n" + body)
        assert (await reader.readline()).startswith(b"HTTP/1.1 403 ")
        writer.close()
        await writer.wait_closed()


# What is measured


def test_cpu_time_counts_children_while_they_live_and_after() -> None:
    """A process that does nothing itself, and has a child work."""
    script = """
import subprocess, sys
def work(seconds):
    code = f"import time\\nwhile time.process_time() < {seconds}: pass"
    return subprocess.Popen([sys.executable, "-c", code])
work(0.2).wait()
print(flush=True)
child = work(100)
sys.stdin.readline()
child.kill()
child.wait()
print(flush=True)
sys.stdin.readline()
"""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", script], stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.readline()
        ended = cpu.used(process.pid)
        assert ended >= 190_000_000  # of a child that is no more; ticks are of 10 ms
        while cpu.used(process.pid) < ended + 100_000_000:  # of one that lives
            time.sleep(0.01)
        assert len(cpu.tree(process.pid)) == 2
        living = cpu.used(process.pid)
        process.stdin.write(b"\n")
        process.stdin.flush()
        process.stdout.readline()
        assert cpu.used(process.pid) >= living - 20_000_000  # it is not forgotten when it ends
    with pytest.raises(ProcessLookupError):
        cpu.used(process.pid)


def test_cpu_time_is_that_of_the_operating_system() -> None:
    """Of this very process, the same as it knows of itself."""
    own = time.process_time_ns() + round((os.times().children_user + os.times().children_system) * 1e9)
    assert abs(cpu.used(os.getpid()) - own) < 50_000_000


def test_memory_is_counted_with_children() -> None:
    """A child that holds 50 MB."""
    script = "import sys; held = bytearray(50 << 20); print(flush=True); sys.stdin.readline()"
    before = memory.resident(os.getpid())
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", script], stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert memory.resident(process.pid) > 50 << 20
        assert memory.resident(os.getpid()) > before + (50 << 20)


async def test_every_scenario_gives_its_figures() -> None:
    """In front of a relay process, with few streams."""
    small = {
        "paced": scenarios.paced(8, 50, 0.4),
        "saturated": scenarios.saturated(4, 64, 1),
        "short": scenarios.short(20, 4, Order(chunks=5, turns=1)),
        "silent": scenarios.silent(4, 8),
        "stuck": scenarios.stuck(2, 50),
        "leave": scenarios.leave(8),
    }
    async with stage(relay(), 16) as made:
        found = {name: await way(made) for name, way in small.items()}
    for goal in GOALS:
        if goal.scenario in found:
            assert goal.figure in found[goal.scenario], goal
    assert all(found[name]["cpu_us"] > 0 for name in ("paced", "saturated", "short"))
    assert found["paced"]["p99_us"] >= found["paced"]["p50_us"] > 0


async def test_who_left_is_known_to_the_upstream() -> None:
    """Streams that were held are lost when their clients close, each at its time."""
    async with stage(direct(), 4) as made:
        connections, _ = await made.open(4, Order(hold=1))
        left = time.monotonic_ns()
        for one in connections[:3]:
            one.close()
        await made.until(lambda stats: len(stats["lost"]) == 3, "not noticed")
        stats = await made.stats()
        assert all(noticed >= left for noticed in stats["lost"])
        assert (stats["held"], stats["running"]) == (1, 1)
        await made.go()
        await made.until(lambda stats: not stats["running"], "did not go on")
        connections[3].close()


def test_percentiles() -> None:
    """The usual ones."""
    assert percentile([3, 1, 2], 50) == 2
    assert percentile(range(1000), 99) == 990
    assert percentile([7], 99) == 7


# Who takes part


class Broken(Relay):
    """Ends at once."""

    def command(self, port: int, upstream_port: int, streams: int) -> Sequence[str]:
        return (sys.executable, "-c", "import sys; sys.exit('no luck today')")


class Absent(Nginx):
    """Is not installed."""

    def missing(self) -> str | None:
        return "it is not installed"


async def test_who_cannot_be_started_is_skipped_with_a_word() -> None:
    """And the others are measured nevertheless."""

    async def nothing(stage: Stage) -> dict[str, float]:
        return {"p99_ms": 1.0, "cpu_us": 2.0}

    async def fails(stage: Stage) -> dict[str, float]:
        raise Failed("3 of 4 streams were bad")

    said: list[str] = []
    peers = [Broken("node", "Node"), Absent("nginx", "nginx"), direct()]
    measured = await measure(peers, [Scenario("leave", 1, nothing, direct=True)], 2, said.append)
    assert [(one.round, one.peer) for one in measured] == [
        (1, "node"), (1, "nginx"), (1, "direct"), (2, "nginx"), (2, "direct"), (2, "node"),
    ]  # fmt: skip
    failures = {one.peer: one.failure for one in measured}
    assert failures == {"node": "no luck today", "nginx": "it is not installed", "direct": None}
    assert measured[2].figures == {"p99_ms": 1.0}  # without a relay there is none to account for
    assert "no luck today" in said[0]
    one = await once(1, Scenario("leave", 1, fails), direct())
    assert one.failure == "3 of 4 streams were bad"


async def test_what_is_no_checkout_is_told(tmp_path: Path) -> None:
    """`--against` needs the folder of one."""
    (other,) = [one for one in roster(tmp_path) if one.name == "against"]
    with pytest.raises(CannotStart, match=r"no run\.py"):
        async with other.running(1, 1):
            pass


# What is said about it


def results(measured: Sequence[Measured]) -> Results:
    titles = {name: name for name in ("nginx", "relay", "fastapi")}
    return Results(
        "2026-01-01", {"cpu": "x", "cores": "2", "memory": "", "system": ""}, {}, titles, measured
    )


GOAL = Goal("s", "f", "t", "m", "us", {"nginx": 2.0, "fastapi": 0.5}, {"nginx": 1.5, "": 10})


def three_rounds(nginx: Sequence[float], relay: Sequence[float], fastapi: Sequence[float]) -> Results:
    columns = {"nginx": nginx, "relay": relay, "fastapi": fastapi}
    return results(
        [
            Measured(number, "s", peer, {"f": amount})
            for peer, amounts in columns.items()
            for number, amount in enumerate(amounts, 1)
        ]
    )


def test_goals_are_judged_by_the_ratios_within_the_rounds() -> None:
    """A round that was slow for all of them changes no ratio."""
    rounds = three_rounds([10, 100, 10], [18, 180, 25], [30, 300, 30]).rounds("s")
    assert value(rounds, "relay", "f") == 25
    assert ratio(rounds, "relay", "nginx", "f") == pytest.approx(1.8)
    verdicts = {(one.step, one.to): one for one in judge(GOAL, rounds)}
    assert {key: one.met for key, one in verdicts.items()} == {
        ("must", "nginx"): True,
        ("must", "fastapi"): False,
        ("aim", "nginx"): False,
        ("aim", ""): False,
    }
    assert str(verdicts["must", "nginx"]) == "met"
    assert str(verdicts["must", "fastapi"]) == "missed by 20%"
    assert str(verdicts["aim", "nginx"]) == "missed by 20%"
    assert str(verdicts["aim", ""]) == "missed: 2.5 times as much"


def test_just_at_the_limit_is_met() -> None:
    """And above it is not."""
    met = judge(GOAL, three_rounds([10], [15], [30]).rounds("s"))
    assert [one.met for one in met] == [True, True, True, False]


def test_a_peer_with_a_bad_stream_gets_no_figure() -> None:
    """Not even when its other rounds were good."""
    good = three_rounds([10, 10], [18, 18], [30, 30])
    bad = [*good.measured[:-1], Measured(2, "s", "fastapi", {}, "1 of 9 streams were bad: cut off")]
    rounds = results(bad).rounds("s")
    assert all("fastapi" not in one for one in rounds)
    assert value(rounds, "fastapi", "f") is None
    assert [one.met for one in judge(GOAL, rounds) if one.to == "fastapi"] == [None]
    assert results(bad).failure("s", "fastapi") == "1 of 9 streams were bad: cut off"


def test_the_table_tells_figures_verdicts_and_failures() -> None:
    """And the data can be read again."""
    measured = [
        Measured(1, "leave", "relay", {"p99_ms": 40.0}),
        Measured(1, "leave", "nginx", {"p99_ms": 10.0}),
        Measured(1, "leave", "fastapi", {}, "500 of 500 not noticed"),
        Measured(1, "short", "relay", {"cpu_us": 300.0}),
        Measured(1, "short", "fastapi", {"cpu_us": 3000.0}),
    ]
    text = table(results(measured))
    assert "| 500 clients leave together: noticed, p99, ms | 10 | 40 | failed |" in text
    assert "| 500 clients leave together: noticed, p99, ms | 40 |  |  | 50 | met |" in text
    assert "x fastapi | 0.1 | 0.12 | met | 0.083 | missed by 20% |" in text
    assert "- fastapi, leave: 500 of 500 not noticed\n" in text
    assert Results.from_json(results(measured).to_json()) == results(measured)


def test_who_is_full_goes_no_further() -> None:
    """Too late, too busy, or failed."""
    assert not is_full(Measured(1, "full", "relay", {"p99_us": 900, "core": 0.7}))
    assert is_full(Measured(1, "full", "relay", {"p99_us": 200_000, "core": 0.7}))
    assert is_full(Measured(1, "full", "relay", {"p99_us": 900, "core": 0.99}))
    assert is_full(Measured(1, "full", "relay", {}, "1 of 9 streams were bad"))
