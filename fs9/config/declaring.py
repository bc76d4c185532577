"""How a setting is declared: as a field of a dataclass, with all that is known about it."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING, Any

from fs9.config.dsn import Dsn
from fs9.config.setting import Setting

if TYPE_CHECKING:
    from collections.abc import Callable

    from fs9.config.kinds import Kind


def declare(
    key: str,
    kind: Kind,
    help_text: str,
    *,
    default: object = None,
    factory: Callable[[], object] | None = None,
    **more: Any,  # noqa: ANN401  the remaining fields of Setting
) -> Any:  # noqa: ANN401  as dataclasses.field, which it wraps
    metadata = {"setting": Setting(key, kind, help_text, default=default, **more)}
    if factory is not None:
        return field(default_factory=factory, metadata=metadata)
    shown = not more.get("secret", False) and not isinstance(kind, Dsn)
    return field(default=default, metadata=metadata, repr=shown)
