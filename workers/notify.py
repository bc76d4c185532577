"""Tells systemd how the fleet is doing (sd_notify(3)), when systemd has started it."""

from __future__ import annotations

import contextlib
import socket


class Notifier:
    """Sends a datagram for each change of state to the socket that the service manager named.

    `address` is the value of NOTIFY_SOCKET; without it nothing is sent. A datagram that cannot be
    delivered is ignored: the fleet serves all the same.
    """

    def __init__(self, address: str | None) -> None:
        # `@` stands for the zero byte of an abstract address (unix(7)).
        self._address = address and ("\0" + address[1:] if address[0] == "@" else address)

    def ready(self, status: str) -> None:
        """Tell that all workers serve."""
        self._send(f"READY=1\nSTATUS={status}")

    def stopping(self) -> None:
        """Tell that the fleet has begun to stop."""
        self._send("STOPPING=1\nSTATUS=finishing requests")

    def _send(self, state: str) -> None:
        if not self._address:
            return
        kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC
        with socket.socket(socket.AF_UNIX, kind) as sock, contextlib.suppress(OSError):
            sock.connect(self._address)
            sock.sendall(state.encode())
