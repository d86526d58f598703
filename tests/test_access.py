"""Who may ask: host names, origins and keys."""

import asyncio
from typing import Any

import pytest
from multidict import CIMultiDict

from relay.access import AccessRules
from relay.errors import Code, RelayError
from relay.keys import ClientKeys
from tests.conftest import StartRelay
from tests.running import Relay

ASKED = {"question": "!echo hi"}
KEY_ONE, KEY_TWO = "key-of-client-one", "key-of-client-two"
LOCAL = ("localhost", "127.0.0.1", "[::1]")
EDITOR = "vscode-webview://0ab1"
CHAT = "https://chat.example.com"


def rules(**given: Any) -> AccessRules:
    return AccessRules(**{"hosts": LOCAL, "keys": ClientKeys(), **given})


def headers(**given: str) -> CIMultiDict[str]:
    return CIMultiDict({name.replace("_", "-"): value for name, value in given.items()})


def outcome(check: Any, **given: str) -> Code | None:
    try:
        check(headers(**given))
    except RelayError as error:
        return error.code
    return None


# --- host names ---

HOSTS = [
    (LOCAL, "localhost", True),
    (LOCAL, "LocalHost", True),
    (LOCAL, "localhost:5000", True),
    (LOCAL, "localhost:1", True),
    (LOCAL, "127.0.0.1:5000", True),
    (LOCAL, "[::1]", True),
    (LOCAL, "[::1]:5000", True),
    (LOCAL, "", True),
    (LOCAL, "evil.example.com", False),
    (LOCAL, "localhost.evil.example.com", False),
    (LOCAL, "evil-localhost", False),
    (LOCAL, "localhost:5000:5000", False),
    (LOCAL, "localhost:", False),
    (LOCAL, "localhost:x", False),
    (LOCAL, "localhost:\u0663", False),
    (LOCAL, ":5000", False),
    (LOCAL, "127.0.0.2", False),
    (LOCAL, "[::2]", False),
    (LOCAL, "::1", False),
    (LOCAL, "localhost, evil.example.com", False),
    (LOCAL, "user@localhost", False),
    (LOCAL, "\udcff", False),
    (("relay.example.com:8443",), "relay.example.com:8443", True),
    (("relay.example.com:8443",), "relay.example.com", False),
    (("relay.example.com:8443",), "relay.example.com:80", False),
    (("Relay.Example.COM",), "relay.example.com:8443", True),
]


@pytest.mark.parametrize(("hosts", "host", "passes"), HOSTS)
def test_a_host_name_passes_with_any_port_unless_one_is_set(
    hosts: tuple[str, ...], host: str, passes: bool
) -> None:
    told = outcome(rules(hosts=hosts).check_host, Host=host)
    assert told == (None if passes else Code.FORBIDDEN_HOST)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:1234", "[::1]:9"])
async def test_a_name_of_the_relay_is_answered(relay: Relay, host: str) -> None:
    async with relay.asking("!echo hi", headers={"Host": host}) as listening:
        assert (await listening.rest()).text == "hi"


async def test_a_rebound_name_is_refused(relay: Relay) -> None:
    """DNS may give any page's own name the address of this machine."""
    host = "rebound.example.com"
    told = await relay.refused(ASKED, headers={"Host": host, "Origin": f"http://{host}"})
    assert told[0] == 403
    assert told[1]["code"] == "forbidden_host"
    assert "RELAY_ALLOWED_HOSTS" in told[1]["error"]


async def test_a_host_of_ones_own_replaces_localhost(start_relay: StartRelay) -> None:
    relay = await start_relay(relay_allowed_hosts="relay.example.com:8443")
    async with relay.asking("!echo hi", headers={"Host": "relay.example.com:8443"}) as listening:
        assert (await listening.rest()).text == "hi"
    for host in ("localhost", "relay.example.com", "relay.example.com:8080"):
        assert (await relay.refused(ASKED, headers={"Host": host}))[1]["code"] == "forbidden_host"


