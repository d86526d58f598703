"""What is measured. A scenario takes a stage and returns figures, or raises Failed."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bench import client, cpu
from bench.order import Order
from bench.stage import Failed, Stage

Figures = Mapping[str, float]
Measure = Callable[[Stage], Awaitable[Figures]]

KB: Final = 1024
_SETTLE: Final = 1.0  # seconds until streams that have begun run evenly
_TAIL: Final = 0.5  # seconds of a stream after what is measured
_BIG: Final = 1000  # bytes of text in a piece where megabytes are to be said
_NOTICED: Final = 10.0  # seconds in which an upstream should have noticed that a client left


@dataclass(frozen=True, slots=True)
class Scenario:
    """A name, how many streams are open at most, and how it is measured."""

    name: str
    streams: int
    measure: Measure
    direct: bool = False
    """Whether it can be measured without a relay."""


def paced(streams: int, per_second: float, seconds: float) -> Measure:
    """Streams at a model's pace: CPU time a piece, and the time of a piece from end to end."""

    async def measure(stage: Stage) -> Figures:
        chunks = round((_SETTLE + seconds + _TAIL) * per_second)
        order = Order(chunks=chunks, pace=1 / per_second, stamp=1, hold=1)
        empty = stage.memory()
        connections, answers = await stage.open(streams, order)
        await stage.go()
        await asyncio.sleep(_SETTLE)
        began, before = time.monotonic_ns(), _all_cpu(stage)
        await asyncio.sleep(seconds)
        ended, after = time.monotonic_ns(), _all_cpu(stage)
        resident = stage.memory()
        reads = await stage.finish(answers)
        for one in connections:
            one.close()
        heard = stage.hear(reads)
        late = [
            (arrived - sent) / 1000
            for one in heard
            for arrived, sent in zip(one.arrived, one.sent, strict=True)
            if began <= arrived < ended
        ]
        if not late:
            raise Failed("no piece arrived while it was measured")
        peer, upstream, ours = (
            (then - now) / 1000 / len(late) for now, then in zip(before, after, strict=True)
        )
        return {
            "cpu_us": peer,
            "p50_us": percentile(late, 50),
            "p99_us": percentile(late, 99),
            "core": (after[0] - before[0]) / (ended - began),
            "pace": len(late) / (streams * per_second * (ended - began) / 1e9),
            "resident_mb": resident / KB / KB,
            "stream_kb": (resident - empty) / KB / streams,
            "upstream_us": upstream,
            "client_us": ours,
        }

    return measure


def saturated(streams: int, chunks: int, per: int) -> Measure:
    """Streams as fast as they go: CPU time a piece."""

    async def measure(stage: Stage) -> Figures:
        connections, answers = await stage.open(streams, Order(chunks=chunks + per, per=per, hold=1))
        began, before = time.monotonic_ns(), _all_cpu(stage)
        await stage.go()
        reads = await stage.finish(answers)
        ended, after = time.monotonic_ns(), _all_cpu(stage)
        for one in connections:
            one.close()
        stage.hear(reads)
        peer, upstream, ours = (
            (then - now) / 1000 / (streams * chunks) for now, then in zip(before, after, strict=True)
        )
        return {
            "cpu_us": peer,
            "per_second": streams * chunks / ((ended - began) / 1e9),
            "upstream_us": upstream,
            "client_us": ours,
        }

    return measure


def short(requests: int, at_once: int, order: Order) -> Measure:
    """Short answers, one after the other on each connection: CPU time a request."""

    async def measure(stage: Stage) -> Figures:
        began, before = time.monotonic_ns(), _all_cpu(stage)
        reads = await stage.short(requests, at_once, order)
        ended, after = time.monotonic_ns(), _all_cpu(stage)
        stage.hear(reads)
        peer, upstream, ours = (
            (then - now) / 1000 / requests for now, then in zip(before, after, strict=True)
        )
        return {
            "cpu_us": peer,
            "per_second": requests / ((ended - began) / 1e9),
            "upstream_us": upstream,
            "client_us": ours,
        }

    return measure


