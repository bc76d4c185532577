"""What makes the names in a directory durable; the bytes of files their owners sync themselves."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def sync_directory(path: Path | str) -> None:
    """Names that were made, changed or removed there survive a loss of power (fsync(2)).

    Blocks. Raises OSError.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
