"""`fs9 deploy`: write configuration files for nginx, Envoy and systemd."""

from __future__ import annotations

import dataclasses
import grp
import importlib
import ipaddress
import os
import pwd
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fs9.cli.ending import ERROR
from fs9.config import ConfigError, add_flags, flags_of, load

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from types import ModuleType

    from fs9.config import Settings

_RENDER = """\
Write a whole file to the standard output: nginx (its configuration), njs (the script that
it names), envoy (its configuration) or systemd (a unit). The flags of `fs9 serve` say which
server it is for; one that is running is asked which of its workers serve.
"""
_STATUS_TIMEOUT_S = 5.0
#: States of a slot in which it owns nothing, or soon nothing more, until it is undrained.
_OUT_OF_THE_RING = ("draining", "drained")
_TARGETS = ("nginx", "njs", "envoy", "systemd")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "deploy", help="write files for nginx, Envoy and systemd", description=__doc__
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    render = actions.add_parser("render", help="write one file", description=_RENDER)
    render.add_argument("target", choices=_TARGETS, help="what the file is for")
    add_flags(render)
    group = render.add_argument_group("the addresses and paths in the files")
    group.add_argument(
        "--listen",
        metavar="HOST:PORT",
        default="127.0.0.1:8080",
        help="where the proxy listens (default: %(default)s)",
    )
    group.add_argument(
        "--user",
        help="the server's user, who owns the sockets (default: the data directory's owner)",
    )
    group.add_argument(
        "--njs-file",
        metavar="FILE",
        default="/etc/nginx/fs9/ns.js",
        help="where nginx finds its script (default: %(default)s)",
    )
    group.add_argument(
        "--state-dir",
        metavar="DIR",
        default="/var/lib/fs9-nginx",
        help="an existing directory that nginx may write (default: %(default)s)",
    )
    group.add_argument(
        "--log-dir",
        metavar="DIR",
        help="where the proxy has its logs (default: /var/log/nginx; Envoy: its output)",
    )
    group.add_argument(
        "--program",
        metavar="FILE",
        help="the `fs9` that systemd starts (default: this one)",
    )


def run(args: argparse.Namespace) -> int:
    """Write the file; 1 when the settings cannot be used."""
    try:
        settings = load(flags_of(args), os.environ, Path.cwd())
        text = _render(args, settings)
    except ConfigError as error:
        print(f"fs9: deploy: {error}", file=sys.stderr)
        return ERROR
    sys.stdout.write(text)
    return 0


def _render(args: argparse.Namespace, settings: Settings) -> str:
    # By name, at call time: the router and the processes are composed of everything.
    render = importlib.import_module("router.render")
    make = getattr(render, args.target)
    made = _unit if args.target == "systemd" else _front
    text: str = make(made(args, settings, render))
    return text


def _front(args: argparse.Namespace, settings: Settings, render: ModuleType) -> object:
    _check_listen(args.listen, settings)
    slots_module = importlib.import_module("workers.slots")
    run_directory = slots_module.run_directory_of(settings.data_dir)
    slots: Sequence[int] = range(settings.workers)
    if args.workers is None:
        slots = _serving(run_directory) or slots
    return render.Front(
        settings=settings,
        sockets={slot: run_directory.front_socket(slot) for slot in slots},
        listen=args.listen,
        user=args.user or _owner(settings.data_dir),
        group=_group(args.user or _owner(settings.data_dir)),
        lent_dir=run_directory.lent,
        njs_file=Path(args.njs_file),
        state_dir=Path(args.state_dir),
        log_dir=Path(args.log_dir or "/var/log/nginx"),
        access_log=Path(args.log_dir) / "fs9.access.log" if args.log_dir else Path("/dev/stdout"),
    )