def leave(streams: int) -> Measure:
    """All clients of silent streams leave at once: ms until the upstream notices."""

    async def measure(stage: Stage) -> Figures:
        connections, _ = await stage.open(streams, Order(hold=1))
        await asyncio.sleep(_SETTLE)
        left = time.monotonic_ns()
        for one in connections:
            one.close()
        lost: Sequence[int] = ()
        while len(lost) < streams and time.monotonic_ns() < left + _NOTICED * 1e9:
            await asyncio.sleep(0.25)
            lost = (await stage.stats())["lost"]
        if len(lost) < streams:
            never = streams - len(lost)
            raise Failed(f"{never} of {streams} not noticed within {_NOTICED:.0f} s")
        waited = [(noticed - left) / 1e6 for noticed in lost]
        return {"p50_ms": percentile(waited, 50), "p99_ms": percentile(waited, 99)}

    return measure


def silent(few: int, many: int) -> Measure:
    """Open streams that say nothing: memory of the peer for each, with few and with many of them."""

    async def measure(stage: Stage) -> Figures:
        before = stage.memory()
        figures = {}
        opened: list[client.Connection] = []
        try:
            for name, count in (("few", few), ("many", many)):
                connections, _ = await stage.open(count - len(opened), Order(hold=1))
                opened += connections
                await asyncio.sleep(_SETTLE)
                figures[f"{name}_kb"] = (stage.memory() - before) / KB / count
        finally:
            for one in opened:
                one.close()
        return figures

    return measure


def stuck(readers: int, megabytes: int) -> Measure:
    """Clients that never read while the upstream has much to say: memory of the peer for each."""

    async def measure(stage: Stage) -> Figures:
        order = Order(chunks=megabytes * KB * KB // _BIG, size=_BIG)
        before = stage.memory()
        request = stage.target.request(order)
        connections = await client.connect_many(stage.target, readers, receive_buffer=4 * KB)
        try:
            for one in connections:
                one.stop_reading()
                one.ask(request)
            await stage.until(lambda stats: stats["running"] >= readers, "streams were not opened")
            accepted, peak = -1, 0
            while (now := (await stage.stats())["accepted"]) != accepted:
                accepted = now
                await asyncio.sleep(1)
                held = stage.memory() - before
                peak = max(peak, held)
            if (await stage.stats())["running"] < readers:
                raise Failed("it took all there was for clients that read nothing, or gave them up")
        finally:
            for one in connections:
                one.close()
        return {
            "kb": held / KB / readers,
            "peak_kb": peak / KB / readers,
            "accepted_kb": accepted / KB / readers,
        }

    return measure


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that is not below so many percent of them. There must be one."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def scenarios(*, quick: bool = False) -> list[Scenario]:
    """All of them; quick: a fifth of the time, for a look while working."""
    seconds = 2 if quick else 6
    return [
        Scenario("paced", 1000, paced(1000, 20, seconds), direct=True),
        Scenario("paced-200", 200, paced(200, 20, seconds), direct=True),
        Scenario("saturated", 64, saturated(64, 1000 if quick else 2000, 1)),
        Scenario("saturated-32", 64, saturated(64, 1024 if quick else 2016, 32)),
        Scenario("short", 32, short(500 if quick else 2000, 32, Order(chunks=5, turns=1))),
        Scenario("short-at-once", 32, short(500 if quick else 2000, 32, Order(chunks=5))),
        Scenario("leave", 500, leave(500), direct=True),
        Scenario("silent", 5000, silent(1000, 5000)),
        Scenario("stuck", 200, stuck(200, 50)),
    ]


def _all_cpu(stage: Stage) -> tuple[int, int, int]:
    """CPU time of peer, upstream and client so far, in ns."""
    return stage.cpu(), cpu.used(stage.upstream_pid), time.process_time_ns()
