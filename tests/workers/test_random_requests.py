"""Invariant: whatever namespaces a connection alternates between, and however its bytes are
cut, every request gets its own answer, in order and byte-exact, and each namespace is always
answered by one slot."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import defaultdict
from typing import TYPE_CHECKING

import pytest

from fs9.auth.tokens import sign
from tests.fix_fleet import SECRET
from tests.workers.wire_client import Response, WireClient, chunked_request, request

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fix_fleet import Fleet

NAMESPACES = [f"tenant{number}" for number in range(24)]
CONNECTIONS = 8
BATCHES = 40
BODY_SIZES = (0, 1, 17, 4_000, 70_000, 900_000)


class Conversation:
    """One connection's random requests, with what each must be answered."""

    def __init__(self, number: int, seed: int, prefix: Callable[[str], tuple[str, dict]]) -> None:
        self.random = random.Random(f"{seed}-{number}")
        self.number = number
        self.prefix = prefix
        self.files: dict[tuple[str, str], bytes] = {}
        self.count = 0

    def next(self) -> tuple[bytes, str, str, Callable[[Response], bool]]:
        """(bytes on the wire, method, namespace, does the answer fit?)"""
        rng = self.random
        namespace = rng.choice(NAMESPACES)
        path = f"/file-{self.number}-{rng.randrange(3)}"
        known = self.files.get((namespace, path))
        kind = rng.choices(
            ["upload", "chunked", "download", "range", "head", "stat", "json", "missing", "bad"],
            [4, 3, 6, 2, 2, 6, 3, 2, 1],
        )[0]
        base, headers = self.prefix(namespace)
        if kind in {"upload", "chunked"}:
            body = rng.randbytes(rng.choice(BODY_SIZES))
            self.files[namespace, path] = body
            target = f"{base}/upload?path={path}"
            if kind == "upload":
                wire = request("PUT", target, headers=headers, body=body)
            else:
                cut = rng.randrange(1, 30_000)
                chunks = [body[start : start + cut] for start in range(0, len(body), cut)]
                wire = chunked_request("PUT", target, chunks, headers=headers)
            expected = {"path": path, "bytes_written": len(body)}
            return (
                wire,
                "PUT",
                namespace,
                lambda r: r.status == 200 and json.loads(r.body) == expected,
            )
        if kind == "missing" or (known is None and kind in {"download", "range", "head", "stat"}):
            wire = request("GET", f"{base}/stat?path=/nothing-{rng.random()}", headers=headers)
            return wire, "GET", namespace, lambda r: r.status == 404
        if kind == "json":
            body = json.dumps({"path": path, "changes": {"mode": 0o600}}).encode()
            wire = request(
                "POST",
                f"{base}/wstat",
                body=body,
                headers=headers | {"Content-Type": "application/json"},
            )
            status = 204 if known is not None else 404
            return wire, "POST", namespace, lambda r: r.status == status
        if kind == "bad":
            body = b"x" * rng.choice([0, 10, 3000])
            wire = request("PUT", f"{base}/upload?path=/no/parent", headers=headers, body=body)
            return wire, "PUT", namespace, lambda r: r.status == 404
        assert known is not None
        target = f"{base}/download?path={path}"
        if kind == "range" and known:
            first = rng.randrange(len(known))
            wire = request("GET", target, headers=headers | {"Range": f"bytes={first}-"})
            return wire, "GET", namespace, lambda r: r.status == 206 and r.body == known[first:]
        if kind == "head":
            wire = request("HEAD", target, headers=headers)
            return wire, "HEAD", namespace, lambda r: r.headers["content-length"] == str(len(known))
        if kind == "stat":
            wire = request("GET", f"{base}/stat?path={path}", headers=headers)
            return wire, "GET", namespace, lambda r: json.loads(r.body)["size"] == len(known)
        wire = request("GET", target, headers=headers)
        return wire, "GET", namespace, lambda r: r.status == 200 and r.body == known


async def converse(fleet: Fleet, conversation: Conversation, slots: dict[str, set[str]]) -> int:
    rng = conversation.random
    client = await WireClient.connect(fleet.port)
    done = 0
    for _ in range(BATCHES):
        batch = [conversation.next() for _ in range(rng.randint(1, 5))]
        wire = b"".join(item[0] for item in batch)
        cuts = [rng.choice([1, 2, 7, 100, 1500, 30_000]) for _ in range(rng.randrange(30))]
        sending = asyncio.create_task(client.send(wire, cuts))
        for _, method, namespace, fits in batch:
            answer = await asyncio.wait_for(client.response(to_head=method == "HEAD"), 30)
            assert fits(answer), (method, namespace, answer)
            slots[namespace].add(answer.headers["x-fs9-slot"])
            done += 1
        await sending
    await client.close()
    return done


def without_tokens(namespace: str) -> tuple[str, dict[str, str]]:
    return f"/{namespace}/api/v1", {}


def with_tokens(namespace: str) -> tuple[str, dict[str, str]]:
    now = int(time.time())
    claims = {"sub": random.choice("abc"), "ns": namespace, "iat": now, "exp": now + 600}
    return "/api/v1", {"Authorization": f"Bearer {sign(claims, SECRET)}"}


@pytest.mark.parametrize(
    "environ",
    [
        pytest.param({}, id="hand-off and forwarding"),
        pytest.param({"FS9_FORWARDING": "false"}, id="hand-off alone"),
        pytest.param({"FS9_FAST_LANE": "false"}, id="the web framework alone"),
        pytest.param({"FS9_EVENT_LOOP": "asyncio"}, id="asyncio's event loop"),
        pytest.param({"FS9_JWT_SECRET": SECRET}, id="tokens"),
    ],
)
async def test_every_request_gets_its_own_answer_from_the_owner_of_its_namespace(
    start_fleet: Callable[..., Fleet],
    environ: dict[str, str],
) -> None:
    fleet = start_fleet(workers=3, environ=environ)
    prefix = without_tokens
    if "FS9_JWT_SECRET" in environ:
        prefix = with_tokens
        await create_namespaces(fleet)
    seed = random.randrange(2**32)
    slots: dict[str, set[str]] = defaultdict(set)
    conversations = [Conversation(number, seed, prefix) for number in range(CONNECTIONS)]
    done = await asyncio.gather(*(converse(fleet, item, slots) for item in conversations))
    assert sum(done) >= CONNECTIONS * BATCHES, f"seed {seed}"
    assert all(len(answered) == 1 for answered in slots.values()), f"seed {seed}: {slots}"
    assert len(set.union(*slots.values())) == 3, "all slots must have had something to do"
    assert fleet.stop() == 0
    assert fleet.log.read_text() == ""


async def create_namespaces(fleet: Fleet) -> None:
    now = int(time.time())
    admin = sign(
        {"sub": "root", "ns": "default", "roles": ["admin"], "iat": now, "exp": now + 600}, SECRET
    )
    client = await WireClient.connect(fleet.port)
    for namespace in NAMESPACES:
        body = json.dumps({"name": namespace}).encode()
        headers = {"Authorization": f"Bearer {admin}", "Content-Type": "application/json"}
        await client.send(request("POST", "/api/v1/namespaces", headers=headers, body=body))
        assert (await client.response()).status == 201
    await client.close()
