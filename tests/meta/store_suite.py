"""What every meta store must do, whatever the database; `test_sqlite` and `test_postgres` run it.

A subclass gives the fixture `open_store`: `await open_store()` is another store on the same
database, closed at the end of the test.
"""

import asyncio

import pytest

from fs9.errors import AlreadyExists, Conflict, InvalidArgument, NotFound
from fs9.meta.models import (
    AuditRecord,
    MountRecord,
    NamespaceQuota,
    NamespaceRecord,
    Revocation,
    RoleGrant,
)
from fs9.observe.audit import EventQuery
from fs9.types import MountSpec

MOUNTS = (MountSpec("/", "memfs"), MountSpec("/a", "x", {"n": [1, 2.5, None, {"ü": "\"\\'"}]}))
NOW_S = 1_800_000_000
UUID_LENGTH = 36


def event(sequence, *, path="/a", event_type="create", timestamp_ns=None, details=None):
    """An event whose digest is its number."""
    time_ns = sequence * 10 if timestamp_ns is None else timestamp_ns
    return AuditRecord(
        *(sequence, time_ns, event_type, path, "alice", 1, "ok", details or {}, f"d{sequence}")
    )


def token(subject, *, expires_at_s=NOW_S + 100, **changes):
    """A revoked token."""
    given = {"kind": "token", "namespace": None, "created_by": "root", **changes}
    return Revocation(subject=subject, expires_at_s=expires_at_s, created_at_s=NOW_S, **given)


