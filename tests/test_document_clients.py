"""The clients of docs/protocol.md: what a program owes, beyond what test_clients.py asks of all."""

import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import pytest
from aiohttp import web

from relay.standin import StandIn
from tests.conftest import StartRelay
from tests.document_clients import ALL, NODE, PYTHON, Written
from tests.running import Relay

KEY: Final = "a-key-of-a-client-0123456789"
CLIENTS: Final = [
    pytest.param(one, id=one.file, marks=pytest.mark.skipif(bool(one.missing), reason=one.missing))
    for one in ALL
]
pytestmark = pytest.mark.parametrize("client", CLIENTS)


async def result(client: Written, *arguments: str, key: str = "") -> tuple[int | None, str, str]:
    async with client.run(*arguments, key=key) as process:
        out, err = await process.communicate()
        return process.returncode, out.decode(), err.decode()


async def test_an_answer_is_all_that_is_written(client: Written, relay: Relay) -> None:
    """Nothing around it, and a status of success."""
    assert await result(client, relay.url, "!tokens=3") == (0, "tok1 tok2 tok3", "")


async def test_a_question_arrives_as_it_was_asked(
    client: Written, relay: Relay, standin: StandIn
) -> None:
    """Whatever is in it."""
    question = "a+b=c & d%20e\n'q' \"r\" \\ $HOME `x` ü🐍 \u2028 !empty"
    await result(client, relay.url, question)
    assert (await standin.next_ask()).body["message"] == question


async def test_a_failure_is_words_and_a_status(client: Written, relay: Relay) -> None:
    """One line, no traceback; what came stays."""
    status, out, err = await result(client, relay.url, "!abort=429")
    assert (status, err) == (1, "429 Rate limit reached for requests\n")
    assert out


async def test_a_refusal_is_words_and_a_status(client: Written, relay: Relay) -> None:
    """Those of the relay."""
    status, out, err = await result(client, relay.url, " ")
    assert (status, out, err) == (1, "", "`question` must not be blank.\n")


async def test_a_key_is_sent(client: Written, start_relay: StartRelay) -> None:
    """From the environment; without it the relay says what to send."""
    relay = await start_relay(relay_api_keys=KEY)
    assert await result(client, relay.url, "!tokens=2", key=KEY) == (0, "tok1 tok2", "")
    status, out, err = await result(client, relay.url, "!tokens=2")
    assert (status, out) == (1, "")
    assert "Authorization: Bearer" in err


async def test_nobody_there_is_words_and_a_status(client: Written) -> None:
    """As for any failure."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        status, out, err = await result(client, url, "hello")
    assert (status, out) == (1, "")
    assert re.search("refused|connect|failed", err, re.IGNORECASE)
    assert "Traceback" not in err
    assert " at " not in err.replace(" at line", "")


async def test_without_a_question_it_says_how_to_ask(client: Written) -> None:
    """No traceback."""
    status, out, err = await result(client, "http://127.0.0.1:1")
    assert status
    assert out == ""
    assert re.search(r"usage: (node )?ask\.\w+ URL QUESTION", err)
    assert "Traceback" not in err


@asynccontextmanager
async def saying(*pieces: bytes) -> AsyncIterator[str]:
    """A server that answers every question with these bytes, and then is gone."""

    async def answer(request: web.Request) -> web.StreamResponse:
        await request.read()
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
        return response

    app = web.Application()
    app.router.add_post("/below/stream-ask", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/below"
    finally:
        await runner.cleanup()


async def test_an_end_that_is_not_told_is_a_failure(client: Written) -> None:
    """And an address with a path works, as behind a proxy."""
    async with saying(b': ping\nevent: chunk\ndata: {"type":"chunk","content":"half"}\n\n') as url:
        status, out, err = await result(client, url, "hello")
    assert (status, out, err) == (1, "half", "The connection was cut.\n")


async def test_what_is_not_known_is_skipped(client: Written) -> None:
    """Events, fields and comments of a relay to come; cut anywhere."""
    stream = (
        ': a comment\nretry: 5\nevent: new\ndata: {"type":"new","content":"no"}\n\n'
        'id: 1\nevent: chunk\nodd\ndata: {"type":"chunk","content":"ü🐍"}\n\n: ping\n'
        'event: final_end\ndata: {"type":"final_end","reason":"complete"}\n\n'
    ).encode()
    async with saying(*(stream[at : at + 1] for at in range(len(stream)))) as url:
        assert await result(client, url, "hello") == (0, "ü🐍", "")


def test_it_is_short(client: Written) -> None:
    """An example is read before it is run."""
    assert len(client.text.splitlines()) < 65


def test_it_needs_nothing_but_what_it_says(client: Written) -> None:
    """No package."""
    imported = set(re.findall(r"^(?:import|from) (\w+)", client.text, re.MULTILINE))
    if client == PYTHON:
        assert imported == {"http", "json", "os", "sys", "urllib"}
    if client == NODE:
        assert imported == set()
        assert "require(" not in client.text
