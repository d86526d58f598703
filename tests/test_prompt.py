"""The question that is made of code and error output."""

import time

import pytest

from relay.cli.escapes import plain, visible
from relay.cli.prompt import MOST_OUTPUT, BadInput, Code, Output, compose, lines_named
from relay.cli.words import CHINESE, ENGLISH

TRACEBACK = """Traceback (most recent call last):
  File "/home/ada/src/broken.py", line 9, in <module>
    main()
  File "/home/ada/src/broken.py", line 5, in main
    other.f()
  File "/home/ada/src/lib/other.py", line 2, in f
    raise KeyError
KeyError
"""
CODE = "\n".join(f"line {n}" for n in range(1, 11)) + "\n"


def test_a_program_and_its_failure_become_one_question() -> None:
    """The task, what the user said, the code, the output, the lines."""
    asked = compose(
        ENGLISH,
        "Mind the cache.",
        files=[Code("notes.txt", "remember")],
        fix=Code("src/broken.py", CODE),
        output=Output(TRACEBACK),
    )
    assert asked == (
        "The program src/broken.py fails. Find the cause, explain it in a few sentences, and show the"
        " corrected code.\n\nMind the cache.\n\nnotes.txt:\n```txt\nremember\n```\n\n"
        f"src/broken.py:\n```python\n{CODE}```\n\nError output:\n```text\n{TRACEBACK}```\n\n"
        "The error output names these lines of src/broken.py, the innermost last: 9, 5."
    )


@pytest.mark.parametrize(
    ("text", "fence"),
    [("no fence", "```"), ("```\ncode\n```", "````"), ("a `````` b", "```````"), ("", "```")],
)
def test_no_text_ends_its_own_fence(text: str, fence: str) -> None:
    """The fence is longer than any in it; the code's own is left alone."""
    for asked in (
        compose(ENGLISH, "x", files=[Code("a.py", text)]),
        compose(ENGLISH, "x", output=Output(text + ".")),
    ):
        assert asked.count(f"\n{fence}") == 2
        assert asked.rstrip().endswith(f"\n{fence}")


@pytest.mark.parametrize(
    ("name", "output", "lines"),
    [
        ("broken.py", TRACEBACK, [9, 5]),
        ("./broken.py", TRACEBACK, [9, 5]),
        ("../src/broken.py", TRACEBACK, [9, 5]),
        ("/home/ada/src/broken.py", TRACEBACK, [9, 5]),
        ("/home/bob/src/broken.py", TRACEBACK, []),
        ("oken.py", TRACEBACK, []),
        ("other.py", TRACEBACK, [2]),
        ("a.py", 'File "a.py", line 3\nFile "a.py", line 4\nFile "a.py", line 3', [4, 3]),
        ("a.py", 'File "a.py", line 11\nFile "a.py", line 0\nFile "a.py", line 9999999999', [11]),
        ("a.py", "tests/a.py:7: AssertionError\nb.py:8: no\nschema:5", [7]),
        ("a.py", "\n".join(f"a.py:{n % 11 + 1}" for n in range(100_000)), [11, *range(1, 11)]),
    ],
)
def test_the_lines_that_the_output_names(name: str, output: str, lines: list[int]) -> None:
    """Of this file, that are there, each once, the last one last."""
    assert lines_named(name, CODE, output) == lines


@pytest.mark.parametrize("output", ["x" * MOST_OUTPUT, "x:" * (MOST_OUTPUT // 2), 'File "' * 10_000])
def test_no_output_takes_long(output: str) -> None:
    """A picture in base64 on one line, say: each takes milliseconds, squares of the length a minute."""
    began = time.monotonic()
    assert lines_named("a.py", CODE, f"{output}\na.py:7: no") == [7]
    assert time.monotonic() - began < 5


def test_what_was_left_out_is_said_and_colours_are_not_asked() -> None:
    """The model knows that it does not see all."""
    asked = compose(ENGLISH, output=Output("\x1b[31mred\x1b[0m", left_out=70_000))
    assert asked.startswith("Explain this error")
    assert "```text\n[70000 bytes before this are left out]\nred\n```" in asked


def test_output_without_a_word_is_none() -> None:
    """A program that failed in silence is looked at all the same."""
    asked = compose(ENGLISH, fix=Code("a.py", "x"), output=Output(" \n"))
    assert asked.startswith("Find what is wrong with a.py")
    assert "Error output" not in asked


def test_it_is_asked_in_the_language_of_the_user() -> None:
    """The model answers in it, most likely."""
    assert compose(CHINESE, fix=Code("a.py", "x")).startswith("请找出 a.py")


def test_without_a_question_there_is_none() -> None:
    """Files alone are no question; and what is too large for a relay is not sent to it."""
    with pytest.raises(BadInput, match="no question"):
        compose(ENGLISH, " ", files=[Code("a.py", "x")])
    with pytest.raises(BadInput, match="1 MiB"):
        compose(ENGLISH, "\n" * 600_000 + "x" * 1_048_000)


def test_signs_of_control() -> None:
    """Text stays as it is, all else becomes something to look at."""
    text = "ä\t🐍\n"
    assert visible(text) == plain(text) == text
    assert visible("a\r\nb\rc\x1b[m\x85") == "a\nb␍c␛[m\ufffd"
    assert plain("\x1b[1;31mred\x1b[m \x1b]8;;http://x\x1b\\link\x1b]8;;\x07") == "red link"
