"""What the relay counts and measures, as Prometheus reads it (docs/protocol.md, "Metrics")."""

import asyncio
import mmap
import os
import platform
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate, islice, repeat
from typing import Final, Literal, get_args

import aiohttp
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Info, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from relay.errors import TABLE, Code
from relay.events import Reason

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
Gauge = Literal[
    "relay_streams_active",
    "relay_streams_limit",
    "relay_upstream_connections",
    "relay_workers",
    "relay_redis_unreachable",
    "relay_event_loop_lag_seconds",
    "process_resident_memory_bytes",
]
# Seconds, from tokens that come at once to a model that is given up.
_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 180, 600)
# Seconds between two looks at how late the event loop is, and at the gauges.
_LOOK: Final = 1.0
_GAUGES: Final[Mapping[Gauge, str]] = {
    "relay_streams_active": "Answers that run now.",
    "relay_streams_limit": "Answers that may run.",
    "relay_upstream_connections": "Connections to AnythingLLM that an answer uses now.",
    "relay_workers": "Processes that take questions now.",
    "relay_redis_unreachable": "Processes that share resumable streams, and cannot reach their Redis.",
    "process_resident_memory_bytes": "Memory of all workers; what they share counts for each.",
    "relay_event_loop_lag_seconds": "How late the event loop was, in the worker where it is latest.",
}
_OUTCOMES: Final = (*get_args(Reason), *map(str, Code), "client_closed", "stuck")
_DROPPED: Final = ("stuck", "behind")
_REFUSED: Final = tuple(str(code) for code, verdict in TABLE.items() if verdict.status is not None)


class _Times:
    """A histogram of seconds, out of its sum and the count of each bucket."""

    def __init__(self, row: Iterator[float]) -> None:
        self.sum = next(row)
        self.counts = [*map(int, islice(row, len(_BUCKETS) + 1))]

    def told_as(self, name: str, words: str) -> HistogramMetricFamily:
        bounds = [*map(floatToGoString, _BUCKETS), "+Inf"]
        buckets = list(zip(bounds, accumulate(self.counts), strict=True))
        return HistogramMetricFamily(name, words, buckets=buckets, sum_value=self.sum)


class _Numbers:
    """All numbers of one process, or of all together, out of a row of them."""

    def __init__(self, row: Iterator[float]) -> None:
        self.chunks = int(next(row))
        self.first = _Times(row)
        self.between = _Times(row)
        self.ended = {outcome: next(row) for outcome in _OUTCOMES}
        self.dropped = {reason: next(row) for reason in _DROPPED}
        self.refused = {code: next(row) for code in _REFUSED}
        self.gauges = {gauge: next(row) for gauge in _GAUGES}  # at the end of the row

    def row(self) -> list[float]:
        return [
            self.chunks,
            *(self.first.sum, *self.first.counts),
            *(self.between.sum, *self.between.counts),
            *self.ended.values(),
            *self.dropped.values(),
            *self.refused.values(),
            *self.gauges.values(),
        ]


_WIDTH: Final = len(_Numbers(repeat(0.0)).row())
_LAG: Final = list(_GAUGES).index("relay_event_loop_lag_seconds") - len(_GAUGES)
_PAGE: Final = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0


class Board:
    """Memory that the processes of one relay share: a row of numbers for each, which it alone writes.

    It must be made before they are forked, and rows are taken and given back where it was made.
    """

    def __init__(self, rows: int = 1) -> None:
        memory = memoryview(mmap.mmap(-1, (1 + rows * _WIDTH) * 8))
        self._numbers: memoryview[float] = memory.cast("d")
        self._free = [*range(rows)]

    @property
    def free(self) -> int:
        """How many rows nobody has."""
        return len(self._free)

    @property
    def used(self) -> int:
        """How many rows anybody ever had: the first ones."""
        return int(self._numbers[0])

    def take(self) -> int:
        """Return the number of a row for a new process: what an earlier one counted there goes on."""
        number: int = min(self._free)
        self._free.remove(number)
        self._numbers[0] = max(self.used, number + 1)
        return number

    def give_back(self, number: int) -> None:
        """Note that a row's process is gone: what it counted stays, what it measured is over."""
        self._free.append(number)
        self.row(number)[-len(_GAUGES) :] = array("d", [0.0] * len(_GAUGES))

    def row(self, number: int) -> "memoryview[float]":
        """Return the row with this number."""
        return self._numbers[1 + number * _WIDTH : 1 + (number + 1) * _WIDTH]

    def totals(self) -> list[float]:
        """Return a row that tells of all together: sums, and of the event loops the latest."""
        rows = [self.row(number).tolist() for number in range(self.used)]
        totals = [sum(column) for column in zip(*rows, strict=True)]
        totals[_LAG] = max(row[_LAG] for row in rows)
        return totals


