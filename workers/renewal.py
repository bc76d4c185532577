"""`fs9 fleet reload` loads new code and settings while the fleet serves.

The arbiter first tries them in a fresh interpreter with the command line of its own start
(`Rehearsal`, which runs `rehearse`). If they cannot be used, the operator gets the reason and
nothing has changed. Otherwise the arbiter replaces its program (execve(2)) and goes on in the same
process (`Handover`), with its children, its listener and its locks. Workers are then forked from
the new program, so starting one costs no more than before.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from fs9.config import ConfigError, check_exposure
from fs9.preflight import check_providers
from router.messages import VERSION
from workers.parent import leave_with

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fs9.config import Settings

#: In the environment of the programs that are started here, and of nobody else.
VARIABLE = "FS9_RENEWAL"
#: Settings that the running fleet has built upon, and what to do about them.
_FIXED = {
    "host": "server.host",
    "port": "server.port",
    "data_dir": "data_dir",
    "bus_bind": "server.bus.bind",
    "bus_keys_dir": "server.bus.keys_dir",
    "meta_dsn": "meta.dsn",
    "workers": "server.workers",
}
_PATIENCE_S = 25.0
_SHOWN_BYTES_MAX = 2000


class KeptWorker(msgspec.Struct):
    """A worker that the earlier program forked. `watch_fd`: gunicorn's file of its heartbeat."""

    pid: int
    slot: int
    age: int
    watch_fd: int


class Handover(msgspec.Struct, tag="go on"):
    """The state that the arbiter passes to its next program; descriptors are numbers."""

    renewal: str
    note: str
    settings_fd: int
    listener_fd: int
    lock_fd: int
    broker_pid: int
    notify_socket: str | None
    workers: list[KeptWorker]


class _Question(msgspec.Struct, tag="try"):
    """The pickled settings of the fleet are in `settings_fd`; there the new ones go.

    `asker`: the process that waits for the answer; programs before this one do not say.
    """

    settings_fd: int
    answer_fd: int
    asker: int = 0


class Verdict(msgspec.Struct):
    """`error`: why it cannot be used; `note`: what takes effect at the next start alone."""

    error: str = ""
    note: str = ""
    bus_version: int = VERSION


class Rehearsal:
    """The trial of what is on disk now. `settings_fd` has the new settings at its end."""

    def __init__(self, renewal: str, settings: Settings, environ: Mapping[str, str]) -> None:
        """Raises OSError when no process can be started."""
        self.renewal = renewal
        self.settings_fd = _memory(pickle.dumps(settings))
        self._answer_fd, self._errors_fd = _memory(), _memory()
        self._deadline_s = time.monotonic() + _PATIENCE_S
        question = _Question(self.settings_fd, self._answer_fd, os.getpid())
        try:
            self._process = subprocess.Popen(
                command_line(),
                env=environment(question, environ),
                stdin=subprocess.DEVNULL,
                stdout=self._errors_fd,
                stderr=self._errors_fd,
                pass_fds=(self.settings_fd, self._answer_fd),
            )
        except OSError:
            self._forget()
            raise

    def poll(self) -> Verdict | None:
        """None: not yet. Whoever reaps children may have reaped it, so its status says nothing."""
        if self._process.poll() is None:
            if time.monotonic() < self._deadline_s:
                return None
            self._process.kill()
            return Verdict(f"code and settings were not tried within {_PATIENCE_S:g} s")
        try:
            verdict = msgspec.json.decode(_content(self._answer_fd), type=Verdict)
        except msgspec.DecodeError:
            said = _content(self._errors_fd).decode("utf-8", "replace").strip()
            return Verdict(f"the program on disk does not start: {said[-_SHOWN_BYTES_MAX:]}")
        if not verdict.error and verdict.bus_version != VERSION:
            verdict.error = (
                f"the program on disk speaks another language on the bus ({verdict.bus_version},"
                f" not {VERSION}): restart the fleet"
            )
        return verdict

    def close(self) -> None:
        """Also of one that is not over."""
        with suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()
        self._forget()

    def _forget(self) -> None:
        for fd in (self.settings_fd, self._answer_fd, self._errors_fd):
            os.close(fd)


def command_line() -> list[str]:
    """The command line that this program was started with."""
    return [sys.executable, *sys.orig_argv[1:]]


def environment(order: Handover | _Question, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of this program's start, with an order for the next program."""
    return {**environ, VARIABLE: msgspec.json.encode(order).decode()}


def order_of(text: str) -> Handover | _Question:
    """The order that is in the variable of the environment."""
    return msgspec.json.decode(text, type=Handover | _Question)


def rehearse(question: _Question, read_settings: Callable[[], Settings]) -> None:
    """Try out, in a fresh interpreter, whether the running fleet could use code and settings."""
    if question.asker:
        leave_with(question.asker)
    running: Settings = pickle.loads(_content(question.settings_fd))
    verdict = Verdict()
    try:
        read = read_settings()
        settings = replace(read, **{name: getattr(running, name) for name in _FIXED})
        check_exposure(settings)
        asyncio.run(check_providers(settings, running))
        verdict.note = _note(read, running)
        _write(question.settings_fd, pickle.dumps(settings))
    except ConfigError as error:
        verdict.error = str(error)
    _write(question.answer_fd, msgspec.json.encode(verdict))


def settings_of(handover: Handover) -> Settings:
    """The settings that were rehearsed."""
    settings: Settings = pickle.loads(_content(handover.settings_fd))
    os.close(handover.settings_fd)
    return settings


def _note(read: Settings, running: Settings) -> str:
    """Names changed settings that a reload does not apply. `fs9 fleet scale` sets the workers."""
    keys = [key for name, key in _FIXED.items() if getattr(read, name) != getattr(running, name)]
    if not keys:
        return ""
    scale = "; for the number of workers now, `fs9 fleet scale`" if "server.workers" in keys else ""
    return f"not changed until the next start: {', '.join(keys)}{scale}"


def _memory(data: bytes = b"") -> int:
    fd = os.memfd_create("fs9-renewal", os.MFD_CLOEXEC)
    os.write(fd, data)
    return fd


def _content(fd: int) -> bytes:
    return os.pread(fd, os.fstat(fd).st_size, 0)


def _write(fd: int, data: bytes) -> None:
    os.ftruncate(fd, 0)
    os.pwrite(fd, data, 0)
