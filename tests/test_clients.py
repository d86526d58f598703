"""What every client must do: show text as it arrives, exactly; one end; the error; stop on request."""

import asyncio
import shutil
from typing import Final

import pytest

from relay.standin import StandIn
from tests import document_clients, openai_client
from tests.clients import PATIENCE, Client, Curl
from tests.page_client import NEEDS_CHROMIUM, WebPage
from tests.python_clients import CommandLine, Example
from tests.running import Relay

CLIENTS: Final = [
    pytest.param(
        Curl(),
        id="curl",
        marks=pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed"),
    ),
    pytest.param(openai_client.PYTHON_PACKAGE, id="openai-python"),
    pytest.param(openai_client.NPM_PACKAGE, id="openai-npm", marks=openai_client.needs_npm),
    pytest.param(Example("Asynchronously"), id="python"),
    pytest.param(Example("Without asyncio"), id="python-sync"),
    pytest.param(CommandLine(), id="command-line"),
    pytest.param(WebPage(), id="page", marks=NEEDS_CHROMIUM),
    *(
        pytest.param(one, id=one.file, marks=pytest.mark.skipif(bool(one.missing), reason=one.missing))
        for one in document_clients.ALL
    ),
]
"""Each kind of client once."""

EXACT: Final = (
    "Ünïcödé 🐍👩‍💻 \u2028 and \u2029 and \u0085 stay; data: x\nevent: chunk\n\n  two blanks  \n"
    "<script>alert(1)</script> & `a` **b** [c](javascript:d)\n```python\nprint('\\t')\n```\nend."
)
"""Text in which a client may trip over line ends, markup and the words of the protocol itself."""


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> Client:
    """Return one client after the other."""
    chosen: Client = request.param
    return chosen


async def test_text_shows_while_the_answer_still_arrives(
    client: Client, relay: Relay, standin: StandIn
) -> None:
    """The model pauses after three tokens, and they are there."""
    async with client.ask(relay.url, "!tokens=6 !pause=3600") as asking:
        await asking.shows("tok1 tok2 tok3")
        ask = await standin.next_ask()
        assert not ask.ended.is_set()


async def test_the_text_is_exact_and_ends_once(client: Client, relay: Relay) -> None:
    """Not a character is lost, doubled or made into something else."""
    async with client.ask(relay.url, f"!echo {EXACT}") as asking:
        result = await asking.result()
    assert result.text == EXACT
    assert result.ends == 1
    assert result.error == ""


async def test_a_failure_is_shown_behind_the_text_that_came(client: Client, relay: Relay) -> None:
    """The model fails in mid-answer: what there is stays, and the words say why there is no more."""
    async with client.ask(relay.url, "!abort=429") as asking:
        result = await asking.result()
    assert result.text
    assert "429" in result.error
    assert result.ends == 1


async def test_stopping_reaches_anythingllm(client: Client, relay: Relay, standin: StandIn) -> None:
    """The user has read enough, and the model stops."""
    async with client.ask(relay.url, "!endless") as asking:
        await asking.shows("tok1 ")
        ask = await standin.next_ask()
        assert not ask.ended.is_set()
        await asking.cancel()
        async with asyncio.timeout(PATIENCE):
            await ask.ended.wait()
        assert ask.outcome == "left"