class Namespaces:
    async def test_one_is_kept_with_its_mounts(self, store, open_store):
        """What was created is there for another store, as it was."""
        quota = NamespaceQuota(bytes_max=2**40, files_max=7)
        created = await store.create_namespace(
            "acme", "alice", MOUNTS, quota=quota, description="Åcme"
        )
        assert created == NamespaceRecord(
            *("acme", "active", NOW_S, "alice", MOUNTS),
            *(created.id, "acme", "Åcme", quota),
        )
        assert len(created.id) == UUID_LENGTH
        assert await (await open_store()).namespace("acme") == created

    async def test_mounts_are_sorted_by_path(self, store):
        """Whatever the order in which they were given."""
        record = await store.create_namespace("acme", "alice", tuple(reversed(MOUNTS)))
        assert record.mounts == MOUNTS == (await store.namespace("acme")).mounts

    async def test_a_name_is_taken_once(self, store):
        """The second creation is refused in the contract's words and changes nothing."""
        first = await store.create_namespace("acme", "alice", MOUNTS)
        with pytest.raises(AlreadyExists) as caught:
            await store.create_namespace("acme", "bob", ())
        assert caught.value.detail == "Namespace 'acme' already exists"
        assert await store.namespace("acme") == first

    async def test_an_unknown_one_is_not_found(self, store):
        """By every call that names one; the text is the contract's."""
        user = await store.create_user("u", password_hash=None, email=None)
        for call in (
            store.namespace("nobody"),
            store.set_status("nobody", "suspended", "root"),
            store.set_quota("nobody", NamespaceQuota(), "root"),
            store.mounts("nobody"),
            store.add_mount("nobody", MOUNTS[0], "root"),
            store.remove_mount("nobody", "/", "root"),
            store.append_events("nobody", [event(1)]),
            store.events("nobody", EventQuery(limit=1)),
            store.last_event("nobody"),
            store.members("nobody"),
            store.grant_role(user.id, "nobody", "admin", "root"),
            store.create_api_key(user.id, "nobody", "k", (), "0", None),
        ):
            with pytest.raises(NotFound) as caught:
                await call
            assert caught.value.detail == "Namespace 'nobody' not found"
        assert await store.last_change() == 0

    async def test_a_bad_name_is_refused(self, store):
        """The store holds no name that a token could not carry."""
        for create in (store.create_namespace, store.ensure_namespace):
            with pytest.raises(InvalidArgument):
                await create("Bad", "alice", ())
        assert await store.namespaces() == []

    async def test_all_are_listed_by_name(self, store):
        """Sorted by bytes, each with its own mounts; in pages too."""
        for name in ("b", "a", "c", "a-b", "a_b", "ab"):
            await store.create_namespace(name, "alice", (MountSpec(f"/{name}", "memfs"),))
        names = ["a", "a-b", "a_b", "ab", "b", "c"]
        records = await store.namespaces()
        assert [(r.name, r.mounts[0].path) for r in records] == [(n, f"/{n}") for n in names]
        assert [r.name for r in await store.namespaces(after="a-b", limit=2)] == names[2:4]
        assert await store.namespaces(after="c") == []

    async def test_ensuring_makes_it_so(self, store, clock):
        """Created when missing, its mounts replaced when they differ, else left alone."""
        first = await store.ensure_namespace("default", "system", MOUNTS)
        clock.advance(5)
        assert await store.ensure_namespace("default", "other", MOUNTS) == first
        assert await store.last_change() == 1
        changed = await store.ensure_namespace("default", "system", MOUNTS[:1])
        assert (changed.id, changed.mounts, changed.updated_at_s) == (
            *(first.id, MOUNTS[:1]),
            NOW_S + 5,
        )
        assert await store.namespace("default") == changed
        assert (await store.ensure_namespace("default", "system", ())).mounts == ()

    async def test_a_failed_creation_leaves_nothing(self, store):
        """One transaction: when a mount cannot be kept, there is no namespace either."""
        with pytest.raises(InvalidArgument, match="same path"):
            await store.create_namespace("acme", "alice", (MOUNTS[0], MOUNTS[0]))
        with pytest.raises(InvalidArgument, match=r"U\+0000"):
            await store.create_namespace("acme", "a", (MountSpec("/", "x", {"k": "\0"}),))
        assert await store.namespaces() == []
        assert await store.last_change() == 0
        await store.create_namespace("acme", "alice", MOUNTS)

    async def test_a_deleted_name_can_be_used_again(self, store, clock):
        """The new one has an id and a storage of its own; the old one's data can be removed."""
        old = await store.create_namespace("acme", "alice", MOUNTS)
        clock.advance(5)
        gone = await store.set_status("acme", "deleted", "root")
        assert (gone.id, gone.status, gone.deleted_at_s) == (old.id, "deleted", NOW_S + 5)
        with pytest.raises(NotFound):
            await store.namespace("acme")
        with pytest.raises(NotFound):
            await store.set_status("acme", "active", "root")
        new = await store.create_namespace("acme", "bob", ())
        assert new.id != old.id
        assert new.storage not in {old.storage, "acme"}
        assert await store.namespaces() == [new]
        assert await store.deleted_namespaces(NOW_S + 5) == []
        assert await store.deleted_namespaces(NOW_S + 6) == [gone]
        await store.forget_namespace(new.id)  # not deleted: stays
        for _ in range(2):
            await store.forget_namespace(old.id)
        assert await store.deleted_namespaces(NOW_S + 6) == []
        assert await store.namespace("acme") == new

    async def test_status_and_quota_are_set(self, store, clock):
        """A suspended one is found, as suspended."""
        created = await store.create_namespace("acme", "alice", MOUNTS)
        clock.advance(5)
        suspended = await store.set_status("acme", "suspended", "root")
        assert (suspended.status, suspended.updated_at_s) == ("suspended", NOW_S + 5)
        quota = NamespaceQuota(handles_max=3, requests_per_second_max=9)
        limited = await store.set_quota("acme", quota, "root")
        assert (limited.quota, limited.mounts, limited.id) == (quota, MOUNTS, created.id)
        assert await store.namespace("acme") == limited
        assert (await store.set_status("acme", "active", "root")).quota == quota
        with pytest.raises(InvalidArgument):
            await store.set_status("acme", "odd", "root")

    async def test_mounts_come_and_go(self, store):
        """One at a path; each has an id."""
        created = await store.create_namespace("acme", "alice", MOUNTS[:1])
        added = await store.add_mount("acme", MOUNTS[1], "bob")
        assert added == MountRecord(
            *(added.id, created.id, "/a", "x", MOUNTS[1].config, NOW_S, "bob")
        )
        assert len(added.id) == UUID_LENGTH
        with pytest.raises(AlreadyExists):
            await store.add_mount("acme", MountSpec("/a", "y"), "bob")
        assert (await store.mounts("acme"))[1:] == [added]
        assert (await store.namespace("acme")).mounts == MOUNTS
        await store.remove_mount("acme", "/", "bob")
        with pytest.raises(NotFound):
            await store.remove_mount("acme", "/", "bob")
        assert (await store.namespace("acme")).mounts == MOUNTS[1:]

    async def test_parallel_calls(self, store, open_store):
        """Exactly one of many parallel creations of a name succeeds, in several stores."""
        stores = [store, await open_store()]
        calls = (stores[n % 2].create_namespace("acme", f"u{n}", MOUNTS) for n in range(16))
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(isinstance(result, NamespaceRecord) for result in results) == 1
        assert sum(isinstance(result, AlreadyExists) for result in results) == 15
        ensured = await asyncio.gather(
            *(stores[n % 2].ensure_namespace("default", "system", MOUNTS) for n in range(16))
        )
        assert len({record.id for record in ensured}) == 1

    async def test_what_no_database_keeps_is_refused(self, store):
        """In the same words by both, instead of a failure of the one that cannot."""
        for call in (
            store.create_namespace("acme", "a\0b", ()),
            store.create_namespace("acme", "\ud800", ()),
            store.namespace("\0"),
            store.namespaces(limit=2**63),
            store.deleted_namespaces(10**12),
            store.revoke([token("t", expires_at_s=2**62)]),
        ):
            with pytest.raises(InvalidArgument):
                await call
        backslashes = (MountSpec("/", "x", {"k": r"\u0000"}),)
        assert (await store.create_namespace("acme", "a", backslashes)).mounts == backslashes
        assert (await store.namespace("acme")).mounts == backslashes


