"""The Python client: `AsyncClient`, and `Client`, the same without an event loop."""

from fs9.client.aio import AsyncClient
from fs9.client.aio_file import AsyncFile
from fs9.client.aio_transfer import AsyncDownload
from fs9.client.failures import (
    ConnectionLost,
    ServerUnreachable,
    TruncatedBody,
    UnexpectedAnswer,
)
from fs9.client.ops import Handle, Uploaded
from fs9.client.report import TreeOptions, TreeReport
from fs9.client.sync import Client
from fs9.client.sync_file import File
from fs9.client.sync_transfer import Download

__all__ = [
    "AsyncClient",
    "AsyncDownload",
    "AsyncFile",
    "Client",
    "ConnectionLost",
    "Download",
    "File",
    "Handle",
    "ServerUnreachable",
    "TreeOptions",
    "TreeReport",
    "TruncatedBody",
    "UnexpectedAnswer",
    "Uploaded",
]