async def test_http_1_0_needs_no_host(relay: Relay) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
    body = b'{"question": "!echo hi"}'
    head = b"POST /stream-ask HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    writer.write(head % len(body) + body)
    answer = await reader.read()
    writer.close()
    assert answer.split(b"\r\n")[0].endswith(b" 200 OK")
    assert b"event: final_end" in answer


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_health_is_told_under_any_name_and_to_any_page(relay: Relay, path: str) -> None:
    sent = {"Host": "10.1.2.3", "Origin": "https://evil.example.com", "Sec-Fetch-Site": "cross-site"}
    async with relay.client.get(path, headers=sent) as response:
        assert (response.status, await response.json()) == (200, {"status": "ok"})
        assert "Access-Control-Allow-Origin" not in response.headers


# --- origins ---

ORIGINS: list[tuple[tuple[str, ...], dict[str, str], bool]] = [
    # nothing that tells of a browser
    ((), {}, True),
    ((), {"Sec_Fetch_Site": "none"}, True),
    ((), {"Sec_Fetch_Site": "same-origin"}, True),
    ((), {"Sec_Fetch_Site": "cross-site"}, False),
    # the relay's own page
    ((), {"Origin": "http://localhost:5000"}, True),
    ((), {"Origin": "https://localhost:5000"}, True),
    ((), {"Origin": "HTTP://LOCALHOST:5000"}, True),
    ((), {"Origin": "http://localhost:5000", "Sec_Fetch_Site": "cross-site"}, True),
    ((), {"Origin": "http://localhost:3000"}, False),
    ((), {"Origin": "http://localhost"}, False),
    ((), {"Origin": "http://127.0.0.1:5000"}, False),
    ((), {"Origin": "ftp://localhost:5000"}, False),
    ((), {"Origin": "localhost:5000"}, False),
    # others
    ((), {"Origin": "https://evil.example.com"}, False),
    ((), {"Origin": "null"}, False),
    ((), {"Origin": ""}, False),
    ((), {"Origin": "\udcff"}, False),
    ((), {"Origin": EDITOR}, False),
    # allowed ones
    ((CHAT,), {"Origin": CHAT}, True),
    ((CHAT,), {"Origin": CHAT.upper()}, True),
    ((CHAT,), {"Origin": CHAT, "Sec_Fetch_Site": "cross-site"}, True),
    ((CHAT,), {"Sec_Fetch_Site": "cross-site"}, False),
    ((CHAT,), {"Origin": f"{CHAT}:8443"}, False),
    ((CHAT,), {"Origin": f"{CHAT}.evil.example.com"}, False),
    ((CHAT,), {"Origin": "http://chat.example.com"}, False),
    ((CHAT,), {"Origin": f"{CHAT} https://evil.example.com"}, False),
    (("vscode-webview://*",), {"Origin": EDITOR}, True),
    (("vscode-webview://*",), {"Origin": "vscode-webview"}, False),
    (("vscode-webview://*",), {"Origin": "vscode-webview-evil://x"}, False),
    (("vscode-webview://*",), {"Origin": "https://vscode-webview"}, False),
    (("null://*",), {"Origin": "null"}, False),
]


@pytest.mark.parametrize(("origins", "sent", "passes"), ORIGINS)
def test_a_page_passes_if_it_is_allowed_or_the_relays_own(
    origins: tuple[str, ...], sent: dict[str, str], passes: bool
) -> None:
    told = outcome(rules(origins=origins).check_origin, Host="localhost:5000", **sent)
    assert told == (None if passes else Code.FORBIDDEN_ORIGIN)


REFUSED_PAGES = [
    {"Origin": "https://evil.example.com"},
    {"Origin": "null"},
    {"Origin": "http://localhost:1"},
    {"Origin": EDITOR},
    {"Sec-Fetch-Site": "cross-site"},
]


