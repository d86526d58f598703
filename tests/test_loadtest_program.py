"""`python -m relay.loadtest` as a person uses it: arguments, tables, files, Ctrl-C."""

import asyncio
import json
import math
import os
import resource
import signal
import sys
from pathlib import Path

import pytest
from rich.console import Console

from relay.loadtest import arguments, plots, questions, report
from relay.loadtest.figures import Failure, Figures
from relay.loadtest.progress import Progress
from relay.loadtest.thresholds import METRICS, BadThreshold, parse
from relay.standin import StandIn
from tests.conftest import StartRelay
from tests.loadtesting import ROOT, plan, program
from tests.running import Relay

KEY = "client-key-of-a-load-test"
URL = "http://localhost:5000/stream-ask"
PNG = b"\x89PNG\r\n\x1a\n"


def figures() -> Figures:
    """What a test might have measured."""
    made = Figures()
    for number in range(1, 101):
        made.opened()
        made.counts.chunks += 2
        made.counts.size += 90
        made.first_chunk(number / 100)
        made.between_chunks(number / 1000)
        made.total.record(number / 50)
        made.counts.complete += 1
        made.active -= 1
    made.fail(Failure("refused", "503 too_many_streams"))
    made.fail(Failure("event", "upstream_aborted"))
    made.counts.left = 3
    made.open_at_end, made.silent_at_end, made.unasked = 2, 1, 4
    made.cut(1.0)
    made.cut(1.001)
    return made


def refusal(capsys: pytest.CaptureFixture[str], *given: str, env: dict[str, str] | None = None) -> str:
    """What is said to arguments that will not do: one line, with status 2."""
    with pytest.raises(SystemExit) as end:
        arguments.read(list(given), env or {})
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "url"),
        (["localhost:5000"], "no address like http://"),
        (["http://localhost:99999/"], "no address like http://"),
        (["http://user:secret@localhost/"], "no password"),
        ([URL, "--streams", "0"], "whole number"),
        ([URL, "--streams", "many"], "whole number"),
        ([URL, "--pace", "0"], "above 0"),
        ([URL, "--duration", "nan"], "no number"),
        ([URL, "--ramp", "-1"], "0 or above"),
        ([URL, "--leave", "1.5"], "between 0 and 1"),
        ([URL, "--json", "no-such-folder/x.json"], "cannot be written"),
        ([URL, "--png", "."], "cannot be written"),
        ([URL, "--questions", "no-such-file"], "cannot be read"),
        ([URL, "--key-file", "no-such-file"], "cannot be read"),
        ([URL, "--fail-on", "ttfc_p98>2s"], "there are ttfc_p50"),
        ([URL, "--streams", "999999999"], "ulimit -n"),
        ([URL, "--key", "secret"], "--key"),
    ],
)
def test_bad_arguments_are_told_in_a_line(
    capsys: pytest.CaptureFixture[str], given: list[str], words: str
) -> None:
    """Which says how to mend them."""
    if "ulimit -n" in words and resource.getrlimit(resource.RLIMIT_NOFILE)[1] > 999_999_999:
        pytest.skip("no limit here")
    said = refusal(capsys, *given)
    assert words in said
    assert "secret@" not in said


def test_a_test_without_an_end_gets_one() -> None:
    """With a number of questions it has its own."""
    assert arguments.read([URL], {}).plan.seconds == 10
    assert arguments.read([URL, "--count", "5"], {}).plan.seconds is None
    assert arguments.read([URL, "--count", "5", "--duration", "3"], {}).plan.seconds == 3


def test_where_the_key_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment, or what --key-file says, which wins; never the command line."""
    path = tmp_path / "key"
    path.write_text(f"{KEY}\nmore\n")
    env = {arguments.KEY_VARIABLE: "another-key"}
    assert arguments.read([URL], {}).plan.key is None
    assert arguments.read([URL], env).plan.key == "another-key"
    assert arguments.read([URL, "--key-file", str(path)], env).plan.key == KEY
    with path.open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert arguments.read([URL, "--key-file", "-"], env).plan.key == KEY


def test_a_bad_key_is_not_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Only where it stands."""
    path = tmp_path / "key"
    for content in (b"", b"\nsecond\n", "schl\u00fcssel".encode(), b"a\x1bsecret", b"\xff\xfe"):
        path.write_bytes(content)
        said = refusal(capsys, URL, "--key-file", str(path))
        assert str(path) in said
        assert "secret" not in said
    assert arguments.KEY_VARIABLE in refusal(capsys, URL, env={arguments.KEY_VARIABLE: " "})


def test_questions_a_line_each(tmp_path: Path) -> None:
    """Only line feeds and carriage returns end a line; blank ones are nothing."""
    path = tmp_path / "questions.txt"
    path.write_bytes("\ufefffirst \n\n  \r\nse\u2028cond {".encode())
    assert [json.loads(body) for body in questions.read(path)] == [
        {"question": "first"},
        {"question": "se\u2028cond {"},
    ]


