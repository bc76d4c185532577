"""`fs9 admin ns`, `mount` and `quotas`: tenants, what they are made of, how much they may use."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from fs9.cli import admin_setup
from fs9.cli.admin_access import AdminError, configuration
from fs9.cli.admin_server import MountInfo, NamespaceInfo, Server, text_of
from fs9.cli.admin_show import done, table, warn
from fs9.cli.ending import OK, UsageError
from fs9.cli.show import human, on_terminal, print_json
from fs9.errors import Conflict, Fs9Error, InvalidArgument
from fs9.names import check_namespace_name

if TYPE_CHECKING:
    from fs9.cli.admin_setup import Commands

#: Option, field of a quota, what it bounds.
_BOUNDS = (
    ("--bytes", "bytes_max", "stored bytes, also as 500M or 2G (powers of 1024)"),
    ("--files", "files_max", "files and directories"),
    ("--handles", "handles_max", "open handles"),
    ("--requests-per-second", "requests_per_second_max", "requests a second"),
)
_UNSET = "default"
_UNITS = "KMGTPE"


def add_commands(commands: Commands) -> None:
    spaces = admin_setup.group(commands, "ns", "namespaces: one for each tenant")
    create = _named(spaces, "create", "make a namespace", _create)
    create.add_argument(
        "-m",
        "--mount",
        metavar="PROVIDER[:PATH]",
        help="also mount this provider (at / unless a path is given)",
    )
    create.add_argument("--mount-config", metavar="JSON", help="the provider's configuration")
    _add_set(create)
    admin_setup.command(spaces, "list", "show all namespaces", _list)
    _named(spaces, "get", "show one namespace", _get)
    delete = _named(spaces, "delete", "delete a namespace; its data stays for the retention", _end)
    delete.add_argument("-f", "--force", action="store_true", help="really")
    _named(spaces, "suspend", "refuse everyone in it at once, and keep its data", _switch)
    _named(spaces, "activate", "let its users in again", _switch)
    purge = _named(spaces, "purge", "delete a namespace and its data now", _end)
    purge.add_argument("-f", "--force", action="store_true", help="really")
    _add_mounts(commands)
    quotas = admin_setup.group(commands, "quotas", "how much a namespace may use")
    _named(quotas, "get", "show the bounds of a namespace", _get_quota)
    change = _named(quotas, "set", "set bounds of a namespace; the others stay", _set_quota)
    for option, field, text in _BOUNDS:
        change.add_argument(
            option,
            dest=field,
            metavar="N",
            type=_rate if field == "requests_per_second_max" else _bound,
            default=argparse.SUPPRESS,
            help=f"{text}; '{_UNSET}' leaves it to the server's settings",
        )


def _add_mounts(commands: Commands) -> None:
    mounts = admin_setup.group(commands, "mount", "what a namespace is made of")
    add = admin_setup.command(mounts, "add", "mount a provider in a namespace", _add_mount)
    add.add_argument("provider", metavar="PROVIDER")
    add.add_argument("-n", "--namespace", required=True)
    add.add_argument("-p", "--path", default="/", help="where (default: %(default)s)")
    add.add_argument("-c", "--config", metavar="JSON", help="the provider's configuration")
    add.add_argument("-f", "--force", action="store_true", help="also in place of the root")
    _add_set(add)
    listing = admin_setup.command(mounts, "list", "show the mounts of a namespace", _list_mounts)
    listing.add_argument("-n", "--namespace", required=True)
    remove = admin_setup.command(mounts, "remove", "take a mount away", _remove_mount)
    remove.add_argument("path", metavar="PATH")
    remove.add_argument("-n", "--namespace", required=True)
    remove.add_argument(
        "-f", "--force", action="store_true", help="also the root, and what has open files"
    )


def _named(
    commands: Commands, name: str, text: str, handler: admin_setup.Handler
) -> argparse.ArgumentParser:
    parser = admin_setup.command(commands, name, text, handler)
    parser.add_argument("name", metavar="NAME")
    return parser


def _add_set(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="one value of the configuration: a.b=c; repeatable",
    )


def _bound(text: str) -> int | None:
    if text == _UNSET:
        return None
    unit = text[-1:].upper()
    shift = 10 * (_UNITS.index(unit) + 1) if unit and unit in _UNITS else 0
    digits = text[:-1] if shift else text
    if not (digits.isascii() and digits.isdigit()) or int(digits) << shift >= 2**63:
        raise argparse.ArgumentTypeError(f"expected a number such as 1000 or 2G, or '{_UNSET}'")
    return int(digits) << shift


def _rate(text: str) -> int | None:
    rate = _bound(text)
    if rate == 0:
        raise argparse.ArgumentTypeError("expected at least 1; `ns suspend` lets nobody in")
    return rate


def _path(name: str) -> str:
    try:
        check_namespace_name(name)
    except InvalidArgument as error:
        raise AdminError(f"Invalid namespace name: {error.detail}") from None
    return f"/namespaces/{quote(name)}"


def _asked(server: Server, name: str, method: str, **rest: Any) -> Any:  # noqa: ANN401  as `administer`
    """The answer about one namespace, or AdminError with what people are told."""
    try:
        return server.administer(method, _path(name), **rest)
    except Fs9Error as error:
        raise AdminError(text_of(error, missing=f"Namespace '{name}' not found")) from None


# -- Namespaces. ------------------------------------------------------------------------------


def _create(args: argparse.Namespace) -> int:
    provider, _, path = (args.mount or "").partition(":")
    config = configuration(args.mount_config, args.set)
    if not provider and (args.mount is not None or config is not None):
        raise UsageError("--mount PROVIDER[:PATH] names the provider that is configured")
    _path(args.name)
    server = Server(admin_setup.access(args))
    try:
        record = server.administer("POST", "/namespaces", {"name": args.name}, shape=NamespaceInfo)
    except InvalidArgument as error:
        raise AdminError(f"Invalid namespace name: {error.detail}") from None
    except Fs9Error as error:
        taken = f"Namespace '{args.name}' already exists"
        raise AdminError(text_of(error, taken=taken)) from None
    if not args.json:
        done(f"Created namespace: {record['name']}")
        print(f"  Created at: {record['created_at']}")
        print(f"  Created by: {on_terminal(record['created_by'])}")
    mounted, problem = None, None
    if provider:
        try:
            # Nothing is in it yet: what is mounted at / by the server's template may go.
            mounted = _mount(server, args.name, provider, path or "/", config, force=True)
        except AdminError as error:
            problem = str(error)
    if args.json:
        print_json(record | {"mounted": mounted, "mount_error": problem})
    elif mounted is not None:
        done(f"Mounted {mounted['provider_name']} at {mounted['path']}")
    if problem is not None:
        # The namespace is there all the same: as the contract has it, no failure.
        warn(f"Mount failed: {problem}")
    return OK


def _list(args: argparse.Namespace) -> int:
    records = Server(admin_setup.access(args)).administer(
        "GET", "/namespaces", shape=list[NamespaceInfo]
    )
    if args.json:
        print_json(records)
        return OK
    print("Namespaces:")
    for each in records:
        print(f"  • {each['name']} ({each['status']})")
        print(f"      Created: {each['created_at']} by {on_terminal(each['created_by'])}")
    if not records:
        print("  (none)")
    return OK


def _get(args: argparse.Namespace) -> int:
    record = _asked(Server(admin_setup.access(args)), args.name, "GET", shape=NamespaceInfo)
    if args.json:
        print_json(record)
        return OK
    print("Namespace:")
    print(f"  Name: {record['name']}")
    print(f"  Status: {record['status']}")
    print(f"  Created at: {record['created_at']}")
    print(f"  Created by: {on_terminal(record['created_by'])}")
    return OK


def _end(args: argparse.Namespace) -> int:
    """Delete or purge; without --force nothing happens, which the contract calls success."""
    purge = args.action == "purge"
    if not args.force and args.json:
        raise UsageError(
            f"--json does not ask for confirmation: add --force to {args.action} '{args.name}'"
        )
    if not args.force:
        what = "removes its data at once" if purge else "ends all access to it"
        warn(f"This {what}: run it again with --force to {args.action} '{args.name}'")
        return OK
    query = {"purge": "1"} if purge else None
    _asked(Server(admin_setup.access(args)), args.name, "DELETE", query=query)
    if args.json:
        print_json({"name": args.name, "status": "deleted", "purged": purge})
    else:
        done(f"{'Purged' if purge else 'Deleted'} namespace: {args.name}")
    return OK


def _switch(args: argparse.Namespace) -> int:
    status = "suspended" if args.action == "suspend" else "active"
    body = {"status": status}
    record = _asked(
        Server(admin_setup.access(args)), args.name, "PATCH", body=body, shape=NamespaceInfo
    )
    if args.json:
        print_json(record)
    else:
        done(f"Namespace {args.name} is {status}")
    return OK


# -- Mounts. ----------------------------------------------------------------------------------


def _mount(
    server: Server,
    namespace: str,
    provider: str,
    path: str,
    config: dict[str, Any] | None,
    *,
    force: bool = False,
) -> dict[str, Any]:
    body: dict[str, Any] = {"path": path, "provider": provider}
    if force and path == "/":
        body["force"] = True
    if config is not None:
        body["config"] = config
    try:
        made: dict[str, Any] = server.within(
            namespace, "operator", "POST", "/mount", body, shape=MountInfo
        )
    except Fs9Error as error:
        missing = f"Provider '{provider}' not found"
        taken = f"Something is mounted at {path} already"
        if path == "/" and not force:
            taken += "; --force replaces it"
        raise AdminError(text_of(error, missing=missing, taken=taken)) from None
    return made


def _add_mount(args: argparse.Namespace) -> int:
    config = configuration(args.config, args.set)
    server = Server(admin_setup.access(args))
    if not args.path:
        raise UsageError("the path is empty: -p / is the root")
    made = _mount(server, args.namespace, args.provider, args.path, config, force=args.force)
    if args.json:
        print_json(made)
    else:
        done(f"Mounted {args.provider} at {made['path']} (namespace: {args.namespace})")
    return OK


def _list_mounts(args: argparse.Namespace) -> int:
    server = Server(admin_setup.access(args))
    mounts = server.within(args.namespace, "read-only", "GET", "/mounts", shape=list[MountInfo])
    if args.json:
        print_json(mounts)
        return OK
    print(f"Mounts (namespace: {args.namespace}):")
    for each in mounts:
        print(f"  {on_terminal(each['path'])} → {each['provider_name']}")
    if not mounts:
        print("  (none)")
    return OK


def _remove_mount(args: argparse.Namespace) -> int:
    server = Server(admin_setup.access(args))
    query = {"path": args.path} | ({"force": "1"} if args.force else {})
    try:
        server.within(args.namespace, "operator", "DELETE", "/mount", query=query)
    except Conflict as error:
        hint = "" if args.force else "; --force does it all the same"
        raise AdminError(f"{text_of(error)}{hint}") from None
    except Fs9Error as error:
        missing = f"Nothing is mounted at {args.path}"
        raise AdminError(text_of(error, missing=missing)) from None
    if args.json:
        print_json({"path": args.path, "removed": True})
    else:
        done(f"Unmounted {args.path} (namespace: {args.namespace})")
    return OK


# -- Quotas. ----------------------------------------------------------------------------------


def _quota_of(record: dict[str, Any]) -> dict[str, int | None]:
    held = record.get("quota") or {}
    return {field: held.get(field) for _, field, _ in _BOUNDS}


def _get_quota(args: argparse.Namespace) -> int:
    record = _asked(Server(admin_setup.access(args)), args.name, "GET", shape=NamespaceInfo)
    return _show_quota(args, record)


def _set_quota(args: argparse.Namespace) -> int:
    given = {
        field: value
        for _, field, _ in _BOUNDS
        if (value := getattr(args, field, argparse.SUPPRESS)) is not argparse.SUPPRESS
    }
    if not given:
        raise UsageError(f"give one of {', '.join(option for option, _, _ in _BOUNDS)}")
    server = Server(admin_setup.access(args))
    record = _asked(server, args.name, "PATCH", body={"quota": given}, shape=NamespaceInfo)
    return _show_quota(args, record)


def _show_quota(args: argparse.Namespace, record: dict[str, Any]) -> int:
    quota = _quota_of(record)
    if args.json:
        print_json({"namespace": args.name, "quota": quota})
        return OK
    rows = [
        (
            option.removeprefix("--"),
            "the server's settings" if value is None else _shown(field, value),
        )
        for option, field, _ in _BOUNDS
        for value in (quota[field],)
    ]
    table(("BOUND", "AT MOST"), rows)
    return OK


def _shown(field: str, value: int) -> str:
    if field == "bytes_max" and human(value) != str(value):
        return f"{value} ({human(value)})"
    return str(value)
