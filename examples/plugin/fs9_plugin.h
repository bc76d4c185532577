/* The interface of fs9's native plugins, SDK version 2.
 *
 * A plugin is a shared library that exports fs9_plugin_version (returns FS9_SDK_VERSION) and
 * fs9_plugin_vtable (returns a static table). It links nothing of fs9. docs/plugins.md says what
 * each function must do; memory.c is an example.
 *
 * Layouts are those of the C compiler on 64-bit targets, nothing packed. No text need end in
 * NUL: use the lengths.
 */
#ifndef FS9_PLUGIN_H
#define FS9_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#define FS9_SDK_VERSION 2u

/* Codes of fs9_result. */
enum {
    FS9_OK = 0,
    FS9_NOT_FOUND = -1,
    FS9_PERMISSION_DENIED = -2,
    FS9_ALREADY_EXISTS = -3,
    FS9_INVALID_ARGUMENT = -4,
    FS9_NOT_DIRECTORY = -5,
    FS9_IS_DIRECTORY = -6,
    FS9_DIRECTORY_NOT_EMPTY = -7,
    FS9_INVALID_HANDLE = -8,
    FS9_INTERNAL = -9,
    FS9_NOT_IMPLEMENTED = -10,
    FS9_BACKEND_UNAVAILABLE = -11
};

/* Kinds of files in fs9_info. */
enum { FS9_REGULAR = 0, FS9_DIRECTORY = 1, FS9_SYMLINK = 2 };

/* Bits of the capabilities: what is not declared is never asked for. */
#define FS9_CAN_READ (UINT64_C(1) << 0)
#define FS9_CAN_WRITE (UINT64_C(1) << 1)
#define FS9_CAN_CREATE (UINT64_C(1) << 2)
#define FS9_CAN_DELETE (UINT64_C(1) << 3)
#define FS9_CAN_RENAME (UINT64_C(1) << 4)
#define FS9_CAN_TRUNCATE (UINT64_C(1) << 5)
#define FS9_CAN_CHMOD (UINT64_C(1) << 10)
#define FS9_CAN_CHOWN (UINT64_C(1) << 11)
#define FS9_CAN_UTIME (UINT64_C(1) << 12)
#define FS9_CAN_SYMLINK (UINT64_C(1) << 21)
#define FS9_CAN_APPEND (UINT64_C(1) << 31)
#define FS9_CAN_RANDOM_WRITE (UINT64_C(1) << 32)
#define FS9_CAN_STREAMING (UINT64_C(1) << 33)
#define FS9_CAN_ATOMIC_RENAME (UINT64_C(1) << 42)
#define FS9_CAN_DIRECTORY (UINT64_C(1) << 43)

/* The text is never freed: a constant, or thread-local. */
typedef struct {
    int32_t code;
    const char *msg;
    size_t msg_len;
} fs9_result;

typedef struct {
    const char *path; /* in readdir alone: "/dir/name" */
    size_t path_len;
    uint64_t size;
    uint8_t kind;
    uint32_t mode; /* permission bits */
    uint32_t uid;
    uint32_t gid;
    int64_t atime; /* seconds since 1970 */
    int64_t mtime;
    int64_t ctime;
} fs9_info;

/* What read returns. With cap > 0 the host frees data: by fs9_bytes_free if the plugin exports
 * it, else by free(3). With cap 0 it is borrowed, and must stay until the call has returned. */
typedef struct {
    const uint8_t *data;
    size_t len;
    size_t cap;
} fs9_buffer;

typedef struct {
    uint8_t read, write, create, truncate, append, directory; /* 0 or 1 */
} fs9_open_flags;

/* Each value counts if the byte before it is not 0. */
typedef struct {
    uint8_t has_mode;
    uint32_t mode;
    uint8_t has_uid;
    uint32_t uid;
    uint8_t has_gid;
    uint32_t gid;
    uint8_t has_size;
    uint64_t size;
    uint8_t has_atime;
    int64_t atime;
    uint8_t has_mtime;
    int64_t mtime;
    uint8_t has_name; /* rename to this path within the mount */
    const char *name;
    size_t name_len;
    uint8_t has_symlink; /* make a symbolic link with this target */
    const char *symlink;
    size_t symlink_len;
} fs9_changes;

typedef struct {
    uint64_t total_bytes, free_bytes, total_inodes, free_inodes;
    uint32_t block_size, max_name_len;
} fs9_space;

/* For readdir: 0 = go on, otherwise stop. */
typedef int32_t (*fs9_entry_fn)(const fs9_info *entry, void *user);

/* No function may be NULL. All but create and destroy may be called by many threads at once. */
typedef struct {
    uint32_t sdk_version; /* FS9_SDK_VERSION */
    const char *name;
    size_t name_len;
    const char *version;
    size_t version_len;
    void *(*create)(const char *config, size_t config_len); /* JSON; NULL = refused */
    void (*destroy)(void *self);
    uint64_t (*capabilities)(void *self);
    fs9_result (*stat)(void *self, const char *path, size_t path_len, fs9_info *out);
    fs9_result (*wstat)(void *self, const char *path, size_t path_len, const fs9_changes *changes);
    fs9_result (*statfs)(void *self, const char *path, size_t path_len, fs9_space *out);
    fs9_result (*open)(void *self, const char *path, size_t path_len, const fs9_open_flags *flags,
                       uint64_t *out_handle, fs9_info *out_info);
    fs9_result (*read)(void *self, uint64_t handle, uint64_t offset, size_t size, fs9_buffer *out);
    fs9_result (*write)(void *self, uint64_t handle, uint64_t offset, const uint8_t *data,
                        size_t data_len, size_t *out_written);
    fs9_result (*close)(void *self, uint64_t handle, uint8_t sync);
    fs9_result (*readdir)(void *self, const char *path, size_t path_len, fs9_entry_fn each,
                          void *user);
    fs9_result (*remove)(void *self, const char *path, size_t path_len);
} fs9_vtable;

uint32_t fs9_plugin_version(void);
const fs9_vtable *fs9_plugin_vtable(void);

/* Optional: frees what read returned and sets the buffer to NULL, 0, 0. */
void fs9_bytes_free(fs9_buffer *buffer);

#endif
