"""Each character once, although an agent run says its text up to three times.

Recorded: the text comes as chunks, whole again as `textResponse`, and again in
`finalizeResponseStream`; the whole ones hold the last model turn only (`agent_tool_with_text_before`),
and without streaming there are no chunks at all (`agent_untooled`).
"""

import hashlib


class Repeats:
    """Remembers what was said since the last thought, as a digest: its size never grows."""

    def __init__(self) -> None:
        self._last_whole = b""
        self.begin_turn()

    def begin_turn(self) -> None:
        """A thought came: what follows is a new text."""
        self._turn = hashlib.blake2b()
        self._length = 0

    def said(self, piece: str) -> None:
        """A piece of this turn's text went out."""
        self._turn.update(piece.encode())
        self._length += len(piece)

    def rest_of(self, whole: str) -> str:
        """Return the part of a whole text that was not said yet, and count it as said."""
        digest = hashlib.blake2b(whole.encode()).digest()
        begins_alike = hashlib.blake2b(whole[: self._length].encode()).digest() == self._turn.digest()
        if self._length and begins_alike:
            rest = whole[self._length :]
        else:
            rest = "" if digest == self._last_whole else whole
        self._last_whole = digest
        self.begin_turn()
        self.said(whole)
        return rest
