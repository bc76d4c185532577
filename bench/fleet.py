"""A fleet on one core, started as a user starts it: `fs9 serve`."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import cpu
from fs9.auth.tokens import sign

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = "a secret of the benchmarks, longer than 32 bytes"
#: As long as a real token: the claims that others add.
_PADDING = {"aud_hint": "x" * 60}


class Fleet:
    """Its address, its processes and its data."""

    def __init__(self, process: subprocess.Popen[str], url: str, data_dir: Path) -> None:
        self.process = process
        self.pid = process.pid
        self.port = int(url.rpartition(":")[2])
        self.data_dir = data_dir

    @property
    def worker(self) -> int:
        """The process of slot 0."""
        return cpu.tree(self.pid)[1]

    def call(self, method: str, target: str, body: Any = None, token: str = "") -> bytes:
        """One request, outside of any measurement. `body` may be an open file."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        headers = {"Content-Type": "application/json"} | bearer(token)
        try:
            connection.request(method, target, body, headers)
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        if response.status >= 300:
            raise RuntimeError(f"{method} {target}: {response.status} {answer[:200]!r}")
        return answer


@contextlib.contextmanager
def fleet(
    *,
    workers: int = 1,
    auth: bool = False,
    yaml: str = "{}\n",
    directory: Path | None = None,
    pinned: bool = True,
    **environ: str,
) -> Iterator[Fleet]:
    """Serve; `environ` are settings. `directory`: where the data is, a temporary one else."""
    if auth:
        environ["FS9_JWT_SECRET"] = SECRET
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "HOME") if name in os.environ}
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(temporary(directory)))
        config = home / "fs9.yaml"
        config.write_text(yaml)
        command = [sys.executable, "-m", "fs9.cli.main", "serve", "--port", "0"]
        command += ["--workers", str(workers), "--data-dir", str(home / "data")]
        log = stack.enter_context((home / "log").open("wb"))
        with cpu.on_core(cpu.SERVER_CORE) if pinned else contextlib.nullcontext():
            process = subprocess.Popen(
                [*command, "-c", str(config)],
                stdout=subprocess.PIPE,
                stderr=log,
                env=kept | environ,
                text=True,
            )
        try:
            yield Fleet(process, _url(process, home / "log"), home / "data")
        finally:
            process.terminate()
            process.wait(60)
            assert process.stdout is not None
            process.stdout.close()


def _url(process: subprocess.Popen[str], log: Path) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        found = re.search(r"serving at (http://\S+)", line)
        if found:
            return found[1]
    raise RuntimeError(f"the fleet did not start:\n{log.read_text()}")


def token(namespace: str = "default", **claims: Any) -> str:
    now_s = int(time.time())
    claims = {"sub": "bench", "ns": namespace, "iat": now_s, "exp": now_s + 86400} | claims
    return sign(claims | _PADDING, SECRET)


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"} if text else {}


@contextlib.contextmanager
def temporary(parent: Path | None = None) -> Iterator[Path]:
    """A directory that is gone afterwards, in `parent` or where temporary files are."""
    path = Path(tempfile.mkdtemp(prefix="fs9-bench-", dir=parent))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def memory_directory(size_bytes: int) -> Path | None:
    """A tmpfs with room for so much, so that no disk is measured; None when there is none."""
    shm = Path("/dev/shm")
    if not os.access(shm, os.W_OK):
        return None
    return shm if shutil.disk_usage(shm).free > size_bytes else None
