"""Topics as files: a write publishes one message, reading subscribes.

    /README      what this is
    /TOPIC       write: publish; read: the last `default_ring_size` messages, then what comes,
                 each followed by a newline
    /TOPIC.info  about the topic, as lines of `key: value`

One write is one message, however it travelled; its last newline is not part of it. Subscribers
read a common log (`fs9.providers.ringlog`), so none is served twice or holds others up. One that
was too slow reads a line `[N messages lost]` where they are missing, and the topic counts them.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from fs9.limits import MIB
from fs9.providers.logfs import README, LogFs
from fs9.providers.registry import ProviderContext, read_config
from fs9.providers.ringlog import Bounds, Log, Tape
from fs9.providers.storedlog import StoredLog, TopicStore

if TYPE_CHECKING:
    from collections.abc import Mapping

_INFO = ".info"
_README = b"""pubsubfs: topics as files

  echo hello > TOPIC     publishes one message, and makes the topic
  cat TOPIC              the latest messages
  tail -f TOPIC          and what comes
  cat TOPIC.info         subscribers, messages, times
  rm TOPIC               removes the topic

One write is one message; a newline at its end is not part of it. A reader that is too slow
reads "[N messages lost]" where messages are missing.
"""


class Config(msgspec.Struct, frozen=True):
    """What a mount may configure.

    `default_ring_size`: how many messages a new subscriber gets. `default_channel_size`: how
    many a slow one may be behind. `retention_messages`: how many are kept, for cursors of
    followers (by default the larger of the two, 10,000 when `persistent`), within
    `retention_bytes` of each topic and, when set, `retention_s`. `persistent`: topics are on disk.
    """

    default_ring_size: int = 100
    default_channel_size: int = 100
    persistent: bool = False
    retention_messages: int | None = None
    retention_bytes: int = 64 * MIB
    retention_s: float | None = None
    topics_max: int = 1000
    subscribers_max: int = 1000

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if value is not None and name != "persistent" and value <= 0:
                raise ValueError(f"{name} must be greater than 0")

    @property
    def bounds(self) -> Bounds:
        shown = max(self.default_ring_size, self.default_channel_size)
        kept = self.retention_messages or (max(10_000, shown) if self.persistent else shown)
        return Bounds(kept, self.retention_bytes, self.retention_s)


async def create(config: Mapping[str, Any], context: ProviderContext) -> PubSubFs:
    """Opens what is on disk; raises BackendUnavailable when that fails."""
    settings = read_config("pubsubfs", Config, config)
    if not settings.persistent:
        return PubSubFs(settings, context, None)
    mount = hashlib.blake2b(context.mount.encode(), digest_size=10).hexdigest()
    directory = context.data_dir / "namespaces" / context.storage / f"pubsubfs-{mount}"
    store = await context.pool.run(TopicStore, directory, context.pool)
    provider = PubSubFs(settings, context, store)
    try:
        await context.pool.run(provider.load)
    except BaseException:
        await store.aclose()
        raise
    return provider


class PubSubFs(LogFs):
    name = "pubsubfs"
    mode = 0o600

    def __init__(self, config: Config, context: ProviderContext, store: TopicStore | None) -> None:
        super().__init__(
            context,
            config.bounds,
            logs_max=config.topics_max,
            readers_max=config.subscribers_max,
        )
        self.volatile = store is None
        self._ring_size = config.default_ring_size
        self._store = store

    def load(self) -> None:
        """The topics on disk; blocks."""
        assert self._store is not None
        now_ns = self._clock.now_ns()
        logs = self._store.load(self._bounds, b"\n", self._quota, self._memory)
        for name, log in logs.items():
            if self._quota is not None:
                self._quota.found(log.bytes_kept, 1)
            log.trim(now_ns)
            self.hold(name, log)

    async def make(self, name: str) -> Log:
        now_ns, generation = self._clock.now_ns(), self.next_generation()
        if self._store is not None:
            return await self._store.create(
                name, generation, self._bounds, b"\n", self._quota, now_ns, self._memory
            )
        return Log(generation, self._bounds, b"\n", self._quota, now_ns, self._memory)

    async def append(self, log: Log, data: bytes) -> None:
        data = data.removesuffix(b"\n")
        if isinstance(log, StoredLog):
            await log.append(data, self._clock.now_ns())
        else:
            log.commit(log.prepare(data, self._clock.now_ns()))

    async def forget(self, log: Log) -> None:
        if self._store is not None and isinstance(log, StoredLog):
            await self._store.remove(log)

    def tape(self, log: Log) -> Tape:
        return Tape(log, self._ring_size, _lost_line)

    def size(self, log: Log) -> int:
        return 0  # there is no end to measure

    def text(self, path: str) -> bytes | None:
        if path == README:
            return _README
        log = self._logs.get(path[1 : -len(_INFO)]) if path.endswith(_INFO) else None
        return None if log is None else self._about(path[1 : -len(_INFO)], log)

    def texts(self) -> list[str]:
        return [README, *(f"/{name}{_INFO}" for name in self._logs)]

    def _about(self, name: str, log: Log) -> bytes:
        lines = [
            f"name: {name}",
            f"subscribers: {len(log.readers)}",
            f"messages: {log.next - 1}",
            f"ring_size: {self._ring_size}",
            f"created: {_time(log.created_ns)}",
            f"modified: {_time(log.modified_ns)}",
        ]
        if log.lost:
            lines.append(f"lost: {log.lost}")
        return "".join(f"{line}\n" for line in lines).encode()

    def may_be_named(self, name: str) -> bool:
        return not name.endswith(_INFO) and "/" + name != README

    async def aclose(self) -> None:
        await super().aclose()
        if self._store is not None:
            await self._store.aclose()


def _lost_line(count: int) -> bytes:
    return b"[%d messages lost]\n" % count


def _time(ns: int) -> str:
    return datetime.fromtimestamp(ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S")
