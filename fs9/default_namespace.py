"""The namespace `default` exists from the start, with the mounts of the settings.

In a fleet they apply when it starts, and when a reload brings other ones. A worker that takes
another's place leaves `default` as it is, because it may have been changed over HTTP since then.
"""

from __future__ import annotations

import contextlib
import logging
import os
from hashlib import sha256
from typing import TYPE_CHECKING

import msgspec

from fs9.directories import default_mounts_file
from fs9.errors import NotFound
from fs9.names import DEFAULT_NAMESPACE, SYSTEM_USER

if TYPE_CHECKING:
    from fs9.config import Settings
    from fs9.meta.store import Store
    from fs9.threads import BlockingPool
    from fs9.types import MountSpec

log = logging.getLogger(__name__)


async def ensure_default(
    store: Store, settings: Settings, pool: BlockingPool, *, fleet: bool
) -> None:
    """Make `default`, or give it the mounts of the settings if they have not been given yet.

    `fleet`: for one worker of several; else, as before a fleet starts, they are given in any case.
    Raises BackendUnavailable when the store cannot be used.
    """
    given = _GivenMounts(settings) if fleet else None
    held: tuple[MountSpec, ...] = ()
    with contextlib.suppress(NotFound):
        held = (await store.namespace(DEFAULT_NAMESPACE)).mounts
        if given is not None and await pool.run(given.are_these):
            return
    mounts = settings.mounts_of_default(held)
    await store.ensure_namespace(DEFAULT_NAMESPACE, SYSTEM_USER, mounts)
    if given is not None:
        await pool.run(given.keep)


class _GivenMounts:
    """Which mounts the workers have given to `default`, in a file. Its methods block."""

    def __init__(self, settings: Settings) -> None:
        self._file = default_mounts_file(settings.data_dir)
        self._digest = sha256(msgspec.json.encode(settings.mounts)).hexdigest()

    def are_these(self) -> bool:
        with contextlib.suppress(FileNotFoundError):
            return self._file.read_text(encoding="ascii") == self._digest
        return False

    def keep(self) -> None:
        """On a full disk the worker starts all the same; the next one gives the mounts again."""
        fresh = self._file.with_name(f"{self._file.name}.{os.getpid()}")
        try:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh.write_text(self._digest, encoding="ascii")
            fresh.replace(self._file)
        except OSError as error:
            log.warning("%s cannot be written: %s", self._file, error.strerror)
