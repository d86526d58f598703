"""Has a figure drawn, in the environment that has matplotlib."""

import subprocess
import sys
from pathlib import Path

from bench.roster import PYTHON, ROOT


def draw(data: Path) -> None:
    """Draw a JSON file of results as a PNG beside it; without the environment, say so."""
    if not PYTHON.exists():
        sys.stderr.write("No figure: `make bench` installs what draws it.\n")
        return
    command = (str(PYTHON), "-m", "bench.plots", str(data.resolve()))
    subprocess.run(command, cwd=ROOT, check=False)  # noqa: S603
