"""The file of questions, read into request bodies."""

import json
from pathlib import Path
from typing import Final

BUILT_IN: Final = json.dumps({"question": "How do I reverse a list?"}).encode()


class BadQuestions(Exception):
    """The file cannot be used; the text is one line for a person."""


def read(path: Path) -> list[bytes]:
    """Return a request body for each line that is not blank.

    In a file named `.jsonl` a line is the body itself, a JSON object; in any other it is a question.
    Raises BadQuestions, with the number of the first bad line.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise BadQuestions(f"{path} cannot be read: {error.strerror}.") from None
    make = _body if path.suffix == ".jsonl" else _question
    bodies: list[bytes] = []
    # Bytes have only \n, \r and \r\n for line ends: U+2028 may be part of a question.
    for number, line in enumerate(raw.removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
        if not line.strip():
            continue
        try:
            bodies.append(make(line))
        except UnicodeDecodeError:
            raise BadQuestions(f"{path}, line {number}: not UTF-8.") from None
        except (ValueError, RecursionError) as error:
            raise BadQuestions(f"{path}, line {number}: {error}.") from None
    if not bodies:
        raise BadQuestions(f"{path} holds no question.")
    return bodies


def _question(line: bytes) -> bytes:
    return json.dumps({"question": line.decode().strip()}).encode()


def _body(line: bytes) -> bytes:
    text = line.decode()
    try:
        body = json.loads(text)
    except ValueError as error:
        raise ValueError(f"not JSON ({error})") from None
    if not isinstance(body, dict):
        raise ValueError("not a JSON object")
    return text.strip().encode()  # as it stands there: what is odd may be what is to be tested
