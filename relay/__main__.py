"""`python -m relay ask`: the relay's command line. The relay itself starts with `python run.py`."""

import sys


def main() -> int:
    """Run the command line; return the exit status."""
    try:
        # Here, so that Ctrl-C is taken well from the start: this takes a moment.
        from relay.cli.program import run  # noqa: PLC0415

        return run()
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
