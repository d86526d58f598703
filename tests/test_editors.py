"""docs/editors.md: its programs are run as they stand there."""

import asyncio
import json
import os
import re
import shlex
import sys
from pathlib import Path

import pytest

from relay.standin.answers import ANSWER
from tests.clients import PATIENCE, running
from tests.conftest import StartRelay
from tests.openai_client import NPM, needs_npm
from tests.running import Relay

EDITORS = (Path(__file__).parent.parent / "docs" / "editors.md").read_text()
ADDRESS = "http://localhost:5000/v1"
KEY = "key-of-the-editor"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", EDITORS, re.DOTALL | re.MULTILINE)


async def says(relay: Relay, *command: str) -> str:
    """Run a command at the relay's address; return what it says."""
    env = {**os.environ, "RELAY_KEY": KEY, "PYTHONUTF8": "1"}
    ours = [part.replace(ADDRESS, f"{relay.url}/v1") for part in command]
    async with running(ours, env=env, cwd=str(NPM)) as process, asyncio.timeout(PATIENCE):
        out, err = await process.communicate()
    assert process.returncode == 0, err
    return out.decode()


@pytest.fixture
async def keyed(start_relay: StartRelay) -> Relay:
    """A relay that wants a key."""
    return await start_relay(relay_api_keys=KEY)


async def test_the_python_program(keyed: Relay) -> None:
    (program,) = blocks("python")
    assert await says(keyed, sys.executable, "-c", program) == ANSWER


@needs_npm
async def test_the_javascript_program(keyed: Relay) -> None:
    (program,) = blocks("js")
    assert await says(keyed, "node", "--input-type=module", "-e", program) == ANSWER


async def test_the_commands(keyed: Relay) -> None:
    (commands,) = blocks("sh")
    models, ask = commands.replace("\\\n", " ").replace("KEY", KEY).splitlines()
    assert json.loads(await says(keyed, *shlex.split(models), "-sS"))["data"][0]["id"] == "demo"
    assert (await says(keyed, *shlex.split(ask), "-sS")).endswith("data: [DONE]\n\n")


def test_every_setting_names_the_address_and_a_model() -> None:
    """What no editor is here to try is at least well-formed, and points to the relay."""
    (zed,) = blocks("json")
    (provider,) = json.loads(zed)["language_models"]["openai_compatible"].values()
    assert provider["api_url"] == ADDRESS
    assert provider["available_models"][0]["name"] == "demo"
    (continued,) = blocks("yaml")
    assert f"apiBase: {ADDRESS}\n" in continued
    assert "model: demo\n" in continued
