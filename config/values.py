"""What single values must be like. Each check raises ValueError saying what is wrong.

No text shows a value that may be a secret, or that may have one in it.
"""

import ipaddress
import os
import re
from pathlib import Path
from reprlib import repr as shown  # shortens: a whole file pasted into a value stays one line
from urllib.parse import urlsplit

from pydantic import SecretStr

from relay import keys
from relay.question import SLUG

# Only X's that stand alone: a real key is random capitals, and may well hold three X in a row.
_PLACEHOLDER = re.compile(r"(?<![A-Za-z0-9])X{3,}(?![A-Za-z0-9])")
_NAME = re.compile(r"[a-z0-9._-]+")
_AUTHORITY = re.compile(rf"(?:\[[0-9a-f:.]+\]|{_NAME.pattern})(?::[0-9]{{1,5}})?")
_REDIS = ("redis", "rediss", "unix")
_DATABASE = re.compile(r"(?:/[0-9]{0,5})?", re.ASCII)
_ORIGIN = re.compile(rf"([a-z][a-z0-9+.-]*)://(\*|{_AUTHORITY.pattern})")


def split_list(value: object) -> object:
    """Split a comma list; leave anything that is no string to the next check."""
    if not isinstance(value, str):
        return value
    entries = [entry for entry in map(str.strip, value.split(",")) if entry]
    if not entries:
        raise ValueError("holds only commas")
    return entries


def _refuse_placeholder(value: str) -> None:
    if _PLACEHOLDER.search(value):
        raise ValueError("still holds the placeholder XXX")


def base_url(value: str) -> str:
    """Return the address without a trailing `/`, `/api` or `/api/v1`."""
    # The value is in none of the texts: it may hold a password, or the key put on the wrong line.
    _refuse_placeholder(value)
    url = value.strip()
    try:
        parts = urlsplit(url)
        usable = parts.hostname is not None and parts.port != 0  # .port raises when it is no number
        (parts.hostname or "").encode("idna")  # raises when no name server could ever know it
    except ValueError:
        usable = False
    if not usable or parts.scheme not in ("http", "https") or " " in url or not url.isprintable():
        raise ValueError("is not an http:// or https:// address")
    if "@" in parts.netloc:
        raise ValueError("has a user name or password in it, which the relay does not send")
    if "?" in url or "#" in url:
        raise ValueError("has a query or fragment (? or #), which a base address has not")
    path = parts.path.rstrip("/").removesuffix("/api/v1").removesuffix("/api").rstrip("/")
    return f"{parts.scheme}://{parts.netloc}{path}"


def redis_url(value: SecretStr) -> SecretStr:
    """Accept the address of a Redis, which may hold a password."""
    url = value.get_secret_value()
    _refuse_placeholder(url)
    try:
        parts = urlsplit(url)
        there = parts.path if parts.scheme == "unix" else parts.hostname
        usable = bool(there) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.scheme not in _REDIS or " " in url or not url.isprintable():
        raise ValueError("is not a redis://, rediss:// or unix:// address")
    if "?" in url or "#" in url:
        raise ValueError("has a query or fragment (? or #), which the relay does not read")
    if parts.scheme != "unix" and not _DATABASE.fullmatch(parts.path):
        raise ValueError("ends with something else than the number of a database")
    return value


def secret(value: SecretStr) -> SecretStr:
    """Accept what an Authorization header can carry."""
    _refuse_placeholder(value.get_secret_value())
    if not keys.VISIBLE_ASCII.fullmatch(value.get_secret_value()):
        raise ValueError("holds a blank or a character beyond ASCII, which cannot be sent")
    return value


def client_key(value: SecretStr) -> SecretStr:
    """Accept a key that is not guessed at once."""
    keys.check(value.get_secret_value())
    return value


def keys_file(value: Path) -> Path:
    """Accept a file that holds keys now."""
    keys.read(value)
    return value


def slug(value: str) -> str:
    """Accept what AnythingLLM names a workspace with."""
    _refuse_placeholder(value)
    if not SLUG.fullmatch(value):
        raise ValueError(f"{shown(value)} is not a workspace slug")
    return value


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def listen_host(value: str) -> str:
    """Return a host name or IP address, without brackets."""
    # To asyncio an empty host means every interface; who wants that has to say so by address.
    host = value.strip().lower().removeprefix("[").removesuffix("]")
    if _ip(host) is None and not _NAME.fullmatch(host):
        raise ValueError(f"{shown(value)} is not a host name or IP address")
    return host


def workers(value: int) -> int:
    """Return a number of processes that this system can run on one port."""
    if value > 1 and not hasattr(os, "fork"):
        raise ValueError(f"{value} processes cannot share a port on this system")
    return value


def is_beyond_loopback(host: str) -> bool:
    """Take a name other than localhost for a public one: what it resolves to may change."""
    ip = _ip(host)
    return host != "localhost" and (ip is None or not ip.is_loopback)


def accepted_host(value: str) -> str:
    """Return a host name in lower case, with a port only if it has one."""
    if not _AUTHORITY.fullmatch(value.lower()):
        raise ValueError(f"{shown(value)} is not a host name with or without a port")
    return value.lower()


def origin(value: str) -> str:
    """Return a browser's origin in lower case; `*` as its host only where no web page can have it."""
    parts = _ORIGIN.fullmatch(value.lower())
    if value == "*" or (parts and parts[1] in ("http", "https") and parts[2] == "*"):
        raise ValueError(f"{shown(value)} would let any web page read answers through the relay")
    if not parts:
        raise ValueError(f"{shown(value)} is not an origin")
    return value.lower()
