"""The calls that clients of the first server of this protocol make, written anew.

Deliberately plain: what it sends and what it looks for in answers is the reference's, and none
of our own code is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

import pytest

if TYPE_CHECKING:
    import httpx2

FILE_KEYS = {
    "path",
    "size",
    "file_type",
    "mode",
    "uid",
    "gid",
    "atime",
    "mtime",
    "ctime",
    "etag",
}


class RefusedError(Exception):
    def __init__(self, kind: str, status: int, text: str) -> None:
        super().__init__(f"{kind} {status}: {text}")
        self.kind = kind
        self.status = status
        self.text = text


def classify(status: int, text: str) -> str:
    """The class that the reference's Python client raises (its errors.py)."""
    by_status = {404: "NotFound", 403: "PermissionDenied", 409: "AlreadyExists", 504: "Timeout"}
    if status in by_status:
        return by_status[status]
    if status != 400:
        return "Fs9Error"
    lower = text.lower()
    for needle, kind in (
        ("not a directory", "NotDirectory"),
        ("is a directory", "IsDirectory"),
        ("not empty", "DirectoryNotEmpty"),
        ("handle", "InvalidHandle"),
    ):
        if needle in lower:
            return kind
    return "InvalidArgument"


class Reference:
    """`blank`: how a blank of a query is sent; Python sends %20, Rust +."""

    def __init__(self, http: httpx2.Client, *, blank: str) -> None:
        self.http = http
        self._quote = quote_plus if blank == "+" else quote

    def _call(self, method: str, route: str, *, query: dict[str, Any] | None = None, **kw: Any):
        fields = [f"{name}={self._quote(str(value))}" for name, value in (query or {}).items()]
        url = route + ("?" + "&".join(fields) if fields else "")
        answer = self.http.request(method, url, **kw)
        if answer.is_success:
            return answer
        body = answer.json()  # Rust needs both keys of the envelope
        assert body["code"] == answer.status_code
        raise RefusedError(
            classify(answer.status_code, body["error"]), answer.status_code, body["error"]
        )

    def stat(self, path: str) -> dict[str, Any]:
        info = self._call("GET", "stat", query={"path": path}).json()
        assert info.keys() >= FILE_KEYS
        return info

    def exists(self, path: str) -> bool:
        try:
            self.stat(path)
        except RefusedError as error:
            if error.kind == "NotFound":
                return False
            raise
        return True

    def open(self, path: str, **flags: bool) -> str:
        answer = self._call("POST", "open", json={"path": path, "flags": flags})
        assert '"handle_id":"' in answer.text  # a script of the reference greps for it
        body = answer.json()
        assert body["metadata"].keys() >= FILE_KEYS
        assert isinstance(body["handle_id"], str)
        return body["handle_id"]

    def read(self, handle_id: str, offset: int = 0, size: int = 1_048_576) -> bytes:
        body = {"handle_id": handle_id, "offset": offset, "size": size}
        return self._call("POST", "read", json=body).content

    def write(self, handle_id: str, offset: int, data: bytes) -> int:
        query = {"handle_id": handle_id, "offset": offset}
        answer = self._call("POST", "write", query=query, content=data)
        return answer.json()["bytes_written"]

    def close(self, handle_id: str) -> None:
        # `sync` has a default, and the Python client leaves it out.
        answer = self._call("POST", "close", json={"handle_id": handle_id})
        assert answer.status_code == 204
        assert answer.content == b""

    def mkdir(self, path: str) -> None:
        self.close(self.open(path, create=True, directory=True))

    def write_file(self, path: str, data: bytes) -> int:
        handle_id = self.open(path, read=True, write=True, create=True, truncate=True)
        try:
            return self.write(handle_id, 0, data)
        finally:
            self.close(handle_id)

    def read_file(self, path: str) -> bytes:
        answer = self._call("POST", "open", json={"path": path, "flags": {"read": True}}).json()
        size = max(answer["metadata"]["size"], 1_048_576)
        try:
            return self.read(answer["handle_id"], 0, size)
        finally:
            self.close(answer["handle_id"])

    def readdir(self, path: str) -> list[dict[str, Any]]:
        entries = self._call("GET", "readdir", query={"path": path}).json()
        assert all(entry.keys() >= FILE_KEYS for entry in entries)
        return entries

    def remove(self, path: str) -> None:
        answer = self._call("DELETE", "remove", query={"path": path})
        assert (answer.status_code, answer.content) == (204, b"")

    def wstat(self, path: str, **changes: Any) -> None:
        answer = self._call("POST", "wstat", json={"path": path, "changes": changes})
        assert (answer.status_code, answer.content) == (204, b"")

    def upload(self, path: str, data: Any) -> dict[str, Any]:
        return self._call("PUT", "upload", query={"path": path}, content=data).json()

    def download(self, path: str, byte_range: str | None = None) -> httpx2.Response:
        headers = {"Range": byte_range} if byte_range else {}
        return self._call("GET", "download", query={"path": path}, headers=headers)

    def statfs(self, path: str) -> dict[str, int]:
        return self._call("GET", "statfs", query={"path": path}).json()

    def capabilities(self, path: str) -> dict[str, Any]:
        return self._call("GET", "capabilities", query={"path": path}).json()

    def mounts(self) -> list[dict[str, str]]:
        return self._call("GET", "mounts").json()

    def events(self, **query: Any) -> list[dict[str, Any]]:
        return self._call("GET", "events", query=query).json()


def refused(answer: httpx2.Response) -> tuple[int, str, str]:
    """(status, kind, text) of a refusal; the envelope must be compact and in order."""
    assert answer.headers["content-type"] == "application/json"
    assert answer.text.startswith('{"error":"')
    body = answer.json()
    assert body["code"] == answer.status_code
    return answer.status_code, body["kind"], body["error"]


def raises(kind: str) -> Any:
    return pytest.raises(RefusedError, match=f"^{kind} ")