class Metrics(Collector):
    """What one process counts; what it tells is of all that share the board.

    It counts in numbers of its own, for shared memory would cost half as much again with every piece,
    and puts them on the board once a second and when it is asked.
    """

    def __init__(self, board: Board | None = None, row: int | None = None) -> None:
        self._board = Board() if board is None else board
        self._row = self._board.row(self._board.take() if row is None else row)
        self._own = _Numbers(iter(self._row))
        self._watched: dict[Gauge, Callable[[], float]] = {"process_resident_memory_bytes": _resident}
        self._upstream_up: Callable[[], bool | None] = lambda: None
        self._registry = CollectorRegistry()
        build = Info("relay_build", "What the relay runs on.", registry=self._registry)
        build.info({"python": platform.python_version(), "aiohttp": aiohttp.__version__})
        self._registry.register(self)

    def watch(self, gauge: Gauge, value: Callable[[], float]) -> None:
        """Look at a value once a second and when it is asked for."""
        self._watched[gauge] = value

    def watch_upstream(self, up: Callable[[], bool | None]) -> None:
        """Tell whether AnythingLLM is up: not added up, for each process finds out when it is asked."""
        self._upstream_up = up

    def ended(self, outcome: str) -> None:
        """Count an answer that ended: with a reason, an error's code, or because its reader left."""
        self._own.ended[outcome] += 1

    def dropped(self, reason: Literal["stuck", "behind"]) -> None:
        """Count a reader that was given up."""
        self._own.dropped[reason] += 1

    def refused(self, code: str) -> None:
        """Count a request that was refused, with this code; answers that failed count as ended."""
        if code in self._own.refused:
            self._own.refused[code] += 1

    def said(self, chunks: int, seconds: float, *, first: bool) -> None:
        """Count pieces that came together, so long after the question or after those before them."""
        own = self._own
        own.chunks += chunks
        times = own.first if first else own.between
        times.counts[bisect_left(_BUCKETS, seconds)] += 1
        times.sum += seconds

    async def run(self) -> None:
        """Look again and again how late the event loop is, and tell the others. Never returns."""
        loop = asyncio.get_running_loop()
        while True:
            self.publish()
            due = loop.time() + _LOOK
            await asyncio.sleep(_LOOK)
            self._own.gauges["relay_event_loop_lag_seconds"] = max(0.0, loop.time() - due)

    def publish(self) -> None:
        """Put what was counted and what can be seen now on the board."""
        for gauge, value in self._watched.items():
            self._own.gauges[gauge] = value()
        self._row[:] = array("d", self._own.row())

    def text(self) -> bytes:
        """Return all of them in Prometheus's text format, whose media type is CONTENT_TYPE."""
        self.publish()
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        """Tell what is on the board, as prometheus_client asks for it."""
        told = _Numbers(iter(self._board.totals()))
        for gauge, words in _GAUGES.items():
            yield GaugeMetricFamily(gauge, words, value=told.gauges[gauge])
        up = GaugeMetricFamily("relay_upstream_up", "Whether AnythingLLM answers and takes the key.")
        if (known := self._upstream_up()) is not None:
            up.add_metric([], known)
        yield up
        yield CounterMetricFamily("relay_chunks", "Pieces of answers.", value=told.chunks)
        yield _counted("relay_streams", "Answers that ended, by how.", "outcome", told.ended)
        yield _counted(
            "relay_upstream_errors",
            "Answers that failed, by why.",
            "code",
            {one: told.ended[one] for one in _OUTCOMES if one.startswith(("upstream_", "empty_answer"))},
        )
        yield _counted(
            "relay_clients_dropped",
            "Readers that were given up: stuck ones took nothing, others were behind what is held.",
            "reason",
            told.dropped,
        )
        yield _counted("relay_refusals", "Requests that were refused, by why.", "code", told.refused)
        yield told.first.told_as(
            "relay_time_to_first_chunk_seconds", "From a question to the first piece of its answer."
        )
        yield told.between.told_as(
            "relay_inter_chunk_seconds", "Between pieces of an answer that came together, and the next."
        )


def _counted(name: str, words: str, label: str, counts: Mapping[str, float]) -> CounterMetricFamily:
    """Tell those that were counted at all."""
    family = CounterMetricFamily(name, words, labels=[label])
    for value, count in counts.items():
        if count:
            family.add_metric([value], count)
    return family


def _resident() -> float:
    """Return the memory of this process in bytes; 0 where the system does not tell it so cheaply."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE
    except OSError:
        return 0.0