@pytest.mark.parametrize("sent", REFUSED_PAGES)
async def test_other_peoples_pages_are_refused_and_cannot_read_why(
    relay: Relay, sent: dict[str, str]
) -> None:
    async with relay.client.post("/stream-ask", json=ASKED, headers=sent) as response:
        assert response.status == 403
        told = await response.json()
        assert told["code"] == "forbidden_origin"
        assert "RELAY_ALLOWED_ORIGINS" in told["error"]
        assert not [name for name in response.headers if name.startswith("Access-Control-")]


async def test_a_form_from_another_page_is_refused_too(relay: Relay) -> None:
    """Browsers send forms anywhere without a preflight."""
    sent = {"Origin": "https://evil.example.com"}
    status, told = await relay.refused(data={"question": "x"}, headers=sent)
    assert (status, told["code"]) == (403, "forbidden_origin")


async def test_the_own_page_may_ask(relay: Relay) -> None:
    sent = {"Origin": relay.url, "Sec-Fetch-Site": "same-origin"}
    async with relay.asking("!echo hi", headers=sent) as listening:
        assert (await listening.rest()).text == "hi"


@pytest.mark.parametrize("origin", [CHAT, EDITOR])
async def test_an_allowed_page_may_ask_and_read(start_relay: StartRelay, origin: str) -> None:
    relay = await start_relay(relay_allowed_origins=f"{CHAT}, vscode-webview://*")
    sent = {"Origin": origin, "Sec-Fetch-Site": "cross-site"}
    async with relay.asking("!echo hi", headers=sent) as listening:
        assert_readable(listening.response.headers, origin)
        assert (await listening.rest()).text == "hi"


async def test_an_allowed_page_may_read_a_refusal(start_relay: StartRelay) -> None:
    relay = await start_relay(relay_allowed_origins=CHAT, relay_api_keys=KEY_ONE)
    async with relay.client.post("/stream-ask", json={}, headers={"Origin": CHAT}) as response:
        assert response.status == 401
        assert_readable(response.headers, CHAT)
    async with relay.client.get("/nowhere", headers={"Origin": CHAT, **bearer(KEY_ONE)}) as response:
        assert response.status == 404
        assert_readable(response.headers, CHAT)


async def test_an_origin_that_is_no_text_breaks_nothing(start_relay: StartRelay) -> None:
    relay = await start_relay(relay_allowed_origins="vscode-webview://*")
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
    head = b"POST /stream-ask HTTP/1.1\r\nHost: localhost\r\nOrigin: vscode-webview://\xff\r\n"
    body = b'{"question": "!echo hi"}'
    more = b"Content-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    writer.write(head + more % len(body) + body)
    answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 403 Forbidden\r\n")
    assert b"forbidden_origin" in answer


def assert_readable(found: Any, origin: str) -> None:
    assert found["Access-Control-Allow-Origin"] == origin
    assert found["Vary"] == "Origin"
    exposed = found["Access-Control-Expose-Headers"]
    assert {name.strip() for name in exposed.split(",")} == {
        "X-Stream-ID",
        "X-Request-ID",
        "Retry-After",
    }
    assert "Access-Control-Allow-Credentials" not in found


# --- preflights ---

PREFLIGHT = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type,idempotency-key,last-event-id",
}


@pytest.mark.parametrize("path", ["/stream-ask", "/streams/any"])
async def test_a_preflight_needs_no_key(start_relay: StartRelay, path: str) -> None:
    """Browsers send none with it."""
    relay = await start_relay(relay_allowed_origins=CHAT, relay_api_keys=KEY_ONE)
    async with relay.client.options(path, headers={"Origin": CHAT, **PREFLIGHT}) as response:
        assert response.status == 204
        assert await response.read() == b""
        assert_readable(response.headers, CHAT)
        methods = response.headers["Access-Control-Allow-Methods"].split(", ")
        assert {"GET", "POST", "DELETE"} <= set(methods)
        allowed = response.headers["Access-Control-Allow-Headers"].split(", ")
        assert set(allowed) == set(PREFLIGHT["Access-Control-Request-Headers"].split(","))
        assert "Access-Control-Max-Age" in response.headers


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ({"Origin": "https://evil.example.com"}, "forbidden_origin"),
        ({"Origin": CHAT, "Host": "evil.example.com"}, "forbidden_host"),
    ],
)
async def test_a_preflight_of_another_page_is_refused(
    start_relay: StartRelay, sent: dict[str, str], code: str
) -> None:
    relay = await start_relay(relay_allowed_origins=CHAT)
    async with relay.client.options("/stream-ask", headers={**sent, **PREFLIGHT}) as response:
        assert (response.status, (await response.json())["code"]) == (403, code)
        assert "Access-Control-Allow-Methods" not in response.headers


