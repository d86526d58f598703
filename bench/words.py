"""What the model of the benchmark says: tokens of code, made once, the same in every run.

No U+0085, U+2028 or U+2029 is among them: the line readers of httpx and requests take those for line
ends and lose the frame, which is their bug and not what is measured here.
"""

import random
from collections.abc import Sequence
from typing import Final, NamedTuple

from relay.standin.frames import encode

COUNT: Final = 509  # a prime: neither batches nor reads fall in step with it
_STEMS: Final = (
    *("def ", "return ", "self.", " = ", "await ", "    ", "import ", "class ", "for i in ", "range("),
    *("None", "True", "index", "value", "result", "stream", "(x, y)", "[0]", " += 1", "lambda"),
    *("print(", "# ", "if not ", "else:", "raise ", "yield ", ".append(", " -> ", "async ", "with "),
)
_ESCAPED: Final = ('"', "\n    ", "\t", "\\n", '{"a": ', "\n\n", '""":')
_WIDE: Final = ("größe", "größer", "naïve", "变量", "関数", "данные", "λ → μ", "✓ ok", "🙂")


class Word(NamedTuple):
    """A token, as text in UTF-8 and as it stands between the quotes of a JSON string."""

    text: bytes
    json: bytes


def _make() -> Sequence[Word]:
    chance = random.Random(7)  # noqa: S311 (variety, not secrecy)
    made = []
    for number in range(COUNT):
        kind = chance.random()
        part = chance.choice(_ESCAPED if kind < 0.15 else _WIDE if kind < 0.25 else _STEMS)
        text = part + "abcdefghijkl"[: max(0, chance.randint(4, 12) - len(part.encode()))]
        if number % 11 == 0:
            text = f"v{number}_{text}"
        made.append(Word(text.encode(), encode(text)[1:-1]))
    return tuple(made)


WORDS: Final = _make()
"""The tokens in the order in which every answer says them, from the first on when they end."""
