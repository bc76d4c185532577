"""One example of each JSON request and answer, for the OpenAPI document; checked by tests."""

from __future__ import annotations

from typing import Any

import msgspec


class Example(msgspec.Struct, frozen=True):
    request: Any = None
    answer: Any = None


_INFO = {
    "path": "/notes.txt",
    "size": 11,
    "file_type": "regular",
    "mode": 420,
    "uid": 1000,
    "gid": 1000,
    "atime": 1_767_225_600,
    "mtime": 1_767_225_600,
    "ctime": 1_767_225_600,
    "etag": "2a-18867f2a1c9e0000",
}
_NAMESPACE = {
    "name": "acme",
    "created_at": "2026-01-01T00:00:00Z",
    "created_by": "alice",
    "status": "active",
}

#: By the name of the route.
EXAMPLES: dict[str, Example] = {
    "auth_refresh": Example(
        answer={"token": "eyJhbGciOiJIUzI1NiJ9.e30.c2ln", "expires_in": 86_400}
    ),
    "auth_revoke": Example({"user": "alice"}),
    "health": Example(answer={"status": "ok", "instance_id": "3f9a0c1d"}),
    "livez": Example(answer={"status": "ok"}),
    "readyz": Example(
        answer={
            "status": "ok",
            "checks": [
                {"name": "worker", "ok": True},
                {"name": "meta", "ok": True},
                {"name": "root", "ok": True},
            ],
        }
    ),
    "version": Example(
        answer={
            "name": "fs9",
            "version": "0.1.0",
            "python": "3.12.4",
            "instance_id": "3f9a0c1d",
        }
    ),
    "stat": Example(answer=_INFO),
    "wstat": Example({"path": "/notes.txt", "changes": {"name": "/old/notes.txt"}}),
    "statfs": Example(
        answer={
            "total_bytes": 1_073_741_824,
            "free_bytes": 1_073_741_813,
            "total_inodes": 1_000_000,
            "free_inodes": 999_998,
            "block_size": 4096,
            "max_name_len": 255,
        }
    ),
    "open": Example(
        {"path": "/notes.txt", "flags": {"read": True, "write": True, "create": True}},
        {"handle_id": "8f2b7c0e9d4a4f61", "metadata": _INFO},
    ),
    "read": Example({"handle_id": "8f2b7c0e9d4a4f61", "offset": 0, "size": 4096}),
    "write": Example(answer={"bytes_written": 11}),
    "close": Example({"handle_id": "8f2b7c0e9d4a4f61", "sync": True}),
    "upload": Example(answer={"path": "/notes.txt", "bytes_written": 11}),
    "readdir": Example(answer=[_INFO]),
    "capabilities": Example(
        answer={"capabilities": ["read", "write", "create"], "provider_type": "memfs"}
    ),
    "mounts": Example(answer=[{"path": "/", "provider_name": "localfs"}]),
    "events": Example(
        answer=[
            {
                "timestamp": 1_767_225_600,
                "event_type": "create",
                "path": "/notes.txt",
                "user": "alice",
                "count": 1,
            }
        ]
    ),
    "namespace_create": Example({"name": "acme"}, _NAMESPACE),
    "namespace_list": Example(answer=[_NAMESPACE]),
    "namespace_get": Example(answer=_NAMESPACE),
    "namespace_update": Example(
        {"quota": {"bytes_max": 10_000_000_000, "files_max": None}},
        {**_NAMESPACE, "quota": {"bytes_max": 10_000_000_000}},
    ),
    "namespace_delete": Example(answer={"name": "acme", "status": "deleted", "purged": False}),
    "mount_add": Example(
        {"path": "/logs", "provider": "pubsubfs", "config": {"retention_messages": 1000}},
        {"path": "/logs", "provider_name": "pubsubfs"},
    ),
    "plugin_list": Example(answer=["memory"]),
    "plugin_load": Example(
        {"name": "memory", "path": "libfs9_plugin_memory.so"},
        {"name": "memory", "status": "loaded"},
    ),
    "plugin_unload": Example({"name": "memory"}),
}
