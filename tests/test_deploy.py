"""The files in deploy/: proxies run in front of a relay with TLS, the others tried by their tools."""

import asyncio
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiohttp
import pytest
import yaml
from aiohttp.abc import AbstractResolver, ResolveResult

from config.settings import NAMES
from relay.standin import StandIn
from tests.conftest import StartRelay
from tests.running import Listening, Relay, settings

DEPLOY: Final = Path(__file__).parent.parent / "deploy"
DOMAIN: Final = "relay.example.com"
CLIENT_KEY: Final = "key-of-a-client"
BEARER: Final = {"Authorization": f"Bearer {CLIENT_KEY}"}
CHAT: Final = "https://chat.example.com"
LIMIT: Final = 1_048_576  # what RELAY_MAX_BODY_BYTES is by default
# Far more than it takes (some milliseconds), far less than any limit that would end a stream anyway.
PROMPTLY: Final = 5
# Debian has servers where not every user's PATH looks.
PATH: Final = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])


class Certificate(NamedTuple):
    """A certificate that signs itself, for DOMAIN."""

    chain: Path
    key: Path


class Site(NamedTuple):
    """What a site file is filled in with, and the folder for all that its server writes."""

    folder: Path
    certificate: Certificate
    port: int
    relay_port: int


class Server(NamedTuple):
    """A server: its name, and what makes its files and returns its options."""

    name: str
    configure: Callable[[Site], list[str]]


def filled_in(name: str, replaced: Mapping[str, str]) -> str:
    """A file of deploy/ with the changes that a person must make; what they replace must be there."""
    text = (DEPLOY / name).read_text()
    for old, new in replaced.items():
        assert old in text, f"deploy/{name} has no {old!r} any more"
        text = text.replace(old, new)
    return text


def configure_nginx(site: Site) -> list[str]:
    """Include the site file as Debian's nginx.conf does, from the least there can be around it.

    One process, so that a test ends all there is. Compression as an operator may have it for others.
    """
    text = filled_in(
        "nginx.conf",
        {
            f"/etc/letsencrypt/live/{DOMAIN}/fullchain.pem": str(site.certificate.chain),
            f"/etc/letsencrypt/live/{DOMAIN}/privkey.pem": str(site.certificate.key),
            "listen 443 ": f"listen 127.0.0.1:{site.port} ",
            "listen [::]:443 ssl http2;": "",  # not every machine has IPv6
            "127.0.0.1:5000": f"127.0.0.1:{site.relay_port}",
        },
    )
    (site.folder / "site.conf").write_text(text)
    temporary = "".join(
        f"{kind}_temp_path {site.folder}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    around = (
        "daemon off;\nmaster_process off;\n"
        f"pid {site.folder}/pid;\n"
        "error_log stderr info;\n"
        "events { worker_connections 64; }\n"
        "http {\n"
        f"access_log {site.folder}/access.log;\n"
        "gzip on; gzip_proxied any; gzip_types *; gzip_min_length 0;\n"
        f"{temporary}include {site.folder}/site.conf;\n"
        "}\n"
    )
    (site.folder / "nginx.conf").write_text(around)
    return ["-p", str(site.folder), "-e", "stderr", "-c", str(site.folder / "nginx.conf")]


def configure_caddy(site: Site) -> list[str]:
    """Import the site file, on a loopback port, without the port that rules a running Caddy."""
    own = f"tls /etc/ssl/certs/{DOMAIN}.pem /etc/ssl/private/{DOMAIN}.key"
    text = filled_in(
        "Caddyfile",
        {
            f"# {own}": f"tls {site.certificate.chain} {site.certificate.key}",
            "127.0.0.1:5000": f"127.0.0.1:{site.relay_port}",
        },
    )
    (site.folder / "Site").write_text(text)
    around = (
        "{\n"
        "admin off\n"
        "default_bind 127.0.0.1\n"
        f"http_port {free_port()}\n"
        f"https_port {site.port}\n"
        "log {\nlevel DEBUG\n}\n"
        "}\n"
        f"import {site.folder}/Site\n"
    )
    (site.folder / "Caddyfile").write_text(around)
    return ["run", "--config", str(site.folder / "Caddyfile"), "--adapter", "caddyfile"]


def if_installed(server: Server) -> Any:
    """The server as a parameter of a test, which is skipped where there is no such program."""
    missing = f"{server.name} is not installed (Debian: apt-get install {server.name})"
    skipped = pytest.mark.skipif(shutil.which(server.name, path=PATH) is None, reason=missing)
    return pytest.param(server, marks=skipped, id=server.name)


