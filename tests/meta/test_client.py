"""The client of a metadata service: against one that fails, one that has less, and a real one."""

import asyncio
import hashlib
import logging

import pytest

from fs9.changes import ChangeFeed
from fs9.clock import SystemClock
from fs9.errors import (
    AlreadyExists,
    BackendUnavailable,
    CircuitBreakerOpen,
    Conflict,
    Fs9Error,
    InvalidArgument,
    NotFound,
    NotSupported,
    Unauthenticated,
)
from fs9.limits import Limits
from fs9.meta import client as client_module
from fs9.meta.announce import NamespaceChanged
from fs9.meta.calls import Hooks, Wire
from fs9.meta.client import MetaClient
from fs9.meta.models import AuditRecord, NamespaceQuota, Revocation
from fs9.observe.audit import EventQuery
from fs9.resilience.breaker import State
from fs9.types import MountSpec
from tests.fix_meta import META_KEY
from tests.meta.fake_service import FakeService

#: Of a try that must succeed, also on a busy machine; and of one that must not.
PATIENT = Limits(meta_try_timeout_s=25.0, meta_total_timeout_s=27.0, meta_delay_first_ms=1)
BRIEF = Limits(meta_try_timeout_s=0.15, meta_total_timeout_s=20.0, meta_delay_first_ms=1)
VALID = {"valid": True, "user_id": "u", "namespace": "acme", "roles": ["admin"]}


@pytest.fixture
async def fake():
    service = FakeService()
    await service.start()
    service.answers["POST /api/v1/tokens/validate"] = (200, VALID)
    yield service
    await service.stop()


@pytest.fixture
async def clients():
    made = []

    def make(*urls, limits=PATIENT, clock=None, hooks=None):
        calls = Wire(urls, "the key", limits, clock or SystemClock(), hooks)
        made.append(MetaClient(calls))
        return made[-1]

    yield make
    for client in made:
        await client.aclose()


@pytest.mark.parametrize(
    ("mode", "limits"),
    [
        ("hang", BRIEF),
        ("drip", BRIEF),
        ("reset", PATIENT),
        ("error", PATIENT),
        ("garbage", PATIENT),
        ("cut", PATIENT),
        ("key", PATIENT),
    ],
)
async def test_no_answer_opens_the_breaker(fake, clients, mode, limits):
    """After five failed tries nobody is sent there; after a while one probe is."""
    clock = SkippingClock()
    client = clients(fake.url, limits=limits, clock=clock)
    fake.mode = mode
    for _ in range(2):
        with pytest.raises(BackendUnavailable):
            await client.validate("t")
    assert client.calls.breaker_state is State.OPEN
    assert len(fake.seen) == 5
    with pytest.raises(CircuitBreakerOpen):
        await client.validate("t")
    assert len(fake.seen) == 5
    clock.skip(30)
    with pytest.raises(Fs9Error):
        await client.validate("t")
    assert len(fake.seen) == 6
    assert client.calls.breaker_state is State.OPEN
    fake.mode = "answer"
    clock.skip(30)
    # A probe of a client in a hurry might not make it on a busy machine.
    client.calls._limits = PATIENT
    assert (await client.validate("t")).valid
    assert client.calls.breaker_state is State.CLOSED


class SkippingClock(SystemClock):
    def __init__(self):
        self._skipped_s = 0.0

    def skip(self, seconds):
        self._skipped_s += seconds

    def monotonic_s(self):
        return super().monotonic_s() + self._skipped_s


async def test_a_refused_connection_is_no_answer_either(fake, clients):
    """And the service is used again when it is back."""
    client = clients(fake.url)
    await fake.stop()
    with pytest.raises(BackendUnavailable):
        await client.validate("t")
    await fake.start()
    assert (await client.validate("t")).valid


