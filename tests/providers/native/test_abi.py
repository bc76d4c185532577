"""The declarations for cffi, the header and the contract are one layout."""

from __future__ import annotations

import subprocess

import pytest

from fs9.errors import (
    KINDS,
    BackendUnavailable,
    DirectoryNotEmpty,
    Internal,
    InvalidHandle,
    NotFound,
    NotSupported,
)
from fs9.providers.native import abi
from tests.fix_plugins import EXAMPLES

_SIZES = {
    "fs9_result": 24,
    "fs9_info": 64,
    "fs9_buffer": 24,
    "fs9_open_flags": 6,
    "fs9_changes": 120,
    "fs9_space": 40,
    "fs9_vtable": 136,
}


def _layout(name: str) -> list[int]:
    """The size, then the offset of each field."""
    kind = abi.ffi.typeof(name)
    return [abi.ffi.sizeof(name), *(field.offset for _, field in kind.fields)]


@pytest.mark.parametrize("name", _SIZES)
def test_sizes_are_the_contracts(name: str) -> None:
    assert abi.ffi.sizeof(name) == _SIZES[name]


def test_the_compiler_lays_the_header_out_alike(tmp_path) -> None:
    """Every field of every structure is at the offset that cffi says."""
    lines = []
    for name in _SIZES:
        fields = [field for field, _ in abi.ffi.typeof(name).fields]
        numbers = [f"sizeof({name})", *(f"offsetof({name}, {field})" for field in fields)]
        lines += [f'printf("%zu ", (size_t){number});' for number in numbers]
    source = tmp_path / "layout.c"
    body = "\n".join(lines)
    source.write_text(f'#include <stdio.h>\n#include "fs9_plugin.h"\nint main(void) {{{body}}}\n')
    program = tmp_path / "layout"
    subprocess.run(["cc", "-std=c11", f"-I{EXAMPLES}", "-o", program, source], check=True)
    told = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    assert [int(number) for number in told.split()] == [n for name in _SIZES for n in _layout(name)]


def test_some_offsets_of_the_contract() -> None:
    """Those after padding."""
    assert _layout("fs9_changes")[1:] == [
        *(0, 4, 8, 12, 16, 20, 24, 32, 40, 48, 56, 64, 72, 80, 88, 96, 104, 112),
    ]
    assert _layout("fs9_vtable")[1:6] == [0, 8, 16, 24, 32]


def test_every_code_has_its_kind() -> None:
    """In the contract's order; what it does not know is Internal."""
    kinds = [abi.error(-code, "", "/f").kind for code in range(1, 13)]
    assert kinds == [
        *("NotFound", "PermissionDenied", "AlreadyExists", "InvalidArgument", "NotDirectory"),
        *("IsDirectory", "DirectoryNotEmpty", "InvalidHandle", "Internal", "NotImplemented"),
        *("BackendUnavailable", "Internal"),
    ]
    assert set(kinds) <= set(KINDS)


@pytest.mark.parametrize(
    ("code", "text", "error"),
    [
        (-1, "", NotFound("/a/f")),
        (-1, "gone", NotFound("/a/f: gone")),
        (-1, "no file /a/f", NotFound("no file /a/f")),
        (-7, "", DirectoryNotEmpty("/a/f")),
        (-8, "", InvalidHandle("/a/f")),
        (-9, "", Internal("/a/f: plugin error code: -9")),
        (-9, "disk on fire", Internal("/a/f: disk on fire")),
        (-10, "chmod", NotSupported("chmod")),
        (-11, "no route", BackendUnavailable("no route")),
        (5, "", Internal("/a/f: plugin error code: 5")),
    ],
)
def test_an_error_has_its_path_whatever_the_plugin_says(code, text, error) -> None:
    found = abi.error(code, text, "/a/f")
    assert (type(found), found.detail) == (type(error), error.detail)
