"""Hostile requests: paths that try to leave, texts that come back, JSON that tries to hurt."""

from __future__ import annotations

import asyncio
import json
import os
import random
from typing import TYPE_CHECKING
from urllib.parse import quote_from_bytes

import httpx2
import pytest

from tests.e2e.conftest import new_name
from tests.e2e.reference import refused
from tests.workers.wire_client import WireClient, request

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.fix_fleet import Fleet

# -- Paths that try to leave ----------------------------------------------------------------

_UPS = (
    b"..",
    b"%2e%2e",
    b"%2E.",
    b".%2e",
    b"%252e%252e",
    b"%25%32%65%25%32%65",
    b"%c0%ae%c0%ae",
    b"%e0%80%ae%e0%80%ae",
    b"%f0%80%80%ae%f0%80%80%ae",
    b"%uff0e%uff0e",
    "．．".encode(),
    "․․".encode(),
    "‥".encode(),
    b"..%00",
    b"%00..",
    b"..;",
    b"..%20",
    b"..%09",
    b"..%0d%0a",
    b"....//..",
    b". .",
    b"..%01",
    b"..%ff",
)
_SLASHES = (
    b"/",
    b"%2f",
    b"%2F",
    b"%252f",
    b"\\",
    b"%5c",
    b"%255c",
    b"//",
    b"/./",
    b"%c0%af",
    b"%e0%80%af",
    "∕".encode(),
    "／".encode(),
    b"%2f%2e%2f",
)
_TARGETS = (b"etc/passwd", b"SECRET", b"fs9.yaml", b"data/meta.sqlite")


