"""What a client may ask: the body of `POST /stream-ask` (docs/protocol.md, "Asking")."""

import hashlib
import hmac
import json
import re
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple, TypeVar, cast, get_args
from urllib.parse import parse_qsl

import msgspec

from relay.errors import Code, RelayError
from relay.frames import Format, SourceDetail
from relay.reasoning import Handling
from relay.surrogates import is_well_formed

Mode = Literal["chat", "query", "automatic"]
SLUG: Final = re.compile(r"[A-Za-z0-9_-]{1,255}", re.ASCII)
_MAX_SESSION_ID: Final = 256
# Blanks before it count as none: AnythingLLM's language trims them, and U+FEFF with them.
CALLS_AGENT: Final = re.compile(r"[\s\ufeff]*(@agent\S*)\s*")
_ATTACHMENT: Final = ("name", "mime", "contentString")
MAX_FORM_FIELDS: Final = 100
_LONGEST_NAME: Final = 40
_BOOLEANS: Final = {"reset", "resumable"}
_FORM_BOOLEANS: Final = {"true": True, "1": True, "on": True, "false": False, "0": False}
_Choice = TypeVar("_Choice", bound=str)


class Policy(NamedTuple):
    """What this relay's operator allows, and what holds where a client does not say."""

    workspace: str
    workspaces: Collection[str]
    mode: Mode
    modes: Collection[str]


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A question that passed every check."""

    text: str | None  # None: only reset the history
    mode: Mode
    workspace: str
    thread: str | None
    session_id: str | None
    attachments: list[dict[str, str]]
    reset: bool
    reasoning: Handling
    sources: SourceDetail
    format: Format
    resumable: bool

    def digest(self) -> bytes:
        """Return what tells it from every other question, in 32 bytes; `resumable` is no part of it."""
        alike = msgspec.structs.replace(self, resumable=True)
        return hashlib.sha256(msgspec.json.encode(alike)).digest()

    def body(self) -> dict[str, Any]:
        """Return what AnythingLLM is asked, as it wants it."""
        body: dict[str, Any] = {"mode": self.mode}
        if self.text is not None:
            body["message"] = self.text
        if self.session_id is not None:
            body["sessionId"] = self.session_id
        if self.attachments:
            body["attachments"] = self.attachments
        if self.reset:
            body["reset"] = True
        return body


def from_json(body: bytes) -> dict[str, Any]:
    """Read the fields of a JSON body. Raises RelayError (bad_request)."""
    try:
        fields = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        fields = _from_lenient_json(body)
    except RecursionError:
        raise bad("The body is JSON nested too deep.") from None
    if not isinstance(fields, dict):
        raise bad('The body must be a JSON object, like {"name": "value"}.')
    return fields


def _from_lenient_json(body: bytes) -> Any:
    """Parse what the strict parser refused, so that a lone surrogate is blamed on its field."""
    try:
        return json.loads(body.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise bad("The body is not UTF-8.") from None
    except RecursionError:
        raise bad("The body is JSON nested too deep.") from None
    except json.JSONDecodeError as error:
        raise bad(f"The body is not JSON: {error}.") from None
    except ValueError:  # Python's own limit
        raise bad("The body holds a number of too many digits.") from None


def from_urlencoded(body: bytes) -> dict[str, Any]:
    """Read the same fields out of a form as a browser sends it by default.

    Raises RelayError (bad_request, too_large).
    """
    try:
        text = body.decode()
        if text.count("&") >= MAX_FORM_FIELDS:
            raise too_many_fields()
        return from_form(parse_qsl(text, keep_blank_values=True, errors="strict"))
    except UnicodeDecodeError:
        raise bad("The body is not UTF-8.") from None


def too_many_fields() -> RelayError:
    """Return the refusal of a form with more than MAX_FORM_FIELDS."""
    return RelayError(Code.TOO_LARGE, f"The form has more than {MAX_FORM_FIELDS} fields.")


def from_form(items: Iterable[tuple[str, object]]) -> dict[str, Any]:
    """Read the same fields out of a form. Raises RelayError (bad_request)."""
    fields: dict[str, Any] = {}
    for name, value in items:
        if not isinstance(value, str):
            raise bad(f"`{shown(name)}` is a file; send files as `attachments`, a JSON string.")
        if name in fields:
            raise bad(f"`{shown(name)}` is there twice.")
        fields[name] = value
    fields = {name: value for name, value in fields.items() if value}  # a page sends empty inputs too
    for name in _BOOLEANS & fields.keys():
        fields[name] = _FORM_BOOLEANS.get(fields[name].lower(), fields[name])
    if "attachments" in fields:
        fields["attachments"] = _attachments_of_form(fields["attachments"])
    return fields


def _attachments_of_form(value: str) -> Any:
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise bad("`attachments` must be a list as a JSON string.") from None


def parse(fields: Mapping[str, Any], policy: Policy) -> Question:
    """Check every field. Raises RelayError (bad_request, forbidden_workspace), naming the field."""
    reset = _boolean(fields, "reset")
    text = _question(fields, reset=reset)
    format_: Format = _choice(fields, "format", Format, "events")
    plain = format_ == "events"
    thread = _slug(fields, "thread")
    session_id = _session_id(fields)
    if thread is not None and session_id is not None:
        raise bad("`thread` and `session_id` do not go together: a thread has a history of its own.")
    if not plain and (
        fields.get("reasoning") is not None or fields.get("sources") not in (None, "full")
    ):
        raise bad(
            "`format: anythingllm` hands frames on as they come: leave out `reasoning`, `sources`."
        )
    return Question(
        text=text,
        mode=_mode(fields, text, policy),
        workspace=_workspace(fields, policy),
        thread=thread,
        session_id=session_id,
        attachments=_attachments(fields),
        reset=reset,
        reasoning=_choice(fields, "reasoning", Handling, "inline"),
        sources=_choice(fields, "sources", SourceDetail, "titles" if plain else "full"),
        format=format_,
        resumable=_boolean(fields, "resumable"),
    )


def owned_by(question: Question, owner: bytes) -> Question:
    """Return the question with a session that only this owner (relay.keys) can name.

    Without it, two clients with the same `session_id` would read each other's history.
    """
    if question.thread is not None:
        return question
    return msgspec.structs.replace(question, session_id=_session_of(owner, question.session_id or ""))


@lru_cache(1024)  # most ask again and again in the same few
def _session_of(owner: bytes, session_id: str) -> str:
    return hmac.digest(owner, session_id.encode(), "sha256").hex()


def _question(fields: Mapping[str, Any], *, reset: bool) -> str | None:
    text = _string(fields, "question")
    if text is not None and text.strip():
        return text
    if reset:
        return None
    raise bad("`question` is missing." if text is None else "`question` must not be blank.")


def _mode(fields: Mapping[str, Any], text: str | None, policy: Policy) -> Mode:
    mode: Mode = _choice(fields, "mode", Mode, policy.mode)
    if mode not in policy.modes:
        allowed = ", ".join(sorted(policy.modes))
        raise bad(f"`mode` {mode} is not allowed here; allowed: {allowed}.")
    if "automatic" not in policy.modes and text is not None and CALLS_AGENT.match(text):
        raise bad("`question` starts with @agent, and agents are not allowed here.")
    return mode


def _workspace(fields: Mapping[str, Any], policy: Policy) -> str:
    workspace = _slug(fields, "workspace")
    if workspace is None:
        return policy.workspace
    if workspace not in policy.workspaces:
        message = f"The workspace {workspace} is not allowed here (ANYTHINGLLM_ALLOWED_WORKSPACES)."
        raise RelayError(Code.FORBIDDEN_WORKSPACE, message)
    return workspace


def _slug(fields: Mapping[str, Any], name: str) -> str | None:
    slug = _string(fields, name)
    if slug is None:
        return None
    if not SLUG.fullmatch(slug):
        raise bad(f"`{name}` must be 1 to 255 of the characters A-Z a-z 0-9 _ and -.")
    return slug


def _session_id(fields: Mapping[str, Any]) -> str | None:
    name = "session_id" if fields.get("session_id") is not None else "sessionId"
    session_id = _string(fields, name)
    if session_id is not None and len(session_id) > _MAX_SESSION_ID:
        raise bad(f"`{name}` must have at most {_MAX_SESSION_ID} characters.")
    return session_id or None


def _attachments(fields: Mapping[str, Any]) -> list[dict[str, str]]:
    value = fields.get("attachments")
    if value is None:
        return []
    if not isinstance(value, list) or not all(_is_attachment(item) for item in value):
        raise bad("`attachments` must be a list of {name, mime, contentString}, all of them strings.")
    # What else is in them was not checked, and may be what no JSON can carry.
    return [{name: item[name] for name in _ATTACHMENT} for item in value]


def _is_attachment(item: object) -> bool:
    if not isinstance(item, dict):
        return False
    values = [item.get(name) for name in _ATTACHMENT]
    return all(isinstance(value, str) and is_well_formed(value) for value in values)


def _string(fields: Mapping[str, Any], name: str) -> str | None:
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise bad(f"`{name}` must be a string.")
    if not is_well_formed(value):
        raise bad(f"`{name}` holds half of a surrogate pair, which is no character.")
    return value


def _boolean(fields: Mapping[str, Any], name: str) -> bool:
    value = fields.get(name)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise bad(f"`{name}` must be true or false.")
    return value


def _choice(fields: Mapping[str, Any], name: str, choices: Any, default: _Choice) -> _Choice:
    value = fields.get(name)
    if value is None:
        return default
    allowed = get_args(choices)
    if value not in allowed:
        raise bad(f"`{name}` must be one of {', '.join(allowed)}.")
    return cast(_Choice, value)


def shown(name: str) -> str:
    """Return a client's own name for a field as a sentence can hold it."""
    name = name.encode(errors="replace").decode()
    return name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}..."


def bad(message: str) -> RelayError:
    """Return the refusal of what cannot be asked."""
    return RelayError(Code.BAD_REQUEST, message)
