"""The preflight of `fs9 serve`, which runs in a process of its own."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from contextlib import suppress

_TRIES = """
import asyncio, os
from workers import fleet

async def hang(settings):
    print(os.getpid(), flush=True)
    await asyncio.sleep(600)

fleet.preflight = hang
fleet._try_out(None)
"""


def test_what_tries_the_settings_ends_with_the_server_however_that_ends() -> None:
    """A backend that does not answer would keep it, and the address or database with it."""
    parent = subprocess.Popen([sys.executable, "-c", _TRIES], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout as said:
        child = os.pidfd_open(int(said.readline()))
        try:
            parent.kill()
            parent.wait()
            ended = select.poll()
            ended.register(child, select.POLLIN)
            assert ended.poll(20_000)
        finally:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(child, signal.SIGKILL)
            os.close(child)
