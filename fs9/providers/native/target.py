"""The entry point of a plugin process: small, so that workers can import it.

`host` and all behind it (the declarations of the C interface take a while to parse) are
imported in the plugin's process alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket


def run(
    connection: socket.socket,
    parent: int,
    path: str,
    config: bytes | None,
    threads: int,
    file_bytes_max: int,
) -> None:
    """See `fs9.providers.native.host.serve`."""
    from fs9.providers.native.host import serve

    serve(connection, parent, path, config, threads, file_bytes_max)
