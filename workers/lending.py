"""Lends open files to a proxy in front: nginx sends the bytes, the worker has opened the file.

What is lent is the open file itself, not its path: a symbolic link to the descriptor
(`/proc/PID/fd/N`, proc(5)) in the run directory, under a name that nobody can guess. So nginx
opens the very file that the worker has checked, whatever its path names by then, and can open no
other. The number of a closed descriptor is reused, so the name is removed first and the descriptor
closed a good while later: an open that finds the name finds the right file.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from contextlib import suppress
from resource import RLIMIT_NOFILE, getrlimit
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from fs9.threads import BlockingPool

#: nginx opens the file as soon as it has read the answer; one that comes later asks again.
_LENT_S = 3.0
#: Longer than an open(2) that has found the name takes to reach the descriptor.
_GRACE_S = 5.0
#: Files lent at the same time: this many, or this part of the descriptors that a process may
#: have. Beyond, the worker sends the bytes itself.
_LENT_MAX = 4096
_LENT_PART = 4


class Lender:
    """The lent files of one worker. `directory` is its own, and empty after the start."""

    def __init__(self, directory: Path, prefix: str, slot: int, pool: BlockingPool) -> None:
        self.prefix = prefix
        self._directory = directory / str(slot)
        self._slot = slot
        self._pool = pool
        self._lent: dict[str, int] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._count = 0
        self._count_max = min(_LENT_MAX, getrlimit(RLIMIT_NOFILE)[0] // _LENT_PART)
        self._open = True
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in self._directory.iterdir():
            left.unlink()

    async def lend(self, fd: int) -> str | None:
        """Lend the file of `fd`, which the caller may close then; its name, or None."""
        if self._count >= self._count_max or not self._open:
            return None
        self._count += 1
        own = os.dup(fd)
        name = secrets.token_hex(16)
        try:
            await self._pool.run(
                os.symlink, f"/proc/{os.getpid()}/fd/{own}", self._directory / name
            )
        except BaseException as error:
            # Nobody has heard of the name.
            with suppress(OSError):
                os.unlink(self._directory / name)
            self._count -= 1
            os.close(own)
            if isinstance(error, OSError):
                return None
            raise
        self._lent[name] = own
        asyncio.get_running_loop().call_later(_LENT_S, self._withdraw, name)
        return f"{self.prefix}{self._slot}/{name}"

    def _withdraw(self, name: str) -> None:
        if name in self._lent:
            task = asyncio.get_running_loop().create_task(self._take_back(name))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def _take_back(self, name: str) -> None:
        try:
            await self._pool.run(os.unlink, self._directory / name)
        except FileNotFoundError:
            pass
        except OSError:
            return  # as long as the name is there, the descriptor is
        await asyncio.sleep(_GRACE_S)
        own = self._lent.pop(name, None)
        if own is not None:
            self._count -= 1
            # In a thread: the last close of a removed file frees its blocks.
            await self._pool.run(os.close, own)

    def close(self) -> None:
        """The process ends, and its descriptors with it."""
        self._open = False
        for task in self._closing:
            task.cancel()
        for name in self._lent:
            with suppress(OSError):
                os.unlink(self._directory / name)
        self._lent.clear()
