"""`fs9 admin users`, `roles` and `keys`: who there is, and what they may do where.

They are kept by the metadata service, or in the database of a file server without one; the options
say which. Suspending, deleting or withdrawing something also revokes the tokens in question: at
once in the service, and in its file servers as soon as they hear of the change.
"""

from __future__ import annotations

import getpass
import importlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from fs9.cli import admin_setup
from fs9.cli.admin_access import AdminError, secret_text
from fs9.cli.admin_show import done, table
from fs9.cli.admin_tokens import ROLES
from fs9.cli.ending import OK, UsageError
from fs9.cli.show import on_terminal, print_json
from fs9.errors import NotFound

if TYPE_CHECKING:
    import argparse
    from collections.abc import Awaitable, Callable, Mapping

    from fs9.cli.admin_setup import Commands

T = TypeVar("T")
#: An `Administration` of `fs9.meta.administration`.
Accounts = Any
_API = "/api/v1"
_USERS, _USER = f"{_API}/users", f"{_API}/users/{{id}}"
_KEYS = f"{_API}/apikeys"
_BY = "admin"
_WHERE = (
    "say where users are: --meta URL (FS9_META_URL), --data-dir DIR (FS9_DATA_DIR)"
    " or --dsn DSN (FS9_META_DSN)"
)


def add_commands(commands: Commands) -> None:
    users = admin_setup.group(commands, "users", "people and programs that may be given roles")
    create = _command(users, "create", "make a user", _create_user)
    create.add_argument("user", metavar="USER")
    create.add_argument("--email")
    _add_password(create)
    create.add_argument("-n", "--namespace", help="also give a role in this namespace")
    create.add_argument(
        "-r", "--role", action="append", choices=ROLES, help="the role (default: read-write)"
    )
    _command(users, "list", "show all users", _list_users)
    for name, text in (
        ("get", "show a user and their roles"),
        ("suspend", "end the user's tokens and keys until they are active again"),
        ("activate", "let a suspended user in again"),
        ("delete", "end all that the user was given; the name can be used again"),
        ("password", "replace the user's password; tokens given before hold no more"),
    ):
        handler = {"get": _get_user, "password": _set_password}.get(name, _change_user)
        parser = _command(users, name, text, handler)
        parser.add_argument("user", metavar="USER", help="name or id")
        if name == "password":
            _add_password(parser)
    _add_roles(commands)
    _add_keys(commands)


def _add_roles(commands: Commands) -> None:
    roles = admin_setup.group(commands, "roles", "what users may do in which namespace")
    for name, text, handler in (
        ("grant", "give a user a role", _grant),
        ("withdraw", "take a role away; tokens of that namespace hold no more", _withdraw),
    ):
        parser = _command(roles, name, text, handler)
        parser.add_argument("user", metavar="USER", help="name or id")
        parser.add_argument("-n", "--namespace", required=True)
        parser.add_argument("-r", "--role", required=True, choices=ROLES)
    listing = _command(roles, "list", "show the roles of a user", _list_roles)
    listing.add_argument("user", metavar="USER", help="name or id")


def _add_keys(commands: Commands) -> None:
    keys = admin_setup.group(commands, "keys", "API keys: credentials of programs")
    create = _command(keys, "create", "create a key; it is shown only once", _create_key)
    create.add_argument("name", metavar="NAME", help="what it is for")
    create.add_argument("-n", "--namespace", required=True)
    create.add_argument("-u", "--user", help="its owner (default: the user `system`)")
    create.add_argument(
        "-r", "--role", action="append", choices=ROLES, help="default: read-write; repeatable"
    )
    create.add_argument("--days", type=int, help="it expires after this many days (default: never)")
    create.add_argument("-q", "--quiet", action="store_true", help="the key and nothing else")
    listing = _command(keys, "list", "show keys, without the keys themselves", _list_keys)
    listing.add_argument("-n", "--namespace", help="only those of this namespace")
    _command(keys, "revoke", "end a key for ever", _revoke_key).add_argument("id", metavar="ID")


