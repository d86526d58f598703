"""The documents say what the code does, and every command in the README is run."""

import asyncio
import os
import re
import shlex
import sys
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path

import pytest

from config.settings import NAMES, Settings
from relay import completions, events, handlers, openapi, pages
from relay.errors import TABLE
from relay.loadtest.arguments import parser
from relay.loadtest.thresholds import METRICS
from relay.question import Question
from relay.standin import KEY, WORKSPACE, StandIn
from tests.running import Relay

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PROTOCOL = (ROOT / "docs" / "protocol.md").read_text()
LOADTEST = (ROOT / "docs" / "loadtest.md").read_text()
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
PYTHON = ".venv/bin/python "


def blocks(language: str) -> list[str]:
    """All blocks of this language in the README."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```", README, re.DOTALL | re.MULTILINE)
    return [block for _, block in found]


def commands(language: str) -> list[str]:
    """Their lines, but of those that only a shell can run."""
    return [
        line.strip() for block in blocks(language) if "|" not in block for line in block.splitlines()
    ]


def rows(text: str, heading: str) -> list[str]:
    """What the rows of the tables under a heading are about, without the backticks."""
    section = text.partition(f"\n{heading}\n")[2]
    section = re.split(r"^#+ ", section, maxsplit=1, flags=re.MULTILINE)[0]
    firsts = re.findall(r"^ *\| (`[^|]*) \|", section, re.MULTILINE)
    return [name for first in firsts for name in re.findall(r"`([^`]+)`", first)]


async def run(standin: StandIn, relay: Relay, folder: Path, *command: str) -> asyncio.subprocess.Process:
    """Start a command in a folder without a `.env`, in front of the stand-in."""
    theirs = {
        "ANYTHINGLLM_BASE_URL": standin.url,
        "ANYTHINGLLM_API_KEY": KEY,
        "ANYTHINGLLM_WORKSPACE_SLUG": WORKSPACE,
        "RELAY_PORT": "0",
        "ASK_RELAY_URL": relay.url,
        "PYTHONPATH": str(ROOT),
    }
    return await asyncio.create_subprocess_exec(
        *command, cwd=folder, env={**os.environ, **theirs}, stdout=PIPE, stderr=STDOUT
    )


def test_every_command_of_the_readme_is_run_by_a_test_or_by_ci() -> None:
    """Those that are neither asked with curl nor run below are in .ci/run."""
    ci = (ROOT / ".ci" / "run").read_text()
    others = [one for one in commands("sh") if not one.startswith(("curl ", PYTHON))]
    assert others == ["make demo", "make test"]
    for command in others:
        assert re.search(rf"^{command}\b", ci, re.MULTILINE), command


def test_the_commands_for_windows_are_those_that_make_runs() -> None:
    """Without make, the same by hand."""
    makefile = (ROOT / "Makefile").read_text().replace(" --quiet --disable-pip-version-check", "")
    for command in commands("bat"):
        ours = command.replace(r".venv\Scripts\python", "$(IN)").replace(
            "python -m venv .venv", "-m venv $(VENV)"
        )
        assert ours in makefile, command


@pytest.mark.parametrize("command", [one for one in commands("sh") if one.startswith("curl ")])
async def test_the_curl_commands_work(
    relay: Relay, standin: StandIn, tmp_path: Path, command: str
) -> None:
    """As they stand there, at another port."""
    words = [word.replace("localhost:5000", f"127.0.0.1:{relay.port}") for word in shlex.split(command)]
    process = await run(standin, relay, tmp_path, *words, "--silent", "--show-error", "--fail-with-body")
    output, _ = await process.communicate()
    assert process.returncode == 0, output
    if "/stream-ask" in command:
        assert output.count(b"event: final_end") == 1
    else:
        assert output == b'{"status": "ok"}'


@pytest.mark.parametrize("command", [one for one in commands("sh") if one.startswith(PYTHON)])
async def test_the_python_commands_work(
    relay: Relay, standin: StandIn, tmp_path: Path, command: str
) -> None:
    """Each ends well; the relay itself when it is told to."""
    command = command.replace("localhost:5000", f"127.0.0.1:{relay.port}")
    words = [word.replace("run.py", str(ROOT / "run.py")) for word in shlex.split(command)[1:]]
    process = await run(standin, relay, tmp_path, sys.executable, *words)
    assert process.stdout is not None
    output = b""
    async for line in process.stdout:
        output += line
        if line.startswith(b"Try it"):
            process.terminate()
    assert await process.wait() == 0 or sys.platform == "win32", output  # which knows no SIGTERM


@pytest.mark.parametrize("block", [one for one in blocks("sh") if "|" in one])
async def test_the_pipes_work(relay: Relay, standin: StandIn, tmp_path: Path, block: str) -> None:
    """A program that fails is mended."""
    script = block.replace(PYTHON, f"{sys.executable} ")
    process = await run(standin, relay, tmp_path, "sh", "-e", "-c", script)
    output, _ = await process.communicate()
    assert process.returncode == 0, output
    assert b"for i in range(3):" in output


def test_the_transcript_shows_what_the_relay_sends() -> None:
    """The README's first look at a stream has the shape of a real one."""
    stream = README.partition("$ curl")[2].partition("```")[0].partition("\n")[2]
    assert stream.startswith(": ping\nevent: chunk\n")
    assert re.findall("^event: (.*)$", stream, re.MULTILINE) == ["chunk"] * 3 + ["final_end"]


