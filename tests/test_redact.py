"""What must not leave the relay although AnythingLLM says it, in each of the places that can say it."""

import asyncio
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.redact import Redactor
from relay.standin import KEY
from tests.conftest import StartRelay
from tests.test_found import EVENTS, upstream

BLANK = "[redacted]"


def replaced(value: Any, secret: str) -> Any:
    """The same JSON value, each of its strings without the secret."""
    if isinstance(value, str):
        return value.replace(secret, BLANK)
    if isinstance(value, list):
        return [replaced(item, secret) for item in value]
    if isinstance(value, dict):
        return {replaced(name, secret): replaced(item, secret) for name, item in value.items()}
    return value


# Keys that look like the end of an escape, like a number, or like what JSON must escape.
SECRETS = [
    "ABCDEFG-1234567",
    "12345678",
    "nABCDEFG",
    "1fabcdefg",
    "u0041bcd",
    'a"b\\c"d\\e',
    '\\\\\\\\""""',
]


@st.composite
def secrets_and_values(draw: st.DrawFn) -> tuple[str, Any]:
    secret = draw(st.sampled_from(SECRETS))
    pieces = st.sampled_from([secret, secret[1:], secret[:-1], *'\n\x1f\x00"\\u0aé\u2028'])
    texts = st.lists(pieces, max_size=6).map("".join)
    values = st.recursive(
        texts | st.sampled_from([12345678, 1234567890, 12345678.5, None, True]),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
        max_leaves=6,
    )
    return secret, draw(values)


@given(secrets_and_values())
def test_a_known_secret_is_replaced_in_strings_and_nowhere_else(told: tuple[str, Any]) -> None:
    """Also where an escape and what follows it look like the secret, which would break the JSON."""
    secret, value = told
    redacted = Redactor([secret]).json(msgspec.json.encode(value))
    assert json.loads(redacted) == replaced(value, secret)


def test_what_holds_no_secret_is_handed_back_as_it_is() -> None:
    """Every piece of every answer goes through here."""
    data = b'{"content":"an answer"}'
    assert Redactor([KEY]).json(data) is data


FRAMES: list[dict[str, Any]] = [
    {"type": "agentThought", "thought": f"I use {KEY}"},
    {"type": "fileDownload", "fileDownload": {"filename": KEY, KEY: [KEY]}},
    {"type": "textResponseChunk", "textResponse": f"key: {KEY}.", "close": False},
    {"type": "news", "words": {KEY: [KEY]}},
    {
        "type": "finalizeResponseStream",
        "sources": [{"title": f"a {KEY}", "text": KEY}],
        "metrics": {"model": KEY, KEY: 1},
    },
]


@pytest.mark.parametrize("fields", [{"sources": "full"}, {"format": "anythingllm"}, {"resumable": True}])
async def test_the_relays_own_key_leaves_in_no_event(
    start_relay: StartRelay, fields: dict[str, Any]
) -> None:
    """Whatever AnythingLLM says it in: the answer, a thought, an output, sources, metrics."""
    body = b"".join(b"data: %b\n\n" % json.dumps(frame).encode() for frame in FRAMES)
    head = b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n" % (EVENTS, len(body))
    async with upstream(head + body) as url:
        relay = await start_relay(anythingllm_base_url=url)
        async with asyncio.timeout(10), relay.asking("?", **fields) as listening:
            heard = await listening.rest()
    assert KEY.encode() not in listening.raw
    assert heard.end["reason"] == "complete"
    assert BLANK in str(heard)
    if "format" not in fields:
        assert heard.text == f"key: {BLANK}."
        assert heard.of("thought") == [{"type": "thought", "content": f"I use {BLANK}"}]
        assert heard.end["metrics"] == {"model": BLANK, BLANK: 1}
