"""Who may ask: the rules on host names, origins and keys (docs/protocol.md, "Access")."""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Final

from relay.errors import Code, RelayError
from relay.keys import ClientKeys

_PORT: Final = re.compile(r":\d+\Z", re.ASCII)
_CORS_HEADERS: Final = "authorization, content-type, idempotency-key, last-event-id"
_CORS_EXPOSED: Final = "X-Stream-ID, X-Request-ID, Retry-After"


class AccessRules:
    """Tells whether a request may pass, from its headers alone.

    Without any keys, the host and origin rules are all that keeps web pages out of a relay on a
    laptop: a page on any site can send requests to loopback, and DNS rebinding gives it a name there.
    """

    def __init__(self, *, keys: ClientKeys, hosts: Iterable[str], origins: Iterable[str] = ()) -> None:
        self._keys = keys
        self._hosts = {host.lower() for host in hosts}
        self._origins = {origin.lower() for origin in origins}

    def check_host(self, headers: Mapping[str, str]) -> None:
        """Raise RelayError (forbidden_host) for a name that is not ours.

        No name at all is fine: only HTTP/1.0 allows that, and no browser speaks it.
        """
        host = headers.get("Host", "").lower()
        if host and not is_one_of(self._hosts, host):
            message = "This host name is not one of the relay's (RELAY_ALLOWED_HOSTS)."
            raise RelayError(Code.FORBIDDEN_HOST, message)

    def check_origin(self, headers: Mapping[str, str]) -> None:
        """Raise RelayError (forbidden_origin) for a web page that was not allowed."""
        if "Origin" in headers:
            allowed = self.allows_origin(headers)
        else:
            allowed = headers.get("Sec-Fetch-Site") != "cross-site"
        if not allowed:
            message = "Web pages of this origin may not use the relay (RELAY_ALLOWED_ORIGINS)."
            raise RelayError(Code.FORBIDDEN_ORIGIN, message)

    def allows_origin(self, headers: Mapping[str, str]) -> bool:
        """Whether the request's Origin is the relay's own page, or one that was allowed."""
        origin = headers.get("Origin", "").lower()
        scheme, separator, authority = origin.partition("://")
        # "null" is the origin of any sandboxed page, and no browser writes one beyond ASCII.
        if not separator or not origin.isascii():
            return False
        own = scheme in ("http", "https") and authority == headers.get("Host", "").lower()
        return own or origin in self._origins or f"{scheme}://*" in self._origins

    def check_key(self, headers: Mapping[str, str]) -> bytes | None:
        """Return what tells this client from others; None where no keys are set.

        Raises RelayError (unauthorized).
        """
        if not self._keys:
            return None
        scheme, _, key = headers.get("Authorization", "").partition(" ")
        owner = self._keys.owner(key.strip())
        if scheme.lower() == "bearer" and owner is not None:
            return owner
        message = (
            "Send one of the relay's keys (RELAY_API_KEYS, RELAY_API_KEYS_FILE) as"
            " `Authorization: Bearer KEY`."
        )
        raise RelayError(Code.UNAUTHORIZED, message, headers={"WWW-Authenticate": "Bearer"})

    def cors_headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Return what lets an allowed page read the response; nothing for others."""
        if "Origin" not in headers or not self.allows_origin(headers):
            return {}
        return {
            "Access-Control-Allow-Origin": headers["Origin"],
            "Access-Control-Expose-Headers": _CORS_EXPOSED,
            "Vary": "Origin",
        }

    def preflight_headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Return what lets an allowed page send its request."""
        return {
            **self.cors_headers(headers),
            "Access-Control-Allow-Methods": "GET, POST, DELETE",
            "Access-Control-Allow-Headers": _CORS_HEADERS,
            "Access-Control-Max-Age": "600",
        }


def is_one_of(hosts: Collection[str], host: str) -> bool:
    """Whether a host is among these, on any port unless the entry names one; all in lower case."""
    return host in hosts or _PORT.sub("", host) in hosts
