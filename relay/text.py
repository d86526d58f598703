"""The text of one answer, on its way from AnythingLLM's pieces to ours."""

from relay.events import Chunk, Event
from relay.reasoning import Handling, ReasoningSplitter
from relay.repeats import Repeats
from relay.surrogates import HalfJoiner, well_formed


class AnswerText:
    """Joins halves of characters, drops what an agent repeats, tells reasoning from the answer.

    What may turn out otherwise with the next piece is held back; `end` gives it.
    """

    def __init__(self, reasoning: Handling) -> None:
        self._joiner = HalfJoiner()
        self._repeats = Repeats()
        self._splitter = ReasoningSplitter(reasoning)
        self.empty = True  # until the answer has a character

    def piece(self, text: str) -> list[Event]:
        """Take the next piece of the text."""
        return self._said(self._joiner.feed(text))

    @property
    def plain(self) -> bool:
        """Whether nothing is held back, and the next piece goes out as it is if it is well-formed."""
        return self._splitter.answering and not self._joiner.half

    def pieces(self, texts: list[str]) -> list[Event]:
        """Take many pieces at once, while `plain`, all of them well-formed."""
        if not texts:
            return []
        self._repeats.said("".join(texts))
        return self._counted([Chunk(text) for text in texts if text])

    def whole(self, text: str) -> list[Event]:
        """Take a whole text, of which all or a part may have come before."""
        self._joiner.end()  # a half that is held back is in the whole text too
        rest = self._repeats.rest_of(well_formed(text))
        return self._counted(self._splitter.feed(rest))

    def end(self) -> list[Event]:
        """No more text comes, or none that belongs to this."""
        return self.lone_half() + self._counted(self._splitter.end())

    def lone_half(self) -> list[Event]:
        """The other half of a character does not come."""
        return self._said(self._joiner.end())

    def begin_turn(self) -> list[Event]:
        """A thought came: what follows is the text of another turn of an agent's model."""
        events = self.end()
        self._repeats.begin_turn()
        self._splitter.begin()
        return events

    def _said(self, text: str) -> list[Event]:
        self._repeats.said(text)
        return self._counted(self._splitter.feed(text))

    def _counted(self, events: list[Event]) -> list[Event]:
        if self.empty:
            self.empty = not any(isinstance(event, Chunk) for event in events)
        return events
