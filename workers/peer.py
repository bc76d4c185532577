"""The address of the client at the other end of a connection, also when a worker forwards for it.

A worker that forwards binds its end of the Unix connection to an abstract name (unix(7)) that
contains the client's address and the number of the view by which it forwards. Only workers can
reach the private sockets, so nobody else can present such a name; and it costs nothing per request.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from typing import TYPE_CHECKING

from fs9.wire.forwarded import UNIX

if TYPE_CHECKING:
    import asyncio

_PREFIX = b"\0fs9-forwards/"


def peer_of(transport: asyncio.Transport, *, private: bool) -> str:
    """The client's IP address, `unix` for a proxy at the front socket, or empty if unknown."""
    sock = transport.get_extra_info("socket")
    if sock is None:
        return ""
    try:
        name = sock.getpeername()
    except OSError:  # gone already: that must not make it another kind of peer
        return ""
    if private:
        return _forwarded_for(name)
    if sock.family == socket.AF_UNIX:
        return UNIX
    return str(name[0]).partition("%")[0]


def forwarding_name(peer: str, view: int) -> bytes:
    """The name of a connection that forwards for `peer`; another one at each call."""
    return b"%b%b/%d/%b" % (_PREFIX, os.urandom(8).hex().encode(), view, peer.encode("ascii"))


def forwarding_view(transport: asyncio.Transport) -> int | None:
    """The number of the view by which a connection forwards to us; None when it has none."""
    sock = transport.get_extra_info("socket")
    try:
        parts = None if sock is None else _forwarding_parts(sock.getpeername())
    except OSError:
        return None
    return int(parts[0]) if parts is not None and parts[0].isdecimal() else None


def _forwarding_parts(name: object) -> tuple[str, str] | None:
    """View and client; None for a connection that does not forward."""
    if not isinstance(name, bytes) or not name.startswith(_PREFIX):
        return None
    parts = name[len(_PREFIX) :].decode("ascii", "replace").split("/", 2)
    return (parts[1], parts[2]) if len(parts) == 3 else None


def _forwarded_for(name: object) -> str:
    parts = _forwarding_parts(name)
    peer = "" if parts is None else parts[1]
    if peer == UNIX:
        return peer
    try:
        return str(ipaddress.ip_address(peer))
    except ValueError:
        return ""
