"""What must not leave the relay although AnythingLLM says it: secrets and the server's file paths."""

import re
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import unquote

import msgspec

_BLANK: Final = "[redacted]"

# A provider repeats the key it was given ("401 Incorrect API key provided: sk-..."): keys by the
# shapes that providers give them, and whatever follows the words that announce one.
_SHAPED: Final = re.compile(
    r"\b(?:(?:sk|pk|rk|gsk|xai|hf|r8|pplx|nvapi|gh[pousr]|glpat)[-_][\w*.-]{12,}"
    r"|AIza[\w-]{20,}|AKIA[A-Z0-9]{12,})",
    re.ASCII,
)
_ANNOUNCED: Final = re.compile(
    r"((?:api[-_ ]?key|key provided|access[-_ ]?token)[\"']?\s*[:=]\s*[\"']?"
    r"|[?&]key="
    r"|\bbearer\s+(?=\S*\d|\S{20}))"  # not in "the bearer token is missing"
    r"[^\s\"',;&]+",
    re.IGNORECASE,
)
_SHORTEST: Final = 8
# As much is told of a failure, up to a blank: half a key would not be known for one.
_BEGINNING: Final = re.compile(r".{0,4096}(?=\s|\Z)", re.DOTALL)
_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"')
_PLACES: Final = frozenset(("url", "location", "chunksource", "docpath", "path", "filepath"))
_ADDRESS: Final = re.compile(r"(?![^:]*file)[a-z][a-z0-9+.-]*://[^/\\]", re.IGNORECASE)
_FILE: Final = re.compile(r"file:[/\\]", re.IGNORECASE)
_OF_A_PATH: Final = re.compile(r"[/\\:%]")
_TITLE_FIELDS: Final = ("id", "title", "url", "score")


class Redactor:
    """Blanks secrets in what a provider says: its own known ones, and what looks like one."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        # A shorter one is no secret, and would be found in ordinary words.
        self._secrets = tuple(secret for secret in secrets if len(secret) >= _SHORTEST)
        self._in_json = tuple((told, _in_string(told)) for told in map(_encoded, self._secrets))

    def text(self, text: str) -> str:
        """Return the beginning of `text`, with every secret replaced."""
        beginning = _BEGINNING.match(text)
        text = "" if beginning is None else beginning[0]
        for secret in self._secrets:
            text = text.replace(secret, _BLANK)
        text = _ANNOUNCED.sub(rf"\1{_BLANK}", text)
        return _SHAPED.sub(_BLANK, text)

    def is_clean(self, data: bytes) -> bool:
        """Whether no known secret is in JSON, or in many JSONs one after the other."""
        for secret, _ in self._in_json:  # noqa: SIM110 (twice as fast, with every read of every stream)
            if data.find(secret) >= 0:
                return False
        return True

    def json(self, data: bytes) -> bytes:
        """Return JSON with the known secrets replaced in its strings; quick where there are none."""
        for secret, in_string in self._in_json:
            if secret in data:
                data = _without(in_string, data)
        return data


def _encoded(secret: str) -> bytes:
    return msgspec.json.encode(secret)[1:-1]


def _in_string(secret: bytes) -> re.Pattern[bytes]:
    """Return what finds the secret, or an escape: one that begins in the midst of an escape is none."""
    return re.compile(b"(%b)|%b" % (re.escape(secret), rb"\\(?:u[0-9a-fA-F]{4}|.)"))


def _without(in_string: re.Pattern[bytes], data: bytes) -> bytes:
    return _STRING.sub(lambda string: in_string.sub(_blanked, string[0]), data)


def _blanked(found: re.Match[bytes]) -> bytes:
    return found[0] if found[1] is None else _BLANK.encode()


def without_paths(source: dict[str, Any]) -> dict[str, Any]:
    """Return the source without the places in it that may be a path on AnythingLLM's machine."""
    return {
        name: value
        for name, value in source.items()
        if name.lower() not in _PLACES or _is_no_path(value)
    }


def _is_no_path(place: Any) -> bool:
    """Whether a place is an address that is no file's, or a mere name; it is told as a string."""
    if not isinstance(place, str) or not place.isprintable():
        return False
    if _ADDRESS.match(place):
        return not _FILE.search(unquote(place))
    return not _OF_A_PATH.search(place)


def summary(source: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a source that an editor shows; what it does not have is null.

    So is what is neither text nor a number: it may hold anything.
    """
    return {name: _shown(source.get(name)) for name in _TITLE_FIELDS}


def _shown(value: Any) -> str | int | float | None:
    return value if isinstance(value, str | int | float) and not isinstance(value, bool) else None
