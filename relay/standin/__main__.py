"""`python -m relay.standin`: the stand-in alone, until Ctrl-C or the end of its input."""

import argparse
import asyncio
import contextlib
import sys
from typing import Final

from relay.standin.app import KEY, WORKSPACE, StandIn
from relay.standin.orders import table

AGENTS_ONLY: Final = (
    "Words marked Agent do something only in a question that begins with @agent, or in one with\n"
    "mode=automatic."
)


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(
        prog="python -m relay.standin",
        description="An AnythingLLM without a model, on 127.0.0.1.",
        epilog=f"words in a question that order its answer:\n\n{table()}\n\n{AGENTS_ONLY}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", type=int, default=3001, help="0 takes a free one (3001)")
    parser.add_argument(
        "--until-eof", action="store_true", help="stop when standard input, a pipe, is closed"
    )
    arguments = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(arguments.port, until_eof=arguments.until_eof))


async def _serve(port: int, *, until_eof: bool) -> None:
    standin = StandIn()
    try:
        await standin.start(port)
    except (OSError, OverflowError) as error:
        sys.exit(f"Cannot listen on port {port}: {error}")
    sys.stdout.write(f"url        {standin.url}\nkey        {KEY}\nworkspace  {WORKSPACE}\n")
    sys.stdout.flush()
    closed = asyncio.Event()
    if until_eof:
        asyncio.get_running_loop().add_reader(sys.stdin, closed.set)
    try:
        await closed.wait()
    finally:
        await standin.stop()


if __name__ == "__main__":
    main()
