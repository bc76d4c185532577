"""The C interface of plugins, SDK version 2: layouts, constants, codes.

The declarations are those of `examples/plugin/fs9_plugin.h`; a test compares sizes and offsets
with what the C compiler says. Names of fields and types are ours, order and types are not.
Imported where plugins are called alone: parsing the declarations takes a while.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cffi import FFI

from fs9 import errors

if TYPE_CHECKING:
    from fs9.errors import Fs9Error

#: What `fs9_plugin_version` and the table must say: strict equality.
SDK_VERSION = 2

_DECLARATIONS = """
typedef struct { int32_t code; const char *msg; size_t msg_len; } fs9_result;
typedef struct {
    const char *path; size_t path_len;
    uint64_t size; uint8_t kind; uint32_t mode, uid, gid;
    int64_t atime, mtime, ctime;
} fs9_info;
typedef struct { const uint8_t *data; size_t len, cap; } fs9_buffer;
typedef struct { uint8_t read, write, create, truncate, append, directory; } fs9_open_flags;
typedef struct {
    uint8_t has_mode; uint32_t mode;
    uint8_t has_uid; uint32_t uid;
    uint8_t has_gid; uint32_t gid;
    uint8_t has_size; uint64_t size;
    uint8_t has_atime; int64_t atime;
    uint8_t has_mtime; int64_t mtime;
    uint8_t has_name; const char *name; size_t name_len;
    uint8_t has_symlink; const char *symlink; size_t symlink_len;
} fs9_changes;
typedef struct {
    uint64_t total_bytes, free_bytes, total_inodes, free_inodes;
    uint32_t block_size, max_name_len;
} fs9_space;
typedef int32_t (*fs9_entry_fn)(const fs9_info *entry, void *user);
typedef struct {
    uint32_t sdk_version;
    const char *name; size_t name_len;
    const char *version; size_t version_len;
    void *(*create)(const char *config, size_t config_len);
    void (*destroy)(void *self);
    uint64_t (*capabilities)(void *self);
    fs9_result (*stat)(void *self, const char *path, size_t path_len, fs9_info *out);
    fs9_result (*wstat)(void *self, const char *path, size_t path_len,
                        const fs9_changes *changes);
    fs9_result (*statfs)(void *self, const char *path, size_t path_len, fs9_space *out);
    fs9_result (*open)(void *self, const char *path, size_t path_len,
                       const fs9_open_flags *flags, uint64_t *out_handle, fs9_info *out_info);
    fs9_result (*read)(void *self, uint64_t handle, uint64_t offset, size_t size,
                       fs9_buffer *out);
    fs9_result (*write)(void *self, uint64_t handle, uint64_t offset, const uint8_t *data,
                        size_t data_len, size_t *out_written);
    fs9_result (*close)(void *self, uint64_t handle, uint8_t sync);
    fs9_result (*readdir)(void *self, const char *path, size_t path_len, fs9_entry_fn each,
                          void *user);
    fs9_result (*remove)(void *self, const char *path, size_t path_len);
} fs9_vtable;
uint32_t fs9_plugin_version(void);
const fs9_vtable *fs9_plugin_vtable(void);
void fs9_bytes_free(fs9_buffer *);
void free(void *);
int prctl(int option, unsigned long argument);
"""

ffi: Any = FFI()
ffi.cdef(_DECLARATIONS)

#: The C library's own symbols: `free`, for plugins that share its heap; `prctl`.
libc: Any = ffi.dlopen(None)

#: The table's function pointers, none of which may be NULL.
FUNCTIONS = (
    *("create", "destroy", "capabilities", "stat", "wstat", "statfs"),
    *("open", "read", "write", "close", "readdir", "remove"),
)

INTERNAL = -9
DIRECTORY = 1
SYMLINK = 2

#: Code -> kind of error. The reference has no case for -11, and reports it as Internal.
KINDS: dict[int, type[Fs9Error]] = {
    -1: errors.NotFound,
    -2: errors.PermissionDenied,
    -3: errors.AlreadyExists,
    -4: errors.InvalidArgument,
    -5: errors.NotDirectory,
    -6: errors.IsDirectory,
    -7: errors.DirectoryNotEmpty,
    -8: errors.InvalidHandle,
    INTERNAL: errors.Internal,
    -10: errors.NotSupported,
    -11: errors.BackendUnavailable,
}


#: Errors whose text is a path: it is never lost, whatever the plugin says.
_ABOUT_A_PATH = (
    errors.NotFound,
    errors.AlreadyExists,
    errors.NotDirectory,
    errors.IsDirectory,
    errors.DirectoryNotEmpty,
)


def error(code: int, message: str, path: str) -> Fs9Error:
    """The error for a code other than 0, with the plugin's text and the path.

    Plugins of the reference give no text at all.
    """
    kind = KINDS.get(code, errors.Internal)
    if kind is errors.Internal and not message:
        message = f"plugin error code: {code}"
    if not message:
        return kind(path)
    if kind in _ABOUT_A_PATH or kind is errors.Internal:
        return kind(message if path in message else f"{path}: {message}")
    return kind(message)