SERVERS: Final = [Server("nginx", configure_nginx), Server("caddy", configure_caddy)]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


class Everywhere(AbstractResolver):
    """Finds every name on this machine, so that the test can call the proxy by its domain."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host, host="127.0.0.1", port=port, family=socket.AF_INET, proto=0, flags=0
            )
        ]

    async def close(self) -> None:
        """Nothing was opened."""


@dataclass
class Front:
    """A running proxy, the relay behind it, and a client in front."""

    name: str
    site: Site
    relay: Relay
    process: asyncio.subprocess.Process
    trusting: ssl.SSLContext
    client: aiohttp.ClientSession

    @property
    def origin(self) -> str:
        """Its address, as a browser sees it."""
        return f"https://{DOMAIN}:{self.site.port}"

    @asynccontextmanager
    async def asking(self, question: str, **headers: str) -> AsyncIterator[Listening]:
        """Ask, and read as long as the context lasts; leaving it early is leaving.

        That closes the connection, as curl, editors and browsers do.
        """
        sent = {**BEARER, **headers}
        response = await self.client.post("/stream-ask", json={"question": question}, headers=sent)
        try:
            assert response.status == 200, await response.text()
            yield Listening(response)
        finally:
            if response.connection and response.connection.transport:
                response.connection.transport.abort()
            response.close()

    async def refused(self, **sent: Any) -> tuple[int, dict[str, Any]]:
        """Ask what is to be refused; return the status and the JSON of the refusal."""
        async with self.client.post("/stream-ask", **{"headers": BEARER, **sent}) as response:
            return response.status, await response.json()

    @asynccontextmanager
    async def curl(self, question: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """Ask over HTTP/2, with the head of the answer in the output."""
        command = ["curl", "--http2", "-siN", "--noproxy", "*"]
        command += ["--cacert", str(self.site.certificate.chain)]
        command += ["--resolve", f"{DOMAIN}:{self.site.port}:127.0.0.1", f"{self.origin}/stream-ask"]
        command += ["-H", f"Authorization: Bearer {CLIENT_KEY}", "-d", f"question={question}"]
        process = await asyncio.create_subprocess_exec(*command, stdout=PIPE)
        try:
            yield process
        finally:
            await end(process)

    def lose_the_relay(self) -> None:
        """Do to the relay's connections what its sudden death would do."""
        server = self.relay._runner.server
        for connection in server.connections if server else ():
            if connection.transport is not None:
                connection.transport.abort()

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A bare connection, for what no client library would send."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.site.port, ssl=self.trusting, server_hostname=DOMAIN
        )
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    @property
    def logged(self) -> str:
        """All that the server has written about its work."""
        return "".join(file.read_text() for file in self.site.folder.glob("*.log"))

    async def ready(self) -> None:
        """Wait until it passes something on."""
        async with asyncio.timeout(30):
            while True:
                assert self.process.returncode is None, self.logged
                try:
                    async with self.client.get("/healthz") as response:
                        assert response.status == 200, await response.text()
                    return
                except aiohttp.ClientConnectorError:
                    await asyncio.sleep(0.01)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """Made with the command that makes them everywhere; nothing trusts it but the tests' client."""
    folder = tmp_path_factory.mktemp("certificate")
    made = Certificate(folder / "chain.pem", folder / "key.pem")
    command = ["openssl", "req", "-x509", "-nodes", "-days", "2"]
    command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command += ["-subj", f"/CN={DOMAIN}", "-addext", f"subjectAltName=DNS:{DOMAIN}"]
    command += ["-out", str(made.chain), "-keyout", str(made.key)]
    subprocess.run(command, check=True, capture_output=True)
    return made


@pytest.fixture
def heartbeat() -> float:
    """A newcomer's, and so long that no beat tells a proxy what it should have noticed by itself."""
    return settings().relay_heartbeat


