"""A load of reads, writes, uploads and open handles that notices every failure and every loss."""

from __future__ import annotations

import asyncio
import json
import random
import time
from dataclasses import dataclass, field

from tests.workers.wire_client import Response, WireClient, request

JSON = {"Content-Type": "application/json"}


@dataclass
class Tally:
    """What happened. `failures` names each request that was not answered as it should be."""

    done: int = 0
    failures: list[str] = field(default_factory=list)
    #: Seconds between the end of one answer and the end of the next, the longest, by tenant.
    slowest_s: dict[str, float] = field(default_factory=dict)


class Tenant:
    """One client of one namespace: a connection, a handle, and what must be in its files."""

    def __init__(self, port: int, name: str, tally: Tally, *, forgiving: bool = False) -> None:
        self.port = port
        self.name = name
        self.tally = tally
        #: Does it connect again and repeat what a broken connection cut (never a lost write)?
        self.forgiving = forgiving
        self.random = random.Random(name)
        self.files: dict[str, bytes] = {}
        self.written = b""
        self.handle: str | None = None
        self.client: WireClient | None = None

    async def run(self, stop: asyncio.Event) -> None:
        self.client = await WireClient.connect(self.port)
        await self._open()
        while not stop.is_set():
            step = self.random.choice([self._upload, self._download, self._stat, self._write])
            await step()
            await asyncio.sleep(self.random.random() * 0.02)
        await self._check_all()
        await self.client.close()

    async def ask(self, method: str, target: str, body: bytes = b"") -> Response | None:
        headers = JSON if method == "POST" and not target.startswith("write") else {}
        wire = request(method, f"/{self.name}/api/v1/{target}", headers=headers, body=body)
        started = time.monotonic()
        while True:
            try:
                assert self.client is not None
                await self.client.send(wire)
                answer = await asyncio.wait_for(self.client.response(), 30)
            except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
                if not self.forgiving:
                    self.tally.failures.append(f"{self.name} {method} {target}: {error!r}")
                if self.client is not None:
                    await self.client.close()
                self.client = await WireClient.connect(self.port)
                if self.forgiving and time.monotonic() - started < 20:
                    continue
                return None
            if answer.status == 503 and self.forgiving and time.monotonic() - started < 20:
                await asyncio.sleep(0.05)
                continue
            break
        self.tally.done += 1
        took = time.monotonic() - started
        self.tally.slowest_s[self.name] = max(took, self.tally.slowest_s.get(self.name, 0.0))
        return answer

    def expect(self, answer: Response | None, good: bool, what: str) -> None:
        if answer is not None and not good:
            self.tally.failures.append(f"{self.name} {what}: {answer.status} {answer.body[:200]!r}")

    async def _open(self) -> None:
        body = {"path": "/log", "flags": {"read": True, "write": True, "create": True}}
        answer = await self.ask("POST", "open", json.dumps(body).encode())
        assert answer is not None
        self.expect(answer, answer.status == 200, "open")
        self.handle = json.loads(answer.body)["handle_id"]

    async def _write(self) -> None:
        """Through the handle, which must live as long as the test."""
        line = f"{len(self.written)}\n".encode()
        target = f"write?handle_id={self.handle}&offset={len(self.written)}"
        answer = await self.ask("POST", target, line)
        self.expect(answer, answer is not None and answer.status == 200, "write")
        if answer is not None and answer.status == 200:
            self.written += line

    async def _upload(self) -> None:
        path = f"/f{self.random.randrange(3)}"
        body = self.random.randbytes(self.random.choice([10, 3_000, 200_000]))
        answer = await self.ask("PUT", f"upload?path={path}", body)
        self.expect(answer, answer is not None and answer.status == 200, "upload")
        if answer is not None and answer.status == 200:
            self.files[path] = body

    async def _download(self) -> None:
        if self.files:
            path, body = self.random.choice(list(self.files.items()))
            answer = await self.ask("GET", f"download?path={path}")
            self.expect(answer, answer is not None and answer.body == body, f"download {path}")

    async def _stat(self) -> None:
        answer = await self.ask("GET", "stat?path=/log")
        if answer is not None:
            size = json.loads(answer.body).get("size")
            self.expect(answer, size == len(self.written), f"stat {size} not {len(self.written)}")

    async def _check_all(self) -> None:
        """Everything acknowledged is there, through the handle and by path."""
        body = {"handle_id": self.handle, "offset": 0, "size": len(self.written)}
        answer = await self.ask("POST", "read", json.dumps(body).encode())
        self.expect(answer, answer is not None and answer.body == self.written, "the handle's file")
        for path, content in self.files.items():
            answer = await self.ask("GET", f"download?path={path}")
            self.expect(answer, answer is not None and answer.body == content, f"lost {path}")
