"""What a load test has measured so far: histograms and counters, never a list of all values."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from hdrh.histogram import HdrHistogram

_LONGEST: Final = 3_600_000_000  # microseconds: an hour; what is longer counts as that
_DIGITS: Final = 3  # so a value is told to a thousandth of itself
MOST_KINDS: Final = 100  # of failures told apart: a server that makes up codes fills no memory
PERCENTILES: Final[Mapping[str, float]] = {"p50": 50, "p90": 90, "p99": 99, "p999": 99.9}


class Failure(NamedTuple):
    """Why an answer failed."""

    kind: str
    """`event`: an `error` event; `refused`: a status; `connection`; `stream`: against the protocol."""
    code: str


OTHER: Final = Failure("other", "more kinds than are told apart")


class Series:
    """Many times, in seconds, as an HDR histogram of microseconds."""

    def __init__(self, histogram: HdrHistogram | None = None) -> None:
        self._histogram = histogram or HdrHistogram(1, _LONGEST, _DIGITS)

    def record(self, seconds: float) -> None:
        """Take one value in; costs about a microsecond."""
        self._histogram.record_value(min(int(seconds * 1e6), _LONGEST))

    def add(self, other: "Series") -> None:
        """Take in all values of another."""
        self._histogram.add(other._histogram)

    @property
    def count(self) -> int:
        """How many values there are."""
        return int(self._histogram.get_total_count())

    @property
    def max(self) -> float | None:
        """Seconds; None when nothing was measured."""
        return float(self._histogram.get_max_value()) / 1e6 if self.count else None

    def at(self, percentiles: Sequence[float]) -> list[float | None]:
        """Return the values in seconds at these percentiles (0 to 100), in their order."""
        if not self.count:
            return [None] * len(percentiles)
        found = self._histogram.get_percentile_to_value_dict(list(percentiles))
        # The end of its bucket may lie above the largest value there was.
        return [min(found[one], self._histogram.get_max_value()) / 1e6 for one in percentiles]

    def told(self) -> dict[str, float | None]:
        """Return p50 to p999 and max, in seconds."""
        values = self.at(list(PERCENTILES.values()))
        return {**dict(zip(PERCENTILES, values, strict=True)), "max": self.max}

    def pack(self) -> bytes:
        """Return it in HdrHistogram's own compressed form: some hundred bytes to some thousand."""
        return bytes(self._histogram.encode())

    @classmethod
    def unpack(cls, packed: bytes) -> "Series":
        """Return what `pack` packed."""
        return cls(HdrHistogram.decode(packed))


class Slice(NamedTuple):
    """What happened in one stretch of time; most of it is for the plots."""

    until: float
    """Seconds after the start at which it ended."""
    seconds: float
    active: int
    """The most streams that were open at once."""
    asked: int
    complete: int
    failed: int
    left: int
    chunks: int
    size: int
    """Bytes of bodies."""
    ttfc: bytes
    """The packed series."""
    gap: bytes


@dataclass(slots=True)
class Counts:
    """How often what happened."""

    asked: int = 0
    complete: int = 0
    failed: int = 0
    left: int = 0
    chunks: int = 0
    size: int = 0
    """Bytes of bodies."""

    def __sub__(self, other: "Counts") -> "Counts":
        return Counts(
            self.asked - other.asked,
            self.complete - other.complete,
            self.failed - other.failed,
            self.left - other.left,
            self.chunks - other.chunks,
            self.size - other.size,
        )

    def copy(self) -> "Counts":
        """Return the same numbers, which then stay."""
        return self - Counts()


class Figures:
    """All that is measured. `cut` ends a slice; what came after the last one is in no total yet."""

    def __init__(self, secret: str | None = None) -> None:
        self._secret = secret  # a server may say the key back
        self.ttfc, self.gap, self.total, self.lag = Series(), Series(), Series(), Series()
        self.counts = Counts()
        self.failures: Counter[Failure] = Counter()
        self.slices: list[Slice] = []
        self.active = 0
        self.open_at_end = 0
        self.silent_at_end = 0
        """Those of `open_at_end` that had not had a chunk."""
        self.unasked = 0
        """Questions that were due, and not asked when the test ended: all streams were busy."""
        self.seconds = 0.0
        self._ttfc, self._gap = Series(), Series()  # of the slice; so each value is recorded once
        self._before = Counts()
        self._most_active = 0

    def first_chunk(self, seconds: float) -> None:
        """Note a time to first chunk."""
        self._ttfc.record(seconds)

    def between_chunks(self, seconds: float) -> None:
        """Note a gap."""
        self._gap.record(seconds)

    def opened(self) -> None:
        """Note that a question is being asked."""
        self.counts.asked += 1
        self.active += 1
        self._most_active = max(self._most_active, self.active)

    def fail(self, failure: Failure) -> None:
        """Note an answer that failed."""
        self.counts.failed += 1
        if self._secret is not None and self._secret in failure.code:
            failure = failure._replace(code="[redacted]")
        if failure not in self.failures and len(self.failures) >= MOST_KINDS:
            failure = OTHER
        self.failures[failure] += 1

    def cut(self, now: float) -> Slice:
        """End the slice `now` seconds after the start, and begin the next."""
        new = self.counts - self._before
        done = Slice(
            until=now,
            seconds=now - self.seconds,
            active=self._most_active,
            asked=new.asked,
            complete=new.complete,
            failed=new.failed,
            left=new.left,
            chunks=new.chunks,
            size=new.size,
            ttfc=self._ttfc.pack(),
            gap=self._gap.pack(),
        )
        self.slices.append(done)
        self.ttfc.add(self._ttfc)
        self.gap.add(self._gap)
        self._ttfc, self._gap = Series(), Series()
        self._before, self.seconds = self.counts.copy(), now
        self._most_active = self.active
        return done

    @property
    def most_active(self) -> int:
        """The most streams that were open at once."""
        return max((one.active for one in self.slices), default=0)

    def told_slices(self) -> list[dict[str, Any]]:
        """Return what happened over time: a dictionary a slice, its times in seconds."""
        told = []
        for one in self.slices:
            row: dict[str, Any] = one._asdict()
            for name in ("ttfc", "gap"):
                row[name] = Series.unpack(row[name]).told()
            told.append(row)
        return told

    def metrics(self) -> dict[str, float | None]:
        """Return every number that a threshold can be set on, by its name.

        Times in seconds, shares 0 to 1, rates per second. None: it was not measured.
        """
        counts, seconds = self.counts, self.seconds
        told: dict[str, float | None] = {}
        for name in ("ttfc", "gap", "total", "lag"):
            series: Series = getattr(self, name)
            told |= {f"{name}_{which}": value for which, value in series.told().items()}
        ended = counts.complete + counts.failed + counts.left
        told["errors"] = counts.failed
        told["error_share"] = counts.failed / ended if ended else None
        told["unasked"] = self.unasked
        told["answers_per_s"] = counts.complete / seconds if seconds else None
        told["chunks_per_s"] = counts.chunks / seconds if seconds else None
        told["bytes_per_s"] = counts.size / seconds if seconds else None
        return told
