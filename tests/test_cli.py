"""`python -m relay ask`, as a person runs it: in a pipe, a terminal, with Ctrl-C, over a bad network."""

import ast
import asyncio
import re
import shlex
import signal
import string
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from relay.cli.arguments import KEY_VARIABLE, URL_VARIABLE, parser
from relay.cli.words import CHINESE, ENGLISH, in_language_of
from relay.standin import Ask, StandIn
from tests.chaos import Chaos
from tests.conftest import StartRelay
from tests.program import environment, spawn, take_interrupts, upstream
from tests.running import Relay
from tests.terminal import Terminal, terminal

ROOT: Final = Path(__file__).parent.parent
PAGE: Final = (ROOT / "docs" / "client.md").read_text()
ASK: Final = (sys.executable, "-m", "relay", "ask")
COUNTED: Final = " ".join(f"tok{n}" for n in range(1, 301))
KEY: Final = "a-key-of-sixteen-characters"
posix = pytest.mark.skipif(sys.platform == "win32", reason="needs signals, or a pseudo-terminal")


def env(url: str = "", **more: str) -> dict[str, str]:
    """The environment of a person who has set where the relay is."""
    theirs = ("LC_", "PYTHON", "FORCE_COLOR", "NO_COLOR")
    clean = {name: value for name, value in environment({}).items() if not name.startswith(theirs)}
    return {**clean, "LANG": "C.UTF-8", URL_VARIABLE: url, "PYTHONPATH": str(ROOT), **more}


class Ran(NamedTuple):
    """What came of a run."""

    status: int
    out: str
    err: str


