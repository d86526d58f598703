"""What OpenAI's clients ask, as one question."""

import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.completion_request import Asked, Message, compose, parse
from relay.errors import Code, RelayError
from relay.question import Policy

POLICY = Policy("demo", {"demo", "docs"}, "chat", {"chat", "query", "automatic"})
NO_AGENTS = POLICY._replace(modes={"chat", "query"})
PIXEL = "data:image/png;base64,iVBORw0KGgo="
HALF = "\ud83d"


def asked(*messages: Any, policy: Policy = POLICY, **fields: Any) -> Asked:
    return parse({"messages": list(messages), **fields}, policy, "a session")


def refusal(*messages: Any, policy: Policy = POLICY, **fields: Any) -> RelayError:
    with pytest.raises(RelayError) as caught:
        asked(*messages, policy=policy, **fields)
    return caught.value


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def system(content: Any) -> dict[str, Any]:
    return {"role": "system", "content": content}


def assistant(content: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content}


# --- one message ---


@given(st.text().filter(str.strip))
def test_a_message_of_the_user_alone_is_passed_on_unchanged(text: str) -> None:
    assert asked(user(text)).question.text == text


def test_the_question_is_asked_where_and_how_the_relay_is_set() -> None:
    question = asked(user("hi")).question
    assert (question.workspace, question.mode, question.session_id) == ("demo", "chat", "a session")
    assert (question.thread, question.reset, question.resumable) == (None, False, False)
    assert (question.reasoning, question.sources, question.format) == ("separate", "none", "events")
    assert asked(user("hi"), model="docs").question.workspace == "docs"
    assert asked(user("hi"), model=None).question.workspace == "demo"
    assert asked(user("hi"), policy=POLICY._replace(mode="query")).question.mode == "query"


@pytest.mark.parametrize(
    ("fields", "stream", "usage"),
    [
        ({}, False, False),
        ({"stream": True}, True, False),
        ({"stream": None, "stream_options": None}, False, False),
        ({"stream": True, "stream_options": {"include_usage": True}}, True, True),
        ({"stream": True, "stream_options": {"include_usage": None, "x": 1}}, True, False),
    ],
)
def test_how_the_answer_is_wanted(fields: dict[str, Any], stream: bool, usage: bool) -> None:
    assert asked(user("hi"), **fields)[1:] == (stream, usage)


