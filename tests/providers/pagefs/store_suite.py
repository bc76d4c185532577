"""What every metadata store must do; see `fs9.providers.pagefs.store`.

A test module derives a class from `MetaStoreSuite` and gives it an `open_store` fixture: a
coroutine function without arguments that opens one and the same data, each time with a new
epoch, and a `persistent` attribute: does the data outlive its store object?
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Awaitable, Callable
from typing import ClassVar, TypeAlias

import pytest

from fs9.errors import OwnerUnavailable
from fs9.providers.pagefs.store import (
    BATCH_CHANGES_MAX,
    KEY_BYTES_MAX,
    VALUE_BYTES_MAX,
    Batch,
    ChecksFailed,
    MetaStore,
)

OpenStore: TypeAlias = Callable[[], Awaitable[MetaStore]]
END = b"\xff" * 8


async def put(store: MetaStore, *items: tuple[bytes, bytes | None], sync: bool = False) -> None:
    await store.commit(Batch(dict(items)), sync=sync)


class MetaStoreSuite:
    persistent: ClassVar[bool] = True

    @pytest.fixture
    async def store(self, open_store: OpenStore):
        store = await open_store()
        yield store
        await store.aclose()

    # -- get, put, delete -----------------------------------------------------------------------

    async def test_what_was_put_is_there(self, store: MetaStore) -> None:
        assert await store.get(b"k") is None
        await put(store, (b"k", b"v"), (b"empty", b""))
        assert (await store.get(b"k"), await store.get(b"empty")) == (b"v", b"")
        await put(store, (b"k", b"w"))
        assert await store.get(b"k") == b"w"

    async def test_what_was_deleted_is_gone(self, store: MetaStore) -> None:
        await put(store, (b"k", b"v"))
        await put(store, (b"k", None), (b"never", None))
        assert await store.get(b"k") is None
        assert await store.scan(b"", END, 10) == []
        await put(store, (b"k", b"again"))
        assert await store.get(b"k") == b"again"

    async def test_every_byte_may_be_in_keys_and_values(self, store: MetaStore) -> None:
        items = [
            (bytes([first, second]), bytes([second]) * 3)
            for first in (0, 1, 127, 254)
            for second in (0, 1, 127, 128, 255)
        ]
        await put(store, *items)
        assert await store.scan(b"", END, 100) == sorted(items)

    async def test_the_largest_key_and_value(self, store: MetaStore) -> None:
        key, value = b"k" * KEY_BYTES_MAX, b"v" * VALUE_BYTES_MAX
        await put(store, (key, value))
        assert await store.get(key) == value

    async def test_the_largest_batch(self, store: MetaStore) -> None:
        items = [(b"%06d" % number, b"x") for number in range(BATCH_CHANGES_MAX)]
        await put(store, *items)
        assert await store.scan(b"", END, 2000) == items

    # -- scan -----------------------------------------------------------------------------------

    async def test_scan_has_bounds_order_and_a_limit(self, store: MetaStore) -> None:
        """`first` is in, `end` is not, and a page goes on where the last one ended."""
        keys = [b"a", b"a\0", b"ab", b"b", b"b\xff", b"c"]
        await put(store, *((key, key) for key in reversed(keys)))
        assert [key for key, _ in await store.scan(b"a", b"c", 10)] == keys[:-1]
        assert [key for key, _ in await store.scan(b"a\0", b"b\xff", 10)] == keys[1:4]
        assert [key for key, _ in await store.scan(b"a", b"c", 2)] == keys[:2]
        assert await store.scan(b"c\0", END, 10) == []
        assert await store.scan(b"b", b"b", 10) == []
        joined: list[bytes] = []
        while page := await store.scan(joined[-1] + b"\0" if joined else b"", END, 2):
            joined += [key for key, _ in page]
        assert joined == keys

    async def test_scan_passes_over_what_was_deleted(self, store: MetaStore) -> None:
        await put(store, *((b"%03d" % number, b"") for number in range(100)))
        await store.sync()
        await put(store, *((b"%03d" % number, None) for number in range(100) if number % 10))
        assert [key for key, _ in await store.scan(b"", END, 5)] == [
            b"000",
            b"010",
            b"020",
            b"030",
            b"040",
        ]

    async def test_against_a_model(self, store: MetaStore) -> None:
        """Random batches, syncs and scans do what a dict does."""
        dice, model = random.Random(4), dict[bytes, bytes]()
        for _ in range(150):
            changes = {
                b"%02d" % dice.randrange(60): dice.choice([None, b"%d" % dice.randrange(9)])
                for _ in range(dice.randrange(1, 6))
            }
            await store.commit(Batch(dict(changes)), sync=dice.random() < 0.05)
            for key, value in changes.items():
                model.pop(key, None)
                if value is not None:
                    model[key] = value
            first, limit = b"%02d" % dice.randrange(60), dice.randrange(1, 20)
            expected = sorted(item for item in model.items() if first <= item[0] < b"50")[:limit]
            assert await store.scan(first, b"50", limit) == expected
            key = b"%02d" % dice.randrange(60)
            assert await store.get(key) == model.get(key)

    # -- checks, ids ----------------------------------------------------------------------------

    async def test_a_check_that_fails_changes_nothing(self, store: MetaStore) -> None:
        await put(store, (b"a", b"1"))
        for checks in ({b"a": b"2"}, {b"a": None}, {b"b": b""}, {b"a": b"1", b"b": b"x"}):
            with pytest.raises(ChecksFailed):
                await store.commit(Batch({b"a": b"3", b"n": b"n"}, dict(checks)))
        assert await store.scan(b"", END, 10) == [(b"a", b"1")]

    async def test_compare_and_set(self, store: MetaStore) -> None:
        await store.commit(Batch({b"a": b"1"}, {b"a": None}))
        await store.commit(Batch({b"a": b"2", b"b": b"x"}, {b"a": b"1", b"b": None}))
        await store.commit(Batch({b"a": None}, {b"a": b"2"}), sync=True)
        assert await store.scan(b"", END, 10) == [(b"b", b"x")]

    async def test_a_batch_is_applied_once(self, store: MetaStore) -> None:
        """Sent again it answers as applied, though its checks no longer hold."""
        batch = Batch({b"a": b"1"}, {b"a": None}, id=b"one")
        await store.commit(batch)
        await put(store, (b"a", b"2"))
        await store.commit(batch)
        await store.commit(batch, sync=True)
        assert await store.get(b"a") == b"2"
        with pytest.raises(ChecksFailed):
            await store.commit(Batch({b"a": b"1"}, {b"a": None}, id=b"two"))

    async def test_ids_do_not_show_as_items(self, store: MetaStore) -> None:
        await store.commit(Batch({b"a": b"1"}, id=b"one"))
        assert await store.scan(b"", END, 10) == [(b"a", b"1")]

    # -- snapshots ------------------------------------------------------------------------------

    async def test_a_snapshot_stays_as_it_was(self, store: MetaStore) -> None:
        await put(store, (b"a", b"1"), (b"b", b"1"))
        snapshot = await store.snapshot()
        try:
            await put(store, (b"a", b"2"), (b"b", None), (b"c", b"3"))
            await store.sync()
            assert await snapshot.get(b"a") == b"1"
            assert await snapshot.get(b"c") is None
            assert await snapshot.scan(b"", END, 10) == [(b"a", b"1"), (b"b", b"1")]
            assert await store.scan(b"", END, 10) == [(b"a", b"2"), (b"c", b"3")]
        finally:
            await snapshot.aclose()

    # -- epochs, durability ---------------------------------------------------------------------

    async def test_a_new_opening_fences_the_old_one(self, open_store: OpenStore) -> None:
        """The old writer cannot commit, with or without sync; the new one can."""
        old = await open_store()
        await put(old, (b"a", b"old"))
        new = await open_store()
        assert new.epoch > old.epoch
        for sync in (False, True):
            with pytest.raises(OwnerUnavailable):
                await put(old, (b"a", b"late"), sync=sync)
        await put(new, (b"b", b"new"))
        assert await new.scan(b"", END, 10) == [(b"a", b"old"), (b"b", b"new")]
        with pytest.raises(OwnerUnavailable):
            await old.sync()
        # Refusing is allowed: what it could not sync belongs to the new one.
        with contextlib.suppress(OwnerUnavailable):
            await old.aclose()
        await new.aclose()

    async def test_data_and_ids_outlive_the_store(self, open_store: OpenStore) -> None:
        if not self.persistent:
            pytest.skip("in memory")
        store = await open_store()
        await store.commit(Batch({b"a": b"1"}, {b"a": None}, id=b"one"))
        await put(store, (b"b", b"2"), sync=True)
        await store.aclose()
        again = await open_store()
        assert again.epoch > store.epoch
        assert await again.scan(b"", END, 10) == [(b"a", b"1"), (b"b", b"2")]
        await again.commit(Batch({b"a": b"1"}, {b"a": None}, id=b"one"))
        await again.aclose()

    async def test_sync_awaits_what_must_be_durable_first(self, store: MetaStore) -> None:
        calls = []

        async def before() -> None:
            calls.append(await store.get(b"a"))

        await put(store, (b"a", b"1"))
        await store.sync(before)
        assert calls == [b"1"]

    async def test_sync_fails_when_that_fails(self, store: MetaStore) -> None:
        async def before() -> None:
            raise OSError(5, "no")

        await put(store, (b"a", b"1"))
        with pytest.raises(OSError, match="no"):
            await store.sync(before)
        await store.sync()
        assert await store.get(b"a") == b"1"
