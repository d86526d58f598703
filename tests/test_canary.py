"""No secret is told: that the canary of all tests hears one, and what it cannot hear."""

import gc
import logging
import re
import traceback
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from relay.app import create_upstream
from relay.errors import RelayError
from relay.standin import KEY
from tests import canary as canaries
from tests.canary import Canary
from tests.conftest import StartRelay
from tests.running import Relay, settings

CLIENT_KEY, KEY_OF_FILE = "client-key-of-settings", "client-key-of-a-file"
SECRETS = (KEY, CLIENT_KEY, KEY_OF_FILE)


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    file = tmp_path / "keys"
    file.write_text(KEY_OF_FILE)
    return file


@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_in_the_log_is_heard(canary: Canary, keys_file: Path, secret: str) -> None:
    """In a message, in a field, in a traceback, at any level."""
    log = logging.getLogger("relay.somewhere")
    canary.guard(settings(relay_api_keys=CLIENT_KEY, relay_api_keys_file=str(keys_file)))
    log.debug("got %s", secret)
    log.info("got it", extra={"fields": {"key": secret}})
    try:
        raise ValueError(secret)
    except ValueError:
        log.exception("failed")
    heard = len(canary.told)
    canary.told.clear()
    assert heard == 3


async def test_a_secret_that_is_sent_is_heard(canary: Canary, relay: Relay) -> None:
    """For the test, a word that every stream has is the secret."""
    await relay.ask("!echo hi")
    assert canary.told == []
    canary.guard(settings(relay_api_keys="final_end"))
    await relay.ask("!echo hi")
    heard = len(canary.told)
    canary.told.clear()
    assert heard == 1


def test_a_secret_that_two_writes_cut_in_two_is_heard(canary: Canary) -> None:
    canary.guard(settings())
    wire = canaries._Wire(canary, _Nowhere())  # type: ignore[arg-type]
    wire.write(KEY[:5].encode())
    assert canary.told == []
    wire.writelines([KEY[5:8].encode(), KEY[8:].encode()])
    heard = len(canary.told)
    canary.told.clear()
    assert heard == 1


class _Nowhere:
    def write(self, data: bytes) -> None:
        """Send nothing."""

    def writelines(self, parts: Iterable[bytes]) -> None:
        """Send nothing."""


async def test_nothing_of_ours_shows_a_secret(start_relay: StartRelay, keys_file: Path) -> None:
    """Every object of the relay's own, while it answers, as a debugger or a log would show it."""
    relay = await start_relay(relay_api_keys=CLIENT_KEY, relay_api_keys_file=str(keys_file))
    sent = {"Authorization": f"Bearer {CLIENT_KEY}"}
    async with relay.asking("!endless !slow=0.01", headers=sent) as listening:
        await listening.until("chunk")
        ours = list(of_ours(relay.app, relay._runner, relay.settings))
        names = {type(one).__name__ for one in ours}
        shown = [repr(one) + str(one) for one in ours]
    assert {"Settings", "Upstream", "ClientKeys", "Connection", "RelayStream", "Question"} <= names
    assert [text for text in shown if any(secret in text for secret in SECRETS)] == []


def of_ours(*roots: object) -> Iterator[object]:
    """Every object that can be reached from these and is of a class of ours."""
    seen, waiting = set(), deque(roots)
    while waiting:
        one = waiting.popleft()
        if id(one) in seen or isinstance(one, type | ModuleType):
            continue
        seen.add(id(one))
        if re.match(r"(relay(?!\.standin)|config)\b", type(one).__module__):
            yield one
        waiting.extend(gc.get_referents(one))


async def test_no_traceback_shows_a_secret() -> None:
    """Not even one that shows what is in the variables of the function that failed."""
    async with create_upstream(settings(relay_api_keys=CLIENT_KEY)) as upstream:
        with pytest.raises(RelayError) as caught:
            await upstream.probe()
    told = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    text = "".join(told.format())
    assert "upstream.py" in text
    assert not [secret for secret in SECRETS if secret in text]