def test_parts_are_lines_and_images_attachments() -> None:
    image = {"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}}
    one = asked(user([{"type": "text", "text": "What is"}, image, {"type": "text", "text": "this?"}]))
    assert one.question.text == "What is\nthis?"
    assert one.question.attachments == [{"name": "image-1", "mime": "image/png", "contentString": PIXEL}]
    two = asked(user([{"type": "text", "text": "a"}, image]), assistant("A."), user("and?"))
    assert len(two.question.attachments) == 1


# --- a conversation ---


def test_what_was_said_before_precedes_the_question_in_tags() -> None:
    """As docs/protocol.md shows it."""
    one = asked(system("Be brief."), user("Why?"), assistant("Because."), user("Really?\n"))
    assert one.question.text == (
        '<message role="system">\nBe brief.\n</message>\n'
        '<message role="user">\nWhy?\n</message>\n'
        '<message role="assistant">\nBecause.\n</message>\n'
        "\nReally?\n"
    )


def test_messages_without_text_are_left_out() -> None:
    calls = {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function"}]}
    assert asked(system(" \n"), calls, user("hi")).question.text == "hi"


@pytest.mark.parametrize("last", [assistant("And then"), {"role": "tool", "content": "42"}, system("x")])
def test_a_conversation_may_end_with_another_than_the_user(last: dict[str, Any]) -> None:
    text = asked(user("Count."), last).question.text
    assert text == (
        f'<message role="user">\nCount.\n</message>\n<message role="{last["role"]}">\n'
        f"{last['content']}\n</message>\n\nContinue this conversation."
    )


@pytest.mark.parametrize(
    ("said", "tag"),
    [
        ("<message>", "message_"),
        ("</message>", "message_"),
        ("<message_ and </message", "message__"),
        ("<messages>", "message_"),
        ("<message__>", "message"),
        ("message", "message"),
    ],
)
def test_no_text_can_pass_for_another_message(said: str, tag: str) -> None:
    for messages in ([assistant(said), user("?")], [assistant("!"), user(said)]):
        text = asked(*messages).question.text or ""
        assert text.startswith(f'<{tag} role="assistant">\n')


_TEXTS = st.one_of(
    st.text(),
    st.lists(st.sampled_from(["<message", "</message", "_", ">", "\n", ' role="user"', "@agent "])).map(
        "".join
    ),
)
_MESSAGES = st.lists(
    st.builds(Message, st.sampled_from(["system", "user", "assistant", "tool"]), _TEXTS), max_size=6
)


@given(_MESSAGES, _TEXTS.filter(str.strip))
def test_a_conversation_can_be_read_out_of_its_question(messages: list[Message], last: str) -> None:
    """Whatever is said in it: nothing is lost, forged or moved, and only the last one calls an agent."""
    question = compose([*messages, Message("user", last)])
    earlier = [message[:2] for message in messages if message.text.strip()]
    called = re.match(r"[\s\ufeff]*(@agent\S*)\s*", last)
    assert (
        question.lstrip("\ufeff \t\r\n\f\v\x1c\x1d\x1e\x1f\x85\xa0").startswith("@agent") or not called
    )
    if not earlier:
        assert question == last
        return
    if called:
        head, _, question = question.partition("\n")
        assert head == called[1]
        last = last[called.end() :]
    assert not question.startswith("@agent")
    read = []
    tag = re.match(r"<(message_*) role", question)
    assert tag
    one = re.compile(rf'<{tag[1]} role="([a-z]+)">\n(.*?)\n</{tag[1]}>\n', re.DOTALL)
    while found := one.match(question):
        read.append(found.groups())
        question = question[found.end() :]
    assert read == earlier
    assert question == f"\n{last}"


# --- agents ---


def test_only_the_last_message_calls_an_agent() -> None:
    """Where it is not the only one, the call is moved to where AnythingLLM looks for it."""
    assert asked(user("@agent hi")).question.text == "@agent hi"
    text = asked(user("@agent one"), assistant("@agent two"), user("three")).question.text or ""
    assert text.startswith("<message")
    text = asked(system("Be brief."), user(" @agent  find it")).question.text or ""
    assert text == '@agent\n<message role="system">\nBe brief.\n</message>\n\nfind it'


@pytest.mark.parametrize("text", ["@agent hi", "\n\ufeff@agent hi"])
def test_where_agents_are_not_allowed_none_is_called(text: str) -> None:
    assert "@agent" in refusal(user(text), policy=NO_AGENTS).message
    assert "@agent" in refusal(system("Be brief."), user(text), policy=NO_AGENTS).message
    assert asked(user(text), assistant("No."), user("Why?"), policy=NO_AGENTS).question.text
    assert asked(system(text), user("Why?"), policy=NO_AGENTS).question.text


# --- refusals ---


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({}, "`messages`"),
        ({"messages": []}, "`messages`"),
        ({"messages": "hi"}, "`messages`"),
        ({"messages": HALF}, "half of a surrogate pair"),
        ({"messages": [7]}, "`messages[0]`"),
        ({"messages": [{"content": "hi"}]}, "`role`"),
        ({"messages": [{"role": "robot", "content": "hi"}]}, "`messages[0].role`"),
        ({"messages": [{"role": [], "content": "hi"}]}, "`messages[0].role`"),
        ({"messages": [user(7)]}, "`messages[0].content`"),
        ({"messages": [user(HALF)]}, "`messages[0].content`"),
        ({"messages": [user("a"), user([{"type": "text", "text": HALF}])]}, "`messages[1].content`"),
        ({"messages": [user(None)]}, "blank"),
        ({"messages": [system("x"), user(" ")]}, "blank"),
        ({"messages": [assistant(None)]}, "`messages`"),
        ({"messages": [user([{"type": "input_audio", "input_audio": {}}])]}, "`messages[0].content[0]`"),
        ({"messages": [user([{"type": "image_url"}])]}, "`messages[0].content[0]`"),
        ({"messages": [user([{"type": "image_url", "image_url": PIXEL}])]}, "`messages[0].content[0]"),
        ({"messages": [user("hi")], "model": 7}, "`model`"),
        ({"messages": [user("hi")], "stream": "yes"}, "`stream`"),
        ({"messages": [user("hi")], "n": 2}, "`n`"),
        ({"messages": [user("hi")], "logprobs": True}, "`logprobs`"),
        ({"messages": [user("hi")], "modalities": ["text", "audio"]}, "`modalities`"),
        ({"messages": [user("hi")], "tool_choice": "required"}, "`tool_choice`"),
        ({"messages": [user("hi")], "tool_choice": {"type": "function"}}, "`tool_choice`"),
        ({"messages": [user("hi")], "function_call": {"name": "x"}}, "`function_call`"),
        ({"messages": [user("hi")], "response_format": {"type": "json_schema"}}, "`response_format`"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_words(fields: dict[str, Any], word: str) -> None:
    with pytest.raises(RelayError) as caught:
        parse(fields, POLICY, "a session")
    assert caught.value.code is Code.BAD_REQUEST
    assert word in caught.value.message


@pytest.mark.parametrize("url", ["https://example.com/a.png", "file:///etc/passwd", "data:text/html,x"])
def test_an_image_is_never_fetched(url: str) -> None:
    part = {"type": "image_url", "image_url": {"url": url}}
    assert "image_url.url" in refusal(user([{"type": "text", "text": "?"}, part])).message


@pytest.mark.parametrize("model", ["gpt-4o", "", "Demo", "x" * 500, HALF])
def test_an_unknown_model_is_not_found(model: str) -> None:
    error = refusal(user("hi"), model=model)
    assert (error.code, error.status) == (Code.MODEL_NOT_FOUND, 404)
    assert len(error.message) < 200


def test_what_changes_nothing_that_was_promised_is_ignored() -> None:
    """Whatever an editor sends along."""
    ignored: dict[str, Any] = {
        "temperature": 0.2,
        "max_tokens": 5,
        "max_completion_tokens": 5,
        "top_p": 1,
        "stop": ["\n"],
        "seed": 1,
        "user": "u",
        "n": 1,
        "logprobs": False,
        "tools": [{"type": "function", "function": {"name": "f"}}],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "response_format": {"type": "text"},
        "reasoning_effort": "high",
        "metadata": {"a": "b"},
        "prediction": "anything",
    }
    assert asked(user("hi"), **ignored) == asked(user("hi"))


_ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=9)
    | st.sampled_from([HALF, PIXEL, "user"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "type", "text", "image_url", "url"]), inner
        )
    ),
    max_leaves=12,
)
_LIKELY = st.one_of(
    _ANYTHING,
    st.lists(
        st.fixed_dictionaries(
            {
                "role": st.sampled_from(["user", "system", "robot"]),
                "content": st.one_of(
                    st.text(max_size=9),
                    st.just(HALF),
                    st.lists(
                        st.fixed_dictionaries(
                            {
                                "type": st.sampled_from(["text", "image_url", "x"]),
                                "text": st.text(max_size=3) | st.just(HALF),
                                "image_url": st.fixed_dictionaries({"url": st.just(PIXEL) | _ANYTHING}),
                            }
                        ),
                        max_size=3,
                    ),
                ),
            }
        ),
        max_size=3,
    ),
)


@given(
    _LIKELY,
    st.dictionaries(
        st.sampled_from(["model", "stream", "stream_options", "n", "tool_choice"]), _ANYTHING
    ),
    st.sampled_from([POLICY, NO_AGENTS]),
)
def test_whatever_is_sent_is_a_question_or_a_refusal(
    messages: Any, others: dict[str, Any], policy: Policy
) -> None:
    """The question can be sent on, and the refusal can be told."""
    found = outcome({"messages": messages, **others}, policy)
    if isinstance(found, RelayError):
        assert found.code in (Code.BAD_REQUEST, Code.MODEL_NOT_FOUND)
        assert len(found.message.encode()) < 500
    else:
        assert msgspec.json.decode(msgspec.json.encode(found.question.body()))["message"].strip()


def outcome(fields: dict[str, Any], policy: Policy) -> Asked | RelayError:
    try:
        return parse(fields, policy, "a session")
    except RelayError as error:
        return error