def test_the_readme_lists_every_setting_with_its_default() -> None:
    """No more, no fewer, in the order of the code, and the numbers agree."""
    listed = re.findall(r"^\| `([A-Z_]+)` \| (.*?) \|", README.partition("## Settings")[2], re.MULTILINE)
    assert sorted(name for name, _ in listed) == sorted(NAMES)
    for name, default in listed:
        field = Settings.model_fields[name.lower()]
        if isinstance(field.default, int | float | str):
            assert default.strip("`") == str(field.default), name


def test_the_protocol_lists_every_field_code_and_event() -> None:
    """What the code knows, the page tells."""
    asked = {name for name in Question.__struct_fields__ if name != "text"} | {"question"}
    assert {name for name in rows(PROTOCOL, "## Asking") if name in asked} == asked
    told = set(rows(PROTOCOL, "## Errors"))
    assert told == {str(code) for code, rule in TABLE.items() if rule.status is None or code in told}
    refused = set(
        re.findall(r"`([a-z_]+)`", PROTOCOL.partition("## Refusals")[2].partition("## The stream")[0])
    )
    assert {str(code) for code, rule in TABLE.items() if rule.status} <= refused
    kinds = {"chunk", "reasoning", "thought", "output", "error", "final_end"}
    assert kinds <= set(rows(PROTOCOL, "## Events"))
    assert {events.NAMES[events.Chunk], events.NAMES[events.Thought]} < kinds


def test_the_load_test_page_has_every_option_and_metric() -> None:
    """Those of --help, no more; and each metric that a threshold can be set on."""
    options = set(re.findall(r"^  (--[a-z-]+)", parser().format_help(), re.MULTILINE))
    assert set(re.findall(r"^\| `(--[a-z-]+)", LOADTEST, re.MULTILINE)) == options
    for metric in METRICS:
        series, _, which = metric.rpartition("_")
        either = metric in LOADTEST or (f"`{series}`" in LOADTEST and f"`_{which}`" in LOADTEST)
        assert either, metric


def test_the_protocol_has_every_address() -> None:
    """No route is a secret."""
    for route in (*handlers.routes, *completions.routes, *pages.routes, *openapi.routes):
        assert f"{route.method} {route.path}" in PROTOCOL


def test_the_architecture_names_every_file() -> None:
    """And no file that is not there."""
    named = set(re.findall(r"`(relay/[a-z_/]+(?:\.py)?)", ARCHITECTURE))
    there = {f"relay/{path.name}" for path in (ROOT / "relay").glob("*.py") if path.stem != "__init__"}
    folders = {f"relay/{name}/" for name in ("cli", "client", "loadtest", "standin", "static")}
    assert named == there | folders


def test_imports_go_down_the_floors_only() -> None:
    """The table of the architecture page is the rule, and the code keeps it."""
    floors = {}
    for floor, files in re.findall(r"^\| (\d) \| (.*?) \|", ARCHITECTURE, re.MULTILINE):
        for stem in re.findall(r"relay/([a-z_]+)\.py", files):
            floors[stem] = int(floor)
    rooms = {stem: ROOT / "relay" / f"{stem}.py" for stem in floors}
    rooms |= {stem: ROOT / "config" / f"{stem}.py" for stem in ("settings", "values")}
    floors |= {"settings": 1, "values": 1}
    for stem, floor in floors.items():
        source = rooms[stem].read_text()
        imported = re.findall(r"^from relay\.([a-z_]+) import", source, re.MULTILINE)
        imported += [
            name
            for names in re.findall(r"^from relay import (.*)$", source, re.MULTILINE)
            for name in names.split(", ")
        ]
        assert all(floors[name] <= floor for name in imported), stem
        assert "standin" not in source, stem
        if floor <= 1:
            assert not re.search(r"^(import|from) (asyncio|aiohttp)\b", source, re.MULTILINE), stem
