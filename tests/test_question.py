"""What a client may ask: every field, and everything that is not one."""

import json
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import Code, RelayError
from relay.question import Policy, Question, from_form, from_json, from_urlencoded, owned_by, parse

POLICY = Policy(
    workspace="docs",
    workspaces={"docs", "other"},
    mode="chat",
    modes={"chat", "query", "automatic"},
)
NO_AGENTS = POLICY._replace(modes={"chat", "query"})
ATTACHMENT = {"name": "a.txt", "mime": "text/plain", "contentString": "data:text/plain;base64,YQ=="}
HALF = "\ud83d"
OPTIONAL = (
    "mode",
    "workspace",
    "thread",
    "session_id",
    "sessionId",
    "attachments",
    "reset",
    "reasoning",
    "sources",
    "format",
)
NOT_WELL_FORMED: tuple[Any, ...] = (None, 1, [], {}, HALF)
STRINGS = ("question", "workspace", "thread", "session_id", "sessionId")
CHOICES = ("mode", "reasoning", "sources", "format")


def asked(policy: Policy = POLICY, /, **fields: Any) -> Question:
    return parse({"question": "Hello", **fields}, policy)


def refusal(fields: dict[str, Any], policy: Policy = POLICY) -> RelayError:
    with pytest.raises(RelayError) as caught:
        parse(fields, policy)
    return caught.value


def unreadable(body: bytes) -> str:
    with pytest.raises(RelayError) as caught:
        from_json(body)
    assert caught.value.code == Code.BAD_REQUEST
    return caught.value.message


def outcome(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except RelayError as error:
        return error.code
    return "fine"


# --- what AnythingLLM is asked ---


def test_a_question_alone_is_asked_in_the_default_mode_and_workspace() -> None:
    question = asked()
    assert question.body() == {"mode": "chat", "message": "Hello"}
    assert (question.workspace, question.thread) == ("docs", None)
    assert (question.reasoning, question.sources, question.format) == ("inline", "titles", "events")


@pytest.mark.parametrize(
    "text",
    [
        "  indented\n",
        "a\r\nb\rc\nd",
        "nul\0nul",
        "line\u2028paragraph\u2029next\x85",
        "grin \U0001f600, family \U0001f468\u200d\U0001f469",
        "\ufeffmark",
        "é is not e\u0301",
    ],
)
def test_the_question_is_asked_unchanged(text: str) -> None:
    assert asked(question=text).body()["message"] == text


@pytest.mark.parametrize("fields", [{name: None} for name in OPTIONAL])
def test_null_is_as_good_as_left_out(fields: dict[str, None]) -> None:
    assert asked(**fields) == asked()


def test_unknown_fields_are_ignored() -> None:
    assert asked(temperature=1, message="other", key="secret", **{HALF: HALF}) == asked()


@pytest.mark.parametrize("name", ["session_id", "sessionId"])
def test_either_spelling_names_the_session(name: str) -> None:
    assert asked(**{name: "s1"}).body()["sessionId"] == "s1"


def test_the_session_has_256_characters_at_most_not_bytes() -> None:
    assert asked(session_id="é" * 256).session_id == "é" * 256
    assert "`session_id`" in refusal({"question": "x", "session_id": "é" * 257}).message
    assert "`sessionId`" in refusal({"question": "x", "sessionId": "é" * 257}).message


def test_an_empty_session_is_none() -> None:
    assert "sessionId" not in asked(session_id="").body()


def test_attachments_are_handed_on() -> None:
    second = {**ATTACHMENT, "name": "\U0001f600\u2028\0.txt"}
    assert asked(attachments=[ATTACHMENT, second]).body()["attachments"] == [ATTACHMENT, second]


@pytest.mark.parametrize("surplus", [{"size": 10**5000}, {"note": HALF}, {HALF: 1}])
def test_nothing_unchecked_is_handed_on_with_an_attachment(surplus: dict[str, Any]) -> None:
    """Not every value that Python reads can be written as JSON."""
    question = asked(attachments=[{**ATTACHMENT, **surplus}])
    assert question.body()["attachments"] == [ATTACHMENT]


# --- choices ---


@pytest.mark.parametrize("mode", ["chat", "query", "automatic"])
def test_an_allowed_mode_is_taken(mode: str) -> None:
    assert asked(mode=mode).body()["mode"] == mode


def test_a_mode_that_is_not_allowed_is_refused_with_those_that_are() -> None:
    error = refusal({"question": "x", "mode": "automatic"}, NO_AGENTS)
    assert error.code == Code.BAD_REQUEST
    assert "`mode` automatic" in error.message
    assert "chat, query" in error.message


@pytest.mark.parametrize(
    "text", ["@agent hi", " @agent hi", "\n\t\u00a0\u2028@agent hi", "@agents", "\ufeff @agent"]
)
def test_a_question_cannot_call_an_agent_that_is_not_allowed(text: str) -> None:
    assert "@agent" in refusal({"question": text}, NO_AGENTS).message
    assert asked(question=text).text == text


@pytest.mark.parametrize("text", ["Who is @agent?", "@ agent", "agent"])
def test_talking_about_agents_is_allowed(text: str) -> None:
    assert asked(NO_AGENTS, question=text).text == text


@pytest.mark.parametrize("text", [None, "", "   "])
def test_a_reset_alone_calls_no_agent(text: str | None) -> None:
    assert asked(NO_AGENTS, question=text, reset=True).text is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("reasoning", "inline"),
        ("reasoning", "separate"),
        ("reasoning", "hide"),
        ("sources", "titles"),
        ("sources", "full"),
        ("sources", "none"),
        ("format", "events"),
        ("format", "anythingllm"),
    ],
)
def test_a_choice_is_taken(name: str, value: str) -> None:
    assert getattr(asked(**{name: value}), name) == value


