"""`--check`: each step is told, and a failed one says what to mend."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator

import pytest

from relay.check import check, check_store
from relay.standin import KEY, WORKSPACE, StandIn
from relay.store import Store
from relay.upstream import Upstream
from tests.redis_server import RedisServer

ANSWERS = "ok      AnythingLLM answers and takes the API key"


async def checked(
    url: str, *, key: str = KEY, slug: str = WORKSPACE, allowed: tuple[str, ...] = ()
) -> tuple[bool, list[str]]:
    """Return whether all was well, and the lines that were told."""
    told: list[str] = []
    upstream = Upstream(url, key, connect_timeout=10, max_streams=1)
    return await check(upstream, slug, {slug, *allowed}, told.append), told


@pytest.fixture
async def babbler() -> AsyncIterator[str]:
    """The address of a server that speaks no HTTP."""

    async def babble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.com ESMTP\r\n")
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(babble, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address that nobody else takes and where nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


async def test_all_is_well(standin: StandIn) -> None:
    """Both steps are told, and no question was asked."""
    assert await checked(standin.url) == (True, [ANSWERS, "ok      workspace demo"])
    assert standin.asks == []


async def test_wrong_key(standin: StandIn) -> None:
    """A refused key names its setting and where keys are made, and never itself."""
    good, (line,) = await checked(standin.url, key="wr0ng-k3y")
    assert not good
    assert line.startswith("failed  AnythingLLM refused the API key; check ANYTHINGLLM_API_KEY")
    assert "Developer API" in line
    assert "wr0ng-k3y" not in line


async def test_unknown_workspace(standin: StandIn) -> None:
    """The key was good, the workspace is not there: its slug and its setting are named."""
    good, told = await checked(standin.url, slug="elsewhere")
    assert not good
    assert told == [
        ANSWERS,
        "failed  AnythingLLM has no workspace elsewhere; check ANYTHINGLLM_WORKSPACE_SLUG.",
    ]


async def test_every_allowed_workspace_is_told() -> None:
    """The default one first, then the others in order, whether or not one before is there."""
    async with StandIn(workspaces=["demo", "alpha", "zulu"]) as standin:
        good, told = await checked(standin.url, allowed=("zulu", "nope", "alpha"))
        assert not good
        assert told == [
            ANSWERS,
            "ok      workspace demo",
            "ok      workspace alpha",
            "failed  AnythingLLM has no workspace nope; check ANYTHINGLLM_ALLOWED_WORKSPACES.",
            "ok      workspace zulu",
        ]
        assert (await checked(standin.url, allowed=("zulu", "alpha")))[0]
        good, told = await checked(standin.url, slug="nope", allowed=("zulu",))
        assert not good
        assert told[-1] == "ok      workspace zulu"


async def test_nothing_listens(nobody: str) -> None:
    """A refused connection is told as such, with what to look at."""
    good, (line,) = await checked(nobody)
    assert not good
    assert line == (
        "failed  AnythingLLM cannot be reached (connection refused); check that AnythingLLM runs"
        " and that ANYTHINGLLM_BASE_URL is its address."
    )


async def test_web_page(standin: StandIn) -> None:
    """A wrong path answers with a web page, and that is no success."""
    good, (line,) = await checked(f"{standin.url}/nope")
    assert not good
    assert "text/html" in line
    assert "ANYTHINGLLM_BASE_URL" in line


async def test_no_http(babbler: str) -> None:
    """Another kind of server is told as such."""
    good, (line,) = await checked(babbler)
    assert not good
    assert "does not speak HTTP" in line


async def test_plain_http_asked_with_tls(standin: StandIn) -> None:
    """`https` where there is only `http` is told as a matter of TLS."""
    good, (line,) = await checked(standin.url.replace("http:", "https:"))
    assert not good
    assert "TLS failed; perhaps it speaks plain http" in line


async def test_redis_is_there(redis: RedisServer) -> None:
    """It is written to, and nothing stays there."""
    told: list[str] = []
    assert await check_store(Store(redis.url, patience=60), told.append)
    assert told == ["ok      Redis takes resumable streams"]
    assert await redis.keys() == set()


@pytest.mark.parametrize("how", ["away", "refuses"])
async def test_redis_cannot_be_used(redis: RedisServer, how: str) -> None:
    if how == "away":
        await redis.kill()
    else:
        await redis.ask("CONFIG", "SET", "maxmemory", "1")
    told: list[str] = []
    assert not await check_store(Store(redis.url, patience=60), told.append)
    assert [line.partition(" (")[0] for line in told] == ["failed  Redis"]
