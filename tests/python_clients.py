"""The clients in Python: the two examples of docs/client.md, and the command line."""

import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from tests.clients import Asking, ProgramAsking, running
from tests.program import environment

ROOT: Final = Path(__file__).parent.parent
_PAGE: Final = (ROOT / "docs" / "client.md").read_text()


class Example:
    """A program of the page, at another address and with another question."""

    def __init__(self, heading: str) -> None:
        section = _PAGE.partition(f"\n## {heading}\n")[2]
        found = re.search(r"^```python\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
        assert found, heading
        self._source = found[1]

    @asynccontextmanager
    async def ask(self, url: str, question: str) -> AsyncIterator[Asking]:
        """Run it."""
        source = self._source.replace('"http://localhost:5000"', repr(url))
        source = source.replace('"How do I reverse a list?"', repr(question))
        async with running((sys.executable, "-c", source), cwd=str(ROOT)) as process:
            yield ProgramAsking(process)


class CommandLine:
    """`python -m relay ask`, into a pipe."""

    @asynccontextmanager
    async def ask(self, url: str, question: str) -> AsyncIterator[Asking]:
        """Ask on the command line."""
        command = (sys.executable, "-m", "relay", "ask", "--url", url, question)
        async with running(command, env=environment({}), cwd=str(ROOT)) as process:
            yield ProgramAsking(process)
