"""Large bodies: 1 GiB down beside nginx's static file, up beside a blocking loop.

One connection, server on one core, client on the other; localfs, and pagefs beside it. Data is
on a tmpfs when there is one, so that no disk is measured; `upload, disk` is on the temporary
directory and synced on both sides, as the contract wants it.
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
_PAGEFS = f"server: {{max_write_size_bytes: {4 * GIB}}}\n"
_YAML = f"""{_PAGEFS}
mounts:
- path: /
  provider: localfs
  config: {{root: "{{data_dir}}/namespaces/{{namespace}}/files"}}
"""
_WRITE_BYTES = 256 * MIB


def run(quick: bool) -> None:
    size, rounds = (4 * MIB, 1) if quick else (GIB, 5)
    memory = memory_directory(8 * size)
    print(f"{size // MIB} MiB, data on {memory or tempfile.gettempdir()}")
    with contextlib.ExitStack() as stack:
        served = stack.enter_context(fleet(yaml=_YAML, directory=memory))
        falcon = stack.enter_context(fleet(yaml=_YAML, directory=memory, FS9_FAST_LANE="false"))
        paged = stack.enter_context(fleet(yaml=_PAGEFS, directory=memory))
        ours = {"fs9": served, "fs9, pagefs": paged, "fs9 behind Falcon": falcon}
        _download(ours, size, rounds)
        _upload(ours, memory, size, rounds)
        disk = stack.enter_context(fleet(yaml=_YAML))
        disk_paged = stack.enter_context(fleet(yaml=_PAGEFS))
        home = stack.enter_context(temporary())
        with _sink(home / "sunk", size, synced=True) as (pid, port):
            show(
                "upload, disk, synced",
                take_turns(
                    {
                        "recv_into + pwrite + fsync": _moved("put", pid, port, "/", size),
                        "fs9": _moved("put", disk.pid, disk.port, _target("up"), size),
                        "fs9, pagefs": _moved(
                            "put", disk_paged.pid, disk_paged.port, _target("up"), size
                        ),
                    },
                    min(rounds, 3),
                ),
                baseline="recv_into + pwrite + fsync",
                rate="MB/s",
                cpu="CPU s/GiB",
            )


def _download(ours: dict[str, Fleet], size: int, rounds: int) -> None:
    for each in ours.values():
        _put_file(each, size)
    root = ours["fs9"].data_dir / "namespaces" / "default"
    file = next(path for path in root.rglob("big") if path.is_file())
    with temporary() as home, nginx(home, file.parent) as base:
        variants: dict[str, Callable[[], Sample]] = {}
        if base is not None:
            variants["nginx static"] = _moved("get", base.pid, base.port, "/big", size)
        for name, each in ours.items():
            variants[name] = _moved("get", each.pid, each.port, _target("big", "download"), size)
        show(
            "download",
            take_turns(variants, rounds),
            baseline="nginx static" if base else "fs9 behind Falcon",
            rate="MB/s",
            cpu="CPU s/GiB",
        )


def _upload(ours: dict[str, Fleet], memory: Path | None, size: int, rounds: int) -> None:
    baseline = "recv_into + pwrite"
    with temporary(memory) as home, _sink(home / "sunk", size, synced=False) as (pid, port):
        variants = {
            baseline: _moved("put", pid, port, "/", size),
            f"{baseline} aside + rename": _moved("put", pid, port, "/aside", size),
        }
        for name, each in ours.items():
            variants[name] = _moved("put", each.pid, each.port, _target("up"), size)
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
