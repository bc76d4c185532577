"""Settings as they may be shown: plain JSON values without any secret in them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from fs9.types import MountSpec, PluginSpec

if TYPE_CHECKING:
    from fs9.config.setting import Setting
    from fs9.config.settings import Settings

MASK = "********"

_SECRET_NAME = re.compile(r"secret|token|passw|credential|(api|access|private)_?key", re.IGNORECASE)
# To the last `@`: a password that is not quoted as it should be is one all the same.
_URL_PASSWORD = re.compile(r"(://[^/@:\s]*):\S+@")
_URL_PARAMETER = re.compile(r"([?&]\w*password=)[^&\s]+", re.IGNORECASE)


def shown(settings: Settings, setting: Setting) -> object:
    """The value of one setting for people and programs to see."""
    value = settings.value(setting)
    return MASK if setting.secret and value else plain_value(value)


def plain_value(value: object) -> object:
    """Dicts, lists and scalars; what a mount's config names as secret is masked."""
    match value:
        case Path():
            return str(value)
        case MountSpec():
            config = {"config": plain_value(value.config)} if value.config else {}
            return {"path": value.path, "provider": value.provider, **config}
        case PluginSpec():
            return {"name": value.name, "path": str(value.path)}
        case tuple() | list():
            return [plain_value(item) for item in value]
        case dict():
            return {name: _plain_item(str(name), item) for name, item in value.items()}
        case str():
            return _URL_PARAMETER.sub(rf"\1{MASK}", _URL_PASSWORD.sub(rf"\1:{MASK}@", value))
        case _:
            return value


def _plain_item(name: str, value: object) -> object:
    return MASK if _SECRET_NAME.search(name) and value else plain_value(value)