def _command(
    commands: Commands, name: str, text: str, handler: admin_setup.Handler
) -> argparse.ArgumentParser:
    parser = admin_setup.command(commands, name, text, handler)
    group = parser.add_argument_group("where users are")
    group.add_argument("--meta", metavar="URL", help="the metadata service (FS9_META_URL)")
    group.add_argument(
        "--meta-key-file",
        metavar="FILE",
        help="read its admin key here, - is the standard input (FS9_META_KEY)",
    )
    group.add_argument("--data-dir", metavar="DIR", help="of a server without one (FS9_DATA_DIR)")
    group.add_argument(
        "--dsn",
        help="sqlite:PATH or postgresql://USER@HOST/NAME (FS9_META_DSN); its password in"
        " PGPASSWORD or FS9_META_DSN, because others on the host can see command lines",
    )
    return parser


def _add_password(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--password-file", metavar="FILE", help="read the password here, - is the standard input"
    )


def accounts(
    args: argparse.Namespace,
    work: Callable[[Accounts], Awaitable[T]],
    environ: Mapping[str, str] | None = None,
) -> T:
    """The result of `work` at the place that the options name, or else the environment.

    Raises UsageError, AdminError, Fs9Error.
    """
    environ = os.environ if environ is None else environ
    given = [each for each in (args.meta, args.data_dir, args.dsn) if each]
    if len(given) > 1:
        raise UsageError("give one of --meta, --data-dir and --dsn")
    url, data_dir, dsn = args.meta, args.data_dir, args.dsn
    if not given:
        url = environ.get("FS9_META_URL", "").split(",")[0].strip()
        dsn = None if url else environ.get("FS9_META_DSN")
        data_dir = None if url or dsn else environ.get("FS9_DATA_DIR")
    # By name, at call time: commands are no part of the server.
    administration = importlib.import_module("fs9.meta.administration")
    try:
        if url:
            url = url if "://" in url else f"http://{url}"
            result: T = administration.at_service(url, _key(args, environ), work)
            return result
        if data_dir:
            dsn = f"sqlite:{Path(data_dir) / 'meta.db'}"
        if dsn:
            result = administration.at_database(dsn, work)
            return result
    except ValueError as error:
        raise UsageError(str(error)) from None
    raise UsageError(_WHERE)


def _key(args: argparse.Namespace, environ: Mapping[str, str]) -> str:
    if args.meta_key_file:
        return secret_text(args.meta_key_file, "key of the metadata service")
    return environ.get("FS9_META_KEY", "")


# -- Users. -----------------------------------------------------------------------------------


async def _found(accounts: Accounts, user: str) -> dict[str, Any]:
    """By id or by name; a name is never like an id, and no part of a path."""
    if user in {"", ".", ".."} or "/" in user:
        raise AdminError(f"User '{user}' not found")
    for template, name in ((f"{_API}/users/by-name/{{username}}", "username"), (_USER, "id")):
        try:
            found: dict[str, Any] = await accounts.call("GET", template, {name: user})
        except NotFound:
            continue
        return found
    raise AdminError(f"User '{user}' not found")


def _create_user(args: argparse.Namespace) -> int:
    password = secret_text(args.password_file, "password") if args.password_file else None
    if args.role and not args.namespace:
        raise UsageError("a role is one in a namespace: -n NAME")
    roles = list(dict.fromkeys(args.role or ["read-write"])) if args.namespace else []

    async def work(accounts: Accounts) -> dict[str, Any]:
        body = {"username": args.user, "password": password, "email": args.email}
        if args.namespace:  # so that a wrong name leaves no user behind
            await accounts.call("GET", f"{_API}/namespaces/{{ns}}", {"ns": args.namespace})
        user: dict[str, Any] = await accounts.call("POST", _USERS, body=body)
        for role in roles:
            await _grant_to(accounts, user["id"], args.namespace, role)
        return user

    user = accounts(args, work)
    if args.json:
        print_json(user | {"roles": _roles_json(args.namespace, roles)})
        return OK
    done(f"Created user: {user['username']}")
    print(f"  Id: {user['id']}")
    if roles:
        print(f"  Roles: {', '.join(roles)} (namespace: {args.namespace})")
    return OK


