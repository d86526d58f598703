"""`python -m relay.loadtest`: what the relay, or anything that speaks its protocol, does under load."""

import sys
from typing import Final

# The names under which requirements-loadtest.txt is imported.
_OURS: Final = ("hdrh", "matplotlib")


def main() -> int:
    """Run the load test; return the exit status."""
    try:
        # Here, so that what is missing can be told in a line.
        from relay.loadtest.program import run  # noqa: PLC0415

        return run()
    except ModuleNotFoundError as error:
        if error.name not in _OURS:
            raise
        print(
            f"The load test needs {error.name}, which is not installed: "
            f"{sys.executable} -m pip install --require-hashes -r requirements-loadtest.lock",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:  # the second one, or one before or after the test
        return 1


if __name__ == "__main__":
    sys.exit(main())
