"""Hostile input against the parts that take no socket: nothing breaks, and nothing gets out.

What is generated here is far from what AnythingLLM and editors send; the tests beside each module
hold what is near. Counts are low, so that the suite stays quick: to hunt, raise FACTOR.
"""

import json
import re
from contextlib import suppress
from typing import Any, Literal, NamedTuple

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.access import AccessRules
from relay.errors import TABLE, Code, RelayError
from relay.events import NAMES, Chunk, Error, Event, FinalEnd, RawFrame, Reasoning, to_json
from relay.frames import Answer, Limits
from relay.keys import ClientKeys
from relay.question import Policy, from_form, from_json, from_urlencoded, owned_by, parse
from relay.redact import Redactor
from relay.sse import Decoder, LineTooLong, ServerSentEvent, encode
from tests import recorded, strict
from tests.cuts import pieces
from tests.spoiled import cuts, spoiled

FACTOR = 1
SECRET = "the-key-of-this-relay"
SHAPED = "sk-proj-abcdefgh12345678"
HALF, OTHER_HALF = "\ud83d", "\ude00"
LINE_ENDS = ("\n", "\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\u0085", "\u2028", "\u2029")
HOSTILE = (
    *LINE_ENDS,
    "\0",
    "\ufeff",
    "\ufffd",
    "\x7f",
    "é",
    "😀",
    "data: x",
    "event: error",
    ": ping",
    " ",
)