def test_the_raw_format_hands_on_all_sources() -> None:
    assert asked(format="anythingllm").sources == "full"
    assert asked(format="anythingllm", sources="full").sources == "full"


@pytest.mark.parametrize(
    "fields", [{"reasoning": "inline"}, {"reasoning": "hide"}, {"sources": "titles"}, {"sources": []}]
)
def test_the_raw_format_allows_no_changes(fields: dict[str, Any]) -> None:
    message = refusal({"question": "x", "format": "anythingllm", **fields}).message
    assert all(f"`{name}`" in message for name in fields)


# --- workspaces and threads ---


def test_another_allowed_workspace_is_taken() -> None:
    assert asked(workspace="other").workspace == "other"


def test_another_workspace_is_forbidden() -> None:
    error = refusal({"question": "x", "workspace": "secret"})
    assert error.code == Code.FORBIDDEN_WORKSPACE
    assert "secret" in error.message


@pytest.mark.parametrize(
    "slug", ["", "a/b", "..", "a b", "a\n", "é", "٣", "a%2Fb", "a" * 256, "a?b", "a\0"]
)
@pytest.mark.parametrize("name", ["workspace", "thread"])
def test_what_could_be_another_path_is_no_slug(name: str, slug: str) -> None:
    error = refusal({"question": "x", name: slug})
    assert error.code == Code.BAD_REQUEST
    assert f"`{name}`" in error.message


@pytest.mark.parametrize("slug", ["a", "A-Za_9", "a" * 255])
def test_a_thread_is_taken(slug: str) -> None:
    assert asked(thread=slug).thread == slug


def test_a_thread_and_a_session_do_not_go_together() -> None:
    message = refusal({"question": "x", "thread": "t", "session_id": "s"}).message
    assert "`thread`" in message
    assert "`session_id`" in message


# --- reset, and what is no question ---


def test_a_reset_needs_no_question() -> None:
    assert parse({"reset": True}, POLICY).body() == {"mode": "chat", "reset": True}


