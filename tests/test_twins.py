"""Code that the page has as ES modules, and the extension as CommonJS: the same in both."""

from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent


def code(path: str) -> str:
    """A file without its first comment, which says whose it is."""
    return (ROOT / path).read_text(encoding="utf-8").partition("*/\n")[2]


@pytest.mark.parametrize(
    ("page", "extension", "exported", "named"),
    [
        ("sse.js", "sse.js", "export class Decoder", "class Decoder"),
        ("markup.js", "fences.js", "export class Markup", "class Fences"),
    ],
)
def test_the_extension_reads_as_the_page_does(
    page: str, extension: str, exported: str, named: str
) -> None:
    """What is mended in one is mended in the other."""
    ours = code(f"relay/static/{page}")
    assert ours.count(exported) == 1
    assert ours.replace(exported, named) in code(f"clients/vscode/src/{extension}")