@pytest.fixture(params=map(if_installed, SERVERS))
async def front(
    request: pytest.FixtureRequest,
    start_relay: StartRelay,
    heartbeat: float,
    tmp_path: Path,
    certificate: Certificate,
) -> AsyncIterator[Front]:
    """Each server in turn, in front of a relay with the settings that its site file asks for."""
    server: Server = request.param
    program = shutil.which(server.name, path=PATH)
    assert program is not None
    relay = await start_relay(
        relay_host="localhost",
        relay_api_keys=CLIENT_KEY,
        relay_allowed_hosts=DOMAIN,
        relay_allowed_origins=CHAT,
        relay_heartbeat=heartbeat,
    )
    site = Site(tmp_path, certificate, free_port(), relay.port)
    trusting = ssl.create_default_context(cafile=certificate.chain)
    async with (
        running(program, *server.configure(site), folder=tmp_path) as process,
        aiohttp.ClientSession(
            f"https://{DOMAIN}:{site.port}",
            connector=aiohttp.TCPConnector(limit=0, ssl=trusting, resolver=Everywhere()),
            timeout=aiohttp.ClientTimeout(total=None),
        ) as client,
    ):
        front = Front(server.name, site, relay, process, trusting, client)
        await front.ready()
        yield front


@asynccontextmanager
async def running(
    program: str, *options: str, folder: Path
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a program as long as the context lasts; all that it writes goes to the folder."""
    homes = dict.fromkeys(("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"), str(folder / "home"))
    with (folder / "server.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            program, *options, cwd=folder, env={**os.environ, **homes}, stdout=log, stderr=log
        )
    try:
        yield process
    finally:
        await end(process)


async def end(process: asyncio.subprocess.Process) -> None:
    """End a program, politely if it hears that."""
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(PROMPTLY):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


async def gone(standin: StandIn) -> None:
    """Wait until the stand-in noticed that its client left."""
    ask = await standin.next_ask()
    async with asyncio.timeout(PROMPTLY):
        await ask.ended.wait()
    assert ask.outcome == "left"


# --- the stream ---


@pytest.mark.parametrize("heartbeat", [0.1])
async def test_text_and_heartbeats_arrive_while_the_answer_is_unfinished(front: Front) -> None:
    """All that the model said before it fell silent is here, and so are the relay's comments after."""
    async with front.asking("!tokens=9 !stall") as listening:
        text = ""
        while text != "tok1 tok2 tok3 tok4 tok5":
            text += (await listening.until("chunk")).data["content"]
        for _ in range(3):
            while not (data := await listening.response.content.readany()).endswith(b": ping\n"):
                assert data


async def test_a_comment_arrives_before_anythingllm_says_a_word(front: Front) -> None:
    async with front.asking("!late=3600") as listening:
        assert listening.response.content_type == "text/event-stream"
        assert await listening.response.content.readline() == b": ping\n"


async def test_a_large_answer_comes_through_whole(front: Front) -> None:
    """One event of three megabytes, and a flood of small ones: what is heard is what was said."""
    async with front.asking("!line=3000000") as listening:
        assert (await listening.rest()).text == "x" * 3_000_000
    async with front.asking("!burst=20000") as listening:
        assert (await listening.rest()).text == " ".join(f"tok{n}" for n in range(1, 20_001))
    assert len(listening.raw) > 1_000_000


async def test_an_answer_is_never_compressed(front: Front) -> None:
    async with front.asking("!tokens=3", **{"Accept-Encoding": "gzip, br, zstd"}) as listening:
        assert "Content-Encoding" not in listening.response.headers
        assert (await listening.rest()).text == "tok1 tok2 tok3"


async def test_an_answer_that_is_cut_off_does_not_look_finished(front: Front) -> None:
    """If the relay dies, its client hears that on the level of HTTP too."""
    cut = False
    async with front.asking("!stall") as listening:
        await listening.until("chunk")
        front.lose_the_relay()
        try:
            while told := await listening.next():
                assert told.name == "chunk"
        except aiohttp.ClientPayloadError:
            cut = True
    # Caddy 2.6 ends such a body as any other: there the missing final_end alone tells.
    assert cut or front.name == "caddy"


async def test_http_2_is_spoken(front: Front) -> None:
    """The browsers' way to more than six streams at once."""
    async with front.curl("!tokens=3") as curl:
        out, _ = await curl.communicate()
    assert out.startswith(b"HTTP/2 200 ")
    assert out.count(b"event: chunk") == 3
    assert out.count(b"event: final_end") == 1


async def test_a_question_reaches_the_relay_only_as_a_whole(front: Front) -> None:
    """The proxy bears with slow clients; and answers that overtake a question trip Caddy 2.6 up."""
    body = b'{"question": "!echo hi"}'
    head = f"POST /stream-ask HTTP/1.1\r\nHost: {DOMAIN}\r\nAuthorization: Bearer {CLIENT_KEY}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    async with front.connected() as (reader, writer):
        writer.write(head.encode() + body[:-1])
        for _ in range(3):  # while these come and go, the first one would have reached the relay too
            async with front.client.get("/healthz") as response:
                assert response.status == 200
        async with asyncio.timeout(PROMPTLY):
            while front.relay.connections:
                await asyncio.sleep(0.01)
        writer.write(body[-1:])
        answer = await reader.readuntil(b"\r\n0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.count(b"event: final_end") == 1


# --- leaving ---


@pytest.mark.parametrize("question", ["!late=3600", "!silent"])
async def test_leaving_before_the_first_word_reaches_anythingllm(
    front: Front, standin: StandIn, question: str
) -> None:
    async with front.asking(question):
        while not standin.asks:
            await asyncio.sleep(0.001)
    await gone(standin)


@pytest.mark.parametrize("question", ["!stall", "!endless"])
async def test_leaving_in_mid_answer_reaches_anythingllm(
    front: Front, standin: StandIn, question: str
) -> None:
    """Whether the model is silent just then or writes."""
    async with front.asking(question) as listening:
        await listening.until("chunk")
    await gone(standin)


@pytest.mark.parametrize("heartbeat", [0.2])
async def test_a_client_that_says_goodbye_and_waits_has_left_by_the_next_heartbeat(
    front: Front, standin: StandIn
) -> None:
    """Python's asyncio leaves in this way over TLS. Caddy hears it at once, nginx does not."""
    asked = {"question": "!silent"}
    async with front.client.post("/stream-ask", json=asked, headers=BEARER):
        while not standin.asks:
            await asyncio.sleep(0.001)
    await gone(standin)


async def test_leaving_over_http_2_reaches_anythingllm(front: Front, standin: StandIn) -> None:
    async with front.curl("!stall") as curl:
        assert curl.stdout is not None
        while b"event: chunk" not in (line := await curl.stdout.readline()):
            assert line
        curl.terminate()
        await gone(standin)


async def test_after_an_answer_no_connection_to_the_relay_is_kept(front: Front) -> None:
    """One that is kept may be closed by the relay just when the proxy sends the next question."""
    async with front.asking("!tokens=1") as listening:
        await listening.rest()
    async with asyncio.timeout(PROMPTLY):
        while front.relay.connections:
            await asyncio.sleep(0.01)


# --- access ---


@pytest.mark.parametrize("sent", [{}, {"Authorization": "Bearer another-key"}])
async def test_without_a_key_the_relays_refusal_arrives_unchanged(
    front: Front, sent: dict[str, str]
) -> None:
    asked = {"question": "hi"}
    async with front.client.post("/stream-ask", json=asked, headers=sent) as response:
        assert response.status == 401
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert response.content_type == "application/json"
        assert (await response.json())["code"] == "unauthorized"


async def test_another_name_does_not_lead_to_the_relay(front: Front, standin: StandIn) -> None:
    """The relay refuses it behind nginx; Caddy knows no such site."""
    sent = {**BEARER, "Host": "rebound.example.com"}
    async with front.client.post("/stream-ask", json={"question": "hi"}, headers=sent) as response:
        answer = await response.text()
    assert answer == "" or json.loads(answer)["code"] == "forbidden_host"
    assert not standin.asks


async def test_the_own_page_may_ask_and_a_foreign_one_may_not(front: Front) -> None:
    async with front.asking("!echo hi", Origin=front.origin) as listening:
        assert (await listening.rest()).text == "hi"
    foreign = {**BEARER, "Origin": f"https://{DOMAIN}.evil.example.com"}
    status, told = await front.refused(json={"question": "hi"}, headers=foreign)
    assert (status, told["code"]) == (403, "forbidden_origin")


async def test_an_allowed_page_may_ask_and_read(front: Front) -> None:
    """Each of the headers that tell the browser so arrives once: two of them count as none."""
    async with front.asking("!echo hi", Origin=CHAT) as listening:
        found = listening.response.headers
        assert (await listening.rest()).text == "hi"
    preflight = {
        "Origin": CHAT,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    async with front.client.options("/stream-ask", headers=preflight) as response:
        assert response.status == 204
        assert len(response.headers.getall("Access-Control-Allow-Headers")) == 1
    for headers in (found, response.headers):
        assert headers.getall("Access-Control-Allow-Origin") == [CHAT]
        assert len(headers.getall("Access-Control-Expose-Headers")) == 1


@pytest.mark.parametrize("size", [LIMIT + 1, LIMIT * 3 // 2, LIMIT * 8])
async def test_a_body_over_the_limit_is_refused(front: Front, standin: StandIn, size: int) -> None:
    """By the relay, in its words; by nginx only where there is far too much."""
    body = json.dumps({"question": "x"}).encode().ljust(size)
    headers = {**BEARER, "Content-Type": "application/json"}
    async with front.client.post("/stream-ask", data=BytesIO(body), headers=headers) as response:
        assert response.status == 413
        if size < 2 * LIMIT:
            assert (await response.json())["code"] == "too_large"
    assert not standin.asks


async def test_a_body_within_the_limit_passes_and_is_not_written_to_disk(front: Front) -> None:
    body = json.dumps({"question": "!echo hi"}).encode().ljust(LIMIT)
    headers = {**BEARER, "Content-Type": "application/json"}
    async with front.client.post("/stream-ask", data=BytesIO(body), headers=headers) as response:
        assert (await Listening(response).rest()).text == "hi"
    assert "temporary file" not in front.logged


def spellings(name: str) -> list[str]:
    """An address in all the ways that a server may take for the same."""
    encoded = f"/%{ord(name[0]):x}{name[1:]}"
    same = [f"/{name}", f"/{name}?x=1", encoded, f"/x/../{name}", f"/./{name}", f"//{name}"]
    return [*same, f"https://{DOMAIN}/{name}"]


@pytest.mark.parametrize("target", [*spellings("readyz"), *spellings("metrics")])
async def test_what_is_for_this_machine_only_is_not_found(front: Front, target: str) -> None:
    """However its address is spelt."""
    async with front.connected() as (reader, writer):
        writer.write(f"GET {target} HTTP/1.1\r\nHost: {DOMAIN}\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 404 "), answer


async def test_whether_the_relay_runs_is_told_to_everybody(front: Front) -> None:
    async with front.client.get("/healthz") as response:
        assert (response.status, await response.json()) == (200, {"status": "ok"})


async def test_no_key_and_no_question_is_logged(front: Front) -> None:
    """Not even when the relay is not there, which both servers log at length."""
    async with front.asking("!echo a-secret-answer") as listening:
        await listening.rest()
    await front.relay._runner.cleanup()
    async with front.client.post("/stream-ask", json={"question": "?"}, headers=BEARER) as response:
        assert response.status == 502
    async with asyncio.timeout(PROMPTLY):
        while "/stream-ask" not in front.logged:
            await asyncio.sleep(0.01)
    assert CLIENT_KEY not in front.logged
    assert "secret" not in front.logged


# --- systemd ---

needs_systemd: Final = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd is not installed"
)


@needs_systemd
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    """It says nothing about it; a misspelt name would be ignored, but told."""
    unit = tmp_path / "relay.service"
    unit.write_text(filled_in("relay.service", {"/opt/relay/.venv/bin/python": sys.executable}))
    command = ["systemd-analyze", "verify", "--man=no", str(unit)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert "relay.service" not in done.stdout + done.stderr
    assert done.returncode == 0, done.stderr


@needs_systemd
def test_the_unit_gives_the_relay_no_more_than_it_needs() -> None:
    """By systemd's own measure, from 0 (locked in) to 10: the network is most of what is left."""
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=15"]
    done = subprocess.run(
        [*command, str(DEPLOY / "relay.service")], check=False, capture_output=True, text=True
    )
    assert "Overall exposure level" in done.stdout, done.stderr
    assert done.returncode == 0, done.stdout


def test_the_unit_leaves_time_and_room_enough() -> None:
    """As much as the relay takes with its default settings."""
    given = dict(re.findall(r"^(\w+)=(\d+)$", (DEPLOY / "relay.service").read_text(), re.MULTILINE))
    assert int(given["TimeoutStopSec"]) > settings().relay_shutdown_grace
    needed = settings().relay_max_connections + settings().relay_max_streams
    assert int(given["LimitNOFILE"]) > needed


# --- containers, which cannot be run here: what can be read of them is ---


def composed() -> dict[str, Any]:
    """The services of compose.yaml."""
    services: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    return services


def test_the_services_know_each_other() -> None:
    """By the names of their networks, and only the proxy is reached from outside."""
    services = composed()
    relay = services["relay"]
    for name, network in (("redis", "back"), ("proxy", "front"), ("anythingllm", "anythingllm")):
        assert services[name]["networks"] == [network]
        assert network in relay["networks"]
    assert relay["environment"]["RELAY_REDIS_URL"].startswith("redis://redis:")
    assert relay["environment"]["ANYTHINGLLM_BASE_URL"] == "http://anythingllm:3001"
    assert services["proxy"]["environment"]["RELAY"] == f"relay:{relay['environment']['RELAY_PORT']}"
    open_to_all = {
        name
        for name, service in services.items()
        for port in service.get("ports", ())
        if not port.startswith("127.0.0.1:")
    }
    assert open_to_all == {"proxy"}


def test_the_services_have_no_rights_that_they_do_not_need() -> None:
    """AnythingLLM's image needs some, and says so."""
    for name in ("relay", "redis", "proxy"):
        service = composed()[name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service.get("cap_add", []) == (["NET_BIND_SERVICE"] if name == "proxy" else [])


def test_the_services_leave_time_and_room_enough() -> None:
    relay, proxy = composed()["relay"], composed()["proxy"]
    grace = int(relay["stop_grace_period"].removesuffix("s"))
    assert settings().relay_shutdown_grace < grace < int(proxy["stop_grace_period"].removesuffix("s"))
    needed = settings().relay_max_connections + settings().relay_max_streams
    assert relay["ulimits"]["nofile"] > needed
    maxmemory = composed()["redis"]["command"][composed()["redis"]["command"].index("--maxmemory") + 1]
    assert int(maxmemory.removesuffix("mb")) * 2**20 > settings().relay_resume_total_bytes


def test_the_container_is_given_settings_that_there_are() -> None:
    """Good ones, too, once those are added that a person has."""
    given = composed()["relay"]["environment"]
    image = re.findall(r"\b(RELAY_\w+)=(\S+)", (DEPLOY / "Dockerfile").read_text().partition("ENV ")[2])
    assert {*given, *dict(image)} <= set(NAMES)
    given |= {"RELAY_API_KEYS_FILE": "", "RELAY_API_KEYS": CLIENT_KEY}
    own = {name.lower(): value for name, value in given.items() if value and name in NAMES}
    assert settings(**own).relay_host == dict(image)["RELAY_HOST"]


def test_nothing_secret_comes_into_the_image() -> None:
    """It has what is named, and nothing else; the Dockerfile copies no more than that."""
    rules = (DEPLOY.parent / ".dockerignore").read_text().splitlines()
    rules = [rule for rule in rules if rule and not rule.startswith("#")]
    assert rules[0] == "*"
    assert rules[1:] == ["!requirements.lock", "!run.py", "!config/*.py", "!relay", "**/__pycache__"]
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    assert "ANYTHINGLLM_" not in dockerfile
    assert dockerfile.count("--require-hashes") == 1
    assert re.search(r"^USER [1-9]", dockerfile, re.MULTILINE)


def test_the_proxy_of_the_containers_is_the_one_that_is_tested_above(tmp_path: Path) -> None:
    """The file is the same; the relay's address is told in the environment."""
    program = shutil.which("caddy", path=PATH)
    if program is None:
        pytest.skip("caddy is not installed (Debian: apt-get install caddy)")
    told = composed()["proxy"]["environment"]
    command = [program, "adapt", "--adapter", "caddyfile", "--config", str(DEPLOY / "Caddyfile")]
    homes = {"HOME": str(tmp_path)}
    done = subprocess.run(command, check=True, capture_output=True, env={**os.environ, **homes, **told})
    assert re.findall(rb'"dial":"(.*?)"', done.stdout) == [told["RELAY"].encode()]


# --- alerts ---


async def test_the_alerts_are_about_metrics_that_there_are(relay: Relay) -> None:
    async with relay.client.get("/metrics") as response:
        there = set(re.findall(r"^# TYPE (\S+)", await response.text(), re.MULTILINE))
    used = set(re.findall(r"\brelay_\w+", (DEPLOY / "alerts.yml").read_text()))
    used = {re.sub("_(bucket|count|sum)$", "", name) for name in used}
    assert used <= there
    assert used > {"relay_streams_active", "relay_time_to_first_chunk_seconds"}


@pytest.mark.skipif(
    shutil.which("promtool") is None,
    reason="promtool is not installed (Debian: apt-get install prometheus)",
)
@pytest.mark.parametrize(
    "command", ["check rules deploy/alerts.yml", "test rules tests/alerts_test.yml"]
)
def test_the_alerts_fire_when_they_should_and_not_else(command: str) -> None:
    words = ["promtool", *command.split()]
    done = subprocess.run(words, cwd=DEPLOY.parent, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
