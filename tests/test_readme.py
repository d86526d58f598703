"""The Chinese README says what the English one does: same shape, commands, names and links."""

import re
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent
ENGLISH: Final = (ROOT / "README.md").read_text(encoding="utf-8")
CHINESE: Final = (ROOT / "README.zh-CN.md").read_text(encoding="utf-8")
BLOCK: Final = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.DOTALL | re.MULTILINE)


def blocks(text: str) -> list[str]:
    """All blocks of code, in order."""
    return [found[0] for found in BLOCK.finditer(text)]


def levels(text: str) -> list[int]:
    """How deep each heading is."""
    return [len(marks) for marks in re.findall(r"^(#+) ", BLOCK.sub("", text), re.MULTILINE)]


def rows(text: str) -> list[frozenset[str]]:
    """The names in the first cell of each row of a table, in order."""
    cells = re.findall(r"^ *\| ([^|]*)\|", text, re.MULTILINE)
    return [frozenset(re.findall(r"`([^`]+)`", cell)) for cell in cells]


def names(text: str) -> set[str]:
    """All that is set as code in the text."""
    return set(re.findall(r"`([^`\n]+)`", BLOCK.sub("", text)))


def links(text: str) -> set[str]:
    """Where links lead, besides to the other language."""
    return set(re.findall(r"\]\(([^)]+)\)", text)) - {"README.md", "README.zh-CN.md"}


def test_each_leads_to_the_other() -> None:
    """In the first lines."""
    assert "](README.zh-CN.md)" in ENGLISH[:200]
    assert "](README.md)" in CHINESE[:200]


@pytest.mark.parametrize("seen", [blocks, levels, rows, names, links])
def test_both_languages_have_the_same(seen: object) -> None:
    """Commands, headings, tables, names, links."""
    assert callable(seen)
    assert seen(CHINESE) == seen(ENGLISH)
    assert seen(ENGLISH)
