"""Changes of files in the words of the audit trail: an event's type, path and details."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fs9.observe.audit_journal import Writing
    from fs9.types import OpenFlags, StatChanges

Change = tuple[str, str, dict[str, Any]]


def changed_by_open(path: str, flags: OpenFlags, created: bool | None) -> Change | None:
    """What the open itself changed; of a replacement that is nothing yet.

    `created` as the provider says it; one that does not is believed to have made the file.
    """
    if flags.replace:
        return None
    if flags.create and (flags.directory or flags.exclusive or created is not False):
        return ("mkdir" if flags.directory else "create", path, {})
    return ("truncate", path, {"size": 0}) if flags.truncate else None


def written(writing: Writing) -> dict[str, Any]:
    return {"bytes": writing.bytes, "writes": writing.writes}


def wstat_event(changes: StatChanges) -> str:
    """The contract's word for a change; a symbolic link is something created."""
    if changes.symlink_target is not None:
        return "create"
    if changes.name is not None:
        return "rename"
    return "truncate" if changes.size is not None else "chmod"


def changed_by_wstat(path: str, changes: StatChanges) -> Change:
    """Modes are numbers, and times nanoseconds as text."""
    event_type = wstat_event(changes)
    if changes.symlink_target is not None:
        return event_type, path, {"symlink": changes.symlink_target}
    if changes.name is not None:
        return event_type, path, {"target": changes.name}
    details: dict[str, Any] = {
        key: value
        for key in ("mode", "uid", "gid", "size")
        if (value := getattr(changes, key)) is not None
    }
    for key in ("atime_ns", "mtime_ns"):
        if (value := getattr(changes, key)) is not None:
            details[key] = str(value)
    return event_type, path, details