def test_a_reset_may_come_with_a_question() -> None:
    assert asked(reset=True).body() == {"mode": "chat", "message": "Hello", "reset": True}


def test_no_reset_is_not_mentioned() -> None:
    assert "reset" not in asked(reset=False).body()


@pytest.mark.parametrize("text", ["", " ", "\r\n\t", "\u00a0\u2003\u2028"])
def test_a_blank_question_is_refused(text: str) -> None:
    assert "`question` must not be blank" in refusal({"question": text}).message


@pytest.mark.parametrize("fields", [{}, {"question": None}, {"message": "x"}, {"reset": False}])
def test_a_missing_question_is_refused(fields: dict[str, Any]) -> None:
    assert "`question` is missing" in refusal(fields).message


# --- wrong types ---


@pytest.mark.parametrize(
    "value", [0, 1, 10**400, 1.5, float("nan"), True, False, [], ["a"], {}, {"a": 1}]
)
@pytest.mark.parametrize("name", STRINGS + CHOICES)
def test_a_string_must_be_one(name: str, value: Any) -> None:
    error = refusal({"question": "x", name: value})
    assert error.code == Code.BAD_REQUEST
    assert f"`{name}`" in error.message


@pytest.mark.parametrize("value", ["", "Chat", "chat ", "inline,hide", HALF, "\0"])
@pytest.mark.parametrize("name", CHOICES)
def test_a_choice_is_spelled_exactly(name: str, value: str) -> None:
    assert f"`{name}` must be one of" in refusal({"question": "x", name: value}).message


@pytest.mark.parametrize("value", [0, 1, "true", "", "on", [], {}, 1.0, float("nan")])
def test_reset_is_true_or_false(value: Any) -> None:
    assert "`reset`" in refusal({"question": "x", "reset": value}).message


@pytest.mark.parametrize(
    "value",
    [
        "a",
        "[]",
        1,
        True,
        {},
        ATTACHMENT,
        [None],
        ["a"],
        [[]],
        [{}],
        [ATTACHMENT, 1],
        *([{**ATTACHMENT, name: bad}] for name in ATTACHMENT for bad in NOT_WELL_FORMED),
        *([{n: v for n, v in ATTACHMENT.items() if n != name}] for name in ATTACHMENT),
    ],
)
def test_attachments_are_a_list_of_three_strings_each(value: Any) -> None:
    assert "`attachments`" in refusal({"question": "x", "attachments": value}).message


@pytest.mark.parametrize("text", [HALF, "\ude00", f"a{HALF}b", "\ude00\ud83d"])
@pytest.mark.parametrize("name", STRINGS)
def test_half_a_character_is_blamed_on_its_field(name: str, text: str) -> None:
    assert f"`{name}`" in refusal({"question": "x", name: text}).message


# --- JSON ---


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b"{}", {}),
        (b' \r\n{"a": 1}\n', {"a": 1}),
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        (b'{"a": "\\ud83d\\ude00"}', {"a": "\U0001f600"}),
        (b'{"a": "\\ud83d"}', {"a": HALF}),
        (b'{"a": "\\u0000"}', {"a": "\0"}),
        (b'{"": 1}', {"": 1}),
        (b'{"a": 1, "a": 2}', {"a": 2}),
        (b'{"a": -Infinity}', {"a": float("-inf")}),
    ],
)
def test_the_fields_of_a_json_object_are_read(body: bytes, fields: dict[str, Any]) -> None:
    assert from_json(body) == fields


@pytest.mark.parametrize("body", [b"null", b"[]", b'"text"', b"1", b"true", b"NaN", b'["question"]'])
def test_json_that_is_no_object_is_refused(body: bytes) -> None:
    assert "must be a JSON object" in unreadable(body)