def test_bodies_a_line_each(tmp_path: Path) -> None:
    """They are sent as they stand there."""
    path = tmp_path / "questions.jsonl"
    path.write_text('{"question": "a",  "mode": "query"}\n\n{}\n')
    assert questions.read(path) == [b'{"question": "a",  "mode": "query"}', b"{}"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl", b'{"question": "a"}\n\n{"question": }\n', "line 3: not JSON"),
        ("a.jsonl", b'{}\n["question"]\n', "line 2: not a JSON object"),
        ("a.txt", b"a\n\xff\n", "line 2: not UTF-8"),
        ("a.jsonl", b"\xff\n", "line 1: not UTF-8"),
        ("a.txt", b"\n \n", "holds no question"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    """By their numbers."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(questions.BadQuestions, match=words):
        questions.read(path)


@pytest.mark.parametrize(
    ("text", "metric", "limit"),
    [
        ("ttfc_p99>2s", "ttfc_p99", 2.0),
        (" gap_p999 >= 1.5 ms ", "gap_p999", 0.0015),
        ("error_share>1%", "error_share", 0.01),
        ("errors>0", "errors", 0.0),
        ("answers_per_s<50", "answers_per_s", 50.0),
        ("lag_max<=20ms", "lag_max", 0.02),
    ],
)
def test_thresholds_are_read(text: str, metric: str, limit: float) -> None:
    """With blanks or without."""
    one = parse(text)
    assert (one.metric, one.text) == (metric, text)
    assert math.isclose(one.limit, limit)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "METRIC>LIMIT"),
        ("ttfc_p99", "METRIC>LIMIT"),
        ("ttfc_p99=2s", "METRIC>LIMIT"),
        ("ttfc_p99>-2s", "METRIC>LIMIT"),
        ("ttfc_p99>nan s", "METRIC>LIMIT"),
        ("ttfc_p99>2s 3s", "METRIC>LIMIT"),
        ("p99>2s", "there is no metric p99; there are ttfc_p50,"),
        ("ttfc_p99>2", "needs ms or s"),
        ("total_max>2min", "needs ms or s"),
        ("error_share>0.1", "needs %"),
        ("errors>1%", "no unit"),
    ],
)
def test_bad_thresholds_say_how_to_mend_them(text: str, words: str) -> None:
    """In one line."""
    with pytest.raises(BadThreshold) as error:
        parse(text)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_when_a_threshold_is_crossed() -> None:
    """What was not measured crosses each: nothing at all is no success."""
    metrics = figures().metrics()
    assert set(metrics) == set(METRICS)
    crossed = {text: parse(text).crossed(metrics) for text in (
        "ttfc_p99>900ms", "ttfc_p99>2s", "errors>=2", "errors>2", "errors<=2", "answers_per_s<50",
        "answers_per_s<200",
    )}  # fmt: skip
    assert list(crossed.values()) == [True, False, True, False, True, False, True]
    assert parse("gap_p50>1s").crossed(Figures().metrics())


def test_the_tables_tell_all_of_it() -> None:
    """In 80 columns, and as plain text where there is no terminal."""
    console = Console(width=80, force_terminal=False)
    with console.capture() as capture:
        report.tell(console, plan(URL, pace=5.0, ramp=2.0, leave=0.1), figures())
        assert not report.judge(console, [parse("ttfc_p99>500ms"), parse("error_share>99%")], figures())
    told = capture.get()
    assert max(map(len, told.splitlines())) <= 80
    for words in (
        "5 questions/s, ramp 2 s, 10% leave early", "p99.9", "990 ms", "left early",
        "open at the end", "without a chunk yet", "due, but all streams were busy",
        "refused: 503 too_many_streams", "error event: upstream_aborted",
        "crossed ttfc_p99>500ms  (990 ms)", "kept    error_share>99%  (1.90%)",
    ):  # fmt: skip
        assert words in told, told


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "-"),
        (0.0, "0.00 ms"),
        (0.0123, "12.3 ms"),
        (0.99949, "999 ms"),
        (0.9996, "1.00 s"),
        (250, "250 s"),
    ],
)
def test_times_are_told_with_three_digits(value: float | None, words: str) -> None:
    """And their unit."""
    assert report.seconds(value) == words


def test_the_json_has_every_figure() -> None:
    """And what came of each threshold."""
    told = json.loads(report.as_json(plan(URL, key=KEY), figures(), [parse("errors>0")]))
    assert (told["complete"], told["failed"], told["left"], told["unasked"]) == (100, 2, 3, 4)
    assert told["errors"][0] == {"kind": "refused", "code": "503 too_many_streams", "count": 1}
    assert told["thresholds"] == [{"threshold": "errors>0", "value": 2, "crossed": True}]
    assert told["slices"][0]["ttfc"]["max"] == pytest.approx(1.0, rel=0.002)
    assert told["slices"][1]["ttfc"]["max"] is None
    assert KEY not in json.dumps(told)


@pytest.mark.parametrize("made", [figures(), Figures()])
def test_the_picture_is_a_png(tmp_path: Path, made: Figures) -> None:
    """Also of a test in which nothing happened."""
    made.cut(2.0)
    path = tmp_path / "x"
    plots.draw(path, plan("http://x/$a$b_{", pace=3.0), made)
    assert path.read_bytes().startswith(PNG)


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_live_on_a_terminal_only(terminal: bool) -> None:
    """Elsewhere a line now and then, without colours."""
    made = figures()
    console = Console(width=100, force_terminal=terminal, legacy_windows=False)
    shown = Progress(console, plan(URL, seconds=60.0, count=500), made)
    with console.capture() as capture, shown as progress:
        for until in (2.0, 6.0, 7.0):
            progress.watch(made.cut(until))
    told = capture.get()
    if terminal:
        assert "Ctrl-C ends it" in told
        assert "p99" in told
        assert "\x1b[?25h" in told  # the cursor is back
    else:
        assert told == "6 s: 0 streams, 100 asked, 100 complete, 2 failed, 3 left; 0 chunks/s\n"


async def test_a_whole_run(start_relay: StartRelay, tmp_path: Path) -> None:
    """Tables, files and status; the key is nowhere."""
    relay = await start_relay(relay_api_keys=KEY)
    ran = await program(
        tmp_path, f"{relay.url}/stream-ask", "--streams", "3", "--count", "6", "--json", "x.json",
        "--png", "x.png", "--fail-on", "errors>0", "--fail-on", "ttfc_p99>1000s",
        env={arguments.KEY_VARIABLE: KEY},
    )  # fmt: skip
    assert await ran.ended() == 0, ran.err
    assert "complete" in ran.out
    assert ran.out.count("kept ") == 2
    told = json.loads((tmp_path / "x.json").read_text())
    assert (told["asked"], told["complete"], told["failed"]) == (6, 6, 0)
    assert (tmp_path / "x.png").read_bytes().startswith(PNG)
    assert KEY not in ran.out + ran.err + json.dumps(told)


async def test_a_crossed_threshold_is_status_1(relay: Relay, tmp_path: Path) -> None:
    """And is named."""
    ran = await program(tmp_path, f"{relay.url}/nothing", "--count", "1", "--fail-on", "errors>0")
    assert await ran.ended() == 1
    assert "crossed errors>0  (1)" in ran.out
    assert "refused: 404 not_found" in ran.out
    assert ran.err == ""


async def test_a_server_that_is_not_there_is_status_2(tmp_path: Path) -> None:
    """A sentence, no traceback."""
    ran = await program(tmp_path, "http://127.0.0.1:1/stream-ask")
    assert await ran.ended() == 2
    assert ran.out == ""
    assert ran.err.startswith("http://127.0.0.1:1/stream-ask cannot be reached: nothing listens there")
    assert ran.err.count("\n") == 1


async def test_packages_that_are_missing_are_told(tmp_path: Path) -> None:
    """With the command that installs them."""
    (tmp_path / "hdrh.py").write_text("raise ModuleNotFoundError(name='hdrh')")
    ran = await program(tmp_path, "--help", env={"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"})
    assert await ran.ended() == 2
    assert "needs hdrh" in ran.err
    assert "requirements-loadtest.lock" in ran.err
    assert ran.err.count("\n") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="it has no SIGINT for another process")
async def test_ctrl_c_ends_it_with_what_it_has(relay: Relay, standin: StandIn, tmp_path: Path) -> None:
    """Table, JSON and PNG; streams are closed, thresholds judged."""
    (tmp_path / "q.txt").write_text("!stall\n")
    ran = await program(
        tmp_path, f"{relay.url}/stream-ask", "--streams", "4", "--duration", "500", "--json", "x.json",
        "--png", "x.png", "--questions", "q.txt", "--fail-on", "errors>0",
    )  # fmt: skip
    while await relay.counted("relay_chunks_total") < 4 * 5:
        await asyncio.sleep(0.01)
    ran.signal(signal.SIGINT)
    assert await ran.ended() == 0, ran.err
    assert "Traceback" not in ran.err
    assert "open at the end" in ran.out
    assert "kept    errors>0" in ran.out
    told = json.loads((tmp_path / "x.json").read_text())
    assert (told["asked"], told["open_at_end"]) == (4, 4)
    assert (tmp_path / "x.png").read_bytes().startswith(PNG)
    await relay.idle()
    assert {ask.outcome for ask in standin.asks} == {"left"}


@pytest.mark.skipif(sys.platform == "win32", reason="it has no SIGINT for another process")
async def test_a_second_ctrl_c_ends_it_at_once(relay: Relay, tmp_path: Path) -> None:
    """Here while it waits for somebody who takes its JSON."""
    os.mkfifo(tmp_path / "x.json")
    ran = await program(tmp_path, f"{relay.url}/stream-ask", "--duration", "500", "--json", "x.json")
    while not await relay.counted("relay_chunks_total"):
        await asyncio.sleep(0.01)
    ran.signal(signal.SIGINT)
    await ran.says("most streams at once")
    ran.signal(signal.SIGINT)
    assert await ran.ended() == 1
    assert ran.err == ""
