"""Whether AnythingLLM is up: told at once, asked seldom, and not doubted for being slow."""

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from relay.errors import Code, RelayError
from relay.handlers import UPSTREAM
from relay.readiness import Readiness
from relay.standin import KEY, StandIn
from relay.upstream import Upstream
from tests.conftest import StartRelay
from tests.running import Relay
from tests.test_upstream import QUESTION, answer, server

LONG = 3600.0


class Auth:
    """Answers probes as it is told to, and counts them."""

    def __init__(self, status: bytes = b"200 OK", *, says: bytes = b'{"authenticated":true}') -> None:
        self.status = status
        self.says = says
        self.asked = 0
        self.answers = asyncio.Event()
        self.answers.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.asked += 1
        await self.answers.wait()
        head = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        writer.write(head % (self.status, len(self.says)) + self.says)
        await reader.read()

    async def heard(self, number: int) -> None:
        while self.asked < number:
            await asyncio.sleep(0.01)


@asynccontextmanager
async def asking(url: str, **limits: float) -> AsyncIterator[Upstream]:
    """Yield a client with these limits, which asks anew each time unless it is told otherwise."""
    async with Upstream(url, KEY, connect_timeout=5, max_streams=10) as client:
        client.readiness = Readiness(client.probe, **{"counts": 0.0, **limits})
        yield client