@pytest.mark.parametrize(
    "body", [b"", b"  ", b"{", b"{'a': 1}", b'{"a": 1} x', b'{"a": "\n"}', b"question=x", b'{"a": 01}']
)
def test_what_is_no_json_is_refused(body: bytes) -> None:
    assert "not JSON" in unreadable(body)


@pytest.mark.parametrize(
    "body",
    [b"\xff", '{"a": "é"}'.encode("latin-1"), '{"a": 1}'.encode("utf-16"), b'{"a": "\xed\xa0\x80"}'],
)
def test_what_is_not_utf_8_is_refused(body: bytes) -> None:
    assert "not UTF-8" in unreadable(body)


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'{"a": NaN, "b":'])
def test_deep_nesting_is_refused(opening: bytes) -> None:
    assert "nested too deep" in unreadable(opening * 100_000)
    assert "nested too deep" in unreadable(b"\xef\xbb\xbf" + opening * 100_000)


def test_a_number_without_end_is_refused_in_words_for_a_client() -> None:
    message = unreadable(b'{"a": ' + b"9" * 5000 + b"}")
    assert "too many digits" in message
    assert "sys." not in message


@given(st.binary() | st.text().map(str.encode))
def test_no_body_breaks_the_reading(body: bytes) -> None:
    assert outcome(lambda: from_json(body)) in ("fine", Code.BAD_REQUEST)


# --- forms ---


@pytest.mark.parametrize(
    ("items", "fields"),
    [
        ([], {}),
        ([("question", "a=b&c"), ("mode", "chat")], {"question": "a=b&c", "mode": "chat"}),
        ([("", "nameless")], {"": "nameless"}),
        ([("attachments", json.dumps([ATTACHMENT]))], {"attachments": [ATTACHMENT]}),
        ([("attachments", "")], {}),
        ([("attachments", '"text"')], {"attachments": "text"}),
    ],
)
def test_the_fields_of_a_form_are_read(items: list[tuple[str, object]], fields: dict[str, Any]) -> None:
    assert from_form(items) == fields


@pytest.mark.parametrize(
    ("spelling", "reset"),
    [
        *((spelling, True) for spelling in ("true", "True", "TRUE", "1", "on", "On")),
        *((spelling, False) for spelling in ("false", "False", "0")),
    ],
)
def test_a_form_spells_reset(spelling: str, reset: bool) -> None:
    assert asked(**from_form([("reset", spelling)])).reset is reset


def test_an_empty_input_of_a_form_counts_as_absent() -> None:
    """A page sends every input of its form, filled in or not."""
    empty = ("thread", "workspace", "mode", "session_id", "reset", "attachments", "format")
    assert from_form([("question", "x"), *((name, "") for name in empty)]) == {"question": "x"}


@pytest.mark.parametrize("spelling", ["yes", "off", "2", " true", "null", "\0", HALF])
def test_a_form_misspells_reset(spelling: str) -> None:
    assert "`reset`" in refusal(from_form([("question", "x"), ("reset", spelling)])).message


@pytest.mark.parametrize(
    ("items", "named"),
    [
        ([("question", b"bytes")], "`question`"),
        ([("file", object())], "`file`"),
        ([("mode", "chat"), ("mode", "chat")], "`mode`"),
        ([("unknown", "1"), ("unknown", "2")], "`unknown`"),
        ([("", "1"), ("", "2")], "twice"),
        ([("attachments", "[")], "`attachments`"),
        ([("attachments", "a.txt")], "`attachments`"),
        ([("attachments", "[" * 100_000)], "`attachments`"),
        ([("attachments", "9" * 5000)], "`attachments`"),
    ],
)
def test_a_form_is_refused_for_the_field_it_names(
    items: Iterable[tuple[str, object]], named: str
) -> None:
    with pytest.raises(RelayError, match=named) as caught:
        from_form(items)
    assert caught.value.code == Code.BAD_REQUEST


# --- anything at all ---

