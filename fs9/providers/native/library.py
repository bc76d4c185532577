"""A plugin's shared library: opened, checked in the order of the contract, never closed.

Opening runs the library's constructors, before any check: only files that an administrator
trusts may come here (`fs9.providers.native.manager` sees to it).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fs9.errors import InvalidArgument
from fs9.providers.native.abi import FUNCTIONS, SDK_VERSION, ffi, libc

if TYPE_CHECKING:
    from pathlib import Path


class Library:
    """`name` and `version` are what the plugin calls itself.

    It stays mapped for the life of the process: a plugin may have started threads.
    """

    def __init__(self, path: Path) -> None:
        """Raises InvalidArgument with what is wrong with the file."""
        self.path = path
        try:
            self._library: Any = ffi.dlopen(str(path), ffi.RTLD_LAZY | ffi.RTLD_LOCAL)
        except OSError as error:
            reason = str(error).partition(".  Additionally")[0]  # cffi looks elsewhere, too
            raise InvalidArgument(f"cannot load {path}: {reason}") from None
        _kept.append(self._library)
        self._check_version(self._symbol("fs9_plugin_version")())
        self.table: Any = self._symbol("fs9_plugin_vtable")()
        if not self.table:
            raise InvalidArgument(f"{path}: the plugin has no table of functions")
        self._check_version(self.table.sdk_version)
        for name in FUNCTIONS:
            if not getattr(self.table, name):
                raise InvalidArgument(f"{path}: the table has no function {name}")
        self.name = self._text("name", self.table.name, self.table.name_len)
        if not self.name:
            raise InvalidArgument(f"{path}: the plugin has no name")
        self.version = self._text("version", self.table.version, self.table.version_len)
        try:
            self._bytes_free: Any = self._library.fs9_bytes_free
        except AttributeError:
            self._bytes_free = None

    def free(self, buffer: Any) -> None:  # noqa: ANN401  a C structure
        """Free what `read` returned, once; what is borrowed (cap 0) is left alone.

        With the plugin's own function where it has one, else the C library's: the reference's
        plugins use that heap, and so must those that export none.
        """
        if not buffer.data or not buffer.cap:
            return
        if self._bytes_free is not None:
            self._bytes_free(buffer)
        else:
            libc.free(ffi.cast("void *", buffer.data))

    def _symbol(self, name: str) -> Any:  # noqa: ANN401  a C function
        try:
            return getattr(self._library, name)
        except AttributeError:
            raise InvalidArgument(f"{self.path} is no plugin: it has no symbol {name}") from None

    def _check_version(self, version: int) -> None:
        if version != SDK_VERSION:
            raise InvalidArgument(
                f"{self.path} is made for version {version} of the interface, not {SDK_VERSION}"
            )

    def _text(self, what: str, pointer: Any, length: int) -> str:  # noqa: ANN401  C memory
        if not pointer:
            return ""
        try:
            return bytes(ffi.buffer(pointer, length)).decode()
        except UnicodeDecodeError:
            raise InvalidArgument(f"{self.path}: the {what} is not UTF-8") from None


#: Without a reference cffi would close them.
_kept: list[Any] = []