async def failure(client: Upstream) -> Code:
    with pytest.raises(RelayError) as raised:
        await client.readiness.check()
    return raised.value.code


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a probe up soon."""
    monkeypatch.setattr("relay.upstream._PROBE_TIMEOUT", 0.05)


# --- one probe for all ---


@pytest.mark.parametrize(("status", "told"), [(b"200 OK", type(None)), (b"500 No", RelayError)])
async def test_who_asks_meanwhile_shares_the_probe(status: bytes, told: type) -> None:
    """And who asks soon after; then it is asked again. What failed is shared as well."""
    auth = Auth(status)
    auth.answers.clear()
    async with server(auth.serve) as url, asking(url, counts=LONG) as client:
        ready = client.readiness
        waiting = [asyncio.create_task(ready.check()) for _ in range(20)]
        await auth.heard(1)
        auth.answers.set()
        heard = await asyncio.gather(*waiting, ready.check(), return_exceptions=True)
        heard += await asyncio.gather(ready.check(), return_exceptions=True)
        assert [type(one) for one in heard] == [told] * 22
        assert auth.asked == 1
        ready._again_at = 0.0
        await asyncio.gather(ready.check(), ready.check(), return_exceptions=True)
        assert auth.asked == 2


async def test_a_probe_of_ones_own_is_always_a_new_one() -> None:
    """`--check` tells what is, not what was."""
    auth = Auth()
    async with server(auth.serve) as url, asking(url, counts=LONG) as client:
        await client.readiness.check()
        await client.probe()
        await client.probe()
        assert auth.asked == 3


async def test_who_leaves_ends_no_probe_of_others() -> None:
    auth = Auth()
    auth.answers.clear()
    async with server(auth.serve) as url, asking(url) as client:
        first, second = (asyncio.create_task(client.readiness.check()) for _ in range(2))
        await auth.heard(1)
        first.cancel()
        await asyncio.wait([first])
        auth.answers.set()
        await second
        assert auth.asked == 1


async def test_a_probe_that_nobody_waits_for_ends_with_its_owner() -> None:
    """The check around every test finds tasks that are left over."""
    auth = Auth()
    auth.answers.clear()
    async with server(auth.serve) as url:
        async with asking(url) as client:
            waiting = asyncio.create_task(client.readiness.check())
            await auth.heard(1)
            waiting.cancel()
            await asyncio.wait([waiting])
            probing = client.readiness.ask()
            assert not probing.done()
        assert probing.cancelled()


async def test_a_fault_of_ours_is_not_taken_for_readiness() -> None:
    async def broken() -> None:
        raise ValueError("ours")

    with pytest.raises(ValueError, match="ours"):
        await Readiness(broken).check()


# --- slow, and gone ---


async def test_a_slow_probe_is_not_waited_for_where_something_is_known() -> None:
    """The second probe is never answered; all who ask are told what the first one found."""
    auth = Auth()
    async with server(auth.serve) as url, asking(url, prompt=0.01, alive_for=LONG) as client:
        await client.readiness.check()
        auth.answers.clear()
        for _ in range(3):
            await client.readiness.check()
        await auth.heard(2)
        assert not client.readiness.ask().done()
        assert client.readiness.up


async def test_where_nothing_is_known_the_probe_is_waited_for() -> None:
    auth = Auth()
    auth.answers.clear()
    async with server(auth.serve) as url, asking(url, prompt=0.0) as client:
        waiting = asyncio.create_task(client.readiness.check())
        await auth.heard(1)
        await asyncio.sleep(0.05)
        assert not waiting.done()
        assert client.readiness.up is None
        auth.answers.set()
        await waiting


@pytest.mark.usefixtures("impatient")
async def test_where_nothing_is_known_the_wait_ends_all_the_same() -> None:
    auth = Auth()
    auth.answers.clear()
    async with server(auth.serve) as url, asking(url) as client:
        assert await failure(client) is Code.UPSTREAM_TIMEOUT
        assert client.readiness.up is False


@pytest.mark.usefixtures("impatient")
async def test_a_probe_without_an_answer_counts_once_the_last_sign_of_life_is_old() -> None:
    """Until then AnythingLLM is taken to be up, however many probes in between had no answer."""
    auth = Auth()
    async with server(auth.serve) as url, asking(url, prompt=LONG, alive_for=LONG) as client:
        ready = client.readiness
        await ready.check()
        auth.answers.clear()
        await ready.check()
        await ready.check()
        assert auth.asked == 3
        assert client.readiness.up
        ready._alive_for = 0.0
        assert client.readiness.up is False
        assert await failure(client) is Code.UPSTREAM_TIMEOUT
        auth.answers.set()
        await ready.check()
        assert client.readiness.up


@pytest.mark.usefixtures("impatient")
async def test_old_news_is_no_news() -> None:
    """Where the last sign of life is old, a slow probe is waited for as if nothing were known."""
    auth = Auth()
    async with server(auth.serve) as url, asking(url, prompt=0.0, alive_for=0.0) as client:
        await client.readiness.check()
        auth.answers.clear()
        assert await failure(client) is Code.UPSTREAM_TIMEOUT


@pytest.mark.parametrize(
    ("status", "says", "code"),
    [
        (b"403 Forbidden", b"{}", Code.UPSTREAM_UNAUTHORIZED),
        (b"502 Bad Gateway", b"{}", Code.UPSTREAM_REJECTED),
        (b"200 OK", b'{"online":true}', Code.UPSTREAM_PROTOCOL),
    ],
)
async def test_a_definite_failure_counts_at_once(status: bytes, says: bytes, code: Code) -> None:
    """However lively AnythingLLM was just before; and so does its end."""
    auth = Auth()
    async with server(auth.serve) as url, asking(url, prompt=LONG, alive_for=LONG) as client:
        await client.readiness.check()
        auth.status, auth.says, good = status, says, (auth.status, auth.says)
        assert await failure(client) is code
        assert client.readiness.up is False
        auth.status, auth.says = good
        await client.readiness.check()
        assert client.readiness.up


async def test_a_failure_is_told_while_the_next_probe_is_slow() -> None:
    auth = Auth(b"403 Forbidden")
    async with server(auth.serve) as url, asking(url, prompt=0.01) as client:
        assert await failure(client) is Code.UPSTREAM_UNAUTHORIZED
        auth.answers.clear()
        assert await failure(client) is Code.UPSTREAM_UNAUTHORIZED
        await auth.heard(2)


async def test_who_refuses_connections_is_down_at_once(standin: StandIn) -> None:
    """And up again with the first answer to anybody, without a probe."""
    async with asking(standin.url, prompt=LONG, alive_for=LONG) as client:
        await client.readiness.check()
        port = int(standin.url.rpartition(":")[2])
        await standin.stop()
        assert await failure(client) is Code.UPSTREAM_UNREACHABLE
        await standin.start(port)
        assert client.readiness.up is False
        await answer(client, QUESTION)
        assert client.readiness.up


async def test_an_answer_is_a_sign_of_life_and_a_refusal_is_none(standin: StandIn) -> None:
    async with asking(standin.url) as client:
        assert client.readiness.up is None
        await answer(client)
        assert client.readiness.up
    async with Upstream(standin.url, "another-key", connect_timeout=5, max_streams=1) as client:
        with pytest.raises(RelayError):
            await client.ask(QUESTION)
        assert client.readiness.up is None


# --- the relay's answers ---


@pytest.mark.skipif(sys.platform == "win32", reason="no process can be stopped there")
async def test_an_anythingllm_that_stands_still_leaves_the_relay_ready(start_relay: StartRelay) -> None:
    """A process that is stopped takes connections, and answers none; one that is killed refuses them."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "relay.standin", "--port", "0", stdout=PIPE
    )
    assert process.stdout is not None
    url = (await process.stdout.readline()).split()[1].decode()
    relay = await start_relay(anythingllm_base_url=url)
    client = relay.app[UPSTREAM]
    client.readiness = Readiness(client.probe, counts=0.0)
    async with relay.client.get("/readyz") as response:
        assert (response.status, await response.json()) == (200, {"status": "ok"})
    process.send_signal(signal.SIGSTOP)
    async with relay.client.get("/readyz") as response:
        assert response.status == 200
    assert not client.readiness.ask().done()
    process.kill()
    await process.wait()
    while (await relay.answers("GET", "/readyz"))[0] == 200:
        pass
    assert await relay.answers("GET", "/readyz") == (503, "upstream_unreachable")


async def test_who_looks_at_the_metrics_has_anythingllm_asked(relay: Relay) -> None:
    """So what they tell of it is never older than the last look, though nobody asks `/readyz`."""
    up = relay.app[UPSTREAM]
    assert up.readiness.up is None
    async with relay.client.get("/metrics") as response:
        assert response.status == 200
    while not up.readiness.up:
        await asyncio.sleep(0.01)


async def test_a_change_is_logged_and_nothing_else(
    relay: Relay, standin: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="relay.readiness")
    client = relay.app[UPSTREAM]
    client.readiness = Readiness(client.probe, counts=0.0, prompt=LONG)
    port = int(standin.url.rpartition(":")[2])
    for status in (200, 503, 200):
        for _ in range(2):
            async with relay.client.get("/readyz") as response:
                assert response.status == status
            await relay.ask("!echo hi")
        await (standin.stop() if status == 200 else standin.start(port))
    gone, back = (record for record in caplog.records if record.name == "relay.readiness")
    assert (gone.levelname, gone.message) == ("WARNING", "AnythingLLM is not ready")
    fields = vars(gone)["fields"]
    assert fields["code"] == "upstream_unreachable"
    assert "connection refused" in fields["why"]
    assert (back.levelname, back.message) == ("INFO", "AnythingLLM is ready again")
