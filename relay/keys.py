"""The keys of the relay's clients (docs/protocol.md, "Access")."""

import hashlib
import hmac
import logging
import re
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final

SHORTEST: Final = 8
_LARGEST_FILE: Final = 1024 * 1024
VISIBLE_ASCII: Final = re.compile(r"[!-~]+")

log = logging.getLogger(__name__)


class ClientKeys:
    """The keys that clients may use, held as digests only: some for good, and those of a file.

    The file is read again when it changes, so that keys can be added and taken away while answers
    run. One that cannot be read any more, or holds no key, changes nothing: the log says so.
    """

    def __init__(self, keys: Iterable[str] = (), file: Path | None = None) -> None:
        self._given = [_digest(key) for key in keys]
        self._file = file
        self._of_file: list[bytes] = []
        self._seen: object = None
        self._look_again()

    def __bool__(self) -> bool:
        """Whether clients need a key."""
        return bool(self._given) or self._file is not None

    def owner(self, key: str) -> bytes | None:
        """Return what tells the holder of this key from all others; None for a key that is not ours."""
        self._look_again()
        digest = _digest(key)
        # Every key is compared, so that the time says nothing about which one was close.
        matches = [hmac.compare_digest(digest, known) for known in (*self._given, *self._of_file)]
        return digest if any(matches) else None

    def _look_again(self) -> None:
        if self._file is None:
            return
        seen = _fingerprint(self._file)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._of_file = [_digest(key) for key in read(self._file)]
        except ValueError as problem:
            log.error("RELAY_API_KEYS_FILE %s; the keys read before stay in force", problem)
        else:
            log.info("client keys read", extra={"fields": {"keys": len(self._of_file)}})


def check(key: str) -> str:
    """Return the key if a header can carry it and it is not guessed at once. Raises ValueError."""
    if not VISIBLE_ASCII.fullmatch(key):
        raise ValueError("holds a blank or a character beyond ASCII, which cannot be sent")
    if len(key) < SHORTEST:
        raise ValueError(f"holds a key of fewer than {SHORTEST} characters")
    return key


def read(file: Path) -> list[str]:
    """Return the keys of a file, one a line; empty lines and those that begin with # are none.

    Raises ValueError, in words that go on after the name of the setting and show no key.
    """
    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST_FILE:
            raise ValueError(f"is {file}, which is no text file of keys")
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise ValueError(f"is {file}, which cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"is {file}, which is no UTF-8 text") from None
    keys = []
    for number, line in enumerate(map(str.strip, lines), start=1):
        if line and not line.startswith("#"):
            try:
                if "," in line:
                    raise ValueError("holds a comma; write one key a line")
                keys.append(check(line))
            except ValueError as problem:
                raise ValueError(f"is {file}, whose line {number} {problem}") from None
    if not keys:
        raise ValueError(f"is {file}, which holds no key")
    return keys


def _fingerprint(file: Path) -> object:
    try:
        status = file.stat()
    except OSError as error:
        return error.errno
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
