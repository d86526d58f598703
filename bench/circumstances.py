"""On what was measured: the machine, and the versions of all that took part."""

import os
import platform
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

from bench.roster import PYTHON

_PEERS = """
from importlib.metadata import version
for name in ("fastapi", "httpx", "uvicorn", "flask", "requests", "gunicorn"):
    print(f"{name}={version(name)}")
"""


def machine() -> dict[str, str]:
    """Its `cpu`, `cores`, `memory` and `system`."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": str(os.cpu_count()),
        "memory": f"{memory:.0f} GB",
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
    }


def versions() -> dict[str, str]:
    """Versions by name, of what is installed."""
    ours = {name: version(name) for name in ("aiohttp", "uvloop", "msgspec")}
    peers = _said(str(PYTHON), "-c", _PEERS).split() if PYTHON.exists() else []
    nginx = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    found = {
        "Python": platform.python_version(),
        **ours,
        "nginx": _said(nginx, "-v").rpartition("/")[2] if nginx else "",
        "Node": _said("node", "-v").removeprefix("v"),
        **dict(one.split("=") for one in peers),
    }
    return {name: text for name, text in found.items() if text}


def _said(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    except OSError:
        return ""
    return (done.stdout + done.stderr).strip()