class Users:
    async def test_one_is_kept(self, store, open_store):
        """By id and by name; the hash of the password is told apart."""
        user = await store.create_user("alice", password_hash="h", email="a@example.org")
        assert (user.username, user.email, user.status) == ("alice", "a@example.org", "active")
        other = await open_store()
        assert await other.user(user.id) == await other.user_named("alice") == user
        assert await other.password_hash("alice") == "h"
        assert await other.password_hash("bob") is None
        with pytest.raises(AlreadyExists):
            await store.create_user("alice", password_hash=None, email=None)

    async def test_a_password_is_replaced(self, store, clock):
        """That of one that is there."""
        user = await store.create_user("alice", password_hash="h", email=None)
        clock.advance(5)
        changed = await store.set_password_hash(user.id, "i")
        assert (changed.id, changed.updated_at_s) == (user.id, NOW_S + 5)
        assert await store.password_hash("alice") == "i"
        await store.set_user_status(user.id, "deleted")
        with pytest.raises(NotFound):
            await store.set_password_hash(user.id, "j")

    async def test_the_name_of_a_deleted_user_can_be_used_again(self, store, clock):
        """Deleted ones are not found; a suspended one has no password."""
        first = await store.create_user("alice", password_hash="h", email=None)
        clock.advance(5)
        suspended = await store.set_user_status(first.id, "suspended")
        assert (suspended.status, suspended.updated_at_s) == ("suspended", NOW_S + 5)
        assert await store.password_hash("alice") is None
        await store.set_user_status(first.id, "deleted")
        second = await store.create_user("alice", password_hash=None, email=None)
        assert await store.users() == [second]
        for call in (store.user(first.id), store.set_user_status(first.id, "active")):
            with pytest.raises(NotFound):
                await call
        with pytest.raises(NotFound):
            await store.user_named("nobody")

    async def test_roles_are_granted_and_withdrawn(self, store):
        """Each once; sorted by namespace and role; those in deleted namespaces are gone."""
        alice = await store.create_user("alice", password_hash=None, email=None)
        bob = await store.create_user("bob", password_hash=None, email=None)
        for name in ("b", "a", "c"):
            await store.create_namespace(name, "root", ())
        granted = await store.grant_role(alice.id, "b", "operator", "root")
        assert granted == RoleGrant(alice.id, "b", "operator", NOW_S, "root")
        with pytest.raises(AlreadyExists):
            await store.grant_role(alice.id, "b", "operator", "root")
        for user, name, role in ((alice, "b", "admin"), (alice, "a", "admin"), (bob, "b", "r")):
            await store.grant_role(user.id, name, role, "root")
        await store.grant_role(alice.id, "c", "admin", "root")
        await store.set_status("c", "deleted", "root")
        assert [(g.namespace, g.role) for g in await store.roles(alice.id)] == [
            *(("a", "admin"), ("b", "admin"), ("b", "operator")),
        ]
        assert await store.members("b") == [(alice, ("admin", "operator")), (bob, ("r",))]
        await store.withdraw_role(alice.id, "b", "admin")
        with pytest.raises(NotFound):
            await store.withdraw_role(alice.id, "b", "admin")
        assert await store.members("b") == [(alice, ("operator",)), (bob, ("r",))]
        for call in (store.roles("nobody"), store.grant_role("nobody", "a", "r", "root")):
            with pytest.raises(NotFound):
                await call

    async def test_api_keys(self, store, clock):
        """Found by their digest alone; used, revoked once, listed newest first."""
        alice = await store.create_user("alice", password_hash=None, email=None)
        await store.create_namespace("acme", "root", ())
        key = await store.create_api_key(alice.id, "acme", "ci", ("a", "b"), "d1", NOW_S + 9)
        assert (key.namespace, key.roles, key.expires_at_s) == ("acme", ("a", "b"), NOW_S + 9)
        assert await store.api_key("d1") == (key, alice)
        with pytest.raises(AlreadyExists):
            await store.create_api_key(alice.id, "acme", "ci", (), "d1", None)
        clock.advance(5)
        other = await store.create_api_key(alice.id, "acme", "ci", (), "d2", None)
        await store.touch_api_key(key.id)
        assert (await store.api_key("d1"))[0].last_used_at_s == NOW_S + 5
        revoked = await store.revoke_api_key(key.id)
        clock.advance(5)
        assert await store.revoke_api_key(key.id) == revoked
        assert revoked.revoked_at_s == NOW_S + 5
        assert await store.api_keys() == await store.api_keys("acme") == [other, revoked]
        assert await store.api_keys("b") == []
        for call in (store.api_key("d3"), store.revoke_api_key("nobody")):
            with pytest.raises(NotFound):
                await call
        await store.set_user_status(alice.id, "deleted")
        with pytest.raises(NotFound):
            await store.api_key("d2")


