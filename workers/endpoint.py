"""The address of a fleet's bus, and its keys: files that are written when the fleet starts.

Unix sockets in the run directory need no keys, because the directory is closed to others. Over TCP
everybody needs them (CURVE). The directory of keys has three files: `broker.key`, which only the
broker needs; `broker.public`, by which clients know the broker; and `client.key`, by which the
broker knows clients. A client needs the last two.

The run directory says where the bus is, so whoever finds the fleet by its data directory finds its
bus without the settings.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

    from workers.slots import RunDirectory

_BROKER, _BROKER_PUBLIC, _CLIENT = "broker.key", "broker.public", "client.key"
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}
#: Length of a key as text (Z85).
_KEY_BYTES = 40


class UnusableKeys(ValueError):
    """A key is missing, is not valid, or can be read by others."""


class _Tcp(msgspec.Struct, frozen=True):
    """The content of the file in the run directory; without it the bus uses sockets there."""

    bind: str
    keys_dir: str


class Endpoint(NamedTuple):
    """`keys_dir`: where the keys are; None: there are none, and none are needed."""

    publications: str
    requests: str
    keys_dir: Path | None

    def connectable(self) -> Endpoint:
        """The address as a client on this host uses it."""
        if self.keys_dir is None:
            return self
        return Endpoint(_near(self.publications), _near(self.requests), self.keys_dir)


def endpoint_of(run_directory: RunDirectory) -> Endpoint:
    """Where the broker of this fleet binds."""
    try:
        said = msgspec.json.decode(run_directory.bus_file.read_bytes(), type=_Tcp)
    except (FileNotFoundError, NotADirectoryError):
        paths = run_directory.bus_publications, run_directory.bus_requests
        return Endpoint(f"ipc://{paths[0]}", f"ipc://{paths[1]}", None)
    host, port = split_address(said.bind)
    return Endpoint(f"tcp://{host}:{port}", f"tcp://{host}:{port + 1}", Path(said.keys_dir))


def split_address(bind: str) -> tuple[str, int]:
    """Host and port of `tcp://HOST:PORT`, as the setting checks it."""
    host, _, port = bind.removeprefix("tcp://").rpartition(":")
    return host, int(port)


def _near(address: str) -> str:
    host, port = split_address(address)
    return f"tcp://{_WILDCARDS.get(host, host)}:{port}"


def set_endpoint(run_directory: RunDirectory, bind: str, keys_dir: Path) -> None:
    """Write the address for a fleet that starts; `bind` is `ipc` or `tcp://HOST:PORT`."""
    if bind == "ipc":
        run_directory.bus_file.unlink(missing_ok=True)
        return
    data = msgspec.json.encode(_Tcp(bind, str(keys_dir.absolute())))
    new = run_directory.bus_file.with_suffix(".new")
    new.write_bytes(data)
    new.replace(run_directory.bus_file)


# -- Keys -----------------------------------------------------------------------------------


def make_keys(keys_dir: Path, make_pair: Callable[[], tuple[bytes, bytes]]) -> None:
    """Make the keys that are missing; `make_pair` gives a public and a secret key."""
    keys_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (keys_dir / _BROKER).exists():
        if (keys_dir / _BROKER_PUBLIC).exists():
            raise UnusableKeys(f"{keys_dir} has {_BROKER_PUBLIC}, and not the {_BROKER} to it")
        public, secret = make_pair()
        # Last the file that says that all are there.
        _write(keys_dir / _BROKER_PUBLIC, public)
        _write(keys_dir / _BROKER, secret)
    if not (keys_dir / _CLIENT).exists():
        _write(keys_dir / _CLIENT, make_pair()[1])


def broker_keys(keys_dir: Path) -> tuple[bytes, bytes]:
    """The broker's secret key, and the clients' key, whose public part it accepts."""
    return _read(keys_dir / _BROKER), _read(keys_dir / _CLIENT)


def client_keys(keys_dir: Path) -> tuple[bytes, bytes]:
    """The broker's public key, and the client's secret one."""
    return _read(keys_dir / _BROKER_PUBLIC, public=True), _read(keys_dir / _CLIENT)


def _write(path: Path, key: bytes) -> None:
    with suppress(FileNotFoundError):
        path.unlink()
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(key + b"\n")


def _read(path: Path, *, public: bool = False) -> bytes:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            key = file.read(1024).strip()
    except OSError as error:
        raise UnusableKeys(f"{path} cannot be read: {error.strerror}") from None
    if not public and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise UnusableKeys(f"{path} is open to others (chmod 600)")
    if len(key) != _KEY_BYTES:
        raise UnusableKeys(f"{path} is no key")
    return key
