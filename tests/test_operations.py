"""docs/operations.md has every metric, setting, code, log message and log field, and no other."""

import ast
import asyncio
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from config.settings import NAMES
from relay import logs
from relay.errors import TABLE
from relay.standin import StandIn
from tests.conftest import StartRelay
from tests.running import Relay
from tests.test_docs import rows

ROOT: Final = Path(__file__).parent.parent
PAGE: Final = (ROOT / "docs" / "operations.md").read_text()
LEVELS: Final = {"exception": "error"}  # as a method, and as a level
# What every line has, as JSON.
ALWAYS: Final = {"time", "level", "message", "exception"}
# Programs of their own, and what only tests run against: they write no log of the relay's.
OTHERS: Final = ("cli", "client", "loadtest", "standin")


def sources() -> Iterator[ast.Module]:
    """The code that writes the relay's log."""
    files = [ROOT / "run.py", *(ROOT / "config").glob("*.py"), *(ROOT / "relay").rglob("*.py")]
    for file in files:
        if not set(OTHERS) & set(file.parts):
            yield ast.parse(file.read_text())


def functions() -> Iterator[ast.AST]:
    for source in sources():
        for node in ast.walk(source):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node


def log_calls(inside: ast.AST) -> Iterator[ast.Call]:
    for node in ast.walk(inside):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            of = node.func.value
            if isinstance(of, ast.Name) and of.id == "log":
                yield node


def keys(inside: ast.AST) -> Iterator[str]:
    """The constants that are keys of dictionaries made here."""
    for node in ast.walk(inside):
        found: list[ast.expr | None] = []
        if isinstance(node, ast.Dict):
            found = [*node.keys]
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
            found = [node.slice]
        for key in found:
            if isinstance(key, ast.Constant) and isinstance(key.value, str):
                yield key.value


def cells(heading: str) -> list[list[str]]:
    """The rows of the table under a heading, a list of cells each."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def listed(heading: str) -> set[str]:
    """What the table under a heading is about, each once."""
    names = rows(PAGE, f"## {heading}")
    assert len(names) == len(set(names)), heading
    return set(names)


async def test_every_metric(relay: Relay) -> None:
    async with relay.client.get("/metrics") as response:
        told = re.findall(r"^# TYPE (\S+)", await response.text(), re.MULTILINE)
    assert listed("Metrics") == {name for name in told if not name.endswith("_created")}


def test_every_setting() -> None:
    assert listed("Settings") == set(NAMES)


def test_every_code() -> None:
    """Those that are told in a stream only, those that are told before it only, and two of both."""
    failed, refused = listed("Codes of failed answers"), listed("Codes of refusals")
    assert refused == {code for code, verdict in TABLE.items() if verdict.status is not None}
    assert failed == {*TABLE} - refused | {"shutting_down", "internal"}
    for code, status, *_ in cells("Codes of refusals"):
        assert str(TABLE[next(one for one in TABLE if f"`{one}`" == code)].status) in status, code


def test_every_log_message_with_its_level() -> None:
    said = set()
    for source in sources():
        for call in log_calls(source):
            message, how = call.args[0], call.func
            assert isinstance(how, ast.Attribute)
            if not isinstance(message, ast.Constant) or not isinstance(message.value, str):
                raise AssertionError("a message that is made up cannot be looked up")
            said.add((message.value.replace("%s", "..."), LEVELS.get(how.attr, how.attr)))
    assert {(message.strip("`"), level) for message, level, _ in cells("Log messages")} == said


def test_every_log_field() -> None:
    """In the code: what is a key where a line is logged, or in what names a request in the log."""
    written = set()
    for function in functions():
        name = getattr(function, "name", "")
        if name == "ids" or any(call.keywords for call in log_calls(function)):
            written |= set(keys(function))
    assert written - {"fields"} == listed("Log fields")


def test_every_field_names_messages_that_there_are() -> None:
    messages = listed("Log messages")
    for _, where, _ in cells("Log fields"):
        assert set(re.findall("`(.*?)`", where)) <= messages


def test_what_every_line_has() -> None:
    """And the page says so before it comes to the rest."""
    record = logging.LogRecord("relay", logging.ERROR, "", 0, "why", (), None)
    try:
        raise ValueError
    except ValueError as error:
        record.exc_info = (type(error), error, error.__traceback__)
    assert set(json.loads(logs._JsonLines().format(record))) == ALWAYS
    introduction = PAGE.partition("\n## Log fields\n")[2].partition("\n| field")[0]
    assert set(re.findall("`(.*?)`", introduction)) == ALWAYS


async def test_no_line_has_a_field_that_is_not_told_of(
    start_relay: StartRelay, standin: StandIn, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """In real lines, of all kinds but a stop's and those of a fault."""
    caplog.set_level("INFO", logger="relay")
    file = tmp_path / "keys"
    file.write_text("a-clients-key\n")
    headers = {
        "Authorization": "Bearer a-clients-key",
        "traceparent": f"00-{'a' * 32}-{'b' * 16}-01",
    }
    relay = await start_relay(relay_api_keys_file=file, relay_max_connections=2, relay_send_timeout=0.2)

    async def logged(message: str) -> None:
        while not any(record.message == message for record in caplog.records):
            await asyncio.sleep(0.01)

    for question in ("!echo hi", "!eof", "!abort=429", "!status=500"):
        async with relay.asking(question, headers=headers) as listening:
            await listening.rest()
    async with relay.asking("!endless", headers=headers, resumable=True):
        await logged("reader dropped")
    await standin.stop()
    async with relay.client.get("/readyz") as response:
        assert response.status == 503
    one, other, third = [await asyncio.open_connection("127.0.0.1", relay.port) for _ in range(3)]
    await logged("turned away (RELAY_MAX_CONNECTIONS)")
    third[1].write(b"rubbish\r\n\r\n")
    await logged("a malformed request was refused")
    for _, writer in (one, other, third):
        writer.close()
    told: dict[str, set[str]] = {}
    for record in caplog.records:
        fields: dict[str, Any] = vars(record).get("fields", {})
        told.setdefault(record.message, set()).update(fields)
    assert {"stream ended", "client keys read", "AnythingLLM is not ready"} < set(told)
    for message, names in told.items():
        for name in names:
            assert any(
                f"`{name}`" in field
                and (f"`{message}`" in where or "request" in where or "same" in where)
                for field, where, _ in cells("Log fields")
            ), (message, name)


def test_every_alert_is_tested_and_names_what_to_read() -> None:
    """A part of the page that is there."""
    rules = yaml.safe_load((ROOT / "deploy" / "alerts.yml").read_text())["groups"][0]["rules"]
    tested = (ROOT / "tests" / "alerts_test.yml").read_text()
    assert rules
    for rule in rules:
        assert f'alertname="{rule["alert"]}"' in tested
        (part,) = re.findall(r'docs/operations\.md, "(.*?)"', rule["annotations"]["description"])
        assert re.search(rf"^## {re.escape(part)}$", PAGE, re.MULTILINE), part


def test_every_link_leads_somewhere() -> None:
    """To a part of the page, or to a file."""
    parts = {
        re.sub(r"[^a-z0-9 -]", "", name.lower()).replace(" ", "-")
        for name in re.findall(r"^#+ (.*)$", PAGE, re.MULTILINE)
    }
    for link in re.findall(r"\]\(([^)]+)\)", PAGE):
        file, _, part = link.partition("#")
        if file:
            assert (ROOT / "docs" / file).exists(), link
        else:
            assert part in parts, link