def _list_users(args: argparse.Namespace) -> int:
    async def work(accounts: Accounts) -> Any:  # noqa: ANN401  JSON values
        return await accounts.call("GET", _USERS)

    users = accounts(args, work)
    if args.json:
        print_json(users)
        return OK
    table(
        ("USER", "STATUS", "EMAIL", "CREATED", "ID"),
        [
            (each["username"], each["status"], each["email"], each["created_at"], each["id"])
            for each in users
        ],
    )
    return OK


def _get_user(args: argparse.Namespace) -> int:
    async def work(accounts: Accounts) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        user = await _found(accounts, args.user)
        return user, await accounts.call("GET", f"{_USER}/roles", {"id": user["id"]})

    user, roles = accounts(args, work)
    if args.json:
        print_json(user | {"roles": roles})
        return OK
    for title, name in (
        ("User", "username"),
        ("Id", "id"),
        ("Status", "status"),
        ("Email", "email"),
        ("Created", "created_at"),
    ):
        print(f"  {title}: {on_terminal(str(user[name] or '-'))}")
    print("  Roles:" if roles else "  Roles: (none)")
    for each in roles:
        print(f"    {each['namespace']}: {on_terminal(each['role'])}")
    return OK


_CHANGES = {"suspend": "suspended", "activate": "active", "delete": "deleted"}


def _change_user(args: argparse.Namespace) -> int:
    status = _CHANGES[args.action]

    async def work(accounts: Accounts) -> dict[str, Any]:
        user = await _found(accounts, args.user)
        params = {"id": user["id"]}
        if status == "deleted":
            await accounts.call("DELETE", _USER, params)
        else:
            body = {"status": status, "by": _BY}
            await accounts.call("PUT", f"{_USER}/status", params, body=body)
        return user

    user = accounts(args, work)
    if args.json:
        print_json({"username": user["username"], "id": user["id"], "status": status})
    else:
        done(f"User {user['username']} is {status}")
    return OK


def _set_password(args: argparse.Namespace) -> int:
    if args.password_file:
        password = secret_text(args.password_file, "password")
    elif sys.stdin.isatty():
        password = getpass.getpass("New password: ")
        if getpass.getpass("Again: ") != password:
            raise AdminError("the passwords differ; nothing was changed")
    else:
        raise UsageError("--password-file FILE (- is the standard input), or a terminal to ask on")

    async def work(accounts: Accounts) -> dict[str, Any]:
        user = await _found(accounts, args.user)
        body = {"password": password, "by": _BY}
        await accounts.call("PUT", f"{_USER}/password", {"id": user["id"]}, body=body)
        return user

    user = accounts(args, work)
    if args.json:
        print_json({"username": user["username"], "id": user["id"], "password_changed": True})
    else:
        done(f"The password of {user['username']} is changed")
    return OK


# -- Roles. -----------------------------------------------------------------------------------


async def _grant_to(accounts: Accounts, user_id: str, namespace: str, role: str) -> None:
    body = {"namespace": namespace, "role": role}
    await accounts.call("POST", f"{_USER}/roles", {"id": user_id}, query={"by": _BY}, body=body)


def _roles_json(namespace: str, roles: list[str]) -> list[dict[str, str]]:
    return [{"namespace": namespace, "role": role} for role in roles]