def _check_listen(listen: str, settings: Settings) -> None:
    """Refuse what is no address, and to open to other hosts what has no authentication."""
    host, _, port = listen.rpartition(":")
    try:
        address = ipaddress.ip_address(host.strip("[]"))
        well_formed = 0 < int(port) < 2**16 and (address.version == 6) == host.startswith("[")
    except ValueError:
        well_formed = False
    if not well_formed:
        raise ConfigError(
            f"--listen takes ADDRESS:PORT, for example 0.0.0.0:80 or [::]:80: {listen}"
        )
    if not (address.is_loopback or settings.auth_enabled or settings.insecure):
        raise ConfigError(
            f"--listen {listen} lets other hosts in, and every request would be trusted: set a"
            " secret (server.auth.jwt_secret), or give --insecure"
        )


def _serving(run_directory: Any) -> Sequence[int]:  # noqa: ANN401  workers.slots.RunDirectory
    """The slots of the running fleet but for those that are drained; none when none is running.

    A slot whose process is being replaced counts: it comes back. Without a broker that answers
    all slots count; a drained one passes on what it gets.
    """
    locks = run_directory.path.glob("slot-*.lock")
    alive = [int(lock.stem.removeprefix("slot-")) for lock in locks if _has_holder(lock)]
    if not alive:
        return ()
    asking = importlib.import_module("workers.asking")
    messages = importlib.import_module("router.messages")
    try:
        status = asking.bus_request(run_directory, messages.StatusRequest(), _STATUS_TIMEOUT_S)
    except (asking.NoBroker, TimeoutError):
        print("fs9: deploy: the fleet does not say which slots are drained", file=sys.stderr)
        return range(max(alive) + 1)
    if status.operation:
        print(
            f"fs9: deploy: a {status.operation} is under way; render again when it is done",
            file=sys.stderr,
        )
    drained = {slot.slot for slot in status.slots if slot.state.value in _OUT_OF_THE_RING}
    return [slot for slot in range(status.workers) if slot not in drained]


def _has_holder(lock: Path) -> bool:
    """Does the process live whose number is in the lock of a slot?

    The lock itself is left alone: a worker that starts could meet us there.
    """
    try:
        pid = int(lock.read_text())
        return b"fs9" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return False


def _owner(data_dir: Path) -> str:
    try:
        uid = data_dir.stat().st_uid
    except OSError:
        uid = os.getuid()
    return pwd.getpwuid(uid).pw_name


def _group(user: str) -> str:
    """The user's own group; as the user where this host does not know it."""
    try:
        return grp.getgrgid(pwd.getpwnam(user).pw_gid).gr_name
    except KeyError:
        return user


def _unit(args: argparse.Namespace, settings: Settings, render: ModuleType) -> object:
    settings = dataclasses.replace(settings, data_dir=settings.data_dir.absolute())
    slots = importlib.import_module("workers.slots")
    if not slots.run_directory_path(settings.data_dir).is_relative_to(settings.data_dir.resolve()):
        raise ConfigError(
            f"{settings.data_dir} is too long a path for sockets in it, and a service has a"
            " temporary directory of its own: give a shorter --data-dir"
        )
    program = args.program or shutil.which("fs9") or str(Path(sys.executable).parent / "fs9")
    return render.Unit(
        settings=settings,
        user=args.user or "fs9",
        command=[program, "serve", *_serve_flags(args, settings)],
        reload=[program, "fleet", "reload", "--data-dir", str(settings.data_dir)],
        writable=_outside(settings),
    )


def _serve_flags(args: argparse.Namespace, settings: Settings) -> list[str]:
    """The flags of this command that are also those of the server."""
    words = ["--data-dir", str(settings.data_dir)]
    if args.config is not None:
        words += ["-c", str(Path(args.config).absolute())]
    for name in ("host", "port", "workers"):
        if getattr(args, name) is not None:
            words += [f"--{name}", str(getattr(args, name))]
    return [*words, "--insecure"] if settings.insecure else words


def _outside(settings: Settings) -> list[Path]:
    """Where mounts of local directories write outside of the data directory."""
    found: list[Path] = []
    for mount in (*settings.mounts, *settings.namespace_template):
        root = str(mount.config.get("root", "")).partition("{namespace}")[0]
        if root.startswith("/") and Path(root) not in found:
            found.append(Path(root))
    return [path for path in found if not path.is_relative_to(settings.data_dir)]
