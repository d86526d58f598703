"""`--fail-on "ttfc_p99>2s"`: what makes a load test fail."""

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from relay.loadtest.figures import Figures

_COMPARE: Final[Mapping[str, Callable[[float, float], bool]]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
_WORDS: Final = re.compile(r"\s*([a-z0-9_]+)\s*(>=|<=|>|<)\s*([0-9]+(?:\.[0-9]+)?)\s*(\S*)\s*")
METRICS: Final = tuple(Figures().metrics())
_TIMES: Final = ("ttfc_", "gap_", "total_", "lag_")
_TIME_UNITS: Final = {"ms": 0.001, "s": 1.0}
_SHARE_UNITS: Final = {"%": 0.01}
_NO_UNITS: Final = {"": 1.0}


class BadThreshold(ValueError):
    """It cannot be understood; the text is one line that says how to mend it."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """One limit on one metric."""

    text: str
    """As it was given."""
    metric: str
    compare: str
    limit: float
    """In seconds, a share from 0 to 1, a number, or a rate per second."""

    def crossed(self, metrics: Mapping[str, float | None]) -> bool:
        """Whether the limit is crossed; what was not measured crosses every limit.

        A test in which no chunk ever came would pass otherwise.
        """
        value = metrics[self.metric]
        return value is None or _COMPARE[self.compare](value, self.limit)


def parse(text: str) -> Threshold:
    """Read `METRIC>LIMIT`, with `>`, `>=`, `<` or `<=`. Raises BadThreshold."""
    found = _WORDS.fullmatch(text)
    if found is None:
        raise BadThreshold(f'"{text}" is no threshold; write METRIC>LIMIT, e.g. "ttfc_p99>2s".')
    metric, compare, number, unit = found.groups()
    if metric not in METRICS:
        raise BadThreshold(f'"{text}": there is no metric {metric}; there are {", ".join(METRICS)}.')
    units, wanted = _units(metric)
    if unit not in units:
        raise BadThreshold(f'"{text}": {metric} is {wanted}.')
    return Threshold(text, metric, compare, float(number) * units[unit])


def _units(metric: str) -> tuple[Mapping[str, float], str]:
    if metric.startswith(_TIMES):
        return _TIME_UNITS, f'a time, so its limit needs ms or s, e.g. "{metric}>500ms"'
    if metric.endswith("_share"):
        return _SHARE_UNITS, f'a share, so its limit needs %, e.g. "{metric}>1%"'
    return _NO_UNITS, f'a number, so its limit has no unit, e.g. "{metric}>10"'