def examples(count: int) -> settings:
    return settings(
        max_examples=count * FACTOR,
        deadline=None,  # a machine under load is no defect
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


hostile_text = st.lists(st.sampled_from(HOSTILE), max_size=8).map("".join)


# Server-Sent Events

SSE = (b"data", b"data:", b"data: x", b"event:x", b"id:x", b"retry:1", b":", b" ", b"\n", b"\r", b"\r\n",
       b"\n\n", b"\xef\xbb\xbf", b"\xef\xbb", b"\0", b"\xff", b"\xf0\x9f", b"9" * 25)  # fmt: skip
sse_bytes = st.lists(st.sampled_from(SSE) | st.binary(max_size=4), max_size=40).map(b"".join)


def held(decoder: Decoder) -> int:
    """Bytes and characters in whatever the decoder keeps."""
    kept = 0
    for value in vars(decoder).values():
        parts = value if isinstance(value, list) else [value]
        kept += sum(len(part) for part in parts if isinstance(part, bytes | str))
    return kept


def decoded(reads: list[bytes], limit: int) -> tuple[list[ServerSentEvent], bool]:
    """Return the events, and whether the limit was met."""
    decoder, events = Decoder(limit), []
    for data in reads:
        try:
            events += decoder.feed(data)
        except LineTooLong as error:
            return events + error.events, True
        assert held(decoder) <= 4 * limit + 3  # a line, the event's data, its name and an id, a BOM
    return events + decoder.close(), False


def decoded_data(reads: list[bytes], limit: int) -> tuple[list[bytes], bool]:
    """Return the data of the events alone, and whether the limit was met."""
    decoder, found = Decoder(limit), []
    for data in reads:
        try:
            found += decoder.feed_data(data)
        except LineTooLong as error:
            return found + [event.data.encode() for event in error.events], True
        assert held(decoder) <= 4 * limit + 3
    return found, False


def second_opinion(data: bytes, limit: int) -> tuple[list[ServerSentEvent], bool]:
    """The same, by the standard's own steps and with all of the input at hand."""
    *whole, rest = re.split(rb"\r\n|\r|\n", data.removeprefix(b"\xef\xbb\xbf"))
    events: list[ServerSentEvent] = []
    parts: list[bytes] = []
    name, last_id, retry = b"", b"", None
    for line in whole:
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            parts.append(value)
        elif field == b"event":
            name = value
        elif field == b"id" and b"\0" not in value:
            last_id = value
        elif field == b"retry" and re.fullmatch(rb"[0-9]{1,18}", value):
            retry = int(value)
        if len(line) > limit or sum(len(part) + 1 for part in parts) > limit:
            return events, True
        if not line and parts:
            texts = [part.decode("utf-8", "replace") for part in (b"\n".join(parts), name, last_id)]
            events.append(ServerSentEvent(texts[0], texts[1] or "message", texts[2], retry))
        if not line:
            parts, name = [], b""
    return events, len(rest) > limit


@examples(250)
@given(data=sse_bytes, cut=cuts(9), limit=st.integers(3, 60))
def test_events_and_the_limit_do_not_depend_on_the_cutting(
    data: bytes, cut: list[int], limit: int
) -> None:
    """They are those of a second opinion, and no more than the limit is kept."""
    expected = second_opinion(data, limit)
    assert decoded([data], limit) == expected
    assert decoded(pieces(data, cut), limit) == expected


plain_events = st.binary(max_size=12).map(lambda data: b"data: %b\n\n" % re.sub(rb"[\r\n]", b"", data))


@examples(500)
@given(
    parts=st.lists(plain_events | st.sampled_from(SSE), max_size=12),
    cut=cuts(40),
    limit=st.integers(3, 200),
)
def test_the_quick_way_to_the_data_of_events_is_the_standards(
    parts: list[bytes], cut: list[int], limit: int
) -> None:
    """Where nearly all is as AnythingLLM sends it, and where it is not; replaced bytes aside."""
    data = b"".join(parts)
    for reads in ([data], parts, pieces(data, cut)):
        events, too_long = decoded(reads, limit)
        found, told = decoded_data(reads, limit)
        assert [one.decode("utf-8", "replace") for one in found] == [event.data for event in events]
        assert told == too_long


def written(events: list[Event]) -> bytes:
    """The events as they go out."""
    return b"".join(encode(to_json(event), event=NAMES[type(event)]) for event in events)


@examples(150)
@given(texts=st.lists(hostile_text, min_size=1, max_size=4), cut=cuts(9))
def test_any_text_comes_out_as_it_went_in(texts: list[str], cut: list[int]) -> None:
    """For our decoder in any cutting and for a client that knows line ends of all kinds."""
    events: list[Event] = [Chunk(texts[0]), RawFrame({"type": "x", **{text: text for text in texts}})]
    raw = written(events)
    assert [told.data for told in strict.events(raw)] == [
        {"type": "chunk", "content": texts[0]},
        {"type": "x", **{text: text for text in texts}},
    ]
    again = [json.loads(event.data) for event in decoded(pieces(raw, cut), len(raw))[0]]
    assert again == [told.data for told in strict.events(raw)]


@examples(100)
@given(name=st.lists(st.sampled_from([*HOSTILE, HALF]), max_size=3).map("".join))
def test_a_name_is_refused_or_comes_back(name: str) -> None:
    """Never half of it, and never as two fields."""
    try:
        raw = encode(b"x", event=name, id=name)
    except ValueError:
        return
    assert decoded([raw], len(raw))[0] == [ServerSentEvent("x", name or "message", name)]


# Answers of AnythingLLM


TYPES = (
    "textResponseChunk",
    "textResponse",
    "agentThought",
    "fileDownload",
    "usageMetrics",
    "finalizeResponseStream",
    "news",
)
FIELDS = ("id", "uuid", "type", "textResponse", "thought", "fileDownload", "close", "error", "sources",
          "metrics", "chatId", "news")  # fmt: skip
# What the json module does not write, put in where a string of this name stands.
RAW = {
    "<digits>": b"9" * 5000,
    "<exponent>": b"1e999",
    "<deep>": b"[" * 400 + b"]" * 400,
    "<deeper>": b'{"a":' * 3000 + b"1" + b"}" * 3000,
    "<bytes>": b'"\xff\xf0\x9f"',
    "<control>": b'"\x01"',
}
PATHS = ("file:///srv/a.txt", "FILE:a", "/srv/a", "\\\\srv\\a", "C:\\a", "c:/a", " \t/srv/a")
SAID = (SECRET, SHAPED, f"Bearer {SECRET}", f"api_key={SHAPED}", f"\n{SECRET}\n", "401", "429 slow",
        "Error encountered while running:", "<think>", "</think>", "", "a", HALF, OTHER_HALF,
        *HOSTILE)  # fmt: skip
words = st.lists(st.sampled_from(SAID), min_size=1, max_size=3).map(" ".join)
numbers = st.sampled_from(
    [0, -1, 2**63, -(2**64), 10**400, 1.5, -0.0, 1e308, float("nan"), float("inf")]
)
odd = st.recursive(
    st.none() | st.booleans() | numbers | st.sampled_from(sorted(RAW)) | words,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(words, inner, max_size=2),
    max_leaves=3,
)
places = st.sampled_from([*PATHS, "https://example.org/a"]) | odd | st.lists(st.sampled_from(PATHS))
source = st.fixed_dictionaries(
    {}, optional={"title": words, "url": places, "location": places, "chunkSource": places, "text": odd}
)
sources = st.lists(source | odd, min_size=1, max_size=2) | source | odd


def one(type_: st.SearchStrategy[str] | str, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    kind = st.just(type_) if isinstance(type_, str) else type_
    return st.fixed_dictionaries({"type": kind, **fields})


TEXT = ("textResponseChunk", "textResponse", "finalizeResponseStream")
going_on = (
    one("textResponseChunk", textResponse=words, close=st.booleans(), uuid=st.just("u"))
    | one("textResponseChunk", textResponse=words, id=st.just("i"))
    | one("textResponse", textResponse=words | odd, close=st.booleans())
    | one("agentThought", thought=st.sampled_from([*HOSTILE, HALF, SECRET]))
    | one("fileDownload", fileDownload=odd)
    | one("usageMetrics", metrics=odd)
    | one("textResponseChunk", textResponse=words, sources=sources)
    | st.builds(
        lambda frame, field, value: {**frame, field: value},
        st.sampled_from([{"type": kind, "textResponse": "b"} for kind in TYPES]),
        st.sampled_from(FIELDS),
        odd,
    )
)
last = (
    one(st.sampled_from(TYPES), error=words)
    | one("abort", error=words | odd)
    | one("agentThought", thought=words.map("Error encountered while running: {}".format))
    | one("finalizeResponseStream", textResponse=words | odd)
    | one(st.sampled_from(TEXT), textResponse=words, sources=sources, metrics=odd, chatId=odd)
)


def line_of(frame: dict[str, Any], escaped: bool) -> bytes:
    """The frame as JSON of any kind, good or bad."""
    data = json.dumps(frame, ensure_ascii=escaped).encode("utf-8", "surrogatepass")
    for name, raw in RAW.items():
        data = data.replace(f'"{name}"'.encode(), raw)
    return b"data: " + data


GOOD = [b"data: " + json.dumps(frame).encode() for frame in recorded.frames("agent_tool_chart")]
rubbish = st.binary(max_size=9) | st.sampled_from(SSE) | spoiled(GOOD, SSE)
line_ends = st.sampled_from([b"\n\n"] * 6 + [b"\r\n\r\n", b"\r\r", b"\n", b""])


def lines(frame: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    line = st.builds(line_of, frame, st.booleans())
    # Mapped, so that all kinds of rubbish together weigh as much as one `line`.
    return st.tuples(line | line | line | rubbish.map(bytes), line_ends).map(b"".join)


bodies = st.builds(
    lambda begun, ended: begun + ended,
    st.lists(lines(going_on), max_size=5),
    st.lists(lines(last), max_size=2),
)


class Options(NamedTuple):
    """How an answer is told."""

    format: Literal["events", "anythingllm"]
    reasoning: Literal["inline", "separate", "hide"]
    sources: Literal["titles", "full", "none"]
    max_line_bytes: int


options = st.builds(
    Options,
    st.sampled_from(["events", "anythingllm"]),
    st.sampled_from(["inline", "separate", "hide"]),
    st.sampled_from(["titles", "full", "none"]),
    st.sampled_from([4_194_304, 4_194_304, 300]),
)
endings = st.sampled_from(
    ["eof", "timeout", Code.UPSTREAM_TRUNCATED, Code.UPSTREAM_UNREACHABLE, Code.INTERNAL]
)


class Clear(Answer):
    """Reads every frame the clear way, one by one."""

    def _plain(self, received: list[bytes]) -> tuple[list[Event], int]:
        return [], 0


def answered(reads: list[bytes], how: Options, ending: str, kind: type[Answer] = Answer) -> list[Event]:
    """All events of an answer, which is over after it."""
    limits = Limits(first_event=600, idle=100)
    answer = kind(**how._asdict(), limits=limits, redactor=Redactor([SECRET]))
    events = []
    for data in reads:
        assert answer.limit is not None
        before = answer.ended
        news = answer.feed(data)
        assert not (before and news)
        events += news
    if not answer.ended:
        events += ended(answer, ending)
    assert answer.ended
    return events


def ended(answer: Answer, ending: str) -> list[Event]:
    if ending == "eof":
        return answer.eof()
    if ending == "timeout":
        return answer.timeout()
    return answer.fail(RelayError(Code(ending), "It broke."))


def assert_one_end(events: list[Event]) -> None:
    kinds = [type(event) for event in events]
    end = events[-1]
    assert isinstance(end, FinalEnd)
    assert kinds.count(FinalEnd) == 1
    if end.reason == "complete":
        assert Error not in kinds
    else:
        assert kinds.count(Error) == 1
        error = events[-2]
        assert isinstance(error, Error)
        assert error.code in TABLE


def assert_keeps_secrets(events: list[Event]) -> None:
    """A provider's words tell no key, a source no place on AnythingLLM's machine."""
    for event in events:
        if isinstance(event, Error):
            assert SECRET not in event.message
            assert not re.search(rf"(?<!\w){SHAPED}", event.message)
        if isinstance(event, FinalEnd):
            assert_no_paths(event.sources)
        if isinstance(event, RawFrame):
            assert_no_paths(event.frame.get("sources"))


def assert_no_paths(told: object) -> None:
    """Neither in a list of sources nor in whatever stands in its place."""
    if isinstance(told, dict):
        for field in {"url", "location", "chunkSource"} & told.keys():
            assert not any(is_path(text) for text in texts_in(told[field])), told
    for source in told if isinstance(told, list) else []:
        assert_no_paths(source)


def texts_in(value: object) -> list[str]:
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list):
        return [text for inner in value for text in texts_in(inner)]
    return [value] if isinstance(value, str) else []


def is_path(place: str) -> bool:
    begun = place.lstrip().lower()
    return begun.startswith(("file:", "/", "\\")) or begun[1:3] in (":/", ":\\")


plain_frames = st.builds(
    lambda text, close, error, more, escaped: line_of(
        {
            "uuid": "4b8e",
            "sources": [],
            "type": "textResponseChunk",
            "textResponse": text,
            "close": close,
            "error": error,
            **more,
        },
        escaped,
    ),
    st.text(max_size=6) | st.sampled_from(["", "<think>", "</think>", "\ud83d", "\ude00", "\u2028"]),
    st.sampled_from([False] * 5 + [True]),
    st.sampled_from([False] * 8 + [True, None, "429 no"]),
    st.sampled_from([{}] * 5 + [{"id": "1"}, {"chatId": 1}, {"sources": [{"title": "a"}]}]),
    st.booleans(),
)


@examples(400)
@given(
    body=st.lists(plain_frames | st.sampled_from([b"data: x\n\n", b": ping\n\n"]), max_size=12),
    rest=bodies,
    how=options,
    ending=endings,
    cut=cuts(),
)
def test_frames_read_at_once_say_what_they_say_one_by_one(
    body: list[bytes], rest: list[bytes], how: Options, ending: str, cut: list[int]
) -> None:
    """Nearly all frames are a piece of text and nothing else: those of a read are read at once."""
    whole = b"".join(body + rest)
    for reads in ([whole], body + rest, pieces(whole, cut)):
        clear = answered(reads, how, ending, Clear)
        assert written(answered(reads, how, ending)) == written(clear)


@examples(400)
@given(body=bodies, how=options, ending=endings, cut=cuts())
def test_any_answer_has_one_end_and_keeps_its_secrets(
    body: list[bytes], how: Options, ending: str, cut: list[int]
) -> None:
    """Whatever the frames, in any cutting the same is told: strict JSON, and one end."""
    events = answered([b"".join(body)], how, ending)
    assert_one_end(events)
    assert_keeps_secrets(events)
    told = strict.events(raw := written(events))
    assert len(told) == len(events)
    assert written(answered(body, how, ending)) == raw
    assert written(answered(pieces(b"".join(body), cut), how, ending)) == raw
    if how.format == "anythingllm":
        assert all(isinstance(event, RawFrame | Error | FinalEnd) for event in events)
    elif how.reasoning != "separate":
        assert not any(isinstance(event, Reasoning) for event in events)


def told_of(frame: dict[str, Any], escaped: bool, how: Options) -> list[Event]:
    """All events of an answer of this frame and a last one."""
    end = b'data: {"type": "finalizeResponseStream", "textResponse": "the end"}\n\n'
    events = answered([line_of(frame, escaped) + b"\n\n", end], how, "eof")
    assert_one_end(events)
    assert_keeps_secrets(events)
    strict.events(written(events))
    return events


@examples(250)
@given(
    kind=st.sampled_from(TYPES),
    field=st.sampled_from(FIELDS),
    value=odd,
    escaped=st.booleans(),
    how=options,
)
def test_any_field_may_hold_anything(
    kind: str, field: str, value: object, escaped: bool, how: Options
) -> None:
    """The answer goes on, unless the field tells its end."""
    events = told_of({"type": kind, "textResponse": "a", field: value}, escaped, how)
    thinking = field == "textResponse" and how.reasoning != "inline"  # perhaps, to its end
    if kind != "finalizeResponseStream" and not isinstance(events[-2], Error) and not thinking:
        assert "the end" in str(events)


@examples(400)
@given(kind=st.sampled_from(TYPES), sources=sources, escaped=st.booleans(), how=options)
def test_no_source_tells_a_place_on_anythingllms_machine(
    kind: str, sources: object, escaped: bool, how: Options
) -> None:
    """Wherever it stands in it, and whatever stands for the list of sources."""
    told_of({"type": kind, "textResponse": "a", "sources": sources}, escaped, how)


@examples(100)
@given(kind=st.sampled_from(TYPES), error=words, escaped=st.booleans(), how=options)
def test_no_failure_tells_a_key(kind: str, error: str, escaped: bool, how: Options) -> None:
    """Whatever stands around it."""
    events = told_of({"type": kind, "error": error}, escaped, how)
    assert isinstance(events[-2], Error)


@examples(150)
@given(body=st.lists(lines(going_on | last), min_size=1, max_size=3), ending=endings, after=endings)
def test_an_answer_that_ended_says_no_more(body: list[bytes], ending: str, after: str) -> None:
    """Whoever tells it of another ending."""
    answer = Answer(limits=Limits(first_event=600, idle=100))
    answer.feed(b"".join(body))
    if not answer.ended:
        ended(answer, ending)
    assert ended(answer, after) == []
    assert answer.feed(b'data: {"type": "abort", "error": "late"}\n\n') == []


def halves(text: str) -> str:
    """The text as JavaScript holds it: each character beyond U+FFFF as two."""
    units = text.encode("utf-16-le", "surrogatepass")
    return "".join(chr(units[at] | units[at + 1] << 8) for at in range(0, len(units), 2))


def whole_again(text: str) -> str:
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def in_pieces(text: str, cut: list[int]) -> list[str]:
    """Cut like bytes, but between the halves of a character too."""
    units = halves(text)
    return ["".join(units[i] for i in piece) for piece in index_pieces(len(units), cut)]


def index_pieces(length: int, cut: list[int]) -> list[list[int]]:
    at, found = 0, []
    for size in (*cut, *[cut[-1]] * length):
        if at >= length:
            break
        found.append(list(range(at, min(at + size, length))))
        at += size
    return found


def line(type_: str, **fields: object) -> bytes:
    return b"data: " + json.dumps({"type": type_, **fields}).encode() + b"\n\n"


TAGGED = ("<think>", "</think>", "<", "think>", "/", " ", "\n", "a", "😀", HALF, OTHER_HALF)
tagged_text = st.lists(st.sampled_from(TAGGED), max_size=12).map("".join)


@examples(150)
@given(text=tagged_text, cut=cuts(5), how=st.sampled_from(["inline", "separate", "hide"]))
def test_text_is_told_whole_and_split_at_its_tags_however_it_is_cut(
    text: str, cut: list[int], how: Literal["inline", "separate", "hide"]
) -> None:
    """Told by a second opinion on what is reasoning."""
    answer = Answer(reasoning=how)
    body = [line("textResponseChunk", uuid="u", textResponse=part) for part in in_pieces(text, cut)]
    events = answer.feed(b"".join(body) + line("finalizeResponseStream"))
    told = whole_again(text)
    thought, answered_ = "", told
    if how != "inline" and told.lstrip().startswith("<think>"):
        thought, _, answered_ = told.lstrip().removeprefix("<think>").partition("</think>")
    assert "".join(event.content for event in events if isinstance(event, Chunk)) == answered_
    reasoned = "".join(event.content for event in events if isinstance(event, Reasoning))
    assert reasoned == (thought if how == "separate" else "")


class Turn(NamedTuple):
    """What an agent's model says between two thoughts, and how AnythingLLM tells it."""

    text: str
    chunked: int  # characters of it that come as chunks
    wholes: int  # times that it comes as a whole


turns = st.lists(
    st.builds(
        Turn,
        st.text(st.sampled_from("abé😀😁\n"), min_size=1, max_size=8),
        st.integers(0, 16),
        st.integers(1, 2),
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda turn: turn.text,
)


@examples(150)
@given(turns=turns, cut=cuts(4))
def test_an_agent_is_heard_once_however_often_it_is_told(turns: list[Turn], cut: list[int]) -> None:
    """Chunks, none or some or all; the whole once or twice; and again in the last frame."""
    body = b""
    for turn in turns:
        begun = halves(turn.text)[: turn.chunked]
        for part in in_pieces(begun, cut):
            body += line("textResponseChunk", id="i", textResponse=part)
        body += line("textResponse", id="i", textResponse=turn.text, close=True) * turn.wholes
        body += line("agentThought", id="i", thought="Hm.") if turn is not turns[-1] else b""
    events = Answer().feed(body + line("finalizeResponseStream", textResponse=turns[-1].text))
    told = "".join(event.content for event in events if isinstance(event, Chunk))
    assert told == "".join(turn.text for turn in turns)


# Questions

ASKED = {
    "question": "Why?\n\nd = {}",
    "mode": "query",
    "workspace": "docs",
    "session_id": "s-1",
    "attachments": [{"name": "a.txt", "mime": "text/plain", "contentString": "data:,a"}],
    "reset": True,
    "reasoning": "inline",
    "sources": "full",
    "format": "events",
}
JSON_PIECES = (b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"null", b"true", b"1e999", b"9" * 5000,
               b"\\ud83d", b"\\u0000", b"\xff", b"\xed\xa0\xbd", b"\xef\xbb\xbf", b"\0", b"NaN",
               b'"question":"x"', b'"sessionId":1', b"[" * 2000, b'{"a":' * 2000)  # fmt: skip
FORM = (
    b"question=Why%3F&mode=query&session_id=s-1&reset=on&format=events"
    b"&attachments=%5B%7B%22name%22%3A%22a%22%7D%5D"
)
FORM_PIECES = (
    b"%",
    b"%ff",
    b"%ed%a0%bd",
    b"%00",
    b"&",
    b"=",
    b"+",
    b"\xff",
    b"&question=",
    b"%5B" * 2000,
)
POLICY = Policy(
    workspace="docs", workspaces={"docs", "other"}, mode="chat", modes={"chat", "query", "automatic"}
)


def assert_refused_or_asked(read: Any) -> None:
    """Refused with a client's fault, or a question that UTF-8 and strict JSON can carry."""
    try:
        question = parse(read(), POLICY)
    except RelayError as error:
        status = TABLE[error.code].status
        assert status is not None
        assert 400 <= status < 500
        error.message.encode()
        return
    for asked in (question, owned_by(question, b"owner")):
        sent = msgspec.json.decode(msgspec.json.encode(asked.body()))
        assert sent == asked.body()
        assert asked.workspace in POLICY.workspaces


@examples(200)
@given(body=spoiled([json.dumps(ASKED).encode()], JSON_PIECES))
def test_a_spoiled_json_body_is_refused_or_asked(body: bytes) -> None:
    assert_refused_or_asked(lambda: from_json(body))


@examples(150)
@given(body=spoiled([FORM], FORM_PIECES))
def test_a_spoiled_form_is_refused_or_asked(body: bytes) -> None:
    assert_refused_or_asked(lambda: from_urlencoded(body))


@examples(100)
@given(items=st.lists(st.tuples(st.sampled_from([*ASKED, HALF, "\udcff"]), words), max_size=4))
def test_any_fields_of_a_form_are_refused_or_asked(items: list[tuple[str, str]]) -> None:
    """In words that can be told, although a name in multipart may be no text."""
    assert_refused_or_asked(lambda: from_form(items))


# Access

AUTHORITIES = (b"localhost", b"[::1]", b":5000", b":", b"*", b"\xff", b"\xc3\xa9", b"\xed\xa0\xbd", b"@",
               "\u0130".encode(), b" ", b"\t", b"/")  # fmt: skip
SCHEMES = (b"http://", b"https://", b"vscode-webview://", b"VSCode-Webview://", b"null", b"://", b"")
KEYS = (b"Bearer ", b"bearer", b"Basic ", b"key-of-client", b"\xff", b" ", b"\t")
authority = st.lists(st.sampled_from(AUTHORITIES), min_size=1, max_size=3).map(b"".join)
origin = st.tuples(st.sampled_from(SCHEMES), authority).map(b"".join)
any_headers = st.fixed_dictionaries(
    {"Origin": origin},
    optional={
        "Host": authority,
        "Authorization": st.lists(st.sampled_from(KEYS), max_size=4).map(b"".join),
        "Sec-Fetch-Site": st.sampled_from([b"cross-site", b"none", b"\xff"]),
    },
)


@examples(300)
@given(sent=any_headers)
def test_any_headers_are_judged_and_answered_with_headers(sent: dict[str, bytes]) -> None:
    """Nothing but a refusal is raised, and what goes back can be sent, as it came."""
    # As aiohttp gives them.
    headers = {name: value.decode("utf-8", "surrogateescape") for name, value in sent.items()}
    rules = AccessRules(
        keys=ClientKeys(["key-of-client"]),
        hosts=("localhost", "[::1]:5000"),
        origins=("vscode-webview://*", "http://localhost"),
    )
    for check in (rules.check_host, rules.check_origin, rules.check_key):
        with suppress(RelayError):
            check(headers)
    for told in (rules.cors_headers(headers), rules.preflight_headers(headers)):
        for value in told.values():
            assert not set(value.encode()) & set(b"\r\n\0")
        allowed = told.get("Access-Control-Allow-Origin", headers.get("Origin"))
        assert allowed == headers.get("Origin")
