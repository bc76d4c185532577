"""The layout of a data directory, apart from what providers keep there."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import quote

from fs9.config import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def make_data_dir(path: Path) -> None:
    """Make the directory, for this user alone; an existing one is left as it is."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError:
        raise ConfigError(f"data_dir: {path} is not a directory") from None
    except OSError as error:
        raise ConfigError(f"data_dir: cannot make {path}: {error.strerror}") from None
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise ConfigError(f"data_dir: this user cannot write to {path}")


def metrics_directory(data_dir: Path) -> Path:
    """Where the workers of a fleet write their counts."""
    return data_dir / "run" / "metrics"


def locks_directory(data_dir: Path) -> Path:
    """One lock for each namespace that a worker of a fleet ever had."""
    return data_dir / "run" / "locks"


def audit_directory(data_dir: Path) -> Path:
    """Events of namespaces that are not in the store yet; kept when a fleet starts anew."""
    return data_dir / "run" / "audit"


def watch_directory(data_dir: Path) -> Path:
    """The watch logs; a fleet that starts anew empties it, so that no old cursor seems valid."""
    return data_dir / "run" / "watch"


def handles_directory(data_dir: Path) -> Path:
    """The handle journals; a fleet that starts anew empties it (`clear_journals`)."""
    return data_dir / "run" / "handles"


def default_mounts_file(data_dir: Path) -> Path:
    """A digest of the `mounts` of the settings that the workers have given to `default`."""
    return data_dir / "run" / "default-mounts"


def journals(data_dir: Path, storage: str) -> list[Path]:
    """The files that the owners of one namespace leave to each other, be they there or not.

    Named by its storage, because a deleted namespace's name may come again.
    """
    places = (audit_directory, watch_directory, handles_directory)
    return [
        place(data_dir) / f"{storage}{suffix}"
        for place in places
        for suffix in ("", ".new", ".old", ".unreadable")
    ]


def storage_directories(data_dir: Path, storage: str) -> tuple[Path, ...]:
    """All that providers keep of one namespace on this host, but for roots that users chose."""
    return (data_dir / "namespaces" / storage, data_dir / "pagefs" / quote(storage, safe=""))
