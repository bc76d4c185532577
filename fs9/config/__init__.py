"""Settings: one typed, checked value for the whole server.

`load` makes it from defaults, files, the environment and flags; `settings.py` declares what
there is. Only `fs9.cli` and the programs call `load`, with the real environment.
"""

from fs9.config.errors import ConfigError, nearest
from fs9.config.flags import add_flags, flags_of
from fs9.config.loader import SYSTEM_FILE, Flags, check_exposure, is_loopback, load
from fs9.config.settings import EMBEDDED_MOUNTS, SETTINGS, Settings

__all__ = [
    "EMBEDDED_MOUNTS",
    "SETTINGS",
    "SYSTEM_FILE",
    "ConfigError",
    "Flags",
    "Settings",
    "add_flags",
    "check_exposure",
    "flags_of",
    "is_loopback",
    "load",
    "nearest",
]