_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.sampled_from([HALF, "chat", "full", "@agent", "docs"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
_FIELDS = st.dictionaries(
    st.sampled_from(("question", *OPTIONAL)), _JSON | st.just([ATTACHMENT]) | st.text(), max_size=5
)


@given(_FIELDS, st.sampled_from([POLICY, NO_AGENTS]))
def test_every_question_is_refused_in_words_or_can_be_asked(
    fields: dict[str, Any], policy: Policy
) -> None:

    def ask() -> None:
        question = parse(fields, policy)
        sent = json.loads(msgspec.json.encode(owned_by(question, b"digest of a key").body()))
        assert sent["mode"] in policy.modes
        assert sent.get("message") == question.text
        assert question.workspace in policy.workspaces

    assert outcome(ask) in ("fine", Code.BAD_REQUEST, Code.FORBIDDEN_WORKSPACE)


@given(st.lists(st.tuples(st.sampled_from(("question", *OPTIONAL)), st.text() | st.binary())))
def test_every_form_is_refused_in_words_or_read(items: list[tuple[str, object]]) -> None:
    told = outcome(lambda: parse(from_form(items), POLICY))
    assert told in ("fine", Code.BAD_REQUEST, Code.FORBIDDEN_WORKSPACE)


URLENCODED: list[tuple[bytes, dict[str, Any] | Code]] = [
    (b"question=a+b%2B&mode=chat&reset=", {"question": "a b+", "mode": "chat"}),
    ("question=größe%C3%9F".encode(), {"question": "größeß"}),
    (b"question=%FF", Code.BAD_REQUEST),
    (b"question=%ED%A0%80", Code.BAD_REQUEST),
    (b"question=\xff", Code.BAD_REQUEST),
    (b"question=a&question=b", Code.BAD_REQUEST),
    (b"question=a" + b"&x" * 1000, Code.TOO_LARGE),
    (b"", {}),
]


@pytest.mark.parametrize(("body", "expected"), URLENCODED)
def test_an_encoded_form_is_read_whole_or_refused(body: bytes, expected: dict[str, Any] | Code) -> None:
    """No character of it is replaced in silence."""
    if isinstance(expected, dict):
        assert from_urlencoded(body) == expected
        return
    with pytest.raises(RelayError) as caught:
        from_urlencoded(body)
    assert caught.value.code == expected


@pytest.mark.parametrize("name", ["\udcff", "n" * 1000])
def test_a_forms_own_name_for_a_field_is_shown_as_a_sentence_can_hold_it(name: str) -> None:
    with pytest.raises(RelayError) as caught:
        from_form([(name, "a"), (name, "b")])
    caught.value.message.encode()
    assert len(caught.value.message) < 100


# --- sessions of clients ---

OWNER, ANOTHER = b"digest of one key", b"digest of another"


def session(owner: bytes, **fields: Any) -> str | None:
    return owned_by(asked(**fields), owner).session_id


def test_a_key_keeps_its_session() -> None:
    assert session(OWNER, session_id="s") == session(OWNER, sessionId="s")


def test_keys_and_names_make_sessions_of_their_own() -> None:
    names = [{}, {"session_id": "a"}, {"session_id": "b"}, {"session_id": "digest of another"}]
    sessions = {session(owner, **name) for owner in (OWNER, ANOTHER) for name in names}
    assert len(sessions) == 8


def test_a_derived_session_tells_neither_key_nor_name_and_cannot_be_named() -> None:
    derived = session(OWNER, session_id="mine")
    assert derived is not None
    assert OWNER.hex() not in derived
    assert "mine" not in derived
    assert session(ANOTHER, session_id=derived) != derived


def test_a_client_without_a_session_still_has_one_of_its_own() -> None:
    assert session(OWNER)
    assert session(OWNER) == session(OWNER, session_id="")


def test_a_thread_is_shared_so_it_gets_no_session() -> None:
    assert session(OWNER, thread="t") is None
