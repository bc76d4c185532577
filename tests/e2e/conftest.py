"""Two fleets of four workers, one without and one with authentication, for all tests here."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

import httpx2
import pytest

from fs9.auth.tokens import sign
from tests.e2e.documented import Documented
from tests.e2e.reference import Reference
from tests.fix_fleet import SECRET, Fleet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fix_postgres import PostgresServer

WORKERS = 4

# Every tenant gets an embedded directory and a memfs; `default` is made of three providers.
_YAML = """
namespace_template:
- {path: /, provider: localfs, config: {root: "{data_dir}/namespaces/{namespace}/files"}}
- {path: /mem, provider: memfs}
mounts:
- {path: /, provider: memfs}
- {path: /data, provider: localfs, config: {root: "{data_dir}/namespaces/default/data"}}
- {path: /hello, provider: hellofs}
"""

# All tests together have more credentials refused in a minute than one address may.
_MANY_REFUSED = "server: {limits: {max_failed_credentials_per_minute: 1000000}}\n"

#: `FS9_FAST_LANE=false pytest tests/e2e` runs all of it on the other lane, and so on.
_VARIANT = {
    name: os.environ[name]
    for name in ("FS9_FAST_LANE", "FS9_EVENT_LOOP", "FS9_FORWARDING")
    if name in os.environ
}

_numbers = itertools.count()


def new_name() -> str:
    """A namespace that no other test uses."""
    return f"t{os.getpid()}-{next(_numbers)}"


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Without authentication."""
    directory = tmp_path_factory.mktemp("open")
    running = Fleet(directory, workers=WORKERS, yaml=_YAML, environ=_VARIANT)
    yield running
    _stop_healthy(running)


#: Where the metadata is kept, in tests that are about it.
DATABASES = ("sqlite", "postgres")


def meta_environ(request: pytest.FixtureRequest, database: str) -> dict[str, str]:
    """What selects an empty database of this kind; nothing for the embedded one."""
    if database == "sqlite":
        return {}
    postgres: PostgresServer = request.getfixturevalue("postgres")
    return {"FS9_META_DSN": postgres.new_database()}


@pytest.fixture(params=DATABASES)
def metadata(request: pytest.FixtureRequest) -> dict[str, str]:
    """The environment of a fleet with either database."""
    return meta_environ(request, request.param)


@pytest.fixture(scope="session", params=DATABASES)
def guarded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    """With authentication, on either database."""
    directory = tmp_path_factory.mktemp("guarded")
    environ = _VARIANT | {"FS9_JWT_SECRET": SECRET} | meta_environ(request, request.param)
    running = Fleet(directory, workers=WORKERS, yaml=_YAML + _MANY_REFUSED, environ=environ)
    yield running
    _stop_healthy(running)


def _stop_healthy(fleet: Fleet) -> None:
    """Whatever the tests did: no worker was replaced, nothing failed, and the end is clean."""
    assert fleet.stop() == 0
    log = fleet.log.read_text()
    assert "Traceback" not in log, log[-5000:]
    assert "Worker (pid" not in log, log[-5000:]


@pytest.fixture(scope="session")
def documented(fleet: Fleet) -> Documented:
    """What the server says of itself at /openapi.json."""
    return Documented(httpx2.get(f"{fleet.url}/openapi.json").json())


def _client(url: str, documented: Documented) -> httpx2.Client:
    return httpx2.Client(base_url=url, timeout=60, event_hooks={"response": [documented.check]})


@pytest.fixture
def api(fleet: Fleet, documented: Documented) -> Iterator[httpx2.Client]:
    """A client in a new namespace of the fleet without authentication.

    Each answer that it gets must be one of those that the OpenAPI document promises.
    """
    with _client(f"{fleet.url}/{new_name()}/api/v1/", documented) as client:
        yield client


@pytest.fixture
def default_api(fleet: Fleet, documented: Documented) -> Iterator[httpx2.Client]:
    """A client in the namespace `default`: memfs, /data on localfs, /hello on hellofs."""
    with _client(f"{fleet.url}/api/v1/", documented) as client:
        yield client


@pytest.fixture(params=["localfs", "memfs"])
def base(request: pytest.FixtureRequest, api: httpx2.Client) -> str:
    """An empty directory on each of the two providers."""
    path = "/work" if request.param == "localfs" else "/mem/work"
    body = {"path": path, "flags": {"create": True, "directory": True}}
    handle_id = api.post("open", json=body).raise_for_status().json()["handle_id"]
    api.post("close", json={"handle_id": handle_id}).raise_for_status()
    return path


@pytest.fixture(params=["%20", "+"])
def reference(request: pytest.FixtureRequest, api: httpx2.Client) -> Reference:
    """The reference's client, with either of its two ways to write a blank."""
    return Reference(api, blank=request.param)


def bearer(**claims: object) -> dict[str, str]:
    """The header of a token that holds, but for what `claims` say."""
    return {"Authorization": f"Bearer {make_token(**claims)}"}


def make_token(**claims: object) -> str:
    held: dict[str, object] = {
        "sub": "ann",
        "ns": "default",
        "roles": ["read-write"],
        "iat": 1_700_000_000,
        "exp": 4_000_000_000,
    }
    held |= claims
    return sign({name: value for name, value in held.items() if value is not ...}, SECRET)
