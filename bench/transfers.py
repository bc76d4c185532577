"""Large bodies: 1 GiB down beside nginx's static file, up beside a blocking loop.

One connection, server on one core, client on the other, localfs. Data is on a tmpfs when
there is one, so that no disk is measured; `upload, disk` is on the temporary directory and
synced on both sides, as the contract wants it.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from typing import TYPE_CHECKING

from bench import cpu
from bench.fleet import Fleet, fleet, memory_directory, temporary
from bench.nginx import free_port, nginx
from bench.peer import start_sink, transfer
from bench.rounds import Sample, show, take_turns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MIB, GIB = 2**20, 2**30
_YAML = f"server: {{max_write_size_bytes: {4 * GIB}}}\n"
_WRITE_BYTES = 256 * MIB


def run(quick: bool) -> None:
    size, rounds = (32 * MIB, 1) if quick else (GIB, 5)
    memory = memory_directory(5 * size)
    print(f"{size // MIB} MiB, data on {memory or tempfile.gettempdir()}")
    with contextlib.ExitStack() as stack:
        served = stack.enter_context(fleet(yaml=_YAML, directory=memory))
        falcon = stack.enter_context(fleet(yaml=_YAML, directory=memory, FS9_FAST_LANE="false"))
        _download(served, falcon, size, rounds)
        _upload(served, falcon, memory, size, rounds)
        disk = stack.enter_context(fleet(yaml=_YAML))
        home = stack.enter_context(temporary())
        with _sink(home / "sunk", size, synced=True) as (pid, port):
            show(
                "upload, disk, synced",
                take_turns(
                    {
                        "recv_into + pwrite + fsync": _moved("put", pid, port, "/", size),
                        "fs9": _moved("put", disk.pid, disk.port, _target("up"), size),
                    },
                    min(rounds, 3),
                ),
                baseline="recv_into + pwrite + fsync",
                rate="MB/s",
                cpu="CPU s/GiB",
            )


def _download(served: Fleet, falcon: Fleet, size: int, rounds: int) -> None:
    for each in (served, falcon):
        _put_file(each, size)
    root = served.data_dir / "namespaces" / "default"
    file = next(path for path in root.rglob("big") if path.is_file())
    with temporary() as home, nginx(home, file.parent) as base:
        variants: dict[str, Callable[[], Sample]] = {}
        if base is not None:
            variants["nginx static"] = _moved("get", base.pid, base.port, "/big", size)
        for name, each in (("fs9", served), ("fs9 behind Falcon", falcon)):
            variants[name] = _moved("get", each.pid, each.port, _target("big", "download"), size)
        show(
            "download",
            take_turns(variants, rounds),
            baseline="nginx static" if base else "fs9 behind Falcon",
            rate="MB/s",
            cpu="CPU s/GiB",
        )


def _upload(served: Fleet, falcon: Fleet, memory: Path | None, size: int, rounds: int) -> None:
    baseline = "recv_into + pwrite"
    with temporary(memory) as home, _sink(home / "sunk", size, synced=False) as (pid, port):
        variants = {
            baseline: _moved("put", pid, port, "/", size),
            f"{baseline} aside + rename": _moved("put", pid, port, "/aside", size),
            "fs9": _moved("put", served.pid, served.port, _target("up"), size),
            "fs9 behind Falcon": _moved("put", falcon.pid, falcon.port, _target("up"), size),
        }
        show(
            "upload",
            take_turns(variants, rounds),
            baseline=baseline,
            rate="MB/s",
            cpu="CPU s/GiB",
        )


def _target(name: str, verb: str = "upload") -> str:
    return f"/api/v1/{verb}?path=/{name}"


def _put_file(each: Fleet, size: int) -> None:
    transfer("put", each.port, _target("big"), size)


def _moved(verb: str, pid: int, port: int, target: str, size: int) -> Callable[[], Sample]:
    def measure() -> Sample:
        foreign, before_s = cpu.Foreign(), cpu.used_s(pid)
        seconds, peer_s = transfer(verb, port, target, size)
        spent_s = cpu.used_s(pid) - before_s
        return Sample(
            rate=size / seconds / 1e6,
            cpu=spent_s * GIB / size,
            foreign=foreign.share(spent_s + peer_s),
        )

    return measure


@contextlib.contextmanager
def _sink(path: Path, size: int, *, synced: bool) -> Iterator[tuple[int, int]]:
    port = free_port()
    if synced:
        os.environ["BENCH_SYNC"] = "1"
    process = start_sink(port, path, size)
    os.environ.pop("BENCH_SYNC", None)
    try:
        yield process.pid, port
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
