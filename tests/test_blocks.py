"""Markdown cut into blocks while it arrives."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.cli.blocks import _MOST, Blocks

LINES = st.sampled_from(
    [
        "",
        " ",
        "text",
        "- item",
        "1. one",
        "   more of it",
        "```python",
        "```",
        "~~~~",
        "   ```",
        "`a` b",
        "# h",
    ]
)


def blocks(*pieces: str) -> list[str]:
    """All blocks of a text, the last one too."""
    taken = Blocks()
    found = [block for piece in pieces for block in taken.feed(piece)]
    return [block for block in (*found, taken.end()) if block.strip()]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("one\ntwo\n\nthree", ["one\ntwo", "three"]),
        ("text\n```\na\n\nb\n```\nmore", ["text", "```\na\n\nb\n```", "more"]),
        ("```\na\n``` b\n````\nc", ["```\na\n``` b\n````", "c"]),
        ("~~~\n```\n\n~~~\n\nx", ["~~~\n```\n\n~~~", "x"]),
        (
            "- a\n\n  ```\n  b\n\n  c\n  ```\n\n  d\n\ne",
            ["- a\n\n  ```\n  b\n\n  c\n  ```\n\n  d\n", "e"],
        ),
        ("``a`` b\n\nc", ["``a`` b", "c"]),
    ],
)
def test_a_block_ends_where_nothing_can_change_it(text: str, found: list[str]) -> None:
    """After an empty line, and with its fence; what is indented belongs to what is before."""
    assert [block.strip("\n") for block in blocks(f"{text}\n")] == [block.strip("\n") for block in found]


@given(st.lists(LINES, max_size=20), st.data())
def test_how_it_is_cut_changes_nothing(lines: list[str], data: st.DataObject) -> None:
    """And no line of it is lost or moved."""
    text = "\n".join(lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert blocks(*pieces) == blocks(text)
    kept = [line for block in blocks(text) for line in block.split("\n") if line.strip()]
    assert kept == [line for line in lines if line.strip()]


def test_a_block_without_an_end_is_cut() -> None:
    """No more is held than a bound; code stays code, and no character is lost."""
    line = "x" * 99 + "\n"
    found = blocks("```py\n", *[line] * 1400, "```\nend")
    assert max(map(len, found)) < _MOST + 200
    assert all(block.startswith("```py\n") and block.endswith("\n```") for block in found[:-1])
    assert "".join(found).count("x") == 99 * 1400
    assert found[-1] == "end"
    assert "".join(blocks(*["word "] * 30_000)) == "word " * 30_000


def test_the_tail_is_what_is_looked_at() -> None:
    """A part of the unfinished block that stands by itself."""
    taken = Blocks()
    taken.feed("done\n\n```py\n" + "a = 1\n" * 100)
    tail = taken.tail(50)
    assert re.fullmatch(r"```py\n.{50}", tail, re.DOTALL)
    assert taken.tail(10_000) == "```py\n" + "a = 1\n" * 100