class Audit:
    async def test_events_are_a_chain(self, store, open_store):
        """Each follows the one before, by number and digest; newest first."""
        await store.create_namespace("acme", "root", ())
        assert await store.last_event("acme") is None
        details = {"to": "/b\0", "z": 1, "a": 1e300}
        await store.append_events("acme", [event(1, details=details), event(2)])
        other = await open_store()
        await other.append_events("acme", [event(3)])
        events = await store.events("acme", EventQuery(limit=10))
        assert [(e.sequence, e.digest, e.previous) for e in events] == [
            *((3, "d3", "d2"), (2, "d2", "d1"), (1, "d1", "")),
        ]
        assert list(events[2].details.items()) == list(details.items())
        assert await store.last_event("acme") == events[0]
        for wrong in (
            [event(3)],
            [event(5)],
            [event(4), event(6)],
            [AuditRecord(4, 1, "t", "/", "u", 1, "ok", {}, "d4", "other")],
        ):
            with pytest.raises(Conflict):
                await store.append_events("acme", wrong)
        assert len(await store.events("acme", EventQuery(limit=10))) == 3

    async def test_two_cannot_continue_a_chain(self, store, open_store):
        """One of many that append the same number at once succeeds, the others see Conflict."""
        await store.create_namespace("acme", "root", ())
        stores = [store, await open_store()]
        results = await asyncio.gather(
            *(stores[n % 2].append_events("acme", [event(1)]) for n in range(8)),
            return_exceptions=True,
        )
        assert [*map(type, results)].count(type(None)) == 1
        assert [*map(type, results)].count(Conflict) == 7

    async def test_filters(self, store):
        """By path prefix, type and time, in pages; or onwards from a number."""
        await store.create_namespace("acme", "root", ())
        paths = ["/a", "/a%", "/a_/b", "/A", "/b", "/ä"]
        types = ["create", "remove"]
        await store.append_events(
            "acme",
            [event(n + 1, path=path, event_type=types[n % 2]) for n, path in enumerate(paths)],
        )

        async def found(**filters):
            return [
                e.sequence
                for e in await store.events("acme", EventQuery(**{"limit": 9, **filters}))
            ]

        assert await found() == [6, 5, 4, 3, 2, 1]
        assert await found(limit=2, offset=1) == [5, 4]
        assert await found(path="/a") == [3, 2, 1]
        assert await found(path="/a%") == [2]
        assert await found(path="/ä") == [6]
        assert await found(event_type="remove") == [6, 4, 2]
        assert await found(since_ns=20, until_ns=40) == [3, 2]
        assert await found(after=3) == [4, 5, 6]
        assert await found(after=0, event_type="create", limit=2) == [1, 3]

    async def test_trimming(self, store):
        """Only from the beginning, and the end stays; the rest still names the digest before."""
        await store.create_namespace("acme", "root", ())
        times = [10, 50, 20, 60, 70]
        await store.append_events(
            "acme", [event(n + 1, timestamp_ns=time) for n, time in enumerate(times)]
        )
        assert await store.trim_events("acme", 40, 100) == 1
        assert await store.trim_events("acme", 40, 100) == 0
        assert await store.trim_events("acme", 0, 3) == 1
        kept = await store.events("acme", EventQuery(limit=9, after=0))
        assert [(e.sequence, e.previous) for e in kept] == [(3, "d2"), (4, "d3"), (5, "d4")]
        assert await store.trim_events("acme", 1000, 0) == 2
        await store.append_events("acme", [event(6)])
        assert [e.sequence for e in await store.events("acme", EventQuery(limit=9))] == [6, 5]

    async def test_those_of_a_deleted_namespace(self, store):
        """Are there until the name is used again or the namespace forgotten."""
        old = await store.create_namespace("acme", "root", ())
        await store.append_events("acme", [event(1)])
        await store.set_status("acme", "deleted", "root")
        await store.append_events("acme", [event(2)])
        assert len(await store.events("acme", EventQuery(limit=9))) == 2
        await store.create_namespace("acme", "root", ())
        assert await store.events("acme", EventQuery(limit=9)) == []
        await store.append_events("acme", [event(1)])
        await store.forget_namespace(old.id)
        assert len(await store.events("acme", EventQuery(limit=9))) == 1