async def test_the_next_endpoint_is_asked(fake, clients):
    """When one fails; the one that answered is asked first from then on."""
    other = FakeService()
    await other.start()
    other.mode = "error"
    client = clients(other.url, fake.url)
    assert (await client.validate("t")).valid
    assert (await client.validate("t")).valid
    assert (len(other.seen), len(fake.seen)) == (1, 2)
    await fake.stop()
    other.mode = "answer"
    other.answers = fake.answers
    assert (await client.validate("t")).valid
    await other.stop()


async def test_a_refusal_is_an_answer(fake, clients):
    """It opens nothing and is not asked again: what the service refuses is refused."""
    client = clients(fake.url)
    fake.answers["POST /api/v1/tokens/validate"] = (200, {"valid": False, "error": "no"})
    fake.answers["POST /api/v1/tokens/refresh"] = (401, {"error": "too old"})
    assert not (await client.validate("t")).valid
    for _ in range(6):
        with pytest.raises(Unauthenticated, match="too old"):
            await client.refresh("t", 60)
    assert len(fake.seen) == 7
    assert client.calls.breaker_state is State.CLOSED
    fake.answers["POST /api/v1/tokens/validate"] = (404, {})
    with pytest.raises(BackendUnavailable):
        await client.validate("t")


async def test_what_may_have_been_done_is_not_done_twice(fake, clients):
    """A refresh or creation whose answer was lost."""
    client = clients(fake.url)
    fake.mode = "reset"
    with pytest.raises(BackendUnavailable):
        await client.refresh("t", 60)
    with pytest.raises(BackendUnavailable):
        await client.create_namespace("acme", "root", ())
    assert len(fake.seen) == 2


async def test_waiting_for_changes(fake, clients):
    """Is no breaker's business; after a failure the next endpoint is asked."""
    other = FakeService()
    await other.start()
    client = clients(fake.url, other.url)
    last = "GET /api/v1/changes/last"
    fake.answers[last] = (200, {"last_id": 7, "waited": True})
    assert await client.wait_change(6, 25)
    assert not await client.wait_change(7, 25)
    for mode in ("reset", "error", "garbage", "key"):
        fake.mode = mode
        with pytest.raises(BackendUnavailable):
            await client.wait_change(7, 25)
        with pytest.raises(NotSupported):  # by the other one, which has not this route
            await client.wait_change(7, 25)
        client.calls._held = 0
    other.answers[last] = (200, {"last_id": 7})
    client.calls._held = 1
    with pytest.raises(NotSupported):  # one that answers at once, whatever it is asked
        await client.wait_change(7, 25)
    assert await client.wait_change(6, 25)
    assert client.calls.breaker_state is State.CLOSED
    await other.stop()


async def test_an_endpoint_that_is_left_alone_is_not_asked_to_wait(fake, clients):
    client = clients(fake.url)
    fake.mode = "reset"
    for _ in range(2):
        with pytest.raises(BackendUnavailable):
            await client.validate("t")
    seen = len(fake.seen)
    with pytest.raises(CircuitBreakerOpen):
        await client.wait_change(0, 25)
    assert len(fake.seen) == seen


async def test_the_default_namespace_gets_its_mounts_when_the_service_answers(
    fake, clients, monkeypatch
):
    """Not when somebody has changed it meanwhile; nor is a refusal argued with."""
    monkeypatch.setattr(client_module, "_AGAIN_S", 0.01)
    client = clients(fake.url, limits=Limits(meta_attempts_max=1))
    default = "GET /api/v1/admin/namespaces/default"
    post = "POST /api/v1/namespaces/default/mounts"
    fake.answers[post] = (200, {"path": "/", "provider": "memfs"})
    fake.answers[default] = (200, {"name": "default", "mounts": []})
    fake.mode = "reset"
    waiting = asyncio.create_task(client.mount_untouched_default([MountSpec("/", "memfs")], "s"))
    while not fake.seen:  # noqa: ASYNC110  a plain list
        await asyncio.sleep(0.01)
    fake.mode = "answer"
    await asyncio.wait_for(waiting, 30)
    assert fake.seen[-1] == post
    touched = {"name": "default", "mounts": [], "updated_at": "2026-01-01T00:00:00"}
    for answer in ((200, touched), (404, {"error": "no such namespace"})):
        fake.answers[default] = answer
        await client.mount_untouched_default([MountSpec("/", "memfs")], "s")
    assert fake.seen.count(post) == 1