def _grant(args: argparse.Namespace) -> int:
    async def work(accounts: Accounts) -> dict[str, Any]:
        user = await _found(accounts, args.user)
        await _grant_to(accounts, user["id"], args.namespace, args.role)
        return user

    return _said_of_role(args, accounts(args, work), granted=True)


def _withdraw(args: argparse.Namespace) -> int:
    async def work(accounts: Accounts) -> dict[str, Any]:
        user = await _found(accounts, args.user)
        params = {"id": user["id"], "ns": args.namespace, "role": args.role}
        await accounts.call("DELETE", f"{_USER}/roles/{{ns}}/{{role}}", params, query={"by": _BY})
        return user

    return _said_of_role(args, accounts(args, work), granted=False)


def _said_of_role(args: argparse.Namespace, user: dict[str, Any], *, granted: bool) -> int:
    if args.json:
        print_json(
            {
                "username": user["username"],
                "namespace": args.namespace,
                "role": args.role,
                "granted": granted,
            }
        )
    else:
        verb = "has" if granted else "no longer has"
        done(f"{user['username']} {verb} role {args.role} (namespace: {args.namespace})")
    return OK


def _list_roles(args: argparse.Namespace) -> int:
    async def work(accounts: Accounts) -> Any:  # noqa: ANN401  JSON values
        user = await _found(accounts, args.user)
        return await accounts.call("GET", f"{_USER}/roles", {"id": user["id"]})

    roles = accounts(args, work)
    if args.json:
        print_json(roles)
    else:
        table(
            ("NAMESPACE", "ROLE", "SINCE"),
            [(each["namespace"], each["role"], each["created_at"]) for each in roles],
        )
    return OK


# -- Keys. ------------------------------------------------------------------------------------


def _create_key(args: argparse.Namespace) -> int:
    roles = list(dict.fromkeys(args.role or ["read-write"]))
    if not args.name:
        raise UsageError("the name is empty: say what the key is for")

    async def work(accounts: Accounts) -> dict[str, Any]:
        user_id = (await _found(accounts, args.user))["id"] if args.user else None
        body = {
            "namespace": args.namespace,
            "name": args.name,
            "roles": roles,
            "expires_in_days": args.days,
            "user_id": user_id,
        }
        key: dict[str, Any] = await accounts.call("POST", _KEYS, body=body)
        return key

    made = accounts(args, work)
    if args.quiet:
        print(made["key"])
        return OK
    if args.json:
        print_json(made)
        return OK
    done(f"Created key: {made['name']}")
    print()
    print(made["key"])
    print()
    print(f"  Id: {made['id']}")
    print(f"  Namespace: {made['namespace']}")
    print(f"  Roles: {', '.join(made['roles'])}")
    print(f"  Expires: {made.get('expires_at') or 'never'}")
    print("Keep it now: it is not shown again.")
    return OK


def _list_keys(args: argparse.Namespace) -> int:
    async def work(accounts: Accounts) -> Any:  # noqa: ANN401  JSON values
        query = {"namespace": args.namespace} if args.namespace else None
        return await accounts.call("GET", _KEYS, query=query)

    keys = accounts(args, work)
    if args.json:
        print_json(keys)
        return OK
    table(
        ("NAME", "NAMESPACE", "ROLES", "STATUS", "EXPIRES", "LAST USED", "ID"),
        [
            (
                each["name"],
                each["namespace"],
                each["roles"],
                "revoked" if each["revoked"] else "active",
                each["expires_at"] or "never",
                each["last_used_at"] or "never",
                each["id"],
            )
            for each in keys
        ],
    )
    return OK


def _revoke_key(args: argparse.Namespace) -> int:
    async def work(accounts: Accounts) -> Any:  # noqa: ANN401  JSON values
        return await accounts.call("DELETE", f"{_KEYS}/{{id}}", {"id": args.id}, query={"by": _BY})

    accounts(args, work)
    if args.json:
        print_json({"revoked": "key", "id": args.id})
    else:
        done(f"Revoked: key {args.id}")
    return OK
