"""The two packages called `openai`, of Python and of npm, as clients of the relay."""

import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.clients import Asking, ProgramAsking, running

HERE: Final = Path(__file__).parent
NPM: Final = HERE / "npm"


def why_no_npm() -> str:
    """Return why nothing of npm can be run here; empty if it can."""
    if shutil.which("node") is None:
        return "node is not installed"
    if not (NPM / "node_modules" / "openai").is_dir():
        return "the npm package openai is not installed (npm ci --prefix tests/npm)"
    return ""


class OpenAI:
    """A program that asks with one of the packages."""

    def __init__(self, *command: str) -> None:
        self._command = command

    @asynccontextmanager
    async def ask(self, url: str, question: str) -> AsyncIterator[Asking]:
        """Ask in a stream."""
        async with running((*self._command, url, question)) as process:
            yield ProgramAsking(process)


PYTHON_PACKAGE: Final = OpenAI(sys.executable, str(HERE / "openai_ask.py"))
NPM_PACKAGE: Final = OpenAI("node", str(NPM / "ask.mjs"))
needs_npm: Final = pytest.mark.skipif(bool(why_no_npm()), reason=why_no_npm())