async def test_without_notifications_the_timer_brings_changes(fake, clients):
    """As with a service that cannot tell, or one that does not get through."""
    applied = asyncio.Queue()
    feed = ChangeFeed(clients(fake.url), applied.put_nowait, list)
    fake.answers["GET /api/v1/changes"] = (200, {"last_id": 5})
    await feed.catch_up()
    task = asyncio.create_task(feed.follow(0.02))
    fake.answers["GET /api/v1/changes"] = (200, {"last_id": 6, "namespaces": ["acme"]})
    assert await asyncio.wait_for(applied.get(), 30) == NamespaceChanged("acme")
    task.cancel()
    assert "GET /api/v1/changes/last" in fake.seen


async def test_names_are_escaped_and_the_key_and_trace_are_sent(fake, clients):
    """A name can be no other address."""
    spans = []

    class Span:
        def __enter__(self):
            spans.append("in")

        def __exit__(self, *_):
            spans.append("out")

    hooks = Hooks(lambda: {"traceparent": "00-abc"}, lambda name, url: Span())
    client = clients(fake.url, hooks=hooks)
    for name in ("../users", "a?b#c", "ä"):
        with pytest.raises(NotFound):
            await client.namespace(name)
    with pytest.raises(NotFound):
        await client.namespace("..")
    assert fake.seen[0] == "GET /api/v1/admin/namespaces/..%2Fusers"
    assert fake.seen[2] == "GET /api/v1/admin/namespaces/a%3Fb%23c"
    assert fake.headers[0]["x-fs9-meta-key"] == "the key"
    assert fake.headers[0]["traceparent"] == "00-abc"
    assert spans == ["in", "out"] * 6


async def test_a_service_with_the_contracts_routes_alone(fake, clients, caplog):
    """It is enough for namespaces and tokens; what it lacks is said once, and refused."""
    client = clients(fake.url)
    fake.answers |= {
        "GET /api/v1/namespaces/acme": (200, {"name": "acme", "status": "archived"}),
        "GET /api/v1/namespaces/acme/mounts": (
            200,
            [{"path": "/b", "provider": "memfs", "config": None}, {"path": "/", "provider": "x"}],
        ),
        "GET /api/v1/admin/namespaces/py": (
            200,
            {"name": "py", "created_at": "2026-01-01T00:00:00"},
        ),
        "GET /health": (200, {"status": "ok"}),
    }
    with caplog.at_level(logging.WARNING, "fs9.meta.client"):
        acme = await client.namespace("acme")
        assert acme.status == "suspended", "one that is not ours is one that is not active"
        assert acme.mounts == (MountSpec("/", "x"), MountSpec("/b", "memfs"))
        assert (await client.namespace("py")).status == "active"
        for _ in range(2):
            changes = await client.changes_since(0)
            assert changes.revocations == ()
        with pytest.raises(NotSupported):
            await client.revoke([])
        with pytest.raises(NotSupported):
            await client.last_event("acme")
        with pytest.raises(NotFound):
            await client.api_key("00")
        assert not (await client.validate_key("fs9_x")).valid
        await client.ping()
    assert [record.message for record in caplog.records if "feed" in record.message] != []
    assert len([record for record in caplog.records if "feed" in record.message]) == 1