class Leases:
    async def test_one_holder_at_a_time(self, store, open_store):
        """Another one gets it when it is dropped, with a higher epoch; renewing keeps it."""
        first = await store.take_lease("ns/acme", "a", 1000)
        assert (first.name, first.holder, first.epoch) == ("ns/acme", "a", 1)
        other = await open_store()
        assert await other.take_lease("ns/acme", "b", 1000) is None
        renewed = await store.take_lease("ns/acme", "a", 2000)
        assert renewed.epoch == 1
        assert renewed.expires_at_s > first.expires_at_s + 900
        assert await other.lease("ns/acme") == renewed
        await other.drop_lease("ns/acme", "b")  # not the holder's
        assert await other.take_lease("ns/acme", "b", 1000) is None
        await store.drop_lease("ns/acme", "a")
        assert await store.lease("ns/acme") is None
        assert (await other.take_lease("ns/acme", "b", 1000)).epoch == 2
        assert await store.lease("unknown") is None

    async def test_an_expired_one_is_anybodys(self, store, clock):
        """By the database's clock: that of its users, however wrong, has no part in it."""
        clock.advance(10**6)
        assert (await store.take_lease("l", "a", 0.001)).epoch == 1
        taken = None
        while taken is None:
            taken = await store.take_lease("l", "b", 1000)
        assert taken.epoch == 2
        clock.advance(10**6)
        assert await store.take_lease("l", "a", 1000) is None
        for bad in (("", 1), ("a", 0), ("a", float("nan"))):
            with pytest.raises(InvalidArgument):
                await store.take_lease("l", *bad)

    async def test_many_want_it_at_once(self, store, open_store):
        """One gets it."""
        stores = [store, await open_store()]
        leases = await asyncio.gather(
            *(stores[n % 2].take_lease("l", f"h{n}", 1000) for n in range(12))
        )
        assert sum(lease is not None for lease in leases) == 1


class StoreSuite(Namespaces, Users, Audit, Leases):
    async def test_ping(self, store):
        """Returns when the store answers."""
        await store.ping()
