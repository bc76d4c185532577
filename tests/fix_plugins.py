"""Plugins in C, compiled with the host's compiler: the example, and those that tests need."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import tempfile
from functools import cache
from pathlib import Path

_ROOT = Path(__file__).parent.parent
EXAMPLES = _ROOT / "examples" / "plugin"
_SOURCES = (EXAMPLES, _ROOT / "tests" / "providers" / "native")
_FLAGS = ("-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-pthread")


@cache
def compiled(name: str, *defines: str) -> Path:
    """The shared library of `NAME.c`; the same sources are compiled once, for all processes."""
    (source,) = (place / f"{name}.c" for place in _SOURCES if (place / f"{name}.c").exists())
    texts = [source, EXAMPLES / "fs9_plugin.h", EXAMPLES / "memory.c"]
    digest = hashlib.sha256(repr([defines, *(text.read_bytes() for text in texts)]).encode())
    directory = Path(tempfile.gettempdir()) / f"fs9-test-plugins-{os.getuid()}"
    directory.mkdir(mode=0o700, exist_ok=True)
    library = directory / f"{name}-{digest.hexdigest()[:16]}.so"
    with open(directory / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not library.exists():
            fresh = library.with_suffix(".new")
            macros = [f"-D{define}" for define in defines]
            subprocess.run(
                ["cc", *_FLAGS, *macros, f"-I{EXAMPLES}", "-o", fresh, source], check=True
            )
            fresh.rename(library)
    return library
