"""`python -m relay ask`: the relay's command line. The relay itself starts with `python run.py`."""

import sys

from relay.cli.program import run

if __name__ == "__main__":
    sys.exit(run())
