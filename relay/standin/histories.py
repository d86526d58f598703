"""What each session asked before."""

from collections import OrderedDict, deque
from typing import Final, NamedTuple

SESSIONS: Final = 1000
QUESTIONS: Final = 20
CHARACTERS: Final = 4096


class Session(NamedTuple):
    """What separates one history from another."""

    workspace: str
    thread: str | None
    session: str | None


class Histories:
    """The last questions of the sessions used last; older ones are forgotten."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[Session, deque[str]] = OrderedDict()

    def earlier(self, session: Session) -> tuple[str, ...]:
        """The questions a session has asked, oldest first."""
        return tuple(self._sessions.get(session, ()))

    def add(self, session: Session, question: str) -> None:
        """Remember a question; a long one only by its beginning."""
        self._sessions.setdefault(session, deque(maxlen=QUESTIONS)).append(question[:CHARACTERS])
        self._sessions.move_to_end(session)
        if len(self._sessions) > SESSIONS:
            self._sessions.popitem(last=False)

    def reset(self, session: Session) -> None:
        """Forget a session."""
        self._sessions.pop(session, None)
