"""What every meta store must tell of changes, whatever the database: in order, and all of them.

As `tests/meta/store_suite.py`, beside which `test_sqlite` and `test_postgres` run it.
"""

import asyncio

import pytest

from fs9.errors import AlreadyExists
from fs9.meta.models import NamespaceQuota
from tests.meta.store_suite import MOUNTS, NOW_S, token


class FeedSuite:
    async def test_revocations_have_growing_ids(self, store, open_store):
        """They are kept, and asked for from any id on."""
        first = await store.revoke([token("t1"), token("t2", namespace="acme")])
        (third,) = await store.revoke([token("u", kind="user", issued_until_s=NOW_S)])
        assert [r.id for r in (*first, third)] == [1, 2, 3]
        everything = await (await open_store()).changes_since(0)
        assert everything.revocations == (*first, third)
        assert (everything.last_id, everything.more, everything.complete) == (3, False, True)
        assert (await store.changes_since(2)).revocations == (third,)
        assert (await store.changes_since(3)).revocations == ()
        assert await store.revoke([]) == []

    async def test_one_known_already_gets_the_later_expiry(self, store):
        """And is told again; nothing that was revoked comes back."""
        (first,) = await store.revoke([token("t", expires_at_s=NOW_S + 100)])
        (shorter,) = await store.revoke([token("t", expires_at_s=NOW_S + 50)])
        assert (shorter.id, shorter.expires_at_s) == (2, NOW_S + 100)
        (longer,) = await store.revoke(
            [token("t", expires_at_s=NOW_S + 150), token("t", expires_at_s=NOW_S + 120)]
        )
        assert longer.expires_at_s == NOW_S + 150
        assert (await store.changes_since(first.id)).revocations == (longer,)
        cases = [(10, 20, 20), (20, 10, 20), (None, 30, None), (30, None, None)]
        for number, (old, new, result) in enumerate(cases):
            await store.revoke([token(f"u{number}", kind="user", issued_until_s=old)])
            (kept,) = await store.revoke([token(f"u{number}", kind="user", issued_until_s=new)])
            assert kept.issued_until_s == result

    async def test_expired_ones_are_forgotten(self, store, clock):
        """They are not told any more, and deleted by upkeep."""
        await store.revoke([token("t1", expires_at_s=NOW_S + 10), token("t2")])
        clock.advance(10)
        assert [r.subject for r in (await store.changes_since(0)).revocations] == ["t2"]
        assert await store.forget_expired(0) == 1
        assert await store.forget_expired(0) == 0
        assert [r.subject for r in (await store.changes_since(0)).revocations] == ["t2"]

    async def test_changes_of_namespaces_are_told(self, store):
        """Each name once, whatever happened to it; who starts needs none."""
        user = await store.create_user("u", password_hash=None, email=None)
        await store.create_namespace("before", "root", ())
        start = await store.last_change()
        await store.create_namespace("acme", "root", ())
        steps = (
            store.set_quota("acme", NamespaceQuota(1), "root"),
            store.add_mount("acme", MOUNTS[0], "root"),
            store.remove_mount("acme", "/", "root"),
            store.set_status("acme", "suspended", "root"),
            store.set_status("acme", "deleted", "root"),
        )
        for step in steps:
            before = await store.last_change()
            await step
            assert (await store.changes_since(before)).namespaces == ("acme",)
        await store.grant_role(user.id, "before", "admin", "root")
        assert (await store.changes_since(start)).namespaces == ("acme",)
        assert (await store.changes_since(0)).namespaces == ()

    async def test_pages(self, store):
        """Cut where the shorter list ends, and put together they are everything."""
        for number in range(5):
            await store.revoke([token(f"a{number}"), token(f"b{number}")])
            await store.create_namespace(f"n{number}", "root", ())
        last_id, tokens, names = 2, ["a0", "b0"], []
        while True:
            page = await store.changes_since(last_id, limit=3)
            assert page.last_id > last_id
            assert page.complete
            last_id = page.last_id
            tokens += [r.subject for r in page.revocations]
            names += page.namespaces
            if not page.more:
                break
        assert tokens == [f"{letter}{number}" for number in range(5) for letter in "ab"]
        assert names == [f"n{number}" for number in range(5)]
        assert last_id == await store.last_change() == 15

    async def test_a_trimmed_feed_says_so(self, store, clock):
        """To those whose changes are gone; revocations never are. Also to one from the future."""
        await store.create_namespace("a", "root", ())
        await store.revoke([token("t")])
        await store.create_namespace("b", "root", ())
        clock.advance(10)
        await store.create_namespace("c", "root", ())
        await store.forget_expired(NOW_S + 10)
        late = await store.changes_since(1)
        assert (late.complete, [r.subject for r in late.revocations]) == (False, ["t"])
        assert (await store.changes_since(0)).complete
        assert (await store.changes_since(3)) == await store.changes_since(3)
        assert ((await store.changes_since(3)).complete, late.last_id) == (True, 4)
        future = await store.changes_since(99)
        assert (future.complete, future.last_id) == (False, 4)
        assert [r.subject for r in future.revocations] == ["t"]

    async def test_who_waits_is_told_of_changes(self, store, open_store):
        """Of others and of the store itself, committed ones only, and not of what it knows."""
        await store.create_namespace("acme", "root", ())
        other = await open_store()
        last_id = await store.last_change()
        assert await asyncio.wait_for(store.wait_change(last_id - 1, 300), 60)
        for writer in (other, store, other):
            waiting = asyncio.create_task(store.wait_change(last_id, 300))
            await writer.take_lease("l", "me", 10)  # which is no change
            with pytest.raises(AlreadyExists):
                await writer.create_namespace("acme", "root", ())
            assert not (await asyncio.wait([waiting], timeout=0.05))[0]
            await writer.revoke([token(f"t{last_id}")])
            assert await asyncio.wait_for(waiting, 60)
            last_id += 1
        assert await store.last_change() == last_id
        assert not await store.wait_change(last_id, 0.01)

    async def test_concurrent_writers_and_a_reader(self, store, open_store):
        """The reader follows the feed while others write to it, and misses nothing."""
        writers = [await open_store() for _ in range(3)]
        over = asyncio.Event()

        async def write(writer, number):
            for n in range(12):
                name = f"w{number}-{n}"
                await writer.revoke([token(f"{name}-{k}") for k in range(n % 3 + 1)])
                await writer.create_namespace(name, "root", ())

        await store.create_namespace("first", "root", ())

        async def follow():
            last_id, seen, names, last_round = 1, [], set(), False
            while True:
                page = await store.changes_since(last_id, limit=7)
                assert page.complete
                last_id = page.last_id
                seen += [r.id for r in page.revocations]
                names.update(page.namespaces)
                if not page.more and last_round:
                    return seen, names
                last_round = over.is_set()
                await asyncio.sleep(0)

        following = asyncio.create_task(follow())
        calls = (write(writer, number) for number, writer in enumerate((*writers, store)))
        await asyncio.gather(*calls)
        over.set()
        seen, names = await following
        assert seen == sorted(seen)
        assert len(seen) == 4 * 12 * 2
        assert names >= {f"w{number}-{n}" for number in range(4) for n in range(12)}
