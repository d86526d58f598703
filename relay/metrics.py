"""What the relay counts, as Prometheus reads it (docs/protocol.md, "Health")."""

from collections.abc import Sized
from typing import Final, Literal

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, generate_latest

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST


class Metrics:
    """The counters of one relay."""

    def __init__(self, streams: Sized) -> None:
        self._registry = CollectorRegistry()
        self._ended = Counter(
            "relay_streams", "Answers that ended, by how.", ["outcome"], registry=self._registry
        )
        self._dropped = Counter(
            "relay_clients_dropped",
            "Readers that were given up: stuck ones took nothing, others were behind what is held.",
            ["reason"],
            registry=self._registry,
        )
        active = Gauge("relay_streams_active", "Answers that run now.", registry=self._registry)
        active.set_function(lambda: len(streams))

    def ended(self, outcome: str) -> None:
        """Count an answer that ended: with a reason, an error's code, or because its reader left."""
        self._ended.labels(outcome).inc()

    def dropped(self, reason: Literal["stuck", "behind"]) -> None:
        """Count a reader that was given up."""
        self._dropped.labels(reason).inc()

    def text(self) -> bytes:
        """Return all of them in Prometheus's text format, whose media type is CONTENT_TYPE."""
        return generate_latest(self._registry)