# --- keys ---


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


AUTHORIZATIONS = [
    (f"Bearer {KEY_ONE}", KEY_ONE),
    (f"Bearer {KEY_TWO}", KEY_TWO),
    (f"bearer {KEY_ONE}", KEY_ONE),
    (f"BEARER   {KEY_ONE} ", KEY_ONE),
    ("", None),
    ("Bearer", None),
    ("Bearer ", None),
    (KEY_ONE, None),
    (f"Basic {KEY_ONE}", None),
    (f"Bearer {KEY_ONE}x", None),
    (f"Bearer {KEY_ONE[:-1]}", None),
    (f"Bearer {KEY_ONE.upper()}", None),
    (f"Bearer {KEY_ONE}, {KEY_TWO}", None),
    (f"Bearer {KEY_ONE} {KEY_TWO}", None),
    ("Bearer \udcff\udcfe", None),
    ("Bearer ключ", None),
]


@pytest.mark.parametrize(("sent", "key"), AUTHORIZATIONS)
def test_the_whole_key_is_needed(sent: str, key: str | None) -> None:
    keys = ClientKeys([KEY_ONE, KEY_TWO])
    access = rules(keys=keys)
    if key is not None:
        assert access.check_key(headers(Authorization=sent)) == keys.owner(key) is not None
        return
    with pytest.raises(RelayError) as caught:
        access.check_key(headers(Authorization=sent))
    assert caught.value.code == Code.UNAUTHORIZED
    assert KEY_ONE not in caught.value.message


@pytest.mark.parametrize("sent", [{}, bearer("anything")])
async def test_without_keys_nobody_is_asked_for_one(relay: Relay, sent: dict[str, str]) -> None:
    async with relay.asking("!echo hi", headers=sent) as listening:
        assert (await listening.rest()).text == "hi"


@pytest.mark.parametrize("sent", [{}, bearer("wrong-key"), {"Authorization": KEY_ONE}])
async def test_a_key_is_needed_to_ask(start_relay: StartRelay, sent: dict[str, str]) -> None:
    relay = await start_relay(relay_api_keys=f"{KEY_ONE},{KEY_TWO}")
    async with relay.client.post("/stream-ask", json=ASKED, headers=sent) as response:
        assert response.status == 401
        assert response.headers["WWW-Authenticate"] == "Bearer"
        told = await response.json()
        assert told["code"] == "unauthorized"
        assert "(RELAY_API_KEYS, RELAY_API_KEYS_FILE)" in told["error"]


@pytest.mark.parametrize("key", [KEY_ONE, KEY_TWO])
async def test_each_key_opens(start_relay: StartRelay, key: str) -> None:
    relay = await start_relay(relay_api_keys=f"{KEY_ONE},{KEY_TWO}")
    async with relay.asking("!echo hi", headers=bearer(key)) as listening:
        assert (await listening.rest()).text == "hi"


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_health_needs_no_key(start_relay: StartRelay, path: str) -> None:
    relay = await start_relay(relay_api_keys=KEY_ONE)
    async with relay.client.get(path) as response:
        assert response.status == 200


async def test_an_unknown_address_tells_nothing_without_a_key(start_relay: StartRelay) -> None:
    relay = await start_relay(relay_api_keys=KEY_ONE)
    async with relay.client.get("/nowhere") as response:
        assert response.status == 401
