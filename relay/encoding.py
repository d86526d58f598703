"""The events of an answer as they go over the wire."""

from collections.abc import Sequence
from itertools import count, repeat
from typing import Final, Protocol

from relay import sse
from relay.events import NAMES, Event, to_json
from relay.redact import Redactor

# What comes before the data of an event. The JSON of ours is one line, which sse.encode, that cuts data
# into lines, would have to look for.
_BEGIN: Final = {kind: sse.encode(b"", event=name).removesuffix(b"\n\n") for kind, name in NAMES.items()}


class Encoding(Protocol):
    """The format of one answer. Is given every event of it once, in order."""

    def encode(self, events: Sequence[Event]) -> list[bytes]:
        """Return the events as they go out: in as few pieces as their outlet allows."""


class EventEncoding:
    """Our own events (docs/protocol.md, "Events"); `numbered` ones go out each by itself, with an id."""

    def __init__(self, redactor: Redactor, *, numbered: bool = False) -> None:
        self._redactor = redactor
        self._numbered = numbered
        self._ids = map(str, count(1)) if numbered else repeat("")

    def encode(self, events: Sequence[Event]) -> list[bytes]:
        """Return the events as they go out, those without numbers as one piece."""
        if not self._numbered:
            together = b"".join([_BEGIN[type(event)] + to_json(event) + b"\n\n" for event in events])
            if self._redactor.is_clean(together):
                return [together]
        jsons = [self._redactor.json(to_json(event)) for event in events]
        return [
            sse.encode(json, event=NAMES[type(event)], id=id_)
            for event, json, id_ in zip(events, jsons, self._ids, strict=False)
        ]
