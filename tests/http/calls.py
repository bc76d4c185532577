"""Requests that many tests make, and how they look at a refusal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx2


def problem(answer: httpx2.Response) -> tuple[int, str, str]:
    """(status, kind, text) of a refusal, whose envelope must be in order."""
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert body["code"] == answer.status_code, answer.text
    assert {"error", "code", "kind"} <= body.keys()
    return answer.status_code, body["kind"], body["error"]


def ok(answer: httpx2.Response) -> httpx2.Response:
    assert answer.is_success, answer.text
    return answer


async def stat(api: httpx2.AsyncClient, path: str) -> dict[str, Any]:
    info: dict[str, Any] = ok(await api.get("stat", params={"path": path})).json()
    return info


async def put(api: httpx2.AsyncClient, path: str, content: bytes) -> None:
    ok(await api.put("upload", params={"path": path}, content=content))


async def get(api: httpx2.AsyncClient, path: str, **headers: str) -> httpx2.Response:
    return await api.get("download", params={"path": path}, headers=headers)


async def open_(api: httpx2.AsyncClient, path: str, **flags: bool) -> str:
    answer = ok(await api.post("open", json={"path": path, "flags": flags}))
    handle_id: str = answer.json()["handle_id"]
    return handle_id


async def read(api: httpx2.AsyncClient, handle_id: str, offset: int, size: int) -> httpx2.Response:
    return await api.post("read", json={"handle_id": handle_id, "offset": offset, "size": size})


async def write(
    api: httpx2.AsyncClient, handle_id: str, offset: int, content: Any
) -> httpx2.Response:
    return await api.post(
        "write", params={"handle_id": handle_id, "offset": offset}, content=content
    )


async def close(api: httpx2.AsyncClient, handle_id: str) -> httpx2.Response:
    return await api.post("close", json={"handle_id": handle_id})


async def create(api: httpx2.AsyncClient, path: str) -> None:
    ok(await close(api, await open_(api, path, write=True, create=True)))


async def mkdir(api: httpx2.AsyncClient, path: str) -> None:
    ok(await close(api, await open_(api, path, create=True, directory=True)))
