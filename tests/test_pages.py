"""The page as the relay serves it: which files, with which headers, to whom."""

import asyncio
import re
import shutil
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest

from relay import pages
from relay.errors import TABLE
from relay.standin import StandIn
from tests import program
from tests.conftest import StartRelay
from tests.running import Relay

STATIC = Path(pages.__file__).parent / "static"
FILES = {path.name: path.read_text() for path in STATIC.iterdir()}
KEY = "key-of-a-reader"
TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


@pytest.mark.parametrize("path", sorted(pages.PATHS))
async def test_each_file_is_served_with_what_keeps_it_harmless(relay: Relay, path: str) -> None:
    name = path.removeprefix("/static/").strip("/") or "index.html"
    async with relay.client.get(path) as response:
        assert response.status == 200
        assert await response.text() == FILES[name]
        assert response.headers["Content-Type"] == TYPES[name.rpartition(".")[2]]
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Referrer-Policy"] == "no-referrer"
        assert response.headers["Cache-Control"] == "no-cache"
        policy = response.headers["Content-Security-Policy"].split("; ")
    for rule in (
        "default-src 'none'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ):
        assert rule in policy
    for kind in ("script", "style", "connect", "img"):
        assert f"{kind}-src 'self'" in policy
    assert not re.search(r"unsafe|\*|http|data:", str(policy))


async def test_the_page_needs_no_key_and_no_name(start_relay: StartRelay) -> None:
    """Who has no key yet must see where to type it; a link from anywhere leads there."""
    relay = await start_relay(relay_api_keys=KEY)
    sent = {"Host": "10.1.2.3", "Origin": "https://evil.example.com", "Sec-Fetch-Site": "cross-site"}
    for path in sorted(pages.PATHS):
        async with relay.client.get(path, headers=sent) as response:
            assert response.status == 200, path
            assert "Access-Control-Allow-Origin" not in response.headers


PATHS = [
    "/static/",
    "/static/nothing.js",
    "/static/PAGE.JS",
    "/static/page.js/",
    "/static//page.js",
    "/static/../pages.py",
    "/static/..%2fpages.py",
    "/static/..%5cpages.py",
    "/static/%2e%2e/pages.py",
    "/static/%2e%2e%2fpages.py",
    "/static/%252e%252e%252fpages.py",
    "/static/....//pages.py",
    "/static/page.js%00",
    "/static//etc/passwd",
    "/static/%2fetc%2fpasswd",
    "/static/C:%5cWindows%5cwin.ini",
    "/static",
    "//static/page.js",
    "/index.html",
    "/favicon.ico",
]


@pytest.mark.parametrize("path", PATHS)
async def test_there_is_no_other_file(start_relay: StartRelay, path: str) -> None:
    """No path leads out of the table, and no one without a key learns what there is."""
    for settings, told in (({}, (404, "not_found")), ({"relay_api_keys": KEY}, (401, "unauthorized"))):
        relay = await start_relay(**settings)
        answer = await raw(relay, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert answer.startswith(f"HTTP/1.1 {told[0]} "), answer
        assert f'"code": "{told[1]}"' in answer
        assert "aiohttp" not in answer


@pytest.mark.parametrize(
    "path", ["/static/../stream-ask", "/static/%2e%2e/metrics", "/./metrics", "/?/metrics"]
)
async def test_no_way_around_the_keys_leads_over_the_page(start_relay: StartRelay, path: str) -> None:
    relay = await start_relay(relay_api_keys=KEY)
    answer = await raw(relay, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert answer.startswith("HTTP/1.1 401 ") or "<title>AnythingLLM relay</title>" in answer
    assert "relay_streams_active " not in answer


async def raw(relay: Relay, request: str) -> str:
    """Send what a client's library would tidy up; return the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
    writer.write(request.encode())
    answer = await reader.read()
    writer.close()
    return answer.decode()


@pytest.mark.parametrize("path", ["/", "/static/page.js"])
@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE", "OPTIONS"])
async def test_it_can_only_be_got(relay: Relay, path: str, method: str) -> None:
    async with relay.client.request(method, path) as response:
        assert (response.status, response.headers["Allow"]) == (405, "GET")
        if method != "HEAD":
            assert (await response.json())["code"] == "method_not_allowed"


async def test_what_a_browser_has_already_is_not_sent_again(relay: Relay) -> None:
    async with relay.client.get("/static/page.js") as response:
        tag = response.headers["ETag"]
        policy = response.headers["Content-Security-Policy"]
    for given in (tag, f'"other", {tag}', f"W/{tag}", "*"):
        async with relay.client.get("/static/page.js", headers={"If-None-Match": given}) as response:
            assert (response.status, await response.read()) == (304, b"")
            assert response.headers["ETag"] == tag
            assert response.headers["Content-Security-Policy"] == policy
    for given in ('"other"', "", "no tag", '"', tag.strip('"')):
        async with relay.client.get("/static/page.js", headers={"If-None-Match": given}) as response:
            assert response.status == 200
            assert await response.text() == FILES["page.js"]


async def test_it_is_found_from_any_folder(standin: StandIn, tmp_path: Path) -> None:
    running = await program.spawn(tmp_path, ("--port", "0"), program.upstream(standin.url))
    try:
        await running.says("Relay")
        relay_page = await fetched(running.url)
    finally:
        await running.kill()
    assert relay_page == FILES["index.html"]


def test_what_others_leave_in_the_folder_is_no_part_of_it(tmp_path: Path) -> None:
    """Finder's `.DS_Store`, an editor's copy: the relay starts all the same."""
    package = Path(pages.__file__).parent
    shutil.copytree(package, tmp_path / "relay", ignore=shutil.ignore_patterns("__pycache__"))
    for name in (".DS_Store", "page.js~", ".page.js.swp"):
        (tmp_path / "relay" / "static" / name).write_bytes(b"\0")
    ours = "from relay import pages; print(*sorted(pages.PATHS))"
    told = subprocess.run(
        [sys.executable, "-c", ours], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert told.stdout.split() == sorted(pages.PATHS)


async def fetched(url: str) -> str:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return await response.text()


# --- what the files say ---


def test_nothing_is_inline_and_nothing_comes_from_elsewhere() -> None:
    """The policy forbids it; without this the browser would be the first to tell."""
    page = FILES["index.html"]
    assert not re.search(r"<style|style=|\son\w+=|javascript:", page)
    assert not re.search(r"<script(?![^>]*\ssrc=)", page)
    for name, text in FILES.items():
        assert "//" not in re.sub(r"(?m)//[ ].*$|http://www.w3.org/2000/svg|\": //", "", text), name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", text), (
            name
        )


def words(language: str) -> dict[str, str]:
    table = FILES["words.js"].partition(f"  {language}: {{\n")[2].partition("\n  },")[0]
    return dict(re.findall(r'^    "([^"]+)": "([^"]+)",$', table, re.MULTILINE))


def test_both_languages_have_the_same_words() -> None:
    """With the same values in them; and every failure there is has words."""
    english, chinese = words("en"), words("zh")
    assert list(english) == list(chinese)
    values = re.compile(r"\{\w+\}")
    for word, text in english.items():
        assert sorted(values.findall(text)) == sorted(values.findall(chinese[word])), word
    assert {f"code.{code}" for code in TABLE} <= set(english)


def test_every_word_that_is_said_is_in_the_table() -> None:
    """And each in the table is said somewhere, but for those whose end is told by the relay."""
    said = set(re.findall(r'data-word(?:-[a-z-]+)?="([^"]+)"', FILES["index.html"]))
    code = "".join(text for name, text in FILES.items() if name.endswith(".js") and name != "words.js")
    quoted = set(re.findall(r'"([a-z]+(?:\.[a-z]+)*)"', code))
    assert said <= set(words("en"))
    for word in words("en"):
        told = word.startswith(("code.", "end.", "output."))
        assert told or word in said | quoted or word == "page", word