async def test_everything_a_file_server_needs_over_a_real_service(start_meta, clients):
    """The answers of the store, through two processes of `fs9 meta serve`."""
    service = start_meta(processes=2)
    client = clients(service.url)
    client.calls._http.headers["x-fs9-meta-key"] = META_KEY
    await client.ping()
    mounts = (MountSpec("/", "memfs"), MountSpec("/d ?%", "localfs", {"root": "/x", "n": [1]}))
    quota = NamespaceQuota(bytes_max=5)
    made = await client.create_namespace("acme", "root", mounts, quota=quota, description="d")
    assert (made.mounts, made.quota, made.description) == (mounts, quota, "d")
    assert await client.namespace("acme") == made
    with pytest.raises(AlreadyExists):
        await client.create_namespace("acme", "root", ())
    await client.remove_mount("acme", "/d ?%", "root")
    await client.remove_mount("acme", "/", "root")
    with pytest.raises(NotFound):
        await client.remove_mount("acme", "/", "root")
    mount = await client.add_mount("acme", mounts[0], "bob")
    assert (mount.path, mount.created_by) == ("/", "bob")
    with pytest.raises(AlreadyExists):
        await client.add_mount("acme", mounts[0], "bob")
    assert (await client.set_quota("acme", NamespaceQuota(files_max=1), "root")).quota.files_max
    for given in (mounts, mounts[:1]):
        await client.mount_default(given, "system")
        assert (await client.namespace("default")).mounts == mounts, "what it has stays"
    assert [each.name for each in await client.namespaces()] == ["acme", "default"]
    assert [each.name for each in await client.namespaces(after="acme", limit=1)] == ["default"]
    await check_events(client)
    await check_changes(client)


async def check_events(client):
    first = AuditRecord(1, 10, "create", "/a", "u", 1, "ok", {"x": [1]}, "d1")
    second = AuditRecord(2, 20, "delete", "/b", "u", 1, "ok", {}, "d2", "d1")
    assert await client.last_event("acme") is None
    await client.append_events("acme", [first, second])
    with pytest.raises(Conflict):
        await client.append_events("acme", [second])
    assert await client.last_event("acme") == second
    assert await client.events("acme", EventQuery(limit=9, path="/a")) == [first]
    assert await client.events("acme", EventQuery(limit=9, since_ns=15, event_type="delete")) == [
        second
    ]
    assert await client.events("acme", EventQuery(limit=9, after=0)) == [first, second]
    assert await client.trim_events("acme", 15, 10) == 1
    with pytest.raises(NotFound):
        await client.last_event("nobody")


async def check_changes(client):
    last = await client.last_change()
    revocation = Revocation("user", "u", "acme", 2**32 - 1, 5, "root", 4)
    (kept,) = await client.revoke([revocation])
    assert kept.id > last
    assert (await client.changes_since(last)).revocations == (kept,)
    suspended = await client.set_status("acme", "suspended", "root")
    assert suspended.status == "suspended"
    assert (await client.changes_since(kept.id)).namespaces == ("acme",)
    with pytest.raises(InvalidArgument):
        await client.set_status("default", "deleted", "root")
    deleted = await client.set_status("acme", "deleted", "root")
    with pytest.raises(NotFound):
        await client.namespace("acme")
    (gone,) = await client.deleted_namespaces(2**32)
    assert gone.id == deleted.id
    await client.forget_namespace(gone.id)
    assert await client.deleted_namespaces(2**32) == []
    with pytest.raises(NotFound):
        await client.api_key(hashlib.sha256(b"x").hexdigest())


async def test_a_killed_service_is_used_again_when_it_is_back(start_meta, clients):
    """Nothing that it has confirmed is lost."""
    service = start_meta()
    client = clients(service.url)
    client.calls._http.headers["x-fs9-meta-key"] = META_KEY
    await client.create_namespace("acme", "root", ())
    await asyncio.to_thread(service.kill)
    with pytest.raises(BackendUnavailable):
        await client.namespace("acme")
    await asyncio.to_thread(service.start)
    assert (await client.namespace("acme")).name == "acme"
    assert await asyncio.to_thread(service.stop) == 0
