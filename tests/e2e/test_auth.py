"""Tokens, roles, tenants and namespaces, over real sockets (docs/http-api.md)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from tests.e2e.conftest import bearer, make_token, new_name
from tests.e2e.reference import refused
from tests.fix_fleet import SECRET, Fleet

if TYPE_CHECKING:
    from collections.abc import Iterator

ADMIN = {"roles": ["admin"]}


@pytest.fixture
def http(guarded: Fleet) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=f"{guarded.url}/api/v1/", timeout=30) as client:
        yield client


def made(http: httpx2.Client) -> str:
    """A new namespace."""
    name = new_name()
    answer = http.post("namespaces", json={"name": name}, headers=bearer(**ADMIN))
    assert answer.status_code == 201
    return name


def _part(value: Any) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _forged(header: Any, claims: Any, *, key: bytes = SECRET.encode(), name: str = "sha256") -> str:
    signed = f"{_part(header)}.{_part(claims)}"
    return f"{signed}.{_part(hmac.new(key, signed.encode(), name).digest())}"


_GOOD: dict[str, Any] = {"sub": "ann", "ns": "default", "roles": ["admin"], "iat": 1, "exp": 2**32}
_HS: dict[str, Any] = {"alg": "HS256", "typ": "JWT"}


def _without(name: str) -> dict[str, Any]:
    return {key: value for key, value in _GOOD.items() if key != name}


def _hostile() -> Iterator[str]:
    """Tokens that must never be accepted."""
    good = _forged(_HS, _GOOD)
    head, claims, signature = good.split(".")
    # Algorithms: none in any spelling, others of the family, keys of other kinds.
    for alg in ("none", "None", "NONE", "nOnE", "", None, 0, [], {}, True, "HS384", "HS512"):
        yield _forged(_HS | {"alg": alg}, _GOOD)
        yield f"{_part(_HS | {'alg': alg})}.{claims}."
    for alg in (
        "RS256",
        "ES256",
        "PS256",
        "EdDSA",
        "hs256",
        " HS256",
        "HS256 ",
        "HS256\x00",
        "dir",
    ):
        yield _forged(_HS | {"alg": alg}, _GOOD)
    yield _forged({"typ": "JWT"}, _GOOD)
    yield _forged(_HS | {"alg": "HS512"}, _GOOD, name="sha512")
    # Extensions that we do not understand.
    for crit in (["exp"], ["b64"], [], "exp", None, {}, ["x5u"], [1]):
        yield _forged(_HS | {"crit": crit}, _GOOD)
    yield _forged(_HS | {"b64": False, "crit": ["b64"]}, _GOOD)
    # Keys that the sender names or that are empty, guessed, or derived from the public.
    for key in (b"", b"secret", b"null", SECRET.encode()[:-1], SECRET.encode() + b"x"):
        for extra in ({}, {"kid": "../../dev/null"}, {"jku": "http://127.0.0.1/"}, {"jwk": {}}):
            yield _forged(_HS | extra, _GOOD, key=key)
    yield _forged(_HS, _GOOD, key=hashlib.sha256(SECRET.encode()).digest())
    # Signatures.
    yield f"{head}.{claims}."
    yield f"{head}.{claims}"
    yield f"{head}.{claims}.{signature[:-4]}"
    yield f"{head}.{claims}.{'A' * len(signature)}"
    yield f"{head}.{claims}.{signature}.{signature}"
    yield f"{head}..{signature}"
    yield f".{claims}.{signature}"
    yield f"{head}.{_part(_GOOD | {'ns': 'other'})}.{signature}"
    yield f"{_part(_HS | {'typ': 'x'})}.{claims}.{signature}"
    yield from (".", "..", "...", "a.b.c", "null", "undefined", "Bearer", good + ".", "." + good)
    for cut in range(1, len(good), len(good) // 8):
        yield good[:cut]
    # Not what the parts must hold.
    for part in (b"", b"null", b"[]", b"1", b'"x"', b"{", b"\xff\xfe", b"{}", b'{"alg":"HS256"'):
        yield _forged(_HS, part)
        yield _forged(part, _GOOD)
    yield _forged(_HS, b"[" * 3000)
    yield _forged(b"[" * 3000, _GOOD)
    yield _forged(_HS, _GOOD | {"padding": "x" * 9000})
    # Claims that are missing, of a wrong type, or of another time or place.
    for name in ("sub", "ns", "iat", "exp"):
        yield _forged(_HS, _without(name))
        for value in (None, [], {}, True, 1.5, "1", [1]):
            if not (isinstance(value, str) and name in {"sub", "ns"}):
                yield _forged(_HS, _GOOD | {name: value})
    for value in ("admin", {}, 1, True, [1], [["admin"]], {"admin": True}, [None]):
        yield _forged(_HS, _GOOD | {"roles": value})
    for exp in (0, -1, 1_000_000_000, -(2**40), 2**70, 10**400):
        yield _forged(_HS, _GOOD | {"exp": exp})
    for nbf in (2**31, 2**40, "0", True, 1.5):
        yield _forged(_HS, _GOOD | {"nbf": nbf})
    for aud in ("fs9-clients", [], ["fs9"], "", 0, {}):
        yield _forged(_HS, _GOOD | {"aud": aud})
    for ns in ("", "..", "../default", "a/b", "A", "default ", "x" * 65, "-x", "\0", "é", "."):
        yield _forged(_HS, _GOOD | {"ns": ns})


_HOSTILE = sorted(set(_hostile()))


def test_there_are_enough_hostile_tokens() -> None:
    """The corpus has the size that it claims."""
    assert len(_HOSTILE) >= 150


async def test_no_hostile_token_is_accepted(guarded: Fleet) -> None:
    """Each is a 401 with the envelope, on every kind of route, and the workers live on."""
    json_type = {"Content-Type": "application/json"}
    routes = [
        ("GET", "stat?path=/", {}, b""),
        ("POST", "open", json_type, b'{"path":"/owned","flags":{"create":true,"write":true}}'),
        ("PUT", "upload?path=/owned", {}, b"owned"),
        ("GET", "namespaces", {}, b""),
        ("DELETE", "remove?path=/x", {}, b""),
    ]
    limits = httpx2.Limits(max_connections=8)
    async with httpx2.AsyncClient(base_url=f"{guarded.url}/api/v1/", limits=limits) as client:

        async def attack(token: str, number: int) -> None:
            method, route, headers, body = routes[number % len(routes)]
            try:
                encoded = f"Bearer {token}".encode("ascii")
            except UnicodeEncodeError:
                encoded = f"Bearer {token}".encode()
            answer = await client.request(
                method, route, content=body, headers=headers | {"Authorization": encoded}
            )
            status, kind, _ = refused(answer)
            assert (status, kind) == (401, "Unauthenticated"), token

        cases = [(token, n) for token in _HOSTILE for n in range(len(routes))]
        for start in range(0, len(cases), 64):
            await asyncio.gather(*(attack(*case) for case in cases[start : start + 64]))
        answer = await client.get("stat", params={"path": "/owned"}, headers=bearer())
        assert answer.status_code == 404


def test_tokens_that_are_unusual_and_hold(http: httpx2.Client) -> None:
    """What the contract allows is accepted: extra claims, no roles, a minute of leeway."""
    for claims in (
        {"extra": {"deep": [1]}},
        {"roles": ...},
        {"permissions": ["list", "x"], "mounts": ["/"]},
        {"nbf": 1},
        {"iss": "anybody"},
        {"sub": "ünï"},
        {"ns": "default", "jti": "7"},
    ):
        answer = http.get("stat", params={"path": "/"}, headers=bearer(**claims))
        assert answer.status_code == 200, claims


@pytest.mark.parametrize(
    ("header", "text"),
    [
        (None, "Missing Authorization header"),
        ("Basic YTpi", "Authorization header must use Bearer scheme"),
        ("bearer x.y.z", "Authorization header must use Bearer scheme"),
        ("", "Authorization header must use Bearer scheme"),
        ("Bearer é.b.c", "Invalid Authorization header"),
    ],
)
def test_the_header(http: httpx2.Client, header: str | None, text: str) -> None:
    headers = {} if header is None else {"Authorization": header.encode("latin-1")}
    for route in ("stat?path=/", "namespaces", "none", "readdir"):
        answer = http.get(route, headers=headers)
        assert refused(answer) == (401, "Unauthenticated", text)


def test_reasons(http: httpx2.Client) -> None:
    def text(token: str) -> str:
        answer = http.get("stat?path=/", headers={"Authorization": f"Bearer {token}"})
        return refused(answer)[2]

    assert text(make_token(exp=1)) == "Invalid token: ExpiredSignature"
    assert text(make_token(ns=...)) == "Token missing required 'ns' claim"
    assert text(make_token(aud="x")) == "Invalid token: InvalidAudience"
    assert text(make_token(exp=...)) == "Invalid token: Missing required claim: exp"
    assert text(make_token(sub=...)).startswith("Invalid token: JSON error: missing field `sub`")
    assert text(_forged(_HS, _GOOD, key=b"other" * 9)) == "Invalid token: InvalidSignature"
    assert text(_forged(_HS | {"alg": "HS512"}, _GOOD)) == "Invalid token: InvalidAlgorithm"


def test_two_authorization_headers_are_not_a_choice(guarded: Fleet) -> None:
    """A good and a bad token in one request must not be read differently by two readers."""
    good, bad = bearer()["Authorization"], bearer(ns="other")["Authorization"]
    for first, second in ((good, bad), (bad, good), (good, good)):
        headers = [("Authorization", first), ("Authorization", second)]
        answer = httpx2.get(f"{guarded.url}/api/v1/stat?path=/", headers=headers)
        assert answer.status_code in {400, 401}


def test_an_unknown_namespace(http: httpx2.Client) -> None:
    headers = bearer(ns=new_name())
    expected = (403, "Forbidden", "Namespace not found or access denied")
    assert refused(http.get("stat?path=/", headers=headers)) == expected
    assert refused(http.put("upload?path=/f", content=b"x", headers=headers)) == expected
    assert refused(http.get("mounts", headers=headers)) == expected
    # The contract resolves the namespace last: a request that makes no sense is a 400 before.
    assert refused(http.get("stat", headers=headers))[0] == 400


def test_tenants_are_apart(http: httpx2.Client) -> None:
    acme, beta = bearer(ns=made(http)), bearer(ns=made(http))
    for headers, content in ((acme, b"from acme"), (beta, b"beta")):
        http.put("upload?path=/same", content=content, headers=headers).raise_for_status()
    http.put("upload?path=/only", content=b"", headers=acme).raise_for_status()
    assert http.get("download?path=/same", headers=acme).content == b"from acme"
    assert http.get("download?path=/same", headers=beta).content == b"beta"
    assert refused(http.get("stat?path=/only", headers=beta))[0] == 404
    names = [entry["path"] for entry in http.get("readdir?path=/", headers=beta).json()]
    assert names == ["/mem", "/same"]
    assert [event["path"] for event in http.get("events", headers=beta).json()] == ["/same"]


def test_creating_namespaces(http: httpx2.Client) -> None:
    name = new_name()
    answer = http.post("namespaces", json={"name": name}, headers=bearer(sub="root", **ADMIN))
    assert answer.status_code == 201
    reply = answer.json()
    assert list(reply) == ["name", "created_at", "created_by", "status"]
    assert (reply["name"], reply["created_by"], reply["status"]) == (name, "root", "active")
    assert len(reply["created_at"]) == len("2026-11-24T00:00:00Z")
    answer = http.post("namespaces", json={"name": name}, headers=bearer(**ADMIN))
    assert refused(answer)[::2] == (409, f"Namespace '{name}' already exists")
    for role in ("operator", "read-write", "read-only", "reader", "Admin", "root", ""):
        answer = http.post("namespaces", json={"name": new_name()}, headers=bearer(roles=[role]))
        assert refused(answer)[::2] == (403, "Insufficient permissions")
    assert http.post("namespaces", json={"name": new_name()}).status_code == 401


@pytest.mark.parametrize(
    "name",
    ["BadName", "bad@name!", "", "-x", "_x", "x" * 65, "a b", "a/b", "..", "é", "a\n", "\0", "a\0"],
)
def test_bad_names(http: httpx2.Client, name: str) -> None:
    answer = http.post("namespaces", json={"name": name}, headers=bearer(**ADMIN))
    status, _, text = refused(answer)
    assert status == 400
    assert text.startswith("Namespace name ")


@pytest.mark.parametrize("body", ["{}", '{"name":1}', '{"name":null}', "[]"])
def test_bad_bodies(http: httpx2.Client, body: str) -> None:
    headers = bearer(**ADMIN) | {"Content-Type": "application/json"}
    assert refused(http.post("namespaces", content=body, headers=headers))[0] == 422


def test_the_callers_namespace_need_not_exist(http: httpx2.Client) -> None:
    headers = bearer(ns="admin", **ADMIN)
    assert http.get("namespaces", headers=headers).status_code == 200
    name = new_name()
    assert http.post("namespaces", json={"name": name}, headers=headers).status_code == 201
    assert http.get(f"namespaces/{name}", headers=headers).json()["name"] == name


def test_listing_namespaces(http: httpx2.Client) -> None:
    for role in ("admin", "operator"):
        headers = bearer(roles=[role])
        listed = http.get("namespaces", headers=headers).json()
        assert {"default"} <= {entry["name"] for entry in listed}
        assert http.get("namespaces/default", headers=headers).json()["created_by"] == "system"
        for name in ("unknown", "BAD", "%2e%2e"):
            assert refused(http.get(f"namespaces/{name}", headers=headers))[0] == 404
        text = refused(http.get("namespaces/unknown", headers=headers))[2]
        assert text == "Namespace 'unknown' not found"
    for role in ("reader", "read-only", "read-write"):
        for route in ("namespaces", "namespaces/default"):
            answer = http.get(route, headers=bearer(roles=[role]))
            assert refused(answer)[::2] == (403, "Insufficient permissions")
    assert http.get("namespaces/default").status_code == 401
    assert refused(http.delete("namespaces/default", headers=bearer(**ADMIN)))[0] == 409


def test_w_c22_one_namespace_behind_a_tenant_prefix(guarded: Fleet) -> None:
    url = f"{guarded.url}/default/api/v1/namespaces/default"
    assert httpx2.get(url, headers=bearer(**ADMIN)).json()["name"] == "default"


_CHANGES = [
    ("PUT", "upload?path=/new", b"x"),
    ("PUT", "upload?path=/f", b"x"),
    ("DELETE", "remove?path=/f", b""),
    ("POST", "wstat", {"path": "/f", "changes": {"mode": 0o600}}),
    ("POST", "wstat", {"path": "/f", "changes": {"name": "/g"}}),
    ("POST", "wstat", {"path": "/f", "changes": {}}),
    ("POST", "wstat", {"path": "/l", "changes": {"symlink_target": "x"}}),
    ("POST", "open", {"path": "/f", "flags": {"write": True}}),
    ("POST", "open", {"path": "/new", "flags": {"create": True}}),
    ("POST", "open", {"path": "/new", "flags": {"create": True, "directory": True}}),
    ("POST", "open", {"path": "/f", "flags": {"truncate": True}}),
    ("POST", "open", {"path": "/f", "flags": {"read": True, "truncate": True, "write": True}}),
]


@pytest.mark.parametrize("roles", [["read-only"], ["reader"], ["reader", "read-only"]])
def test_who_only_reads(http: httpx2.Client, roles: list[str]) -> None:
    """Reading works, and no change gets through, not even by the handle of a wider token."""
    name = made(http)
    writer, reader = bearer(ns=name), bearer(ns=name, roles=roles)
    http.put("upload?path=/f", content=b"content", headers=writer).raise_for_status()
    for route in ("stat?path=/f", "readdir?path=/", "download?path=/f", "events", "mounts"):
        assert http.get(route, headers=reader).status_code == 200
    for method, route, body in _CHANGES:
        kind = {"json": body} if isinstance(body, dict) else {"content": body}
        assert refused(http.request(method, route, headers=reader, **kind))[0] == 403, body
    flags = {"path": "/f", "flags": {"read": True, "write": True}}
    handle_id = http.post("open", json=flags, headers=writer).json()["handle_id"]
    for size in (1, 100_000):
        query = {"handle_id": handle_id, "offset": 0}
        answer = http.post("write", params=query, content=b"x" * size, headers=reader)
        assert refused(answer)[0] == 403
    body = {"handle_id": handle_id, "offset": 0, "size": 100}
    assert http.post("read", json=body, headers=reader).content == b"content"
    listed = http.get("readdir?path=/", headers=writer).json()
    assert [entry["path"] for entry in listed] == ["/f", "/mem"]


@pytest.mark.parametrize("route", ["stat?path=/", "namespaces", "none", "mounts"])
def test_the_prefix_must_be_the_tokens_namespace(guarded: Fleet, route: str) -> None:
    headers = bearer(**ADMIN)
    plain = httpx2.get(f"{guarded.url}/api/v1/{route}", headers=headers)
    same = httpx2.get(f"{guarded.url}/default/api/v1/{route}", headers=headers)
    assert same.status_code == plain.status_code
    if plain.status_code == 200 and route != "stat?path=/":
        assert same.json() == plain.json()
    for tenant in ("other", "Default", "default%20", "%64efault", "DEFAULT", "d", "%2e%2e"):
        url = f"{guarded.url}/{tenant}/api/v1/{route}"
        answer = httpx2.get(url, headers=headers)
        assert answer.status_code in {403, 404}, tenant
        if route != "none":
            assert answer.status_code == 403, tenant
        assert httpx2.get(url).status_code == 401


def test_two_tokens_of_one_namespace_meet_in_one_slot(guarded: Fleet, http: httpx2.Client) -> None:
    """W-X1: handles and contents are the same whichever token, connection or prefix."""
    name = made(http)
    slots = set()
    handle_id = ""
    for number in range(12):
        headers = bearer(ns=name, iat=number)
        prefix = f"/{name}" if number % 2 else ""
        with httpx2.Client(base_url=f"{guarded.url}{prefix}/api/v1/", headers=headers) as one:
            if not handle_id:
                one.put("upload?path=/mem/f", content=b"shared").raise_for_status()
                flags = {"path": "/mem/f", "flags": {"read": True}}
                handle_id = one.post("open", json=flags).json()["handle_id"]
            body = {"handle_id": handle_id, "offset": 0, "size": 10}
            answer = one.post("read", json=body)
            assert answer.content == b"shared"
            slots.add(answer.headers["x-fs9-slot"])
    assert len(slots) == 1


def test_events_name_the_user(http: httpx2.Client) -> None:
    name = made(http)
    for user in ("ann", "bob", "bob"):
        headers = bearer(ns=name, sub=user)
        http.put("upload?path=/f", content=b"x", headers=headers).raise_for_status()
    events = http.get("events", headers=bearer(ns=name, roles=["read-only"])).json()
    users = [event["user"] for event in events]
    assert users[0] == "bob"
    assert users[-1] == "ann"
    assert sum(event["count"] for event in events) == 3


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"])
async def test_no_route_is_reachable_without_a_token(guarded: Fleet, method: str) -> None:
    """A generated matrix: every documented route and method, with no and with an expired token."""
    async with httpx2.AsyncClient(base_url=guarded.url) as client:
        document = (await client.get("/openapi.json")).json()
        is_open = {
            path
            for path, methods in document["paths"].items()
            if all(operation["security"] == [] for operation in methods.values())
        }
        assert {"/health", "/openapi.json", "/docs"} <= is_open
        assert not any("/api/v1/" in path or path == "/metrics" for path in is_open)
        for template in [*document["paths"], "/none", "/", "/a/b/c", "/api/v1/", "/api/v1"]:
            path = template.replace("{tenant}", "default").replace("{ns}", "default")
            for headers in ({}, bearer(exp=1), bearer(exp=1, **ADMIN)):
                answer = await client.request(method, path, headers=headers)
                if path in is_open:
                    assert answer.status_code in {200, 405}
                else:
                    assert answer.status_code == 401, (method, path)
