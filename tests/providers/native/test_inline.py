"""A plugin in the worker's own threads: bounded, with a deadline, and never destroyed too early."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from fs9.errors import BackendUnavailable, InvalidArgument
from fs9.providers.native.inline import InlineCalls
from fs9.providers.native.provider import NativeFs
from fs9.types import READ, OpenFlags
from tests.fix_plugins import compiled


async def inline(timeout_s: float = 20.0, config: bytes = b"{}") -> NativeFs:
    calls = InlineCalls(
        "odd",
        compiled("odd"),
        config,
        timeout_s=timeout_s,
        threads=2,
        file_bytes_max=1 << 20,
    )
    ready = await calls.start()
    return NativeFs("odd", calls, ready.capabilities, lambda: None)


async def test_it_works_and_ends() -> None:
    made = await inline()
    file, _ = await made.open("/f", OpenFlags(read=True, write=True, create=True))
    assert await made.write(file, 0, bytearray(b"abc")) == 3
    assert await made.read(file, 1, 5) == b"bc"
    await made.close(file)
    await made.aclose()


async def open_handles(made: NativeFs) -> int:
    """By the plugin's own account, with the one for asking."""
    file, _ = await made.open("/counts", READ)
    counts = bytes(await made.read(file, 0, 200)).split()
    await made.close(file)
    return int(counts[2]) - int(counts[3])


async def test_a_slow_open_that_nobody_waits_for_is_closed_again() -> None:
    made, slow = await inline(), await inline(timeout_s=0.05)
    before = await open_handles(made)
    with pytest.raises(BackendUnavailable, match="took longer"):
        await slow.open("/slow", OpenFlags(write=True, create=True))
    await slow.aclose()  # waits for what is left behind, for a while
    while slow.calls.abandoned:  # noqa: ASYNC110  nobody tells us
        await asyncio.sleep(0.01)
    assert await open_handles(made) == before
    await made.aclose()


async def test_a_config_it_refuses() -> None:
    with pytest.raises(InvalidArgument, match="does not accept"):
        await inline(config=b"refuse")


_HANGING = """
import asyncio, os, sys
sys.path.insert(0, sys.argv[1])
from fs9.errors import BackendUnavailable
from tests.providers.native.test_inline import inline

async def main():
    made = await inline(timeout_s=0.2)
    for expected in ("took longer", "took longer", "2 calls hang"):
        try:
            await made.stat("/hang")
        except BackendUnavailable as error:
            assert expected in str(error), error
    await made.aclose()  # says so, and leaves the instance alone
    print("served on", flush=True)
    os._exit(0)

asyncio.run(main())
"""


def test_calls_that_hang_take_their_threads_and_no_more(pytestconfig: pytest.Config) -> None:
    """In a process of its own: nothing ends such threads but its end."""
    done = subprocess.run(
        [sys.executable, "-c", _HANGING, str(pytestconfig.rootpath)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout == "served on\n", done.stderr