async def run(*arguments: str, url: str = "", stdin: bytes = b"", cwd: Path = ROOT, **more: str) -> Ran:
    """Ask into pipes; nothing is ever told with a traceback."""
    process = await asyncio.create_subprocess_exec(
        *ASK, *arguments, cwd=cwd, env=env(url, **more), stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    async with asyncio.timeout(30):
        out, err = await process.communicate(stdin)
    assert process.returncode is not None
    assert "Traceback" not in err.decode()
    return Ran(process.returncode, out.decode(), err.decode())


@asynccontextmanager
async def asking(*arguments: str, url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Ask, and do something while the answer arrives."""
    process = await asyncio.create_subprocess_exec(
        *ASK,
        *arguments,
        cwd=ROOT,
        env=env(url),
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
        preexec_fn=None if sys.platform == "win32" else take_interrupts,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30):
            await process.stdout.readuntil(b"tok1")
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def in_terminal(
    *arguments: str, url: str, rows: int = 24, columns: int = 80
) -> AbstractAsyncContextManager[Terminal]:
    """Ask in a terminal."""
    return terminal(*ASK, *arguments, env=env(url), cwd=ROOT, rows=rows, columns=columns)


async def left(running: Ask) -> None:
    """Wait until AnythingLLM knows that nobody wants the answer."""
    async with asyncio.timeout(20):
        await running.ended.wait()
    assert running.outcome == "left"


# --- words ---


def test_both_languages_say_the_same() -> None:
    """The same words, with the same gaps, and none of them empty."""
    english, chinese = asdict(ENGLISH), asdict(CHINESE)
    assert english.keys() == chinese.keys()
    for name, text in english.items():
        gaps = [
            {gap for _, gap, _, _ in string.Formatter().parse(one) if gap}
            for one in (text, chinese[name])
        ]
        assert gaps[0] == gaps[1], name
        assert chinese[name].strip(), name
        assert re.search(r"[\u4e00-\u9fff]", chinese[name]) or name == "code_of", name


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({}, ENGLISH),
        ({"LANG": "zh_CN.UTF-8"}, CHINESE),
        ({"LANG": "zh_TW.UTF-8", "LC_MESSAGES": "de_DE.UTF-8"}, ENGLISH),
        ({"LANG": "en_US.UTF-8", "LC_ALL": "zh"}, CHINESE),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": ""}, CHINESE),
    ],
)
def test_the_locale_chooses(environment: dict[str, str], words: Any) -> None:
    """As POSIX has it: LC_ALL before LC_MESSAGES before LANG, and an empty one is none."""
    assert in_language_of(environment) is words


async def test_help_is_there_without_a_relay() -> None:
    """Of the whole, and of asking, in both languages."""
    whole = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "relay", cwd=ROOT, env=env(), stdout=PIPE
    )
    out, _ = await whole.communicate()
    assert whole.returncode == 0
    assert b"run.py" in out
    for language, word in (("C", "environment"), ("zh_CN.UTF-8", "环境变量")):
        ran = await run("--help", LANG=language)
        assert ran.status == 0
        assert word in ran.out


def test_the_page_has_every_option_variable_and_status() -> None:
    """Those of the help, no more."""
    section = PAGE.partition("\n## The command line\n")[2]
    told = parser(ENGLISH).format_help()
    options = set(re.findall(r"^  (?:-h, )?(--[a-z-]+)", told, re.MULTILINE)) - {"--help"}
    assert set(re.findall(r"`(--[a-z-]+)", section)) == options
    for variable in (URL_VARIABLE, KEY_VARIABLE):
        assert variable in section
        assert variable in told
    statuses = ("0", "1", "2", "3", "130", "143", "129", "141")
    assert all(re.search(rf"\b{status}\b", told) for status in statuses)
    assert set(re.findall(r"\d+", " ".join(re.findall(r"^\| ([\d, ]+) \|", section, re.MULTILINE)))) == {
        *statuses
    }


def test_nothing_of_it_needs_posix_to_be_imported() -> None:
    """Windows has none of these."""
    files = [*(ROOT / "relay" / "cli").glob("*.py"), *(ROOT / "relay" / "client").glob("*.py")]
    for file in (*files, ROOT / "relay" / "__main__.py"):
        for node in ast.parse(file.read_text()).body:
            names = (
                [one.name for one in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            )
            module = node.module if isinstance(node, ast.ImportFrom) else ""
            assert not {*names, module} & {"fcntl", "termios", "pty", "resource", "pwd", "uvloop"}, file


# --- what is asked ---


async def test_a_failing_program_and_what_it_wrote_are_asked_about(
    relay: Relay, standin: StandIn, tmp_path: Path
) -> None:
    """The pipeline of the page."""
    (tmp_path / "broken.py").write_text("def total(items):\n    return sum(itmes)\n\n\ntotal([1])\n")
    command = "{0} broken.py 2>&1 | {0} -m relay ask --fix broken.py"
    assert command.format("python") in PAGE
    process = await asyncio.create_subprocess_shell(
        command.format(shlex.quote(sys.executable)), cwd=tmp_path, env=env(relay.url), stdout=PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    assert "undefined name 'itmes'" in out.decode()
    assert "NameError" in out.decode()
    asked = (await standin.next_ask()).body["message"]
    assert "broken.py:\n```python\ndef total(items):" in asked
    assert "NameError: name 'itmes' is not defined" in asked
    assert "names these lines of broken.py, the innermost last: 5, 2." in asked


async def test_the_question_comes_from_arguments_or_from_standard_input(
    relay: Relay, standin: StandIn, tmp_path: Path
) -> None:
    """With files; and error output from a file or from standard input."""
    (tmp_path / "a.js").write_text("let a\n")
    (tmp_path / "err.txt").write_text("a.js:1: no good\n")
    for arguments, stdin, words in (
        (["Why", "so?"], "", ["Why so?"]),
        ([], "\ufeffWhy so,\r\nthen?\n", ["Why so,\nthen?"]),
        (["Why?", "--file", "a.js"], "unread", ["Why?", "a.js:\n```javascript\nlet a\n```"]),
        (["--file", "a.js"], "Why?", ["Why?", "let a"]),
        (["--traceback"], "It broke", ["Explain this error", "```text\nIt broke\n```"]),
        (["Why?", "--file", "a.js", "--traceback", "err.txt"], "", ["no good", "lines of a.js", ": 1."]),
        (["--fix", "a.js", "--traceback", "err.txt"], "unread", ["The program a.js fails", "no good"]),
        (["--fix", "a.js"], "", ["Find what is wrong with a.js"]),
        (["--traceback"], f"unread{'.' * 70_000}It broke", ["[4478 bytes before", ".It broke\n```"]),
    ):
        ran = await run(*arguments, url=relay.url, stdin=stdin.encode(), cwd=tmp_path)
        assert ran.status == 0, ran
        asked = (await standin.next_ask()).body["message"]
        assert all(word in asked for word in words), asked
        assert "unread" not in asked


async def test_workspace_conversation_and_mode_are_asked_for(relay: Relay, standin: StandIn) -> None:
    """As options; and the address as one, before the environment."""
    arguments = ("--workspace", "demo", "--session", "mine", "--mode", "query", "--url", relay.url)
    assert (await run(*arguments, "x", url="http://127.0.0.1:1")).status == 0
    asked = await standin.next_ask()
    assert (asked.workspace, asked.body["sessionId"], asked.body["mode"]) == ("demo", "mine", "query")


@pytest.mark.parametrize(
    ("arguments", "stdin", "words"),
    [
        ([], b"", "no question"),
        ([], b" \n", "no question"),
        ([], b"\xff", "not text in UTF-8"),
        ([b"\xff".decode(errors="surrogateescape")], b"", "not text in UTF-8"),
        (["x", "--file", "missing.py"], b"", "missing.py cannot be read: No such file"),
        (["x", "--file", "."], b"", "cannot be read"),
        (["x", "--file", "binary"], b"", "holds NUL bytes"),
        (["x", "--file", "latin"], b"", "not text in UTF-8"),
        (["x", "--file", "large"], b"", "large is too large: the relay takes 1 MiB"),
        (["x", "--file", "half", "--file", "half"], b"", "comes to 1.14 MiB"),
        ([], b"x" * 1_100_000, "too large"),
        (["x", "--traceback", "missing.txt"], b"", "missing.txt cannot be read"),
        (["x", "--url", "localhost:5000"], b"", "no address"),
        (["x", "--url", "http://me:secret@localhost"], b"", "no address"),
        (["x", "--key-file", "empty"], b"", "holds no key"),
        (["x", "--mode", "loud"], b"", "invalid choice"),
        (["x", "--nothing"], b"", "--nothing"),
    ],
)
@posix
async def test_what_cannot_be_asked_is_told_in_a_line(
    tmp_path: Path, arguments: list[str], stdin: bytes, words: str
) -> None:
    """With the status for it, and before anything is sent."""
    (tmp_path / "binary").write_bytes(b"\x7fELF\0")
    (tmp_path / "latin").write_bytes("straße".encode("latin-1"))
    (tmp_path / "large").write_bytes(b"x" * 1_100_000)
    (tmp_path / "half").write_bytes(b"x" * 600_000)
    (tmp_path / "empty").write_bytes(b"\n")
    ran = await run(*arguments, url="http://127.0.0.1:1", stdin=stdin, cwd=tmp_path)
    assert ran.status == 2
    assert words in ran.err
    assert ran.err.count("\n") == 1
    assert ran.out == ""


async def test_keys_come_from_the_environment_or_a_file(start_relay: StartRelay, tmp_path: Path) -> None:
    """The file wins; without a key it says how to give one."""
    relay = await start_relay(relay_api_keys=KEY)
    (tmp_path / "key").write_text(f"{KEY}\nanother line\n")
    file = ("--key-file", str(tmp_path / "key"))
    assert (await run("!tokens=1", url=relay.url, ASK_RELAY_KEY=KEY)).status == 0
    assert (await run("!tokens=1", *file, url=relay.url, ASK_RELAY_KEY="wrong")).status == 0
    ran = await run("!tokens=1", url=relay.url)
    assert ran.status == 3
    assert "(unauthorized)" in ran.err
    assert ENGLISH.needs_key in ran.err
    wrong = await run("!tokens=1", url=relay.url, ASK_RELAY_KEY="wrong")
    assert ENGLISH.wrong_key in wrong.err


async def test_who_left_standard_input_open_learns_what_is_waited_for(
    relay: Relay, tmp_path: Path
) -> None:
    """An editor that starts a program does so; nothing would tell why nothing comes."""
    (tmp_path / "good.py").write_text("x = 1\n")
    process = await asyncio.create_subprocess_exec(
        *ASK, "--fix", "good.py", cwd=tmp_path, env=env(relay.url), stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    assert process.stderr is not None
    async with asyncio.timeout(30):
        assert (await process.stderr.readline()).decode() == f"{ENGLISH.waiting}\n"
        out, err = await process.communicate(b"")  # which ends it
    assert process.returncode == 0, err
    assert "pyflakes finds nothing" in out.decode()


# --- how it ends ---


async def test_the_status_and_the_words_tell_how_it_ended(relay: Relay, standin: StandIn) -> None:
    """In a pipe: the answer alone is the output."""
    assert await run("!tokens=2", url=relay.url) == (0, "tok1 tok2", "")
    failed = await run("!abort=429", url=relay.url)
    assert (failed.status, failed.out) == (1, "**This")
    assert failed.err.startswith("The answer failed: 429")
    assert "(upstream_aborted)" in failed.err
    refused = await run("x", "--workspace", "other", url=relay.url)
    assert refused.status == 3
    assert "(forbidden_workspace)" in refused.err
    for url in ("http://127.0.0.1:1", standin.url):
        missing = await run("x", url=url)
        assert missing.status == 3
        assert url in missing.err
        assert "python run.py" in missing.err
    chinese = await run("x", url="http://127.0.0.1:1", LANG="zh_CN.UTF-8")
    assert "启动中继" in chinese.err


async def test_what_is_not_the_answer_goes_to_standard_error(relay: Relay) -> None:
    """What the model thinks aloud, an agent's progress, what it made, sources, each document once."""
    ran = await run("!reason !echo x", url=relay.url)
    assert "I should think first.\n" in ran.err
    assert "think" not in ran.out
    ran = await run("@agent !file", url=relay.url)
    assert "Made by the agent: file report.txt\n" in ran.err
    ran = await run("!sources=2 !tokens=1", url=relay.url)
    assert ran.out == "tok1"
    assert ran.err == "Sources:\n  manual-1.txt\n  manual-2.txt\n"


async def test_a_lost_connection_is_resumed_with_a_word(relay: Relay, standin: StandIn) -> None:
    """The text is whole all the same."""
    async with Chaos(relay.port) as chaos:
        chaos.most = 9001
        ran = await run("!tokens=300", url=chaos.url)
    assert (ran.status, ran.out) == (0, COUNTED)
    assert ran.err == f"{ENGLISH.lost}\n" * (chaos.seen - 1)
    assert len(standin.asks) == 1


async def test_a_relay_without_room_to_hold_an_answer_answers(start_relay: StartRelay) -> None:
    """Nothing is said of it."""
    relay = await start_relay(relay_resume_total_bytes=20_000)
    async with AsyncExitStack() as stack:
        for _ in range(4):
            await stack.enter_async_context(relay.asking("!endless !slow=3600", resumable=True))
        ran = await run("!tokens=300", url=relay.url)
    assert (ran.status, ran.out, ran.err) == (0, COUNTED, "")


@posix
async def test_a_relay_that_is_killed_and_comes_back_without_the_answer(
    standin: StandIn, tmp_path: Path
) -> None:
    """What came stays, and the words say that there is no more."""
    first = await spawn(tmp_path, (), {**upstream(standin.url), "RELAY_PORT": "0"})
    try:
        await first.says("Try it")
        async with asking("!tokens=6 !pause=3600", url=first.url) as process:
            await first.kill()
            port = first.url.rpartition(":")[2]
            second = await spawn(tmp_path, ("--port", port), upstream(standin.url))
            try:
                await second.says("Try it")
                async with asyncio.timeout(30):
                    _, err = await process.communicate()
            finally:
                await second.kill()
    finally:
        await first.kill()
    assert process.returncode == 1
    assert err.decode().startswith(ENGLISH.lost)
    assert "cannot go on" in err.decode()


@posix
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
async def test_a_signal_stops_the_answer(
    relay: Relay, standin: StandIn, number: signal.Signals, status: int
) -> None:
    """AnythingLLM's too, though the stream is resumable."""
    async with asking("!endless", url=relay.url) as process:
        process.send_signal(number)
        async with asyncio.timeout(20):
            _, err = await process.communicate()
        assert process.returncode == status
        assert "Traceback" not in err.decode()
        await left(await standin.next_ask())


@posix
async def test_a_second_interrupt_does_not_wait(relay: Relay) -> None:
    """Where the relay does not answer any more."""
    async with Chaos(relay.port) as chaos:
        async with asking("!endless", url=chaos.url) as process:
            chaos.most, chaos.then = 0, "silence"
            links = chaos.seen
            process.send_signal(signal.SIGINT)
            while chaos.seen == links:  # it tells the relay to stop
                await asyncio.sleep(0.01)
            began = asyncio.get_running_loop().time()
            process.send_signal(signal.SIGINT)
            _, err = await process.communicate()
            assert asyncio.get_running_loop().time() - began < 1.5
        assert process.returncode == 130
        assert "Traceback" not in err.decode()


@posix
async def test_nobody_reads_on(relay: Relay, standin: StandIn) -> None:
    """`| head` has enough: no word, and AnythingLLM stops."""
    command = f"{shlex.join(ASK)} '!endless' | head -c 9; echo ${{PIPESTATUS[0]}}"
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", command, cwd=ROOT, env=env(relay.url), stdout=PIPE, stderr=PIPE
    )
    out, err = await process.communicate()
    assert (out, err) == (b"tok1 tok2141\n", b"")
    await left(await standin.next_ask())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("where", [">/dev/full", ">&-"])
async def test_an_output_that_takes_nothing_is_told(relay: Relay, standin: StandIn, where: str) -> None:
    """A full disk, a closed output."""
    process = await asyncio.create_subprocess_shell(
        f"{shlex.join(ASK)} '!endless' {where}", cwd=ROOT, env=env(relay.url), stderr=PIPE
    )
    _, err = await process.communicate()
    assert process.returncode == 1
    assert err.decode().startswith("The answer cannot be written: ")
    assert err.count(b"\n") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
async def test_a_help_that_nobody_can_read_is_told() -> None:
    """Python itself would complain at its end."""
    for arguments in ((), ("ask", "--help")):
        command = shlex.join((sys.executable, "-m", "relay", *arguments))
        process = await asyncio.create_subprocess_shell(
            f"{command} >/dev/full", cwd=ROOT, env=env(), stderr=PIPE
        )
        _, err = await process.communicate()
        assert process.returncode == 1
        assert err.decode().startswith("The answer cannot be written: ")
        assert err.count(b"\n") == 1


# --- in a terminal ---


@posix
async def test_a_terminal_shows_text_while_it_arrives(relay: Relay) -> None:
    """Also what is behind the last finished block, laid out; Ctrl-C leaves it there."""
    question = "!echo " + "# Title\n\nSome **bold** text.\n\n"
    async with in_terminal(question, url=relay.url) as shown:
        assert await shown.ended() == 0
        assert shown.screen.text.split() == ["Title", "Some", "bold", "text."]
    async with in_terminal("!tokens=6 !pause=3600", url=relay.url) as shown:
        await shown.shows("tok1 tok2 tok3")
        shown.types(b"\x03")
        assert await shown.ended() == 130
        assert shown.screen.text.startswith("tok1 tok2 tok3\n")
        assert shown.screen.text.count("tok1") == 1
        assert shown.screen.cursor_shown


@posix
async def test_nothing_of_a_long_answer_is_cut_or_drawn_twice(relay: Relay) -> None:
    """Paragraphs, and a block of code that is higher than the screen, each line once and in order."""
    prose = [f"paragraph {n}" for n in range(40)]
    code = [f"line_{n} = {n}" for n in range(60)]
    answer = (
        "\n\n".join(prose[:20]) + "\n```python\n" + "\n".join(code) + "\n```\n" + "\n\n".join(prose[20:])
    )
    async with in_terminal(f"!echo {answer}", url=relay.url, rows=12, columns=50) as shown:
        assert await shown.ended() == 0
        lines = [line.strip() for line in shown.screen.text.splitlines() if line.strip()]
        assert lines == prose[:20] + code + prose[20:]
        assert shown.screen.cursor_shown


@posix
async def test_a_block_that_is_higher_than_the_screen_shows_its_end(relay: Relay) -> None:
    """While it arrives; and all of it in the end."""
    async with in_terminal("!tokens=400 !slow=0.001", url=relay.url, rows=10, columns=40) as shown:
        await shown.shows(r"tok[2-4]\d\d")
        assert "tok1 " not in shown.screen.text
        assert await shown.ended() == 0
        assert shown.screen.text.split() == [f"tok{n}" for n in range(1, 401)]
    code = "\n".join(f"n_{n} = 1" for n in range(1, 200))
    async with in_terminal(f"!slow=0.002 !echo ```\n{code}", url=relay.url, rows=10) as shown:
        await shown.shows(r"n_[5-9]\d = 1")
        assert "n_1 =" not in shown.screen.text
        assert "..." not in shown.screen.shown  # more of it is above, not below
        shown.types(b"\x03")
        assert await shown.ended() == 130
        assert "n_1 =" in shown.screen.text


@posix
async def test_drawing_is_bounded(relay: Relay) -> None:
    """A thousand pieces are not drawn a thousand times, nor twenty thousand."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with in_terminal("!tokens=1000 !slow=0.001", url=relay.url) as shown:
        assert await shown.ended() == 0
        assert 2 < shown.raw.count(b"\r\x1b[2K") < 10 * (loop.time() - began) + 5
    async with in_terminal("!burst=20000", url=relay.url) as shown:
        assert await shown.ended() == 0
        assert shown.screen.text.split() == [f"tok{n}" for n in range(1, 20001)]
        size = len(" ".join(f"tok{n}" for n in range(1, 20001)))
        assert len(shown.raw) < size + 100 * 24 * 80


@posix
@pytest.mark.parametrize("plain", [(), ("--plain",)])
async def test_a_terminal_obeys_no_word_of_an_answer(relay: Relay, plain: tuple[str, ...]) -> None:
    """Titles, colours, cursors, C1: shown as signs. HTML and addresses are text, not hidden."""
    evil = "a\x1b]0;title\x07 b\x1b[31m c\x9b2J d\x08 e\x7f <b>f</b> [g](http://h.example) ![i](http://j.example)"
    async with in_terminal(*plain, f"!echo {evil}", url=relay.url, columns=120) as shown:
        assert await shown.ended() == 0
        for sequence in (b"\x1b]", b"\x1b[31m c", b"\x9b2J", b"\xc2\x9b", b"\x07", b"\x08", b"\x7f"):
            assert sequence not in shown.raw
        assert "a␛]0;title␇ b␛[31m c\ufffd2J d␈ e␡ <b>f</b>" in shown.screen.text
        assert "http://h.example" in shown.screen.text
        assert "http://j.example" in shown.screen.text
    # No terminal: to the byte, whatever else is told of it.
    assert (await run(f"!echo {evil}", url=relay.url, FORCE_COLOR="1")).out == evil


@posix
async def test_a_terminal_shows_what_is_not_the_answer_apart(relay: Relay) -> None:
    """Thoughts before it, sources after it, dimmed; a failure last."""
    async with in_terminal("@agent !tool !sources=1", url=relay.url) as shown:
        assert await shown.ended() == 0
        text = shown.screen.text
        assert text.startswith("Let me look that up.\n\n@agent is executing")
        assert text.endswith("\n\nSources:\n  manual-1.txt")
        assert b"\x1b[2mSources" in shown.raw
    async with in_terminal("!reason", url=relay.url) as shown:
        assert await shown.ended() == 0
        assert shown.screen.text.startswith("I should think first.\n\nThis is the stand-in")
    async with in_terminal("!abort=429", url=relay.url) as shown:
        assert await shown.ended() == 1
        assert shown.screen.text.startswith("**This\nThe answer failed: 429")


@posix
async def test_plain_text_on_a_terminal_ends_its_line(relay: Relay) -> None:
    """So that the shell begins on one of its own; a note begins on one too."""
    async with in_terminal("--plain", "!tokens=2 !sources=1", url=relay.url) as shown:
        assert await shown.ended() == 0
        assert shown.raw.startswith(b"tok1 tok2\r\n\x1b[2m")
        assert shown.raw.endswith(b"\n")
        assert shown.screen.text == "tok1 tok2\nSources:\n  manual-1.txt"


@posix
async def test_a_lost_connection_is_said_in_the_terminal(relay: Relay) -> None:
    """Above what is still drawn: code that goes on is still code, and whole."""
    code = [f"n_{n} = 1" for n in range(300)]
    async with Chaos(relay.port) as chaos:
        chaos.most = 20_011
        question = "!echo ```python\n" + "\n".join(code) + "\n```"
        async with in_terminal(question, url=chaos.url) as shown:
            assert await shown.ended() == 0
            lines = [line.strip() for line in shown.screen.text.splitlines() if line.strip()]
            assert lines.count(ENGLISH.lost) == chaos.seen - 1 > 0
            assert [line for line in lines if line != ENGLISH.lost] == code


@posix
async def test_a_question_is_not_waited_for_at_a_terminal(relay: Relay) -> None:
    """Nobody knows what to do before a program that says nothing."""
    async with in_terminal(url=relay.url) as shown:
        assert await shown.ended() == 2
        assert "no question" in shown.screen.text