def _paths() -> Iterator[bytes]:
    """Query values as they are on the wire."""
    for up in _UPS:
        for slash in _SLASHES:
            for depth in (1, 3, 12):
                yield slash + (up + slash) * depth + _TARGETS[depth % len(_TARGETS)]
                yield b"/d" + slash + (up + slash) * (depth + 1) + b"SECRET"
    for prefix in (b"/proc/self/root/", b"/proc/self/cwd/", b"file:///", b"//", b"~/", b"/dev/fd/"):
        yield from (prefix + target for target in _TARGETS)
    for link in (b"up", b"root", b"outside", b"dangling", b"loop", b"d/up"):
        for rest in (b"", b"/", b"/SECRET", b"/.", b"/..", b"/../SECRET", b"/up/SECRET", b"/x"):
            yield b"/" + link + rest
    for length in (255, 256, 1000, 4095, 4096, 8000):
        yield b"/" + b"a" * length
        yield b"/" + b"../" * (length // 3) + b"SECRET"
        yield b"/" + b"d/" * (length // 2) + b"../" * (length // 3)
    chance = random.Random(9)
    pieces = [*_UPS, *_SLASHES, b"/", b"/", b"d", b"up", b"root", b"%00", b"\xff", b"SECRET", b"."]
    for _ in range(400):
        yield b"/" + b"".join(chance.choice(pieces) for _ in range(chance.randrange(1, 12)))


_PATHS = sorted({quote_from_bytes(path, safe="/%\\;.~:-_") for path in _paths()})


@pytest.fixture
def jail(fleet: Fleet) -> tuple[str, Path]:
    """(tenant, its directory on the server), with links that lead out of it."""
    tenant = new_name()
    with httpx2.Client(base_url=f"{fleet.url}/{tenant}/api/v1/") as client:
        for path in ("/d", "/d/d"):
            body = {"path": path, "flags": {"create": True, "directory": True}}
            client.post("open", json=body).raise_for_status()
        for path, target in (
            ("/up", ".."),
            ("/d/up", "../.."),
            ("/root", "/"),
            ("/outside", str(fleet.data_dir)),
            ("/dangling", str(fleet.data_dir / "made-outside")),
            ("/loop", "loop"),
        ):
            body = {"path": path, "changes": {"symlink_target": target}}
            client.post("wstat", json=body).raise_for_status()
    return tenant, fleet.data_dir / "namespaces" / tenant / "files"


def everything_below(root: Path) -> set[str]:
    return {
        os.path.join(directory, name)
        for directory, names, files in os.walk(root)
        for name in names + files
    }


def test_there_are_enough_paths() -> None:
    assert len(_PATHS) >= 2000


def _outside(fleet: Fleet, inside: Path) -> set[str]:
    """What there is beside the jail, but for the metadata."""
    return {
        name
        for name in everything_below(fleet.data_dir.parent)
        if not name.startswith(str(inside)) and "meta.sqlite" not in name
    }


async def test_no_path_leaves_the_jail(fleet: Fleet, jail: tuple[str, Path]) -> None:
    """Every path on every kind of route: nothing outside is read, made, moved or removed."""
    tenant, inside = jail
    marker = b"only outside of the jail, " + os.urandom(8).hex().encode()
    secrets = [
        fleet.data_dir / "SECRET",
        fleet.data_dir.parent / "SECRET",
        inside.parent / "SECRET",
    ]
    for secret in secrets:
        secret.write_bytes(marker)
    before = _outside(fleet, inside)
    statuses: dict[int, int] = {}
    clients = [await WireClient.connect(fleet.port) for _ in range(4)]
    prefix = f"/{tenant}/api/v1/"

    def requests_of(path: str, number: int) -> list[bytes]:
        text = path.encode("latin-1").replace(b"%", b"%25") if number % 5 == 4 else path.encode()
        query = text.decode("latin-1")
        plain = json.dumps({"path": path, "flags": {"read": True}})
        making = json.dumps({"path": path, "flags": {"create": True, "write": True}})
        rename = json.dumps({"path": "/d/d", "changes": {"name": path}})
        link = json.dumps({"path": path, "changes": {"symlink_target": "/etc/passwd"}})
        kind = {"Content-Type": "application/json"}
        choices = [
            request("GET", f"{prefix}download?path={query}"),
            request("PUT", f"{prefix}upload?path={query}", body=b"pwned"),
            request("POST", f"{prefix}open", headers=kind, body=plain.encode()),
            request("POST", f"{prefix}open", headers=kind, body=making.encode()),
            request("DELETE", f"{prefix}remove?path={query}"),
            request("POST", f"{prefix}wstat", headers=kind, body=rename.encode()),
            request("POST", f"{prefix}wstat", headers=kind, body=link.encode()),
            request("GET", f"{prefix}readdir?path={query}"),
            request("GET", f"{prefix}statfs?path={query}"),
        ]
        # All of them read; each also changes in one of the ways.
        return [
            request("GET", f"{prefix}stat?path={query}"),
            choices[0],
            choices[number % len(choices)],
        ]

    async def attack(client: WireClient, share: int) -> None:
        for number in range(share, len(_PATHS), len(clients)):
            for raw in requests_of(_PATHS[number], number):
                await client.send(raw)
                answer = await client.response()
                assert answer.status < 500 or answer.status in {501, 507}, _PATHS[number]
                assert marker not in answer.body, _PATHS[number]
                assert b"root:x:0" not in answer.body, _PATHS[number]
                statuses[answer.status] = statuses.get(answer.status, 0) + 1

    await asyncio.gather(*(attack(client, share) for share, client in enumerate(clients)))
    for client in clients:
        await client.close()
    assert {200, 400, 404} <= statuses.keys()
    after = _outside(fleet, inside)
    grown = {name for name in after - before if "/namespaces/t" not in name and "/run/" not in name}
    assert grown == set()
    assert {name for name in before - after if "/run/" not in name} == set()
    for secret in secrets:
        assert await asyncio.to_thread(secret.read_bytes) == marker
        secret.unlink()


@pytest.mark.parametrize(
    "target",
    [
        "/%61pi/v1/stat?path=/",
        "/t/%61pi/v1/stat?path=/",
        "/t%2Fapi/v1/stat?path=/",
        "/api%2Fv1%2Fstat?path=/",
        "/api/v1/st%61t?path=/",
        "/api/v1//stat?path=/",
        "//api/v1/stat?path=/",
        "/api/./v1/stat?path=/",
        "/x/../api/v1/stat?path=/",
        "/api/v1/stat/?path=/",
        "/api/v1/stat;x?path=/",
        "/api/v1/stat%00?path=/",
        "/api/v1/stat%3Fpath=/",
        "/API/v1/stat?path=/",
    ],
)
async def test_only_the_exact_path_is_a_route(fleet: Fleet, target: str) -> None:
    """What another reader of the path might take for a route is none, on whichever worker."""
    for _ in range(3):
        client = await WireClient.connect(fleet.port)
        await client.send(request("GET", target))
        answer = await client.response()
        assert answer.status == 404, answer.body
        assert json.loads(answer.body)["kind"] == "RouteNotFound"
        await client.close()


# -- Texts that come back -------------------------------------------------------------------

_INJECTION = "/x\r\nSet-Cookie: owned=1\r\n\r\n<script>alert(1)</script>"


async def test_a_path_cannot_inject_into_an_answer(fleet: Fleet) -> None:
    """A path with line ends, in every place where an answer may repeat it."""
    tenant = new_name()
    client = await WireClient.connect(fleet.port)
    prefix = f"/{tenant}/api/v1/"
    path = quote_from_bytes(_INJECTION.encode(), safe="/")
    kind = {"Content-Type": "application/json"}
    for raw in (
        request("PUT", f"{prefix}upload?path=/dir{path}", body=b""),
        request("GET", f"{prefix}stat?path={path}"),
        request("GET", f"{prefix}nothing{path}"),
        request("GET", f"{prefix}events?type={path}"),
        request("GET", f"{prefix}readdir?path=/&limit=1&cursor={path}"),
        request("GET", f"{prefix}readdir?path={path}&limit=1"),
        request("GET", f"{prefix}namespaces{path}"),
        request("GET", f"/{path}/api/v1/stat?path=/"),
        request("GET", f"{prefix}stat?{path}=1&{path}=2"),
        request("POST", f"{prefix}open", headers=kind, body=json.dumps({_INJECTION: 1}).encode()),
        request("GET", f"{prefix}download?path={path}", headers={"Range": "bytes=0-"}),
    ):
        await client.send(raw)
        answer = await client.response()  # strict: an extra line would fail here
        assert "set-cookie" not in answer.headers
        assert answer.headers["content-type"] == "application/json"
        json.loads(answer.body)
        assert b"\r\n" not in answer.body
    # The name exists, and is told in a cursor, a link and a listing.
    for name in ("a", _INJECTION.replace("/", "").strip()):
        query = quote_from_bytes(f"/{name}".encode(), safe="/")
        await client.send(request("PUT", f"{prefix}upload?path={query}", body=b"x"))
        assert (await client.response()).status == 200
    cursor = ""
    for _ in range(4):
        await client.send(request("GET", f"{prefix}readdir?path=/&limit=1{cursor}"))
        answer = await client.response()
        assert "set-cookie" not in answer.headers
        if "x-fs9-next-cursor" in answer.headers:
            cursor = "&cursor=" + quote_from_bytes(answer.headers["x-fs9-next-cursor"].encode())
    await client.close()


def test_a_stored_page_is_inert(api: httpx2.Client) -> None:
    """A file that a browser opens does not act as a page of this server."""
    api.put("upload?path=/x.html", content=b"<script>alert(1)</script>").raise_for_status()
    headers = api.get("download?path=/x.html").headers
    assert headers["content-security-policy"] == "sandbox"
    assert headers["x-content-type-options"] == "nosniff"


# -- JSON -----------------------------------------------------------------------------------

_BOMBS = {
    "arrays": b"[" * 1_000_000,
    "arrays on the fast lane": b"[" * 60_000,
    "objects": b'{"a":' * 300_000,
    "nested value": b'{"path":"/","flags":{},"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "huge number": b'{"path":"/","changes":{"mode":' + b"9" * 100_000 + b"}}",
    "huge exponent": b'{"path":"/","changes":{"mode":1e999999}}',
    "lone surrogate": b'{"path":"\\ud800","flags":{"read":true},"changes":{}}',
    "nul": b'{"path":"/a\\u0000b","flags":{"read":true},"changes":{}}',
    "nan": b'{"path":"/","flags":{},"changes":{"mode":NaN}}',
    "twice": b'{"path":"/none","path":7,"flags":{"read":true},"changes":{}}',
    "byte order mark": b'\xef\xbb\xbf{"path":"/none","flags":{},"changes":{}}',
    "utf-16": '{"path":"/","flags":{},"changes":{}}'.encode("utf-16"),
    "bad utf-8": b'{"path":"/\xc0\xae","flags":{},"changes":{}}',
    "many keys": b"{" + b",".join(b'"%d":1' % n for n in range(100_000)) + b"}",
    "long path": b'{"path":"' + b"/x" * 900_000 + b'","flags":{},"changes":{}}',
}


@pytest.mark.parametrize("name", list(_BOMBS))
@pytest.mark.parametrize("route", ["open", "wstat", "read", "close", "namespaces"])
def test_json_that_tries_to_hurt(api: httpx2.Client, route: str, name: str) -> None:
    headers = {"Content-Type": "application/json"}
    answer = api.post(route, content=_BOMBS[name], headers=headers)
    assert refused(answer)[0] in {400, 404, 422}


def test_a_json_body_has_a_limit(api: httpx2.Client) -> None:
    headers = {"Content-Type": "application/json"}
    body = b'{"path":"/","flags":{}}' + b" " * 2_097_152
    for route in ("open", "wstat", "namespaces"):
        assert refused(api.post(route, content=body, headers=headers))[0] == 413
        pieces = (body[at : at + 60_000] for at in range(0, len(body), 60_000))
        assert refused(api.post(route, content=pieces, headers=headers))[0] == 413
    exact = body[:23] + b" " * (2_097_152 - 23)
    assert api.post("open", content=exact, headers=headers).status_code == 200


@pytest.mark.parametrize("size", [2**62, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**40])
@pytest.mark.parametrize("mount", ["", "/mem"])
def test_huge_offsets_and_sizes_allocate_nothing(api: httpx2.Client, size: int, mount: str) -> None:
    """W-D2: refused by quota or as an argument, and the worker lives."""
    path = f"{mount}/f"
    body = {"path": path, "flags": {"create": True, "read": True, "write": True}}
    handle_id = api.post("open", json=body).json()["handle_id"]
    query = f"write?handle_id={handle_id}&offset={size}"
    assert refused(api.post(query, content=b"x"))[0] in {400, 507}
    answer = api.post("wstat", json={"path": path, "changes": {"size": size}})
    assert refused(answer)[0] in {400, 422, 507}
    for offset, length in ((size, 10), (0, size), (size, size)):
        body = {"handle_id": handle_id, "offset": offset, "size": length}
        answer = api.post("read", json=body)
        assert answer.status_code in {200, 400, 422}
        assert answer.status_code != 200 or answer.content == b""
    for changes in ({"mtime": size}, {"atime": size}, {"mode": size}, {"uid": size}):
        answer = api.post("wstat", json={"path": path, "changes": changes})
        assert refused(answer)[0] in {400, 422}
    assert api.get("stat", params={"path": path}).json()["size"] == 0
