"""What was measured, with all that is needed to make sense of it later."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Self

from bench.goals import Rounds
from bench.roster import PYTHON, Peer


@dataclass(frozen=True, slots=True)
class Measured:
    """One peer in one scenario of one round: figures, or why there are none."""

    round: int
    scenario: str
    peer: str
    figures: Mapping[str, float]
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class Results:
    """All of one run."""

    date: str
    machine: Mapping[str, str]
    versions: Mapping[str, str]
    peers: Mapping[str, str]
    """Titles by name, in the order of the table."""
    measured: Sequence[Measured]

    @classmethod
    def of(cls, peers: Sequence[Peer], measured: Sequence[Measured]) -> Self:
        """Add date, machine and versions."""
        titles = {one.name: one.title for one in peers}
        date = datetime.now(UTC).date().isoformat()
        return cls(date, _machine(), _versions(), titles, measured)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote."""
        data = json.loads(text)
        data["measured"] = [Measured(**one) for one in data["measured"]]
        return cls(**data)

    def to_json(self) -> str:
        """All of it, as JSON."""
        return json.dumps(asdict(self), indent=1) + "\n"

    def rounds(self, scenario: str) -> Rounds:
        """Round by round, what each peer measured, without those that failed."""
        found: dict[int, dict[str, Mapping[str, float]]] = {}
        for one in self.measured:
            if one.scenario == scenario and not one.failure:
                found.setdefault(one.round, {})[one.peer] = one.figures
        failed = {one.peer for one in self.measured if one.scenario == scenario and one.failure}
        return [
            {peer: figures for peer, figures in one.items() if peer not in failed}
            for one in found.values()
        ]

    def failure(self, scenario: str, peer: str) -> str | None:
        """Why a peer has no figure; one bad round is enough."""
        reasons = [
            one.failure
            for one in self.measured
            if one.scenario == scenario and one.peer == peer and one.failure
        ]
        return reasons[0] if reasons else None


def _machine() -> dict[str, str]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "cpu": model,
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{memory:.0f} GB",
        "system": f"{platform.system()} {platform.release()}",
    }


def _versions() -> dict[str, str]:
    ours = {name: version(name) for name in ("aiohttp", "uvloop", "msgspec")}
    nginx = _said("/usr/sbin/nginx", "-v").rpartition("/")[2]
    peers = _said(str(PYTHON), "-c", _PEERS).split() if PYTHON.exists() else []
    theirs = dict(one.split("=") for one in peers)
    found = {
        "python": platform.python_version(),
        **ours,
        "nginx": nginx,
        "node": _said("node", "-v"),
        **theirs,
    }
    return {name: text for name, text in found.items() if text}


_PEERS = """
from importlib.metadata import version
for name in ("fastapi", "httpx", "uvicorn", "flask", "requests", "gunicorn"):
    print(f"{name}={version(name)}")
"""


def _said(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    except OSError:
        return ""
    return (done.stdout + done.stderr).strip()
