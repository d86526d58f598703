"""Sockets, to clients and to AnythingLLM, with the options that long streams need."""

import errno
import os
import socket
import sys
from typing import Final

from aiohttp import AddrInfoType

if sys.platform == "win32":
    resource = None
else:
    import resource

_LOCALHOST: Final = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))
_FROM_HERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (every interface, seen from inside)
BACKLOG: Final = 1024
_NOT_HERE: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)  # a machine without IPv6, say
# Bytes that the kernel may keep for a peer that does not read, or from one that is not read (Linux
# takes twice as many). By itself it goes up to megabytes each.
_KERNEL_BUFFER: Final = 64 * 1024
# Seconds of silence after which AnythingLLM's machine is asked whether it is there, seconds between
# two questions, and how many may stay without an answer. Where a wait has no limit, this is the one.
_KEEPALIVE: Final = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}


class CannotListen(Exception):
    """The address cannot be had; the text is one line for a person."""


def raise_descriptor_limit() -> int | None:
    """Let this process open as many files and sockets as it may; return how many, None if unlimited."""
    if resource is None:
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    except (OSError, ValueError):  # macOS has a limit that it does not tell here
        pass
    return None if soft == resource.RLIM_INFINITY else soft


def to_anythingllm(address: AddrInfoType) -> socket.socket:
    """Make a socket for a connection to AnythingLLM."""
    family, kind, protocol, _, _ = address
    one = socket.socket(family, kind, protocol)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _KERNEL_BUFFER)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):
            one.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return one


def listen(host: str, port: int) -> list[socket.socket]:
    """Open the listening sockets: `localhost` is 127.0.0.1 and ::1, on one port.

    Connections take over their options: little is kept for a client that does not read. There is no
    TCP_USER_TIMEOUT among them: the kernel would reset clients that read slowly, but steadily. One whose
    machine has vanished is found by relay.response. Raises CannotListen.
    """
    sockets: list[socket.socket] = []
    try:
        for family, address in _addresses(host):
            try:
                one = socket.create_server((address, port), family=family, backlog=BACKLOG)
            except OSError as error:
                if sockets and error.errno in _NOT_HERE:
                    continue
                raise CannotListen(_why(error, address, port)) from None
            sockets.append(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _KERNEL_BUFFER)
            port = one.getsockname()[1]  # where any free port would do, all take the first one's
    except CannotListen:
        for one in sockets:
            one.close()
        raise
    return sockets


def _addresses(host: str) -> list[tuple[socket.AddressFamily, str]]:
    if host == "localhost":
        return list(_LOCALHOST)
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):  # the latter for a name that cannot be one, such as a..b
        raise CannotListen(f"RELAY_HOST: {host} is not an address of this machine.") from None
    return list(dict.fromkeys((family, str(address[0])) for family, _, _, _, address in found))


def _why(error: OSError, address: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        message = f"Port {port} is taken; choose another with --port or RELAY_PORT."
        if sys.platform == "darwin" and port == 5000:
            message += " (On macOS it is often AirPlay: System Settings, AirDrop & Handoff.)"
        return message
    if error.errno == errno.EACCES:
        return f"Port {port} may not be used; choose another with --port or RELAY_PORT."
    return f"Cannot listen on {address} port {port}: {os.strerror(error.errno or 0)} (RELAY_HOST)."


def url_of(one: socket.socket) -> str:
    """Return the address under which a listening socket can be asked from here."""
    address, port = one.getsockname()[:2]
    address = _FROM_HERE.get(address, address)
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"
