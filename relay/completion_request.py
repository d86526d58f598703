"""What a client of OpenAI's may ask, the body of `POST /v1/chat/completions`.

docs/protocol.md, "OpenAI's format", has it in full.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any, Final, NamedTuple

import msgspec

from relay import question
from relay.errors import Code, RelayError
from relay.question import CALLS_AGENT, Policy, Question, bad
from relay.surrogates import is_well_formed

_ROLES: Final = ("system", "developer", "user", "assistant", "tool", "function")
_IMAGE: Final = re.compile(r"data:(image/[a-z0-9.+-]{1,64});base64,", re.IGNORECASE)
_TAG: Final = "message"
_IN_TAGS: Final = re.compile(rf"</?({_TAG}_*)")
_GO_ON: Final = "Continue this conversation."


class Message(NamedTuple):
    """A message of a conversation; images are `data:` URLs."""

    role: str
    text: str
    images: Sequence[str] = ()


class Asked(NamedTuple):
    """A question, and how its answer is wanted."""

    question: Question
    stream: bool
    include_usage: bool


class _Address(msgspec.Struct):
    url: str


class _Part(msgspec.Struct):
    type: str
    text: str = ""
    refusal: str = ""
    image_url: _Address | None = None


class _Message(msgspec.Struct):
    role: str
    content: str | list[_Part] | None = None


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _ResponseFormat(msgspec.Struct):
    type: str


class _Request(msgspec.Struct):
    """What is looked at; anything else is ignored, whatever it is."""

    messages: list[_Message]
    model: str | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    n: int | None = None
    logprobs: bool | None = None
    modalities: list[str] | None = None
    response_format: _ResponseFormat | None = None
    tool_choice: str | dict[str, Any] | None = None
    function_call: str | dict[str, Any] | None = None


def parse(fields: Mapping[str, Any], policy: Policy, session_id: str) -> Asked:
    """Make one question of a conversation, to be asked in a session of its own.

    Raises RelayError (bad_request, model_not_found), naming the field.
    """
    try:
        request = msgspec.convert(fields, _Request)
    except msgspec.ValidationError as error:
        raise bad(f"{error}.".replace("`$.", "`")) from None
    except UnicodeEncodeError:
        raise bad("The request holds half of a surrogate pair, which is no character.") from None
    _refuse_what_cannot_be(request)
    messages = [_message(one, f"messages[{at}]") for at, one in enumerate(request.messages)]
    images = [image for message in messages for image in message.images]
    asked = question.parse(
        {
            "question": compose(messages),
            "workspace": find_model(request.model, policy),
            "session_id": session_id,
            "attachments": [_attachment(image, number) for number, image in enumerate(images, 1)],
            "reasoning": "separate",
            "sources": "none",
        },
        policy,
    )
    options = request.stream_options or _StreamOptions()
    return Asked(asked, bool(request.stream), bool(options.include_usage))


def find_model(model: str | None, policy: Policy) -> str:
    """Return the workspace that goes by this name; without one, the default.

    Raises RelayError (model_not_found).
    """
    if model is None:
        return policy.workspace
    if model not in policy.workspaces:
        message = (
            f"There is no model `{question.shown(model)}` here; GET /v1/models lists those there are."
        )
        raise RelayError(Code.MODEL_NOT_FOUND, message)
    return model


def compose(messages: Sequence[Message]) -> str:
    """Return a conversation as one question.

    The last message of the user stands at the end as it is; those before it, in tags, precede it. The
    tags are called what no text calls one, so no text can pass for another message. Raises RelayError.
    """
    *earlier, last = messages or [Message("", "")]
    text = last.text
    if last.role != "user":
        earlier, text = list(messages), _GO_ON
    elif not text.strip():
        raise bad("The last of `messages` must have text, and not be blank.")
    earlier = [message for message in earlier if message.text.strip()]
    if not earlier:
        if last.role != "user":
            raise bad("`messages` must have a message with text.")
        return text
    tag = _tag_for(messages)
    history = "".join(f'<{tag} role="{role}">\n{said}\n</{tag}>\n' for role, said, _ in earlier)
    if call := CALLS_AGENT.match(text):  # AnythingLLM looks for it at the very beginning alone
        return f"{call[1]}\n{history}\n{text[call.end() :]}"
    return f"{history}\n{text}"


def _tag_for(messages: Sequence[Message]) -> str:
    taken = {len(found) for _, text, _ in messages for found in _IN_TAGS.findall(text)}
    return next(_TAG.ljust(size, "_") for size in count(len(_TAG)) if size not in taken)


def _refuse_what_cannot_be(request: _Request) -> None:
    """Raise RelayError for what would make another answer of it than AnythingLLM can give."""
    if request.n not in (None, 1):
        raise bad("`n` must be 1: AnythingLLM gives one answer.")
    if request.logprobs:
        raise bad("`logprobs` cannot be had: AnythingLLM does not tell them.")
    if any(kind != "text" for kind in request.modalities or ()):
        raise bad("`modalities` must be text alone.")
    if request.response_format is not None and request.response_format.type != "text":
        raise bad("`response_format` must be text: AnythingLLM cannot be held to another.")
    for name in ("tool_choice", "function_call"):
        if getattr(request, name) not in (None, "none", "auto"):
            raise bad(f"`{name}` must be auto or none: AnythingLLM calls no tool of a client's.")


def _message(message: _Message, name: str) -> Message:
    if message.role not in _ROLES:
        raise bad(f"`{name}.role` must be one of {', '.join(_ROLES)}.")
    if isinstance(message.content, list):
        texts, images = _parts(message.content, f"{name}.content")
    else:
        texts, images = [message.content or ""], []
    if not all(map(is_well_formed, [*texts, *images])):
        raise bad(f"`{name}.content` holds half of a surrogate pair, which is no character.")
    return Message(message.role, "\n".join(texts), images)


def _parts(parts: list[_Part], name: str) -> tuple[list[str], list[str]]:
    texts, images = [], []
    for at, part in enumerate(parts):
        match part.type:
            case "text":
                texts.append(part.text)
            case "refusal":
                texts.append(part.refusal)
            case "image_url" if part.image_url is not None:
                if not _IMAGE.match(part.image_url.url):
                    where = f"{name}[{at}].image_url.url"
                    raise bad(f"`{where}` must be data:image/...;base64,...: the relay fetches nothing.")
                images.append(part.image_url.url)
            case _:
                raise bad(f"`{name}[{at}]` must be a text or an image_url.")
    return texts, images


def _attachment(image: str, number: int) -> dict[str, str]:
    mime = image[len("data:") : image.index(";")].lower()
    return {"name": f"image-{number}", "mime": mime, "contentString": image}
