"""What a terminal would obey instead of showing."""

import re
from typing import Final

# As the pictures that Unicode has for them (U+2400 on), those without one as U+FFFD.
_PICTURES: Final = {
    code: chr(0x2400 + code) if code < 32 else "\u2421" if code == 127 else "\ufffd"
    for code in (*range(32), *range(127, 160))
    if chr(code) not in "\t\n"
}
_SEQUENCE: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")


def visible(text: str) -> str:
    """Return text that a terminal shows and does not obey; line feeds and tabs stay."""
    return text.replace("\r\n", "\n").translate(_PICTURES)


def plain(text: str) -> str:
    """Return what was written for a terminal without its colours and movements."""
    return _SEQUENCE.sub("", text)
