"""Small requests: stat, open + read 4 KiB + close, write 4 KiB, with a token.

The fast lane beside the same operations behind Falcon (`FS9_FAST_LANE=false`) and nginx
`return 200`, each alone on one core, the load on the other. On localfs, as `fs9 serve` starts,
and on memfs, where the provider costs next to nothing and the lanes themselves are compared.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

from bench import cpu
from bench.fleet import Fleet, bearer, fleet, temporary, token
from bench.load import HANDLE, Load, press, request
from bench.nginx import nginx
from bench.rounds import Sample, show, take_turns

if TYPE_CHECKING:
    from collections.abc import Callable

_PATH = "/a/b/c.txt"
_PIECE = 4096
_PROVIDERS = {
    "localfs": "{}\n",
    "memfs": "mounts:\n- {path: /, provider: memfs}\n",
}
Scripts = list[list[bytes]]


def run(quick: bool) -> None:
    seconds, rounds = (0.1, 1) if quick else (2.0, 5)
    with contextlib.ExitStack() as stack:
        home = stack.enter_context(temporary())
        base = stack.enter_context(nginx(home, home))
        for provider, yaml in _PROVIDERS.items():
            with contextlib.ExitStack() as fleets:
                fast = fleets.enter_context(fleet(auth=True, yaml=yaml))
                falcon = fleets.enter_context(fleet(auth=True, yaml=yaml, FS9_FAST_LANE="false"))
                for each in (fast, falcon):
                    _fill(each)
                for title, make in _REQUESTS.items():
                    variants: dict[str, Callable[[], Sample]] = {}
                    if base is not None:
                        scripts = [[request("GET", "/200", headers=bearer(token()))]]
                        variants["nginx return 200"] = measured(
                            base.pid, base.port, scripts, seconds
                        )
                    for name, each in (("Falcon", falcon), ("fast lane", fast)):
                        variants[name] = measured(each.pid, each.port, make(each), seconds)
                    show(
                        f"{title}, {provider}",
                        take_turns(variants, rounds),
                        baseline="Falcon",
                        rate="requests/s",
                        cpu="CPU µs/request",
                    )


def measured(
    pid: int, port: int, scripts: Scripts, seconds: float, connections: int = 24
) -> Callable[[], Sample]:
    """One run against the server with this process id."""
    load = Load(port, scripts, connections)

    def measure() -> Sample:
        foreign, before_s = cpu.Foreign(), cpu.used_s(pid)
        pressed = press(load, seconds)
        spent_s = cpu.used_s(pid) - before_s
        if pressed.errors:
            raise RuntimeError(f"{pressed.errors} of {pressed.requests} requests failed")
        return Sample(
            rate=pressed.requests / pressed.seconds,
            cpu=spent_s / pressed.requests * 1e6,
            foreign=foreign.share(spent_s + pressed.cpu_s),
            p50_us=pressed.p50_us,
            p99_us=pressed.p99_us,
        )

    return measure


def _fill(each: Fleet) -> None:
    key = token()
    for path in ("/a", "/a/b"):
        make = {"path": path, "flags": {"create": True, "directory": True}}
        _close(each, key, _open(each, key, make))
    each.call("PUT", f"/api/v1/upload?path={_PATH}", b"x" * 65536, key)


def _open(each: Fleet, key: str, body: object) -> str:
    opened = json.loads(each.call("POST", "/api/v1/open", json.dumps(body), key))
    handle_id: str = opened["handle_id"]
    return handle_id


def _close(each: Fleet, key: str, handle_id: str) -> None:
    each.call("POST", "/api/v1/close", json.dumps({"handle_id": handle_id}), key)


def _stat(each: Fleet) -> Scripts:
    key = token()
    return [[request("GET", f"/api/v1/stat?path={_PATH}", headers=bearer(key))]]


def _open_read_close(each: Fleet) -> Scripts:
    key = token()
    headers = {"Content-Type": "application/json"} | bearer(key)
    handle = HANDLE.decode()
    bodies = {
        "open": {"path": _PATH, "flags": {"read": True}},
        "read": {"handle_id": handle, "offset": 0, "size": _PIECE},
        "close": {"handle_id": handle},
    }
    return [
        [
            request("POST", f"/api/v1/{name}", json.dumps(body).encode(), headers)
            for name, body in bodies.items()
        ]
    ]


def _write(each: Fleet) -> Scripts:
    key = token()
    flags = {"read": True, "write": True, "create": True}
    handle = _open(each, key, {"path": "/written", "flags": flags})
    headers = {"Content-Type": "application/octet-stream"} | bearer(key)
    target = f"/api/v1/write?handle_id={handle}&offset=0"
    return [[request("POST", target, b"x" * _PIECE, headers)]]


_REQUESTS: dict[str, Callable[[Fleet], Scripts]] = {
    "stat": _stat,
    "open + read 4 KiB + close, each counted": _open_read_close,
    "write 4 KiB": _write,
}
