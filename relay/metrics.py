"""What the relay counts and measures, as Prometheus reads it (docs/protocol.md, "Metrics")."""

import asyncio
import platform
from bisect import bisect_left
from collections.abc import Callable, Iterable
from functools import lru_cache
from itertools import accumulate
from typing import Final, Literal

import aiohttp
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Info,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
# Seconds, from tokens that come at once to a model that is given up.
_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 180, 600)
# Seconds between two looks at how late the event loop is.
_LOOK: Final = 1.0


class Metrics:
    """The counters of one relay."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        build = Info("relay_build", "What the relay runs on.", registry=self._registry)
        build.info({"python": platform.python_version(), "aiohttp": aiohttp.__version__})
        ended = self._counter("relay_streams", "Answers that ended, by how.", "outcome")
        self._outcome = lru_cache(64)(ended.labels)
        self._failed = self._counter("relay_upstream_errors", "Answers that failed, by why.", "code")
        self._dropped = self._counter(
            "relay_clients_dropped",
            "Readers that were given up: stuck ones took nothing, others were behind what is held.",
            "reason",
        )
        self._pieces = _Pieces()
        self._registry.register(self._pieces)
        self._lag = Gauge(
            "relay_event_loop_lag_seconds", "How late the event loop was.", registry=self._registry
        )

    def watch(self, name: str, words: str, value: Callable[[], float]) -> None:
        """Tell a value that is looked at when it is asked for."""
        Gauge(name, words, registry=self._registry).set_function(value)

    def ended(self, outcome: str) -> None:
        """Count an answer that ended: with a reason, an error's code, or because its reader left."""
        self._outcome(outcome).inc()
        if outcome.startswith("upstream_") or outcome == "empty_answer":
            self._failed.labels(outcome).inc()

    def dropped(self, reason: Literal["stuck", "behind"]) -> None:
        """Count a reader that was given up."""
        self._dropped.labels(reason).inc()

    def said(self, chunks: int, seconds: float, *, first: bool) -> None:
        """Count pieces that came together, so long after the question or after those before them."""
        self._pieces.count += chunks
        times = self._pieces.first if first else self._pieces.between
        times.counts[bisect_left(_BUCKETS, seconds)] += 1
        times.sum += seconds

    async def measure_lag(self) -> None:
        """Look again and again how late the event loop is. Never returns."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _LOOK
            await asyncio.sleep(_LOOK)
            self._lag.set(max(0.0, loop.time() - due))

    def text(self) -> bytes:
        """Return all of them in Prometheus's text format, whose media type is CONTENT_TYPE."""
        return generate_latest(self._registry)

    def _counter(self, name: str, words: str, *labels: str) -> Counter:
        return Counter(name, words, labels, registry=self._registry)


class _Times:
    """A histogram of seconds."""

    def __init__(self) -> None:
        self.counts = [0] * (len(_BUCKETS) + 1)
        self.sum = 0.0

    def told_as(self, name: str, words: str) -> HistogramMetricFamily:
        bounds = [*map(floatToGoString, _BUCKETS), "+Inf"]
        return HistogramMetricFamily(
            name,
            words,
            buckets=list(zip(bounds, accumulate(self.counts), strict=True)),
            sum_value=self.sum,
        )


class _Pieces(Collector):
    """What is counted with every read of every stream: at a fifth of what the library's own costs."""

    def __init__(self) -> None:
        self.count = 0
        self.first = _Times()
        self.between = _Times()

    def collect(self) -> Iterable[Metric]:
        yield CounterMetricFamily("relay_chunks", "Pieces of answers.", value=self.count)
        yield self.first.told_as(
            "relay_time_to_first_chunk_seconds", "From a question to the first piece of its answer."
        )
        yield self.between.told_as(
            "relay_inter_chunk_seconds", "Between pieces of an answer that came together, and the next."
        )
